"""`glasshell keygen -s` and `-L`: certificates made and shown."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from ..crypto.signatures import PrivateKey, PublicKey
from ..errors import ConfigError, KeyFormatError, UsageError
from ..keys.certificate import ALWAYS, MAX_PRINCIPALS, Certificate, draft_certificate, finish_certificate
from ..keys.fingerprint import fingerprint
from ..keys.patterns import parse_network
from ..keys.public import as_text, dump_public_key, load_key
from ..keys.times import parse_time
from ..wire import Reader, visible
from .keygen import Wanted
from .keygen_files import complain, expand, open_private, read, read_public, write_public

__all__ = ["certify", "parse_validity", "show"]

_GRANTS: Final = {
    "x11-forwarding": "permit-X11-forwarding", "agent-forwarding": "permit-agent-forwarding",
    "port-forwarding": "permit-port-forwarding", "pty": "permit-pty", "user-rc": "permit-user-rc",
}  # fmt: skip
"""What -O permit-NAME and no-NAME are about -> the extension."""


# ---- -V


def parse_validity(text: str) -> tuple[int, int]:
    """The interval of -V, in epoch seconds. Raises UsageError."""
    now = int(time.time())
    if text.startswith("+") and ":" not in text:
        # A minute back, for hosts whose clocks are not quite right.
        return (now - 59) // 60 * 60, now + _seconds(text[1:], "Invalid relative certificate life " + text)
    start, colon, end = text.partition(":")
    if not colon or not start or not end:
        raise UsageError(f"Invalid certificate life specification {visible(text)}")
    first = 0 if start == "always" else _time(start, "from", now)
    last = ALWAYS if end == "forever" else _time(end, "to", now)
    if last <= first:
        raise UsageError("Empty certificate validity interval")
    return first, last


def _time(text: str, which: str, now: int) -> int:
    if text[0] in "+-":
        moment = now + _seconds(text[1:], f"Invalid relative certificate time {text}") * (
            -1 if text[0] == "-" else 1
        )
        if moment < 0:
            raise UsageError(f"Certificate time {visible(text)} cannot be represented")
        return moment
    if text.startswith("0x"):
        if not re.fullmatch("0x[0-9a-fA-F]{1,16}", text):
            raise UsageError("Invalid certificate time: not a number")
        return int(text, 16)
    try:
        return parse_time(text)
    except KeyFormatError:
        raise UsageError(f'Invalid {which} time "{visible(text)}"') from None


def _seconds(text: str, failed: str) -> int:
    from ..config.forms import seconds

    try:
        return seconds(text)
    except ConfigError:
        raise UsageError(visible(failed)) from None


# ---- -s


def certify(wanted: Wanted) -> int:
    """Signs each public key by the authority; the certificate goes into FILE-cert.pub."""
    if wanted.identity is None:
        raise UsageError("Must specify key id (-I) when certifying")
    principals = _principals(wanted.names)
    if not principals:
        complain("Warning: certificate will contain no principals (-n)")
    critical, extensions = _options(wanted)
    authority, sign = _authority(wanted)
    algorithm = _algorithm(authority, wanted.type)
    first, last = wanted.validity or (0, ALWAYS)
    for count, name in enumerate(wanted.files):
        path = expand(name)
        key, comment = _to_certify(path)
        draft = draft_certificate(
            key, authority, kind="host" if "h" in wanted.actions else "user", key_id=wanted.identity,
            principals=principals, serial=wanted.serial + count * wanted.counting, valid_after=first,
            valid_before=last, critical=critical, extensions=extensions,
        )  # fmt: skip
        certificate = finish_certificate(draft, sign(algorithm, draft))
        out = path.with_name(path.name.removesuffix(".pub") + "-cert.pub")
        write_public(out, dump_public_key(certificate, comment))
        if not wanted.quiet:
            _tell(certificate, out, wanted.names)
    return 0


def _tell(certificate: Certificate, out: Path, names: str | None) -> None:
    whom = f" for {names}" if names is not None else ""
    complain(
        f'Signed {certificate.kind} key {out}: id "{visible(certificate.key_id)}" '
        f"serial {certificate.serial}{visible(whom)} valid {certificate.validity}"
    )


def _principals(names: str | None) -> tuple[str, ...]:
    if names is None:
        return ()
    principals = tuple(names.split(","))
    if "" in principals:
        raise UsageError("Empty principal name")
    if len(principals) > MAX_PRINCIPALS:
        raise UsageError("Too many certificate principals specified")
    return principals


def _to_certify(path: Path) -> tuple[PublicKey, str]:
    try:
        key, comment = read_public(path)
    except (ConfigError, KeyFormatError) as error:
        raise KeyFormatError(f'load pubkey "{path}": {error}', hint=error.hint) from None
    if isinstance(key, Certificate):
        raise KeyFormatError(f'key "{path}" type {key.label} cannot be certified')
    return key, comment


def _authority(wanted: Wanted) -> tuple[PublicKey, Callable[[str, bytes], bytes]]:
    """The authority's key, and how it signs: from its file, or in the agent."""
    path = expand(wanted.signer)
    if "U" not in wanted.actions:
        private: PrivateKey = open_private(path, wanted.old)[0]
        return private.public, private.sign
    from .keygen_signatures import agent_signer

    try:
        key = read_public(path)[0].plain
    except (ConfigError, KeyFormatError) as error:
        raise KeyFormatError(f"Cannot load CA public key {path}: {error}", hint=error.hint) from None
    sign = agent_signer(key)
    if sign is None:
        raise KeyFormatError(f"CA key {path} not found in agent")
    return key, sign


