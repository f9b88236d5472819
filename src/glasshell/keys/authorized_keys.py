"""authorized_keys: whose key may log in, and what that login may do (sshd(8), AUTHORIZED_KEYS FILE FORMAT).

    [options]  type  base64  [comment]

A restriction that is read is enforced, or the line is refused: an option not known, not possible here,
or not well-formed takes the whole line with it, so that no key ever has more rights than its line says. A
line with `cert-authority` is for the certificates that its key has signed, and for no key.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from ..crypto.signatures import KEY_TYPES, PublicKey
from ..errors import KeyFormatError
from ..wire import visible
from .patterns import match_addresses, parse_network
from .public import BLANKS, as_text, parse_key, split_word

if TYPE_CHECKING:
    from .certificate import Certificate

__all__ = [
    "AuthorizedKey", "AuthorizedKeys", "Decision", "Permissions", "RefusedLine", "parse_options",
]  # fmt: skip

MAX_LINE: Final = 65536
"""Longest line taken, in bytes; a key of 16384 bits takes 2.8 KB."""

MAX_LIST: Final = 4096
"""Most permitopen, permitlisten or environment options of one line: OpenSSH's own bound."""


@dataclass(frozen=True, slots=True)
class Permissions:
    """What a login by one key may do; everything, unless its line says less.

    `permit_open` and `permit_listen` are None for any place, else pairs of host ("*": any) and port
    (None: any). They say where forwarding may go while `port_forwarding` says whether it is allowed.
    """

    command: str | None = None
    pty: bool = True
    port_forwarding: bool = True
    agent_forwarding: bool = True
    x11_forwarding: bool = True
    user_rc: bool = True
    permit_open: tuple[tuple[str, int | None], ...] | None = None
    permit_listen: tuple[tuple[str, int | None], ...] | None = None
    environment: tuple[tuple[str, str], ...] = ()

    def may_open(self, host: str, port: int) -> bool:
        """Whether a direct-tcpip channel may go to `host` and `port`, compared as written."""
        return self.port_forwarding and _permits(self.permit_open, host, port)

    def may_listen(self, host: str, port: int) -> bool:
        """Whether tcpip-forward may listen at `host` and `port`, compared as written."""
        return self.port_forwarding and _permits(self.permit_listen, host, port)

    def within(self, certificate: Certificate) -> Permissions:
        """What is left of them within what `certificate` permits, its command included.

        Raises KeyFormatError where both force a command, and not the same one (as OpenSSH).
        """
        theirs = certificate.force_command
        if None not in (self.command, theirs) and self.command != theirs:
            raise KeyFormatError("forced command options do not match")
        return replace(
            self, command=theirs if self.command is None else self.command,
            pty=self.pty and certificate.permits("pty"),
            port_forwarding=self.port_forwarding and certificate.permits("port-forwarding"),
            agent_forwarding=self.agent_forwarding and certificate.permits("agent-forwarding"),
            x11_forwarding=self.x11_forwarding and certificate.permits("X11-forwarding"),
            user_rc=self.user_rc and certificate.permits("user-rc"),
        )  # fmt: skip


def _permits(places: tuple[tuple[str, int | None], ...] | None, host: str, port: int) -> bool:
    return places is None or any(h in ("*", host) and p in (None, port) for h, p in places)


@dataclass(frozen=True, slots=True)
class Options:
    """The options of one line. `sources` is the list of `from="..."`, `expires` epoch seconds.

    `principals` are the names of which a certificate has to have one; None: the user's own. `touch_required`
    and `verify_required` are what a security key has to say of whoever holds it.
    """

    permissions: Permissions = field(default_factory=Permissions)
    sources: tuple[str, ...] | None = None
    expires: float | None = None
    cert_authority: bool = False
    principals: tuple[str, ...] | None = None
    touch_required: bool = True
    verify_required: bool = False
    tunnel: str | None = None
    """The tun device; there are none here, so that nothing comes of it."""

    def objection(self, user: str, address: str, hostname: str | None, now: float) -> str:
        """Why nobody is let in as `user` from `address` at `now` (epoch seconds), in OpenSSH's words."""
        if self.expires is not None and now >= self.expires:
            return f"entry expired at {datetime.fromtimestamp(self.expires):%Y-%m-%dT%H:%M:%S}"
        if self.sources is not None and not match_addresses(address, hostname, self.sources):
            return (
                f"Authentication tried for {visible(user)} with correct key but not from a permitted host"
                f" (host={visible(hostname or address)}, ip={visible(address)},"
                f" required={visible(','.join(self.sources))})."
            )
        return ""


