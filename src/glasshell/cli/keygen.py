"""`glasshell keygen`: keys, certificates, signatures and lists of keys, made and shown as by ssh-keygen(1).

Flags, words, files and exit statuses are ssh-keygen's: 255 for what cannot be done, 1 for a no and for a
command line that makes no sense. The actions are in the files beside this one, imported when they are
asked for.
"""

from __future__ import annotations

import getopt
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from ..errors import UsageError
from ..wire import Secret, visible

__all__ = ["TYPES", "Wanted", "main"]

TYPES: Final = {
    "ed25519": "ssh-ed25519", "rsa": "ssh-rsa", "ecdsa": "ecdsa-sha2-nistp256",
    "mldsa44-ed25519": "ssh-mldsa44-ed25519",
}  # fmt: skip
"""What -t takes, and the key type that is made by default."""

FLAGS: Final[dict[str, tuple[str, str]]] = {
    "A": ("", "make the host keys that are missing, below -f"),
    "a": ("ROUNDS", "rounds of the function that a passphrase goes through (24)"),
    "B": ("", "show the fingerprint as a word that can be said"),
    "b": ("BITS", "bits of a new key: RSA 2048 to 16384 (3072), ECDSA 256, 384 or 521"),
    "C": ("COMMENT", "comment of a new key"),
    "c": ("", "change the comment"),
    "E": ("HASH", "hash of fingerprints: sha256, sha512, sha384, sha1 or md5"),
    "e": ("", "print the public key in the form of -m"),
    "F": ("HOST", "find a host in known_hosts"),
    "f": ("FILE", "the file of the key, of the list or of the signers"),
    "g": ("", "with -r: generic DNS records"),
    "H": ("", "hide the names in known_hosts"),
    "h": ("", "with -s: the certificate of a host"),
    "I": ("IDENTITY", "with -s: the certificate's key ID; with -Y: who has signed"),
    "i": ("", "read a key in the form of -m and print it in OpenSSH's"),
    "k": ("", "make a key revocation list, of what FILEs name"),
    "L": ("", "show certificates"),
    "l": ("", "show the fingerprint; with -v the picture as well"),
    "m": ("FORM", "RFC4716, PKCS8 or PEM: for -e and -i, and for new private keys"),
    "N": ("PASSPHRASE", "new passphrase"),
    "n": ("NAMES", "with -s: whom the certificate is for; with -Y: the namespace"),
    "O": ("OPTION", "an option of a certificate, of a signature, or of a security key"),
    "o": ("", "OpenSSH's form for private keys, which is the default"),
    "P": ("PASSPHRASE", "old passphrase"),
    "p": ("", "change the passphrase"),
    "Q": ("", "ask a revocation list about keys; with -l show it"),
    "q": ("", "say nothing"),
    "R": ("HOST", "remove a host from known_hosts"),
    "r": ("NAME", "print SSHFP records for a host; with -Y verify: a list of revoked keys"),
    "s": ("FILE", "sign public keys by this authority; with -Y: the signature"),
    "t": ("TYPE", f"type of a new key: {', '.join(TYPES)} (ed25519)"),
    "U": ("", "with -s and -Y sign: the key is in the agent"),
    "u": ("", "with -k: add to the list that is there"),
    "V": ("TIMES", "with -s: when the certificate is valid: +52w, 20260101:20270101, always:forever"),
    "v": ("", "say more"),
    "Y": ("ACTION", "sign, verify, find-principals, match-principals or check-novalidate"),
    "y": ("", "print the public key of a private one"),
    "Z": ("CIPHER", "cipher of a private key with a passphrase (aes256-ctr)"),
    "z": ("NUMBER", "with -s: serial number, +N counts on; with -k: version of the list"),
    "D": ("", ""), "K": ("", ""), "M": ("", ""), "w": ("", ""), "X": ("", ""),
}  # fmt: skip

