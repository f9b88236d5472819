"""`glasshell keygen -k` and `-Q`: key revocation lists made and asked."""

from __future__ import annotations

import base64
import hashlib
import re
import time
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

from ..crypto.signatures import PublicKey
from ..errors import ConfigError, KeyFormatError, UsageError
from ..keys.fingerprint import fingerprint
from ..keys.krl import MAX_BYTES, MAX_SERIAL, Krl
from ..keys.public import BLANKS, AnyKey, as_text, load_key, read_key
from ..wire import Reader, visible
from .keygen import Wanted
from .keygen_files import expand, read, read_public, write

__all__ = ["make", "query"]


class _Scope(NamedTuple):
    """Whose certificates a serial number or key ID revokes: of `authority`, or of `anybody`."""

    authority: PublicKey | None
    anybody: bool


def make(wanted: Wanted) -> int:
    """Writes a list of what the files name; with -u what the list already has stays in it."""
    if not wanted.file:
        raise UsageError("KRL generation requires an output file")
    path = Path(wanted.file)
    updating = "u" in wanted.actions
    if updating and not path.exists():
        raise ConfigError(f'KRL "{path}" does not exist')
    scope = _scope(wanted.signer)
    krl = _load(path) if updating else Krl()
    krl.version = wanted.serial or krl.version
    krl.comment = wanted.comment if wanted.comment is not None else krl.comment
    for name in wanted.files:
        source = "(standard input)" if name == "-" else str(expand(name))
        if not wanted.quiet:
            print(f"Revoking from {source}")
        _revoke(krl, as_text(read(expand(name), MAX_BYTES)), source, scope)
    write(path, krl.dump(int(time.time())), f"write {path}")
    return 0


def _scope(name: str) -> _Scope:
    if not name or name.lower() == "none":
        return _Scope(None, bool(name))
    try:
        return _Scope(read_public(expand(name))[0].plain, False)
    except (ConfigError, KeyFormatError) as error:
        raise KeyFormatError(f"Cannot load CA public key {expand(name)}: {error}", hint=error.hint) from None


def _load(path: Path) -> Krl:
    try:
        return Krl.parse(read(path, MAX_BYTES))
    except KeyFormatError as error:
        raise KeyFormatError(f"Invalid KRL file {path}: {error}", hint=error.hint) from None


# ---- what a list is made of (ssh-keygen(1), KEY REVOCATION LISTS)


def _revoke(krl: Krl, text: str, source: str, scope: _Scope) -> None:
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.partition("#")[0].strip(BLANKS + "\r")
        if not line:
            continue
        try:
            _revoke_line(krl, line, scope)
        except KeyFormatError as error:
            raise KeyFormatError(f"{source}:{number}: {error}", hint=error.hint) from None


def _revoke_line(krl: Krl, line: str, scope: _Scope) -> None:
    match = _KEYWORD.match(line)
    word = match[1].lower() if match else ""
    rest = line[match.end() :] if match else line
    if word in ("serial", "id"):
        if scope.authority is None and not scope.anybody:
            what = "serial number" if word == "serial" else "key ID"
            raise KeyFormatError(
                f"revoking certificates by {what} requires specification of a CA key",
                hint="-s CA, or -s none",
            )
        issued = krl.issued_by(scope.authority)
        if word == "serial":
            issued.add(*_serials(rest))
        else:
            issued.key_ids.add(rest)
    elif word == "hash":
        krl.sha256.add(_hash(rest))
    else:
        _revoke_key(krl, word, rest)


_KEYWORD: Final = re.compile(r"(serial|id|hash|key|sha1|sha256):[ \t]*", re.IGNORECASE)


def _revoke_key(krl: Krl, word: str, text: str) -> None:
    try:
        key: AnyKey = load_key(text)[0]
    except KeyFormatError as error:
        raise KeyFormatError(f"invalid key: {error}") from None
    if word == "key":
        krl.revoke(key.plain)
    elif word in ("sha1", "sha256"):
        digest = hashlib.new(word, key.plain.blob, usedforsecurity=False).digest()
        (krl.sha1 if word == "sha1" else krl.sha256).add(digest)
    else:
        krl.revoke(key)


def _serials(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([0-9a-fx]+)(?:-([0-9a-fx]+))?", text, re.IGNORECASE | re.ASCII)
    try:
        if match is None:
            raise ValueError
        low = _number(match[1])
        high = _number(match[2]) if match[2] else low
    except ValueError:
        raise KeyFormatError(f'invalid serial "{visible(text)}"') from None
    if low > MAX_SERIAL or high > MAX_SERIAL:
        raise KeyFormatError("serial out of range")
    if match[2] and high <= low:
        raise KeyFormatError(f"invalid serial range {low}:{high}")
    return low, high


def _number(text: str) -> int:
    """A number as strtoull(3) reads it with base 0."""
    if len(text) > 32:
        raise ValueError
    octal = len(text) > 1 and text[0] == "0" and text[1] not in "xX"
    return int(text, 8) if octal else int(text, 0)


def _hash(text: str) -> bytes:
    kind, colon, encoded = text.partition(":")
    if kind != "SHA256" or not colon:
        raise KeyFormatError("unsupported hash algorithm")
    if re.fullmatch("[0-9a-f]{64}", encoded):  # as -Q -l shows them
        return bytes.fromhex(encoded)
    try:
        digest = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except ValueError:
        digest = b""
    if len(digest) != 32:
        raise KeyFormatError("a hash that cannot be read")
    return digest


# ---- -Q


def query(wanted: Wanted) -> int:
    """Says of each key whether the list has it, which is status 1; with -l shows the list."""
    if not wanted.file:
        raise UsageError("KRL checking requires an input file")
    krl = _load(Path(wanted.file))
    if "l" in wanted.actions:
        _show(krl)
    status = 0
    for name in wanted.files:
        try:
            key, comment = read_public(Path(name))
        except (ConfigError, KeyFormatError) as error:
            raise KeyFormatError(f"Cannot load public key {name}: {error}", hint=error.hint) from None
        revoked = bool(krl.revokes(key))
        print(f"{name}{f' ({visible(comment)})' if comment else ''}: {'REVOKED' if revoked else 'ok'}")
        status = 1 if revoked else status
    return status


def _show(krl: Krl) -> None:
    """The list in the words that -k reads."""
    print(f"# KRL version {krl.version}")
    print(f"# Generated at {_moment(krl.generated)}")
    if krl.comment:
        print(f"# Comment: {visible(krl.comment)}")
    print()
    for blob in sorted(krl.keys):
        try:
            print(f"hash: {fingerprint(read_key(blob))} # {Reader(blob).name()}")
        except KeyFormatError:
            encoded = base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
            print(f"hash: SHA256:{encoded} # of a kind not known")
    for digest in sorted(krl.sha256):
        print(f"hash: SHA256:{digest.hex()}")
    for digest in sorted(krl.sha1):
        print(f"# hash SHA1:{digest.hex()}")
    for authority, issued in krl.issued.items():
        print(f"\n{_authority(authority)}")
        for low, high in issued.ranges():
            print(f"serial: {low}" if low == high else f"serial: {low}-{high}")
        for key_id in sorted(issued.key_ids):
            print(f"id: {visible(key_id)}")


def _authority(blob: bytes) -> str:
    if not blob:
        return "# Wildcard CA"
    try:
        key = read_key(blob)
    except KeyFormatError:
        return "# CA key of a kind not known"
    return f"# CA key {key.type} {fingerprint(key)}"


def _moment(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds).strftime("%Y%m%dT%H%M%S")
    except (ValueError, OverflowError, OSError):
        return "<INVALID>"