@dataclass(frozen=True, slots=True)
class AuthorizedKey:
    """One line that could be read in full."""

    source: str
    line: int
    key: PublicKey
    comment: str
    options: Options = field(default_factory=Options)

    @property
    def where(self) -> str:
        """`file:line`."""
        return f"{self.source}:{self.line}"

    @property
    def permissions(self) -> Permissions:
        """What a login by this line may do."""
        return self.options.permissions


@dataclass(frozen=True, slots=True)
class RefusedLine:
    """One line that lets nobody in, and why."""

    source: str
    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What the file says about a key: the first line that lets it in, or None and why not.

    `permissions` are what the login may do: those of the line, and within those of a certificate.
    """

    entry: AuthorizedKey | None
    reasons: tuple[str, ...] = ()
    permissions: Permissions | None = None


class AuthorizedKeys:
    """The lines of an authorized_keys file."""

    __slots__ = ("entries", "refused")

    def __init__(
        self, entries: tuple[AuthorizedKey, ...] = (), refused: tuple[RefusedLine, ...] = ()
    ) -> None:
        self.entries = entries
        self.refused = refused

    @classmethod
    def parse(cls, text: str | bytes, source: str = "authorized_keys") -> AuthorizedKeys:
        """Reads a file; never raises."""
        entries: list[AuthorizedKey] = []
        refused: list[RefusedLine] = []
        for number, raw in enumerate(as_text(text).split("\n"), 1):
            line = raw.strip(BLANKS + "\r")
            if not line or line[0] == "#":
                continue
            try:
                entries.append(_parse_line(line, source, number))
            except KeyFormatError as error:
                refused.append(RefusedLine(source, number, str(error)))
        return cls(tuple(entries), tuple(refused))

    def __add__(self, other: AuthorizedKeys) -> AuthorizedKeys:
        """Both files, this one's lines first."""
        return AuthorizedKeys(self.entries + other.entries, self.refused + other.refused)

    def decide(
        self, key: PublicKey | Certificate, *, user: str = "", address: str, hostname: str | None, now: float
    ) -> Decision:
        """Whether `key` may log in as `user` from `address` (the peer's IP) at `now` (epoch seconds).

        `hostname` is the peer's verified name, None where names are not looked up: then no pattern of
        names fits. The first line that has no objection decides. A certificate is looked for under the key
        that signed it, and judged; whether that is revoked is for the caller.
        """
        certificate = None if isinstance(key, PublicKey) else key
        wanted = key if isinstance(key, PublicKey) else key.authority
        reasons = []
        for entry in self.entries:
            if entry.key != wanted or entry.options.cert_authority != (certificate is not None):
                continue
            reason = entry.options.objection(user, address, hostname, now)
            if not reason and certificate is None:
                return Decision(entry, permissions=entry.permissions)
            if not reason and certificate is not None:
                reason = judge(certificate, user, entry.options.principals, address, now)
                if not reason:
                    try:
                        return Decision(entry, permissions=entry.permissions.within(certificate))
                    except KeyFormatError as error:
                        reason = str(error)
            reasons.append(f"{entry.where}: {refusing(certificate, reason)}")
        return Decision(None, tuple(reasons))


def judge(
    certificate: Certificate, user: str, principals: tuple[str, ...] | None, address: str, now: float
) -> str:
    """Why a user's certificate does not hold for `user`, or, where there are `principals`, for one of those.

    Each name counts whole: a comma in a certificate's makes no two of it (CVE-2026-35414).
    """
    if principals is not None and not set(principals) & set(certificate.principals):
        return "Certificate does not contain an authorized principal"
    return certificate.objection("user", user if principals is None else None, now, address=address)


def refusing(certificate: Certificate | None, reason: str) -> str:
    """`reason`, and which certificate is refused for it, in OpenSSH's words."""
    if certificate is None:
        return reason
    authority = certificate.authority
    return (
        f'Refusing certificate ID "{visible(certificate.key_id)}" serial={certificate.serial} signed by'
        f" {authority.label} CA {authority.fingerprint()}: {reason}"
    )


