"""Host and Match: whether the lines that follow are for this host (ssh_config) or this login (sshd_config).

A condition that this program does not know never holds, negated or not, and is told of: a block that is
meant for few must not become one for all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from ..errors import ConfigError, KeyFormatError
from ..keys.patterns import match_addresses, match_list, match_pattern, parse_address, parse_network
from ..wire import visible
from .parse import Line

__all__ = ["Asked", "Condition", "Login", "Verdict", "ask_client", "ask_server", "conditions", "host_line"]

VERSION: Final = "glasshell_0.1"
"""What `Match version` is held against."""


class Condition(NamedTuple):
    """One condition of a Match line: its name in lower case, its argument, and whether it is negated."""

    name: str
    value: str
    negated: bool = False

    def __str__(self) -> str:
        return f"{'!' * self.negated}{self.name}{' ' * bool(self.value)}{self.value}"


class Verdict(NamedTuple):
    """Whether a block's lines apply, and why: one word per condition that was looked at."""

    holds: bool
    reason: str


WITHOUT_VALUE: Final = frozenset({"all", "canonical", "final", "invalid-user"})
MAY_BE_EMPTY: Final = frozenset({"tagged", "command"})


def conditions(line: Line, known: frozenset[str]) -> list[Condition]:
    """The conditions of a Match line. Raises ConfigError for a line that cannot be understood.

    A condition that is not in `known` takes the word after it, unless that is one that is known.
    """
    words = list(line.args)
    found: list[Condition] = []
    while words:
        word = words.pop(0)
        negated = word.startswith("!")
        name, sign, value = word[negated:].partition("=")
        name = name.lower()
        if name in WITHOUT_VALUE and name in known and not sign:
            found.append(Condition(name, "", negated))
            continue
        if not sign:
            if name not in known and (not words or words[0].lstrip("!").partition("=")[0].lower() in known):
                found.append(Condition(name, "", negated))
                continue
            if not words:
                raise ConfigError(f"missing argument for Match '{visible(word)}'")
            value = words.pop(0)
        if not value and name not in MAY_BE_EMPTY:
            raise ConfigError(f"Missing Match criteria for {visible(name)}")
        found.append(Condition(name, value, negated))
    if any(each.name == "all" for each in found[:-1]) or (len(found) > 2 and found[-1].name == "all"):
        raise ConfigError("'all' cannot be combined with other Match attributes")
    return found


def _comma(text: str) -> list[str]:
    return text.split(",")


# ---- ssh_config


def host_line(line: Line, host: str) -> tuple[bool, str]:
    """Whether a Host line fits, and the pattern that decided; empty where none did."""
    found = ""
    for pattern in line.args:
        negated = pattern.startswith("!")
        if match_pattern(host, pattern[negated:]):
            if negated:
                return False, pattern
            found = found or pattern
    return bool(found), found


def names_hosts(line: Line) -> bool:
    """Whether a Host or Match line is for hosts that somebody has named, and not for all that there are."""
    if line.keyword == "host":
        return all(map(_named, (each for each in line.args if not each.startswith("!"))))
    found = [each for each in conditions(line, CLIENT) if not each.negated]
    hosts = [each.value for each in found if each.name in ("host", "originalhost")]
    return any(all(map(_named, _comma(value))) for value in hosts)


def _named(pattern: str) -> bool:
    return bool(pattern.strip("*?.!"))


CLIENT: Final = frozenset({
    "all", "canonical", "final", "exec", "localnetwork", "host", "originalhost", "tagged", "command", "user",
    "localuser", "version", "sessiontype",
})  # fmt: skip


class Asked(NamedTuple):
    """What the conditions of ssh_config are held against. The functions are called when they are reached."""

    host: str
    original: str
    user: str
    local_user: str
    tag: str
    command: str
    session: str
    final: bool
    execute: Callable[[str], bool]
    addresses: Callable[[], Sequence[str]]


def ask_client(found: Sequence[Condition], asked: Asked) -> Verdict:
    """Whether all conditions hold; `exec` runs only where those before it do. Raises ConfigError."""
    holds, reasons = True, []
    for condition in found:
        name = condition.name
        if name not in CLIENT:
            holds, said = False, f"{condition}: a condition that is not known never holds"
        elif name == "exec" and not holds:
            continue
        else:
            hit = _client(condition, asked)
            ok = hit is not condition.negated
            holds = holds and ok
            said = f"{condition}: {'yes' if ok else 'no'}"
        reasons.append(said)
    return Verdict(holds, "; ".join(reasons))


