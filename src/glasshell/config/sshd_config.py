"""sshd_config: lines become the Policy of every connection and the ServerOptions beside it.

As in OpenSSH the first value of a keyword counts, lists grow, and the keyword's case does not matter. A
keyword that is not built is one warning; one that would restrict what logins may do is an error, since
a restriction that is overlooked is a hole.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

from ..crypto.registry import Kind
from ..errors import ConfigError, KeyFormatError
from ..keys.patterns import match_addresses, parse_address
from ..policy import Policy
from ..wire import visible
from .options import ServerOptions, UserList
from .parse import (
    Line,
    algorithm_list,
    flatten,
    number,
    port,
    rekey_limit,
    seconds,
    unknown_algorithms,
    yes_no,
)

__all__ = ["LOG_LEVELS", "ServerConfig", "load"]

LOG_LEVELS: Final = (
    "QUIET", "FATAL", "ERROR", "INFO", "VERBOSE", "DEBUG", "DEBUG1", "DEBUG2", "DEBUG3",
)  # fmt: skip

NEVER: Final = 1 << 31
"""Unanswered keepalives that no connection will live to see: ClientAliveCountMax 0."""


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """What the lines say; `warnings` names each keyword that has no effect, with its place."""

    policy: Policy
    options: ServerOptions
    warnings: tuple[str, ...] = ()


def load(
    lines: Iterable[Line], *, policy: Policy | None = None, options: ServerOptions | None = None
) -> ServerConfig:
    """Applies `lines`, Includes among them, to the given defaults. Raises ConfigError."""
    draft = _Draft(policy or Policy.server(), options or ServerOptions())
    for line in flatten(lines):
        try:
            draft.apply(line)
        except ConfigError as error:
            raise line.error(f"{line.name}: {error}", error.hint) from None
    return draft.done()


class _Draft:
    """The configuration while its lines are applied."""

    def __init__(self, policy: Policy, options: ServerOptions) -> None:
        self.base = policy
        self.base_options = options
        self.policy: dict[str, Any] = {}
        self.options: dict[str, Any] = {}
        self.permissions: dict[str, Any] = {}
        self.warnings: dict[str, str] = {}
        self.seen: set[str] = set()

    def apply(self, line: Line) -> None:
        keyword = _ALIASES.get(line.keyword, line.keyword)
        if keyword == "match":
            raise ConfigError("Match blocks are not supported yet", hint="write their lines for everybody")
        if keyword in _LISTS:
            _LISTS[keyword](self, line)
        elif keyword in _KEYWORDS:
            if keyword not in self.seen:  # the first value counts
                _KEYWORDS[keyword](self, line)
        elif keyword in _RESTRICTIONS:
            if line.one().lower() not in _RESTRICTIONS[keyword]:
                raise ConfigError("this restriction is not supported, and would be overlooked")
        elif keyword in _OFF:
            if line.args[0].lower() not in _OFF[keyword]:
                self.warn(line, f"{line.name} {visible(line.args[0])} is not supported: it stays off")
        else:
            self.warn(line, f"Unsupported option {visible(line.name)}")
        self.seen.add(keyword)

    def warn(self, line: Line, text: str) -> None:
        self.warnings.setdefault(line.keyword, f"{line.where}: {text}")

    def add(self, name: str, values: Iterable[Any]) -> None:
        self.options[name] = (*self.options.get(name, ()), *values)

    def done(self) -> ServerConfig:
        permissions = replace(self.base_options.permissions, **self.permissions)
        options = replace(self.base_options, **self.options, permissions=permissions)
        return ServerConfig(self.base.but(**self.policy), options, tuple(self.warnings.values()))


_Handler = Callable[[_Draft, Line], None]


def _option(name: str, parse: Callable[[str], Any]) -> _Handler:
    def handler(draft: _Draft, line: Line) -> None:
        draft.options[name] = parse(line.one())

    return handler


def _setting(name: str, parse: Callable[[str], Any]) -> _Handler:
    def handler(draft: _Draft, line: Line) -> None:
        draft.policy[name] = parse(line.one())

    return handler


def _algorithms(name: str, kind: Kind) -> _Handler:
    def handler(draft: _Draft, line: Line) -> None:
        value = line.one()
        draft.policy[name] = algorithm_list(kind, value, getattr(draft.base, name))
        if unknown := unknown_algorithms(kind, value):
            draft.warn(line, f"{line.name}: not to be had here: {visible(', '.join(unknown))}")

    return handler


def _one_of(*words: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value.lower() not in words:
            raise ConfigError(f'"{visible(value)}" is none of {", ".join(words)}')
        return value.lower()

    return parse


def _or_none(value: str) -> str:
    return "" if value.lower() == "none" else value


# ---- keywords of one value


def _address(value: str) -> tuple[str, int | None]:
    """One ListenAddress: host, host:port, [IPv6], [IPv6]:port, or an IPv6 address by itself."""
    if parse_address(value) is not None:
        return value, None
    match = re.fullmatch(r"(?:\[([^\[\]]+)\]|([^\[\]:]+))(?::([0-9]+))?", value)
    if match is None:
        raise ConfigError(f'"{visible(value)}" is no address')
    return match[1] or match[2], port(match[3]) if match[3] else None


def _root_login(value: str) -> str:
    word = _one_of("yes", "no", "prohibit-password", "without-password", "forced-commands-only")(value)
    return "prohibit-password" if word == "without-password" else word


def _startups(value: str) -> int:
    """MaxStartups: start:rate:full, of which only `full` has an effect here, or that alone."""
    parts = [number(part, 1) for part in value.split(":")]
    if len(parts) not in (1, 3) or parts[-1] < parts[0]:
        raise ConfigError(f'"{visible(value)}" is not start:rate:full')
    return parts[-1]


def _alive_count(value: str) -> int:
    return number(value) or NEVER


def _log_level(value: str) -> str:
    if value.upper() not in LOG_LEVELS:
        raise ConfigError(f'"{visible(value)}" is none of {", ".join(LOG_LEVELS)}')
    return value.upper()


def _compression(value: str) -> tuple[str, ...]:
    return ("none",) if _one_of("yes", "delayed", "no")(value) == "no" else ("none", "zlib@openssh.com")


def _rekey(draft: _Draft, line: Line) -> None:
    volume, time = rekey_limit(line.args)
    draft.policy |= {} if volume is None else {"rekey_bytes": volume}
    draft.policy |= {} if time is None else {"rekey_seconds": float(time) if time else None}


def _addendum(draft: _Draft, line: Line) -> None:
    text = _or_none(line.rest.strip())
    if not (text.isascii() and text.isprintable()) or len(text) > 128:
        raise ConfigError("a VersionAddendum is printable ASCII of at most 128 characters")
    draft.policy["software"] = f"{draft.base.software} {text}".rstrip()


def _forced_command(draft: _Draft, line: Line) -> None:
    draft.permissions["command"] = _or_none(line.rest) or None


def _tty(draft: _Draft, line: Line) -> None:
    draft.permissions["pty"] = yes_no(line.one())


def _forwarding(draft: _Draft, line: Line) -> None:
    word = _one_of("yes", "all", "no", "local", "remote")(line.one())
    if word == "no":
        draft.permissions["port_forwarding"] = False
    elif word == "local":
        draft.permissions["permit_listen"] = ()
    elif word == "remote":
        draft.permissions["permit_open"] = ()


def _disable_forwarding(draft: _Draft, line: Line) -> None:
    if yes_no(line.one()):
        draft.permissions |= {"permit_open": (), "permit_listen": ()}


def _places(name: str, *, host_needed: bool) -> _Handler:
    """PermitOpen and PermitListen: any, none, or places. AllowTcpForwarding may have said none already."""

    def handler(draft: _Draft, line: Line) -> None:
        words = [word.lower() for word in line.args]
        if words == ["any"]:
            return
        places = () if words == ["none"] else tuple(_place(arg, host_needed) for arg in line.args)
        if draft.permissions.get(name) != ():
            draft.permissions[name] = places

    return handler


def _place(text: str, host_needed: bool) -> tuple[str, int | None]:
    host, colon, digits = text.rpartition(":")
    if not colon and not host_needed:
        host = "*"
    elif not host or not colon:
        raise ConfigError(f'"{visible(text)}" is not host:port')
    return host.removeprefix("[").removesuffix("]"), None if digits == "*" else port(digits)


def _service(value: str) -> str:
    """The name of a file in /etc/pam.d."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", value):
        raise ConfigError(f'"{visible(value)}" is no name of a PAM service')
    return value