# ---- one line


def _parse_line(line: str, source: str, number: int) -> AuthorizedKey:
    if len(line) > MAX_LINE:
        raise KeyFormatError(f"a line of {len(line)} characters; {MAX_LINE} are allowed")
    if "\0" in line:
        raise KeyFormatError("a line with a NUL byte")
    word, rest = split_word(line)
    named: list[tuple[str, str | None]] = []
    if word not in KEY_TYPES and not _KEY_TYPE.fullmatch(word):
        named, rest = _split_options(line)
        word, rest = split_word(rest)
    encoded, comment = split_word(rest)
    if not encoded:
        raise KeyFormatError("a line without a key")
    # Not proved to be sound, which takes longer than all the rest: it is compared with one that has to sign.
    key = parse_key(word, encoded, prove=False)
    return AuthorizedKey(source, number, key, comment, _apply(named) if named else _PLAIN)


def parse_options(text: str) -> Options:
    """The options in `text`, which holds nothing else. Raises KeyFormatError."""
    if len(text) > MAX_LINE or "\0" in text:
        raise KeyFormatError("options with a NUL byte, or too long")
    named, rest = _split_options(text) if text else ([], "")
    if rest.strip(BLANKS):
        raise KeyFormatError(f'options that cannot be read from "{visible(rest[:20])}" on')
    return _apply(named)


_PLAIN: Final = Options()


def _apply(named: list[tuple[str, str | None]]) -> Options:
    draft = _Draft()
    for name, value in named:
        draft.apply(name, value)
    options = draft.options
    if options.principals is not None and not options.cert_authority:
        raise KeyFormatError("principals on non-CA key")
    return options


_KEY_TYPE: Final = re.compile(r"(sk-)?(ssh|ecdsa)-[a-z0-9-]+(@[a-z.]+)?")
"""What looks like a key type is one: no option starts like this, and the refusal can name it."""

_OPTION: Final = re.compile(r'([A-Za-z0-9-]+)(?:=("(?:\\"|[^"])*+"))?(?=[, \t]|\Z)')
"""One option. The group is possessive: a quote that is escaped must never end the value after all."""


def _split_options(line: str) -> tuple[list[tuple[str, str | None]], str]:
    """The options at the start of `line`, names in lower case and values unquoted, and what follows them."""
    options: list[tuple[str, str | None]] = []
    pos = 0
    while match := _OPTION.match(line, pos):
        name, quoted = match[1].lower(), match[2]
        # \" is the only escape there is; any other backslash stands for itself.
        options.append((name, None if quoted is None else quoted[1:-1].replace('\\"', '"')))
        pos = match.end()
        if line[pos : pos + 1] != ",":
            return options, line[pos:]
        pos += 1
    raise KeyFormatError(f'options that cannot be read from "{visible(line[pos : pos + 20])}" on')


# ---- options


_SWITCHES: Final = {
    "pty": "pty",
    "port-forwarding": "port_forwarding",
    "agent-forwarding": "agent_forwarding",
    "x11-forwarding": "x11_forwarding",
    "user-rc": "user_rc",
}

