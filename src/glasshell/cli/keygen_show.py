"""`glasshell keygen -l -B -y -e -i -r -p -c`: what is in files of keys, in other forms, and changed."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from ..crypto.signatures import PrivateKey, PublicKey
from ..errors import ConfigError, KeyFormatError, UsageError
from ..keys.convert import dump_public_pem, dump_rfc4716, load_public_pem, load_rfc4716
from ..keys.fingerprint import Shown, bubblebabble, fingerprint, randomart
from ..keys.openssh import load_private_key, public_half
from ..keys.pem import dump_pem
from ..keys.public import AnyKey, as_text, decode_blob, dump_public_key, split_word
from ..keys.sshfp import HASHES, fingerprints, zone_line
from ..wire import visible
from .keygen import TYPES, Wanted
from .keygen_files import (
    ask_file,
    ask_line,
    ask_secret,
    complain,
    open_private,
    read,
    read_public,
    write_private,
    write_public,
)
from .keygen_make import default_comment, packed, usual

__all__ = ["change_comment", "change_passphrase", "convert", "export", "public", "records", "show"]


def _asked(wanted: Wanted) -> Path:
    return ask_file(wanted.file, "Enter file in which the key is", lambda: _usual(wanted))


def _usual(wanted: Wanted) -> Path:
    """The first of the user's keys that is there."""
    if wanted.type in TYPES:
        return usual(wanted.type)
    paths = [usual(name) for name in TYPES]
    return next((path for path in paths if path.exists()), paths[0])


# ---- -l, -B


def show(wanted: Wanted) -> int:
    """One line for each key of a file: of keys, of known hosts, of authorized keys, or a private one."""
    path = _asked(wanted)
    data = read(path, 64 << 20)
    if str(path) != "-" and b"PRIVATE KEY" in data[:200].lstrip().partition(b"\n")[0]:
        _show(wanted, *_of_private(path, data))
        return 0
    found = False
    for key, comment in _keys(as_text(data)):
        _show(wanted, key, comment)
        found = True
    if not found:
        raise KeyFormatError(f"{'(stdin)' if str(path) == '-' else path} is not a public key file.")
    return 0


def _show(wanted: Wanted, key: Shown, comment: str) -> None:
    if "B" in wanted.actions:
        value = bubblebabble(hashlib.sha1(key.blob, usedforsecurity=False).digest())
    else:
        value = fingerprint(key, wanted.hash)
    print(f"{key.bits} {value} {visible(comment)} ({key.label})")
    if wanted.verbose:
        print(randomart(key, wanted.hash))


def _of_private(path: Path, data: bytes) -> tuple[Shown, str]:
    """The key of the .pub beside it, or the private one: its own half of the file needs no passphrase."""
    key: Shown | None = None
    beside = path.with_name(f"{path.name}.pub")
    with suppress(ConfigError):
        key, comment = next(_keys(as_text(read(beside))), (None, ""))
        if key is not None:
            return key, comment
    with suppress(KeyFormatError):
        key = Shown.of(public_half(data))
    with suppress(KeyFormatError):
        private = load_private_key(data, hardware=True)
        return key or Shown.of(private.public.blob), private.comment
    if key is None:
        raise KeyFormatError(f"{path} is not a key file.")
    return key, "no comment"


def _keys(text: str) -> Iterator[tuple[Shown, str]]:
    """Every line that is a key, with a host name or options before it or without."""
    for raw in text.split("\n"):
        line = raw.strip(" \t\r")
        if not line or line[0] == "#":
            continue
        found = _key(line)
        before = ""
        if found is None:
            word = split_word(line)[0]
            rest = line
            if not (word.isdecimal() and int(word[:9])):
                before, rest = _skip_quoted(line)
            found = _key(rest)
        if found is not None:
            key, after = found
            yield key, (after if after and after[0] != "#" else before) or "no comment"


def _key(text: str) -> tuple[Shown, str] | None:
    key_type, rest = split_word(text)
    encoded, comment = split_word(rest)
    try:
        return Shown.of(decode_blob(key_type, encoded)), comment
    except KeyFormatError:
        return None


def _skip_quoted(line: str) -> tuple[str, str]:
    """The first word, in which blanks may be quoted, and what follows."""
    quoted = False
    pos = 0
    while pos < len(line) and (quoted or line[pos] not in " \t"):
        if line[pos] == "\\" and line[pos + 1 : pos + 2] == '"':
            pos += 1
        elif line[pos] == '"':
            quoted = not quoted
        pos += 1
    return line[:pos], line[pos + 1 :].lstrip(" \t")


# ---- -y, -e, -i


def public(wanted: Wanted) -> int:
    """The public key of a private one."""
    path = _asked(wanted)
    key, _ = open_private(path, wanted.old)
    print(dump_public_key(key.public, key.comment), end="")
    return 0