def _client(condition: Condition, asked: Asked) -> bool:
    value = condition.value
    match condition.name:
        case "all":
            return True
        case "canonical" | "final":
            return asked.final
        case "host":
            return match_list(asked.host, _comma(value))
        case "originalhost":
            return match_list(asked.original, _comma(value))
        case "user":
            return _exact(asked.user, value)
        case "localuser":
            return _exact(asked.local_user, value)
        case "version":
            return _exact(VERSION, value)
        case "tagged":
            return _exact(asked.tag, value) if asked.tag else not value
        case "command":
            return _exact(asked.command, value) if asked.command else not value
        case "sessiontype":
            return _exact(asked.session, value)
        case "localnetwork":
            networks = [_network(each) for each in _comma(value)]
            return any(_within(address, networks) for address in asked.addresses())
        case "exec":
            return asked.execute(value)
    raise ConfigError(f"Unsupported Match attribute {condition.name}")


def _exact(text: str, patterns: str) -> bool:
    """match_pattern_list of OpenSSH: `!` takes out, case matters."""
    found = False
    for pattern in _comma(patterns):
        negated = pattern.startswith("!")
        if match_pattern(text, pattern[negated:]):
            if negated:
                return False
            found = True
    return found


def _network(pattern: str) -> str:
    bare = pattern.removeprefix("!")
    try:
        known = parse_network(bare)
    except KeyFormatError as error:
        raise ConfigError(str(error)) from None
    if known is None:
        raise ConfigError(f'"{visible(pattern)}" is no network in CIDR form')
    return pattern


def _within(address: str, networks: Sequence[str]) -> bool:
    return parse_address(address) is not None and match_addresses(address, None, networks)


# ---- sshd_config


SERVER: Final = frozenset({
    "all", "invalid-user", "user", "group", "host", "address", "localaddress", "localport", "rdomain",
    "version",
})  # fmt: skip


class Login(NamedTuple):
    """What the conditions of sshd_config are held against. None: it is not known, so the condition fails."""

    user: str | None = None
    address: str | None = None
    host: str | None = None
    local_address: str | None = None
    local_port: int | None = None
    groups: Sequence[str] | None = None
    rdomain: str | None = None
    invalid_user: bool = False


def check_server(found: Sequence[Condition]) -> Iterator[str]:
    """What is to be said of a Match line before any login. Raises ConfigError for what cannot be read."""
    for condition in found:
        if condition.name not in SERVER:
            yield f"Match {visible(str(condition))} is not known: its block never applies"
        elif condition.negated:
            raise ConfigError(f"Unsupported Match attribute !{condition.name}")
        elif condition.name in ("address", "localaddress"):
            _addresses("192.0.2.1", condition.value)
        elif condition.name == "localport":
            _port(condition.value)


def ask_server(found: Sequence[Condition], login: Login) -> Verdict:
    """Whether all conditions hold."""
    reasons = []
    holds = True
    for condition in found:
        ok = condition.name in SERVER and not condition.negated and _server(condition, login)
        holds = holds and ok
        reasons.append(f"{condition}: {'yes' if ok else 'no'}")
    return Verdict(holds, "; ".join(reasons))


def _server(condition: Condition, login: Login) -> bool:
    value = condition.value
    match condition.name:
        case "all":
            return True
        case "invalid-user":
            return login.invalid_user
        case "user":
            return login.user is not None and _exact(login.user, value)
        case "group":
            return _group(login.groups or (), value)
        case "host":
            return login.host is not None and match_list(login.host, _comma(value))
        case "address":
            return login.address is not None and _addresses(login.address, value)
        case "localaddress":
            return login.local_address is not None and _addresses(login.local_address, value)
        case "localport":
            return login.local_port == _port(value)
        case "rdomain":
            return login.rdomain is not None and _exact(login.rdomain, value)
        case _:
            return _exact(VERSION, value)


def _group(groups: Sequence[str], patterns: str) -> bool:
    """One group in the list, and none that a `!` takes out."""
    found = False
    for pattern in _comma(patterns):
        negated = pattern.startswith("!")
        if any(match_pattern(group, pattern[negated:]) for group in groups):
            if negated:
                return False
            found = True
    return found


def _addresses(address: str, patterns: str) -> bool:
    try:
        return match_addresses(address, None, _comma(patterns))
    except KeyFormatError as error:
        raise ConfigError(str(error)) from None


def _port(text: str) -> int:
    if not text.isdecimal() or not text.isascii() or not 0 <= int(text) <= 65535:
        raise ConfigError(f"Invalid LocalPort '{visible(text)}' on Match line")
    return int(text)