class _Draft:
    """One line while its options are applied, from left to right as OpenSSH does: the later one wins."""

    def __init__(self) -> None:
        self.options = Options()

    def apply(self, name: str, value: str | None) -> None:
        valued = _VALUED.get(name)
        positive = name.removeprefix("no-")
        if valued is not None:
            if value is None:
                raise KeyFormatError(f'the option {name} without its ="value"')
            valued(self, value)
        elif value is not None:
            raise KeyFormatError(f"the option {visible(name)} with a value, unknown")
        elif name == "restrict":
            self.permit(**dict.fromkeys(_SWITCHES.values(), False))
        elif name == "cert-authority":
            self.set(cert_authority=True)
        elif positive in _SWITCHES:
            self.permit(**{_SWITCHES[positive]: positive == name})
        elif positive in ("touch-required", "verify-required"):
            self.set(**{positive.replace("-", "_"): positive == name})
        else:
            raise KeyFormatError(f"the unknown option {visible(name)}")

    def set(self, **changes: Any) -> None:
        self.options = replace(self.options, **changes)

    def permit(self, **changes: Any) -> None:
        self.set(permissions=replace(self.options.permissions, **changes))

    def command(self, value: str) -> None:
        if self.options.permissions.command is not None:
            raise KeyFormatError("two commands")
        self.permit(command=value)

    def source(self, value: str) -> None:
        if self.options.sources is not None:
            raise KeyFormatError("two from= lists")
        patterns = tuple(value.split(","))
        if not all(pattern.removeprefix("!") for pattern in patterns):
            raise KeyFormatError("a from= list with an empty pattern")
        for pattern in patterns:
            parse_network(pattern.removeprefix("!").lower())
        self.set(sources=patterns)

    def principals(self, value: str) -> None:
        if self.options.principals is not None:
            raise KeyFormatError("two principals= lists")
        names = tuple(value.split(","))
        if not all(names):
            raise KeyFormatError("a principals= list with an empty name")
        self.set(principals=names)

    def tunnel(self, value: str) -> None:
        device = value.lower()
        if device != "any" and not re.fullmatch("[0-9]{1,9}", device, re.ASCII):
            raise KeyFormatError(f'"{visible(value)}" is no tun device')
        self.set(tunnel=device)

    def expiry(self, value: str) -> None:
        expires = _parse_time(value)
        earlier = self.options.expires
        self.set(expires=expires if earlier is None else min(earlier, expires))

    def permit_open(self, value: str) -> None:
        self.permit(permit_open=_more(self.options.permissions.permit_open, _parse_place(value)))

    def permit_listen(self, value: str) -> None:
        # A port alone means: at any address (sshd(8), permitlisten).
        place = _parse_place(value if ":" in value else f"*:{value}")
        self.permit(permit_listen=_more(self.options.permissions.permit_listen, place))

    def environment(self, value: str) -> None:
        name, equals, content = value.partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z0-9_]+", name):
            raise KeyFormatError("an environment option that is not NAME=value")
        known = self.options.permissions.environment
        if name not in (one for one, _ in known):
            self.permit(environment=_more(known, (name, content)))


_VALUED: Final[dict[str, Callable[[_Draft, str], None]]] = {
    "command": _Draft.command,
    "from": _Draft.source,
    "expiry-time": _Draft.expiry,
    "permitopen": _Draft.permit_open,
    "permitlisten": _Draft.permit_listen,
    "environment": _Draft.environment,
    "principals": _Draft.principals,
    "tunnel": _Draft.tunnel,
}


def _more(known: tuple[Any, ...] | None, one: Any) -> tuple[Any, ...]:
    known = known or ()
    if len(known) >= MAX_LIST:
        raise KeyFormatError(f"more than {MAX_LIST} options of one kind")
    return (*known, one)


_PLACE: Final = re.compile(r"(?:\[([^\[\]]+)\]|([^\[\]:/]+)):(\*|[0-9]{1,5})", re.ASCII)


def _parse_place(value: str) -> tuple[str, int | None]:
    match = _PLACE.fullmatch(value)
    if match is None or not (match[1] or match[2]).isprintable():
        raise KeyFormatError(f'"{visible(value)}" is not host:port')
    if match[3] == "*":
        return match[1] or match[2], None
    port = int(match[3])
    if not 0 < port < 65536:
        raise KeyFormatError(f"the port {port} is out of range")
    return match[1] or match[2], port


_TIME: Final = re.compile(r"([0-9]{8})(?:([0-9]{4})([0-9]{2})?)?(Z|UTC)?", re.ASCII | re.IGNORECASE)


def _parse_time(value: str) -> float:
    """Epoch seconds of YYYYMMDD[HHMM[SS]], in the machine's time zone unless a Z follows."""
    match = _TIME.fullmatch(value)
    if match is None:
        raise KeyFormatError(f'"{visible(value)}" is not a time YYYYMMDD[HHMM[SS]][Z]')
    digits = match[1] + (match[2] or "0000") + (match[3] or "00")
    try:
        moment = datetime.strptime(digits, "%Y%m%d%H%M%S")
        return (moment.replace(tzinfo=UTC) if match[4] else moment).timestamp()
    except (ValueError, OverflowError, OSError):
        raise KeyFormatError(f'"{visible(value)}" is not a time') from None