def export(wanted: Wanted) -> int:
    """The public key in another program's form."""
    path = _asked(wanted)
    if not path.exists():
        raise ConfigError(f"{path}: {os.strerror(2)}")
    key: AnyKey
    try:
        key = read_public(path)[0]
    except (ConfigError, KeyFormatError):
        key = open_private(path, wanted.old)[0].public
    if wanted.form in ("", "RFC4716"):
        comment = f"{key.bits}-bit {key.label}, converted by {default_comment()} from OpenSSH"[:60]
        print(dump_rfc4716(key, comment), end="")
    else:
        print(dump_public_pem(key.plain, wanted.form), end="")
    return 0


def convert(wanted: Wanted) -> int:
    """A key in another program's form as OpenSSH has it; a private one in PEM, which OpenSSH reads."""
    data = read(_asked(wanted))
    key = load_rfc4716(data) if wanted.form in ("", "RFC4716") else load_public_pem(data)
    if isinstance(key, PrivateKey):
        print(dump_pem(key, "PEM").decode(), end="")
    else:
        print(dump_public_key(key), end="")
    return 0


# ---- -r


def records(wanted: Wanted) -> int:
    """SSHFP records (RFC 4255), of the key in -f or of all host keys here."""
    hashes = set(HASHES.values())
    for option in wanted.options:
        name = option.removeprefix("hashalg=")
        if name == option:
            raise UsageError(f'Invalid option "{visible(option)}"')
        if name not in HASHES:
            raise UsageError("Unsupported hash algorithm")
        hashes = {HASHES[name]}
    paths = [Path(f"/etc/ssh/ssh_host_{name}_key.pub") for name in ("rsa", "ecdsa", "ed25519")]
    paths = [Path(wanted.file)] if wanted.file else [path for path in paths if path.exists()]
    if not paths:
        raise ConfigError("no keys found.")
    for path in paths:
        if not path.exists():
            raise ConfigError(f"{path}: {os.strerror(2)}")
        key = read_public(path)[0]
        made = fingerprints(key) if isinstance(key, PublicKey) else ()
        for record in made:
            if record.hash in hashes:
                print(zone_line(wanted.host, record, generic="g" in wanted.actions))
        if not made:
            complain("unsupported algorithm")
    return 0


# ---- -p, -c


def change_passphrase(wanted: Wanted) -> int:
    """Writes the private key anew, with another passphrase or none."""
    path = _asked(wanted)
    key, _ = open_private(path, wanted.old, "Enter old passphrase: ", failed="Failed to load key {}")
    print(f"Key has comment '{visible(key.comment)}'")
    _key_options(key, path, wanted)
    if wanted.new is not None:
        passphrase = wanted.new or None
    else:
        passphrase = ask_secret("Enter new passphrase (empty for no passphrase): ") or None
        if (ask_secret("Enter same passphrase again: ") or None) != passphrase:
            print("Pass phrases do not match.  Try again.")
            return 1
    write_private(path, packed(key, passphrase, wanted))
    print("Your identification has been saved with the new passphrase.")
    return 0


def _key_options(key: PrivateKey, path: Path, wanted: Wanted) -> None:
    if wanted.options and not key.public.application:
        raise UsageError(f"FIDO-specific option requested for non-FIDO key {path}")
    for option in wanted.options:
        change = _OPTIONS.get(option.lower())
        if change is None:
            raise UsageError(f'Option "{visible(option)}" is unsupported for key passphrase change')
        handle = key.reveal()
        handle.flags = handle.flags & ~change[0] | change[1]


_OPTIONS: Final = {
    "touch-required": (0, 1), "no-touch-required": (1, 0),
    "verify-required": (0, 4), "no-verify-required": (4, 0),
}  # fmt: skip
"""Flags of a security key that an option clears and sets."""


def change_comment(wanted: Wanted) -> int:
    """Writes the key anew with another comment, both halves."""
    path = _asked(wanted)
    given = wanted.old if wanted.old is not None else wanted.new
    key, passphrase = open_private(path, given, "Enter passphrase: ", failed='Cannot load private key "{}"')
    if key.public.type != "ssh-ed25519" and wanted.form in ("PEM", "PKCS8"):
        complain("Comments are only supported for keys stored in the new format (-o).")
        return 1
    print(f"Old comment: {visible(key.comment)}" if key.comment else "No existing comment")
    comment = wanted.comment if wanted.comment is not None else _typed()
    if comment is None:
        return 1
    if comment == key.comment:
        print("No change to comment")
        return 0
    key.comment = comment
    text = dump_public_key(key.public, comment)
    write_private(path, packed(key, passphrase, wanted))
    write_public(path.with_name(f"{path.name}.pub"), text)
    print(f"Comment '{visible(comment)}' applied" if comment else "Comment removed")
    return 0


def _typed() -> str | None:
    if sys.stdin is None:
        return None
    return ask_line("New comment: ")
