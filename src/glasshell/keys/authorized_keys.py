"""authorized_keys: whose key may log in, and what that login may do (sshd(8), AUTHORIZED_KEYS FILE FORMAT).

    [options]  type  base64  [comment]

A restriction that is read is enforced, or the line is refused: an option not known, not possible here,
or not well-formed takes the whole line with it, so that no key ever has more rights than its line says.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

from ..crypto.signatures import KEY_TYPES, PublicKey
from ..errors import KeyFormatError
from ..wire import visible
from .patterns import match_addresses, parse_network
from .public import BLANKS, as_text, parse_key, split_word

__all__ = ["AuthorizedKey", "AuthorizedKeys", "Decision", "Permissions", "RefusedLine"]

MAX_LINE: Final = 8192
"""Longest line taken, in bytes."""

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


def _permits(places: tuple[tuple[str, int | None], ...] | None, host: str, port: int) -> bool:
    return places is None or any(h in ("*", host) and p in (None, port) for h, p in places)


@dataclass(frozen=True, slots=True)
class AuthorizedKey:
    """One line that could be read in full. `sources` is the list of `from="..."`, `expires` epoch seconds."""

    source: str
    line: int
    key: PublicKey
    comment: str
    permissions: Permissions = field(default_factory=Permissions)
    sources: tuple[str, ...] | None = None
    expires: float | None = None

    @property
    def where(self) -> str:
        """`file:line`."""
        return f"{self.source}:{self.line}"

    def objection(self, address: str, hostname: str | None, now: float) -> str:
        """Why this line lets no login in from `address` at `now` (epoch seconds); empty where it does."""
        if self.expires is not None and now >= self.expires:
            return f"{self.where}: the key has expired"
        if self.sources is not None and not match_addresses(address, hostname, self.sources):
            return f"{self.where}: the key may not be used from {visible(address)}"
        return ""


@dataclass(frozen=True, slots=True)
class RefusedLine:
    """One line that lets nobody in, and why."""

    source: str
    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What the file says about a key: the first line that lets it in, or None and why not."""

    entry: AuthorizedKey | None
    reasons: tuple[str, ...] = ()

    @property
    def permissions(self) -> Permissions | None:
        """What the login may do; None where it is refused."""
        return self.entry.permissions if self.entry else None


class AuthorizedKeys:
    """The lines of an authorized_keys file."""

    __slots__ = ("entries", "refused")

    def __init__(
        self, entries: tuple[AuthorizedKey, ...] = (), refused: tuple[RefusedLine, ...] = ()
    ) -> None:
        self.entries = entries
        self.refused = refused

    @classmethod
    def parse(
        cls, text: str | bytes, source: str = "authorized_keys", *, permit_environment: bool = False
    ) -> AuthorizedKeys:
        """Reads a file; never raises. `environment="..."` is refused unless `permit_environment`."""
        entries: list[AuthorizedKey] = []
        refused: list[RefusedLine] = []
        for number, raw in enumerate(as_text(text).split("\n"), 1):
            line = raw.strip(BLANKS + "\r")
            if not line or line[0] == "#":
                continue
            try:
                entries.append(_parse_line(line, source, number, permit_environment))
            except KeyFormatError as error:
                refused.append(RefusedLine(source, number, str(error)))
        return cls(tuple(entries), tuple(refused))

    def __add__(self, other: AuthorizedKeys) -> AuthorizedKeys:
        """Both files, this one's lines first."""
        return AuthorizedKeys(self.entries + other.entries, self.refused + other.refused)

    def decide(self, key: PublicKey, *, address: str, hostname: str | None, now: float) -> Decision:
        """Whether `key` may log in from `address` (the peer's IP) at `now` (epoch seconds).

        `hostname` is the peer's verified name, None where names are not looked up: then no pattern of
        names fits. The first line that has no objection decides.
        """
        reasons = []
        for entry in self.entries:
            if entry.key != key:
                continue
            reason = entry.objection(address, hostname, now)
            if not reason:
                return Decision(entry)
            reasons.append(reason)
        return Decision(None, tuple(reasons))


# ---- one line