_FILES_TOKENS: Final = re.compile("(?:[^%]|%[%huU])+")


def _authorized_keys(draft: _Draft, line: Line) -> None:
    for pattern in line.args:
        if not _FILES_TOKENS.fullmatch(pattern):
            raise ConfigError(f'"{visible(pattern)}" has a token that is none of %% %h %u %U')
    draft.options["authorized_keys"] = line.args


# ---- keywords whose values add up


def _ports(draft: _Draft, line: Line) -> None:
    draft.add("ports", [port(line.one())])


def _listen(draft: _Draft, line: Line) -> None:
    draft.add("listen", [_address(line.one())])


def _host_key(draft: _Draft, line: Line) -> None:
    draft.add("host_keys", [] if line.one() == "none" else [line.one()])


def _users(name: str) -> _Handler:
    def handler(draft: _Draft, line: Line) -> None:
        for pattern in line.args:
            place = pattern.rpartition("@")[2] if "@" in pattern else ""
            try:
                match_addresses("192.0.2.1", None, [place])
            except KeyFormatError as error:
                raise ConfigError(str(error)) from None
        known: UserList = draft.options.get(name, UserList())
        draft.options[name] = UserList((*known.patterns, *line.args))

    return handler


def _list(name: str) -> _Handler:
    return lambda draft, line: draft.add(name, line.args)