_ELSEWHERE: Final = {
    "D": "keys in PKCS#11 tokens are used through an agent: ssh-add -s PROVIDER",
    "K": "resident keys are loaded by ssh-keygen -K, or ssh-add -K",
    "M": "primes for group exchange are made by ssh-keygen -M",
    "w": "security keys are made by ssh-keygen -t ed25519-sk",
}
"""What this program leaves to others."""

USAGE: Final = "usage: glasshell keygen [flags] [FILE ...]\n"


@dataclass(slots=True)
class Wanted:
    """What the command line says. `actions` are the letters that name something to do."""

    actions: set[str] = field(default_factory=set)
    type: str = ""
    bits: int = 0
    file: str = ""
    files: list[str] = field(default_factory=list)
    comment: str | None = None
    new: Secret | None = None
    old: Secret | None = None
    hash: str = "sha256"
    form: str = ""
    cipher: str = ""
    rounds: int = 0
    options: list[str] = field(default_factory=list)
    host: str = ""
    identity: str | None = None
    names: str | None = None
    signer: str = ""
    validity: tuple[int, int] | None = None
    serial: int = 0
    counting: bool = False
    operation: str = ""
    quiet: bool = False
    verbose: int = 0


def main(arguments: Sequence[str]) -> int:
    """Runs `glasshell keygen`; returns the exit status."""
    if list(arguments) == ["--help"]:
        print(_help(), end="")
        return 0
    try:
        wanted = _parse(arguments)
        action = _action(wanted)
    except Nonsense as error:
        print(f"glasshell keygen: {visible(str(error))}\n{USAGE}", end="", file=sys.stderr)
        print("glasshell keygen --help lists the flags", file=sys.stderr)
        return 1
    return action(wanted)


class Nonsense(UsageError):
    """A command line that ssh-keygen answers with its usage."""


def _help() -> str:
    shown = {name: flag for name, flag in FLAGS.items() if flag[1]}
    lines = [f"  {f'-{name} {value}':16} {about}\n" for name, (value, about) in shown.items()]
    return "".join([USAGE, "\nWithout a flag that says what to do a new key is made.\n\n", *lines])


# ---- the command line


def _parse(arguments: Sequence[str]) -> Wanted:
    letters = "".join(name + ":" * (bool(value) or name in "DMw") for name, (value, _) in FLAGS.items())
    try:
        pairs, rest = getopt.gnu_getopt(list(arguments), letters)
    except getopt.GetoptError as error:
        raise Nonsense(error.msg) from None
    wanted = Wanted(files=rest)
    for name, value in pairs:
        _take(wanted, name[1:], value)
    return wanted


_ACTIONS: Final = frozenset("ABcegHhikLlpQUuyo")
"""Flags without a value: what is to be done, and how."""

_STORED: Final = {
    "C": "comment", "f": "file", "I": "identity", "n": "names", "s": "signer", "t": "type", "Y": "operation",
}  # fmt: skip


def _take(wanted: Wanted, name: str, value: str) -> None:
    if name in _ELSEWHERE:
        raise UsageError(f"-{name} is not supported", hint=_ELSEWHERE[name])
    if name in _ACTIONS or name == "X":
        wanted.actions.add("i" if name == "X" else name)
    elif name in _STORED:
        setattr(wanted, _STORED[name], value)
    elif name in "FRr":
        wanted.actions.add(name)
        wanted.host = value
    elif name in "NP":
        setattr(wanted, "new" if name == "N" else "old", Secret(value))
    elif name == "O":
        wanted.options.append(value)
    elif name == "q":
        wanted.quiet = True
    elif name == "v":
        wanted.verbose += 1
    else:
        _PARSED[name](wanted, value)


def _bits(wanted: Wanted, value: str) -> None:
    if not value.isdecimal() or not 0 < int(value[:12]) < 1 << 32:
        raise UsageError(f"Bits has bad value {visible(value)}")
    wanted.bits = int(value)


def _rounds(wanted: Wanted, value: str) -> None:
    if not value.isdecimal() or not 0 < int(value[:12]) < 1 << 31:
        raise UsageError(f"Invalid number: {visible(value)}")
    wanted.rounds = int(value)