def _parse_line(line: str, source: str, number: int, permit_environment: bool) -> AuthorizedKey:
    if len(line) > MAX_LINE:
        raise KeyFormatError(f"a line of {len(line)} characters; {MAX_LINE} are allowed")
    if "\0" in line:
        raise KeyFormatError("a line with a NUL byte")
    word, rest = split_word(line)
    options: list[tuple[str, str | None]] = []
    if word not in KEY_TYPES and not _KEY_TYPE.fullmatch(word):
        options, rest = _split_options(line)
        word, rest = split_word(rest)
    encoded, comment = split_word(rest)
    if not encoded:
        raise KeyFormatError("a line without a key")
    key = parse_key(word, encoded)
    draft = _Draft(AuthorizedKey(source, number, key, comment), permit_environment)
    for name, value in options:
        draft.apply(name, value)
    return draft.entry


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

_IMPOSSIBLE: Final = {
    "cert-authority": "certificates are not supported",
    "principals": "certificates are not supported",
    "no-touch-required": "it is for keys in hardware, which are not supported",
    "verify-required": "it is for keys in hardware, which are not supported",
    "tunnel": "there are no tun devices here",
}


class _Draft:
    """One line while its options are applied, from left to right as OpenSSH does: the later one wins."""

    def __init__(self, entry: AuthorizedKey, permit_environment: bool) -> None:
        self.entry = entry
        self.permit_environment = permit_environment

    def apply(self, name: str, value: str | None) -> None:
        if name in _IMPOSSIBLE:
            raise KeyFormatError(f"the option {name}: {_IMPOSSIBLE[name]}")
        valued = _VALUED.get(name)
        if valued is not None:
            if value is None:
                raise KeyFormatError(f'the option {name} without its ="value"')
            valued(self, value)
        elif value is not None:
            raise KeyFormatError(f"the option {visible(name)} with a value, unknown")
        elif name == "restrict":
            self.permit(**dict.fromkeys(_SWITCHES.values(), False))
        elif name.removeprefix("no-") in _SWITCHES:
            self.permit(**{_SWITCHES[name.removeprefix("no-")]: not name.startswith("no-")})
        else:
            raise KeyFormatError(f"the unknown option {visible(name)}")

    def permit(self, **changes: Any) -> None:
        self.entry = replace(self.entry, permissions=replace(self.entry.permissions, **changes))

    def command(self, value: str) -> None:
        if self.entry.permissions.command is not None:
            raise KeyFormatError("two commands")
        self.permit(command=value)

    def source(self, value: str) -> None:
        if self.entry.sources is not None:
            raise KeyFormatError("two from= lists")
        patterns = tuple(value.split(","))
        if not all(pattern.removeprefix("!") for pattern in patterns):
            raise KeyFormatError("a from= list with an empty pattern")
        for pattern in patterns:
            parse_network(pattern.removeprefix("!").lower())
        self.entry = replace(self.entry, sources=patterns)

    def expiry(self, value: str) -> None:
        expires = _parse_time(value)
        earlier = self.entry.expires
        self.entry = replace(self.entry, expires=expires if earlier is None else min(earlier, expires))

    def permit_open(self, value: str) -> None:
        self.permit(permit_open=_more(self.entry.permissions.permit_open, _parse_place(value)))

    def permit_listen(self, value: str) -> None:
        # A port alone means: at any address (sshd(8), permitlisten).
        place = _parse_place(value if ":" in value else f"*:{value}")
        self.permit(permit_listen=_more(self.entry.permissions.permit_listen, place))

    def environment(self, value: str) -> None:
        name, equals, content = value.partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z0-9_]+", name):
            raise KeyFormatError("an environment option that is not NAME=value")
        if not self.permit_environment:
            raise KeyFormatError("the option environment: users may not set it (PermitUserEnvironment)")
        if name not in (known for known, _ in self.entry.permissions.environment):
            self.permit(environment=_more(self.entry.permissions.environment, (name, content)))


_VALUED: Final[dict[str, Callable[[_Draft, str], None]]] = {
    "command": _Draft.command,
    "from": _Draft.source,
    "expiry-time": _Draft.expiry,
    "permitopen": _Draft.permit_open,
    "permitlisten": _Draft.permit_listen,
    "environment": _Draft.environment,
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
