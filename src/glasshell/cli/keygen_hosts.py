"""`glasshell keygen -F`, `-R` and `-H`: known_hosts searched and edited, in ssh-keygen(1)'s words."""

from __future__ import annotations

import base64
import hashlib
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from ..crypto.signatures import PublicKey
from ..errors import ConfigError, KeyFormatError
from ..keys.fingerprint import randomart
from ..keys.hostlines import MARKERS, HostLine, hash_host, key_label, matches, scan
from ..keys.public import decode_blob, split_word
from ..system.replacing import replace_file
from ..wire import visible

__all__ = ["find", "hash_file", "remove"]

DEFAULT: Final = "~/.ssh/known_hosts"


def find(
    host: str, path: str = "", *, fingerprint: bool = False, verbose: bool = False, hashed: bool = False,
    quiet: bool = False, digest: str = "sha256",
) -> int:  # fmt: skip
    """Prints the lines about `host`: -F. The exit status: 1 where there is none.

    `fingerprint`: the keys' fingerprints instead (-l), with a picture where `verbose` (-v); `hashed`: the
    lines with their names hidden (-H); `quiet`: without a heading (-q). Raises ConfigError for a file that
    cannot be read.
    """
    found = False
    for line in scan(_read(_file(path))):
        if not line.entry or not _about(line, host):
            continue
        if fingerprint:
            try:
                shown = _fingerprint(line, host, digest, picture=verbose)
            except KeyFormatError:
                continue
        else:
            shown = "\n".join(_hashed(line)) if hashed else line.text
        found = True
        if not quiet:
            print(f"# Host {_shown(host)} found: line {line.number} {MARKERS.get(line.marker, '')}")
        _out(shown)
    return 0 if found else 1


def remove(host: str, path: str = "", *, quiet: bool = False) -> int:
    """Takes the keys of `host` out of the file: -R; CAs and what is revoked stay. The exit status.

    The file as it was stays beside it, as `.old`. Raises ConfigError for a file that cannot be read or
    written.
    """
    file = _file(path)
    found = bad = False
    for line in scan(_read(file)):
        if line.problem or _about(line, host) is None:
            bad = True
            print(f"{file}:{line.number}: invalid line", file=sys.stderr)
        elif line.entry and not line.marker and _about(line, host):
            found = True
            if not quiet:
                print(f"# Host {_shown(host)} found: line {line.number}")
    if bad:
        return _refuse(file)
    if not found:
        print(f"Host {_shown(host)} not found in {file}", file=sys.stderr)
        return 0

    def without(data: bytes) -> bytes:
        kept = (x for x in scan(data) if not (x.entry and not x.marker and _about(x, host)))
        return _lines([line.text for line in kept])

    _replace(file, without)
    return 0


def hash_file(path: str = "") -> int:
    """Hides every host name in the file: -H. The exit status.

    Names with wildcards cannot be hidden, and lines with markers stay as they are. Raises ConfigError for a
    file that cannot be read or written.
    """
    file = _file(path)
    lines = list(scan(_read(file)))
    for line in lines:
        where = f"{file}:{line.number}"
        if line.problem:
            print(f"{where}: invalid line", file=sys.stderr)
        elif line.entry and _wild(line):
            hosts = _shown(line.hosts[:64])
            print(f"{where}: ignoring host name with wildcard: {hosts}", file=sys.stderr)
    if any(line.problem for line in lines):
        return _refuse(file)
    _replace(file, lambda data: _lines([text for line in scan(data) for text in _hashed(line)]), always=True)
    if any(line.entry and not _stays(line) for line in lines):
        print(f"WARNING: {file}.old contains unhashed entries", file=sys.stderr)
        print("Delete this file to ensure privacy of hostnames", file=sys.stderr)
    return 0


# ---- lines


def _about(line: HostLine, host: str) -> bool | None:
    """Whether the line is about `host`; None: it cannot be known."""
    try:
        return bool(line.hosts) and matches(line.hosts, host)
    except KeyFormatError:
        return None


def _wild(line: HostLine) -> bool:
    return any(c in "*?!" for c in line.hosts)


def _stays(line: HostLine) -> bool:
    return line.hashed or bool(line.marker) or _wild(line)


def _hashed(line: HostLine) -> list[str]:
    """The line as -H writes it: one for each name."""
    if not line.entry or _stays(line):
        return [line.text]
    names = line.hosts.split(",")
    if "" in names:
        names = names[: names.index("")]  # as ssh-keygen reads a list
    return [f"{hash_host(name.lower(), os.urandom(20))} {line.key}" for name in names]


def _fingerprint(line: HostLine, host: str, digest: str, *, picture: bool) -> str:
    """Raises KeyFormatError where the key cannot be read."""
    key_type, rest = split_word(line.key)
    encoded, comment = split_word(rest)
    blob = decode_blob(key_type, encoded)
    raw = hashlib.new(digest, blob, usedforsecurity=False)
    value = raw.digest() if digest != "md5" else b""
    text = base64.b64encode(value).decode().rstrip("=") if value else raw.digest().hex(":")
    words = [_shown(host), key_label(key_type), f"{digest.upper()}:{text}", visible(comment)]
    shown = " ".join(word for word in words if word)
    if picture:
        with suppress(KeyFormatError):  # of a kind that cannot be used here: the fingerprint will do
            shown += "\n" + randomart(PublicKey.from_blob(blob), digest)
    return shown


def _shown(text: str) -> str:
    return visible(text)


def _out(text: str) -> None:
    """As the file has it, byte by byte."""
    if sys.stdout is None:  # closed by whoever started us
        return
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape") + b"\n")
    sys.stdout.buffer.flush()


def _lines(texts: list[str]) -> bytes:
    return "".join(f"{text}\n" for text in texts).encode("utf-8", "surrogateescape")


# ---- the file


def _file(path: str) -> Path:
    return Path(path or DEFAULT).expanduser()


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigError(f"Cannot stat {file}: {error.strerror}") from None


def _replace(file: Path, change: Callable[[bytes], bytes], *, always: bool = False) -> None:
    old = Path(f"{file}.old")
    try:
        replaced = replace_file(file, change, old=old, always=always)
    except OSError as error:
        raise ConfigError(f"{file} cannot be replaced: {error.strerror or error}") from None
    if replaced or always:
        print(f"{file} updated.\nOriginal contents retained as {old}")


def _refuse(file: Path) -> int:
    print(f"{file} is not a valid known_hosts file.", file=sys.stderr)
    print("Not replacing existing known_hosts file because of errors", file=sys.stderr)
    return 1