def _hash(wanted: Wanted, value: str) -> None:
    if value.lower() not in HASHES:
        raise UsageError(f'Invalid hash algorithm "{visible(value)}"', hint=", ".join(HASHES))
    wanted.hash = value.lower()


HASHES: Final = ("sha256", "sha512", "sha384", "sha1", "md5")


def _form(wanted: Wanted, value: str) -> None:
    form = {"rfc4716": "RFC4716", "ssh2": "RFC4716", "pkcs8": "PKCS8", "pem": "PEM"}.get(value.lower())
    if form is None:
        raise UsageError(f'Unsupported conversion format "{visible(value)}"', hint="RFC4716, PKCS8 or PEM")
    wanted.form = form


def _cipher(wanted: Wanted, value: str) -> None:
    from ..keys.openssh import CIPHERS

    if value not in CIPHERS:
        raise UsageError(f"Invalid OpenSSH-format cipher '{visible(value)}'", hint=", ".join(CIPHERS))
    wanted.cipher = value


def _serial(wanted: Wanted, value: str) -> None:
    number = value.removeprefix("+")
    if not number.isascii() or not number.isdigit() or len(number) > 20 or int(number) >= 1 << 64:
        raise UsageError(f'Invalid serial number "{visible(value)}"')
    wanted.counting = value.startswith("+")
    wanted.serial = int(number)


def _validity(wanted: Wanted, value: str) -> None:
    from .keygen_certificates import parse_validity

    wanted.validity = parse_validity(value)


_PARSED: Final[dict[str, Callable[[Wanted, str], None]]] = {
    "a": _rounds, "b": _bits, "E": _hash, "m": _form, "V": _validity, "Z": _cipher, "z": _serial,
}  # fmt: skip


# ---- what is to be done


def _action(wanted: Wanted) -> Callable[[Wanted], int]:
    """In the order in which ssh-keygen looks."""
    actions = wanted.actions
    if wanted.operation:
        from . import keygen_signatures

        return keygen_signatures.action(wanted)
    if wanted.signer and not wanted.files and "k" not in actions:
        raise Nonsense("Too few arguments.")
    if wanted.files and not wanted.signer and not actions & set("kQ"):
        raise Nonsense("Too many arguments.")
    if {"p", "c"} <= actions:
        raise Nonsense("Can only have one of -p and -c.")
    if "l" in actions and actions & set("HR"):
        raise Nonsense("Cannot use -l with -H or -R.")
    if actions & set("kQ"):
        from .keygen_krl import make, query

        return make if "k" in actions else query
    if wanted.signer:
        from .keygen_certificates import certify

        return certify
    if actions & set("RHF"):
        return _hosts
    return _about_keys(actions)


def _about_keys(actions: set[str]) -> Callable[[Wanted], int]:
    from . import keygen_show as show

    if "L" in actions:
        from .keygen_certificates import show as show_certificates

        return show_certificates
    shown: dict[str, Callable[[Wanted], int]] = {
        "l": show.show, "B": show.show, "p": show.change_passphrase, "c": show.change_comment,
        "e": show.export, "i": show.convert, "y": show.public, "r": show.records,
    }  # fmt: skip
    for letter, act in shown.items():
        if letter in actions:
            return act
    from . import keygen_make

    return keygen_make.host_keys if "A" in actions else keygen_make.make


def _hosts(wanted: Wanted) -> int:
    from . import keygen_hosts

    actions = wanted.actions
    if "R" in actions:
        return keygen_hosts.remove(wanted.host, wanted.file, quiet=wanted.quiet)
    if "F" not in actions:
        return keygen_hosts.hash_file(wanted.file)
    return keygen_hosts.find(
        wanted.host, wanted.file, fingerprint="l" in actions, verbose=wanted.verbose > 0,
        hashed="H" in actions, quiet=wanted.quiet, digest=wanted.hash,
    )  # fmt: skip