def _algorithm(authority: PublicKey, name: str) -> str:
    """By -t, of an RSA key: which hash it signs with."""
    if name in authority.algorithms:
        return name
    if name and name not in (authority.type, authority.label.lower()):
        raise UsageError(f"CA key type {authority.type} doesn't match specified {visible(name)}")
    return authority.algorithms[0]


# ---- -O


def _options(wanted: Wanted) -> tuple[dict[str, str], dict[str, str]]:
    """The critical options and the extensions; a user's certificate permits everything by default."""
    grants = set() if "h" in wanted.actions else set(_GRANTS.values())
    critical: dict[str, str] = {}
    extensions: dict[str, str] = {}
    for option in wanted.options:
        name, equals, value = option.partition("=")
        word = name.lower()
        about = _GRANTS.get(word.removeprefix("permit-").removeprefix("no-"), "")
        if option.lower() == "clear":
            grants.clear()
            critical.pop("verify-required", None)
        elif about and not equals:
            (grants.discard if word.startswith("no-") else grants.add)(about)
        elif word in _TOGGLED and not equals:
            _TOGGLED[word](grants, critical)
        elif equals and word in ("force-command", "source-address"):
            _add_critical(critical, word, value)
        elif word.startswith(("extension:", "critical:")):
            target = extensions if word.startswith("extension:") else critical
            target[name.partition(":")[2]] = value
        else:
            raise UsageError(f'Unsupported certificate option "{visible(option)}"')
    return critical, {**extensions, **dict.fromkeys(grants, "")}


_TOGGLED: Final[dict[str, Callable[[set[str], dict[str, str]], Any]]] = {
    "touch-required": lambda grants, critical: grants.discard("no-touch-required"),
    "no-touch-required": lambda grants, critical: grants.add("no-touch-required"),
    "verify-required": lambda grants, critical: critical.update({"verify-required": ""}),
    "no-verify-required": lambda grants, critical: critical.pop("verify-required", None),
}


def _add_critical(critical: dict[str, str], name: str, value: str) -> None:
    if not value:
        raise UsageError(f"Empty {name} option")
    if name in critical:
        raise UsageError(f"{name} already specified")
    if name == "source-address":
        try:
            good = all(parse_network(word) is not None for word in value.split(","))
        except KeyFormatError:
            good = False
        if not good:
            raise UsageError("Invalid source-address list")
    critical[name] = value


# ---- -L


def show(wanted: Wanted) -> int:
    """What stands in each certificate of a file; the status is 1 where there is none."""
    path = expand(wanted.file) if wanted.file else Path("~/.ssh/id_ed25519").expanduser()
    source = "(stdin)" if str(path) == "-" else str(path)
    status = 1
    for number, raw in enumerate(as_text(read(path)).split("\n"), 1):
        line = raw.strip(" \t\r")
        if not line or line[0] == "#":
            continue
        try:
            key = load_key(line)[0]
        except KeyFormatError as error:
            complain(f"{source}:{number}: invalid key: {visible(str(error))}")
            continue
        if not isinstance(key, Certificate):
            complain(f"{source}:{number} is not a certificate")
            continue
        status = 0
        print(f"{source}:" if number == 1 and source != "(stdin)" else f"{source}:{number}:")
        _print(key, wanted.hash)
    return status


def _print(certificate: Certificate, hash: str) -> None:
    authority = certificate.authority
    lines = [
        f"        Type: {certificate.type} {certificate.kind} certificate",
        f"        Public key: {certificate.label} {fingerprint(certificate, hash)}",
        f"        Signing CA: {authority.label} {fingerprint(authority, hash)} "
        f"(using {certificate.signature_algorithm})",
        f'        Key ID: "{visible(certificate.key_id)}"',
        f"        Serial: {certificate.serial}",
        f"        Valid: {certificate.validity}",
    ]
    lines += _listed("Principals", [visible(name) for name in certificate.principals])
    lines += _listed("Critical Options", [_option(*item, _CRITICAL) for item in certificate.critical.items()])
    lines += _listed("Extensions", [_option(*item, _EXTENSIONS) for item in certificate.extensions.items()])
    print("\n".join(lines))


def _listed(title: str, items: list[str]) -> list[str]:
    if not items:
        return [f"        {title}: (none)"]
    return [f"        {title}: ", *(f"                {item}" for item in items)]


_CRITICAL: Final = {"force-command": True, "source-address": True, "verify-required": False}
"""Options that are known, and whether they have a value."""

_EXTENSIONS: Final = {**dict.fromkeys(_GRANTS.values(), False), "no-touch-required": False}


def _option(name: str, data: bytes, known: dict[str, bool]) -> str:
    shown = visible(name)
    if known.get(name):
        return f"{shown} {visible(Reader(data).text())}" if len(data) >= 4 else shown
    if name in known:
        return shown
    return (
        f"{shown} UNKNOWN OPTION: {data.hex()} (len {len(data)})" if data else f"{shown} UNKNOWN FLAG OPTION"
    )