def _set_env(draft: _Draft, line: Line) -> None:
    known: dict[str, str] = draft.options.setdefault("set_env", {})
    for arg in line.args:
        name, equals, value = arg.partition("=")
        if not equals or not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name):
            raise ConfigError(f'"{visible(arg)}" is not NAME=value')
        known.setdefault(name, value)


def _subsystem(draft: _Draft, line: Line) -> None:
    if len(line.args) < 2:
        raise ConfigError("Subsystem takes a name and a command")
    known: dict[str, str] = draft.options.setdefault("subsystems", {})
    if line.args[0] in known:
        raise ConfigError(f'the subsystem "{visible(line.args[0])}" is there already')
    known[line.args[0]] = line.rest.split(maxsplit=1)[1]


_LISTS: Final[dict[str, _Handler]] = {
    "port": _ports,
    "listenaddress": _listen,
    "hostkey": _host_key,
    "allowusers": _users("allow_users"),
    "denyusers": _users("deny_users"),
    "allowgroups": _list("allow_groups"),
    "denygroups": _list("deny_groups"),
    "acceptenv": _list("accept_env"),
    "setenv": _set_env,
    "subsystem": _subsystem,
}

_KEYWORDS: Final[dict[str, _Handler]] = {
    # The Policy of each connection
    "ciphers": _algorithms("ciphers", Kind.CIPHER),
    "macs": _algorithms("macs", Kind.MAC),
    "kexalgorithms": _algorithms("kex", Kind.KEX),
    "hostkeyalgorithms": _algorithms("host_key_algorithms", Kind.HOST_KEY),
    "pubkeyacceptedalgorithms": _algorithms("pubkey_algorithms", Kind.HOST_KEY),
    "compression": _setting("compression", _compression),
    "rekeylimit": _rekey,
    "logingracetime": _setting("login_grace", seconds),
    "maxauthtries": _setting("max_auth_failures", lambda value: number(value, 1)),
    "maxsessions": _setting("max_sessions", number),
    "clientaliveinterval": _setting("keepalive_interval", seconds),
    "clientalivecountmax": _setting("keepalive_count", _alive_count),
    "requiredrsasize": _setting("min_rsa_bits", lambda value: number(value, 1024, 16384)),
    "versionaddendum": _addendum,
    "allowterrapin": _setting("allow_terrapin", yes_no),
    # Where it listens
    "addressfamily": _option("family", _one_of("any", "inet", "inet6")),
    "maxstartups": _option("max_startups", _startups),
    "tcpkeepalive": _option("tcp_keepalive", yes_no),
    "loglevel": _option("log_level", _log_level),
    # Who may log in
    "authorizedkeysfile": _authorized_keys,
    "strictmodes": _option("strict_modes", yes_no),
    "pubkeyauthentication": _option("pubkey", yes_no),
    "permitrootlogin": _option("root_login", _root_login),
    "passwordauthentication": _option("password_authentication", yes_no),
    "kbdinteractiveauthentication": _option("kbd_interactive_authentication", yes_no),
    "permitemptypasswords": _option("permit_empty_passwords", yes_no),
    "usepam": _option("use_pam", yes_no),
    "pamservicename": _option("pam_service_name", _service),
    "banner": _option("banner", _or_none),
    # What a session may do
    "permittty": _tty,
    "printmotd": _option("print_motd", yes_no),
    "forcecommand": _forced_command,
    "permituserenvironment": _option("permit_user_environment", yes_no),
    "allowtcpforwarding": _forwarding,
    "disableforwarding": _disable_forwarding,
    "gatewayports": _option("gateway_ports", _one_of("yes", "no", "clientspecified")),
    "permitopen": _places("permit_open", host_needed=True),
    "permitlisten": _places("permit_listen", host_needed=False),
}

_ALIASES: Final = {
    "challengeresponseauthentication": "kbdinteractiveauthentication",
    "skeyauthentication": "kbdinteractiveauthentication",
    "pubkeyacceptedkeytypes": "pubkeyacceptedalgorithms",
    "dsaauthentication": "pubkeyauthentication",
}

_RESTRICTIONS: Final[dict[str, tuple[str, ...]]] = {
    "authenticationmethods": ("any", "publickey"),
    "chrootdirectory": ("none",),
    "pubkeyauthoptions": ("none",),
    "refuseconnection": ("no",),
    "revokedkeys": ("none",),
}
"""Keywords that take rights away, and the values that take none."""

_OFF: Final[dict[str, tuple[str, ...]]] = {
    "allowagentforwarding": ("no",),
    "allowstreamlocalforwarding": ("no",),
    "authorizedkeyscommand": ("none",),
    "authorizedprincipalscommand": ("none",),
    "authorizedprincipalsfile": ("none",),
    "exposeauthinfo": ("no",),
    "gssapiauthentication": ("no",),
    "hostbasedauthentication": ("no",),
    "kerberosauthentication": ("no",),
    "permittunnel": ("no",),
    "permituserrc": ("no",),
    "trustedusercakeys": ("none",),
    "usedns": ("no",),
    "x11forwarding": ("no",),
}
"""What is not built, and the values that ask for nothing more than that."""
