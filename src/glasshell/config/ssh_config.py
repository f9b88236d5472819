"""ssh_config(5): what the command line and the files say about one host, as frozen `ClientOptions`.

The command line comes first, then the user's file, then the system's; of each keyword the first value
counts. Nothing here opens a file, asks for a name or knows who runs it: that comes in as `Facts`. Blocks
of other hosts are not looked into beyond their lines: an algorithm of theirs that is not known here harms
nobody.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

from ..crypto.registry import Kind
from ..errors import ConfigError
from ..keys.patterns import match_pattern
from ..policy import Policy
from ..values import field, slotted
from ..wire import visible
from .parse import (
    COMMAND_LINE,
    Find,
    Line,
    Read,
    algorithm_list,
    number,
    port,
    read_file,
    rekey_limit,
    seconds,
    unknown_algorithms,
    yes_no,
)

__all__ = [
    "SYSTEM_FILE", "USER_FILE", "ClientOptions", "Facts", "Forward", "Told", "load", "option",
    "parse_forward",
]  # fmt: skip

USER_FILE: Final = "~/.ssh/config"
SYSTEM_FILE: Final = "/etc/ssh/ssh_config"

Told: TypeAlias = tuple[str, Mapping[str, Any]]
"""A state for the stream of records: its name and its facts."""


@slotted(frozen=True, kw_only=True)
class Facts:
    """What the operating system knows: who runs this, and where."""

    home: str
    user: str
    uid: int = 0
    local_host: str = "localhost"
    environment: Mapping[str, str] = field(default_factory=dict)
    read: Read
    find: Find = lambda pattern: ()


@slotted(frozen=True)
class Forward:
    """`[bind:]port:host:hostport` of -L and -R. `bind`: None where nothing was said, "" for all addresses."""

    bind: str | None
    port: int
    host: str
    host_port: int


@slotted(frozen=True, kw_only=True)
class ClientOptions:
    """Everything `ssh` is told about one host. None: nothing was said, the default of who uses it holds.

    `sources` says for each field that was set where that was: `file line N`, or `command line`.
    `told` is what happened while reading, for the stream of records; `warnings` what was not understood.
    """

    host: str
    """As it was typed."""
    hostname: str
    """What is connected to."""
    port: int = 22
    user: str
    address_family: Literal["any", "inet", "inet6"] = "any"
    bind_address: str | None = None
    connect_timeout: int | None = None
    connection_attempts: int = 1
    tcp_keepalive: bool = True

    identity_files: tuple[str, ...] | None = None
    identities_only: bool = False
    identity_agent: str | None = None
    """A path; empty: no agent; None: $SSH_AUTH_SOCK."""
    user_known_hosts: tuple[str, ...] = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2")
    global_known_hosts: tuple[str, ...] = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")
    strict_host_key_checking: Literal["yes", "ask", "accept-new", "no"] = "ask"
    hash_known_hosts: bool = False
    host_key_alias: str = ""
    update_host_keys: Literal["yes", "ask", "no"] | None = None
    """None: yes, unless UserKnownHostsFile was set."""

    ciphers: tuple[str, ...] | None = None
    macs: tuple[str, ...] | None = None
    kex: tuple[str, ...] | None = None
    host_key_algorithms: tuple[str, ...] | None = None
    pubkey_algorithms: tuple[str, ...] | None = None
    compression: bool = False
    rekey_limit: tuple[int | None, int | None] = (None, None)
    server_alive_interval: int | None = None
    server_alive_count_max: int | None = None
    allow_terrapin: bool = False
    speculation: bool = True
    """Whether what the server is known to ask for is sent before its time; a keyword of our own."""

    batch_mode: bool = False
    preferred_authentications: tuple[str, ...] = ("publickey", "keyboard-interactive", "password")
    password_authentication: bool = True
    pubkey_authentication: bool = True
    kbd_interactive_authentication: bool = True
    number_of_password_prompts: int = 3

    request_tty: Literal["auto", "no", "yes", "force"] = "auto"
    session_type: Literal["default", "none", "subsystem"] = "default"
    remote_command: str | None = None
    set_env: tuple[tuple[str, str], ...] = ()
    send_env: tuple[str, ...] = ()
    stdin_null: bool = False
    fork: bool = False
    escape_char: str | None = "~"
    """None: there is none."""
    log_level: str = "INFO"

    local_forwards: tuple[Forward, ...] = ()
    remote_forwards: tuple[Forward, ...] = ()
    gateway_ports: bool = False
    exit_on_forward_failure: bool = False
    clear_all_forwardings: bool = False

    sources: Mapping[str, str] = field(default_factory=dict)
    told: tuple[Told, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def methods(self) -> tuple[str, ...]:
        """The ways to log in that may be tried, in order."""
        allowed = {
            "publickey": self.pubkey_authentication,
            "keyboard-interactive": self.kbd_interactive_authentication and not self.batch_mode,
            "password": self.password_authentication and not self.batch_mode,
        }
        return tuple(name for name in self.preferred_authentications if allowed.get(name, False))

    def policy(self) -> Policy:
        """The settings of the connection; what was not said stays as `Policy.client()` has it."""
        volume, time = self.rekey_limit
        said: dict[str, Any] = {
            "kex": self.kex,
            "host_key_algorithms": self.host_key_algorithms,
            "ciphers": self.ciphers,
            "macs": self.macs,
            "pubkey_algorithms": self.pubkey_algorithms,
            "rekey_bytes": volume,
            "rekey_seconds": time,
            "keepalive_interval": self.server_alive_interval,
            "keepalive_count": self.server_alive_count_max,
            "compression": ("zlib@openssh.com", "none") if self.compression else None,
        }
        changes = {name: value for name, value in said.items() if value is not None}
        # A person may take longer for a password than any grace; the server has its own.
        return Policy.client(allow_terrapin=self.allow_terrapin, login_grace=0, **changes)


# ---- values: each takes its line and returns what the field holds


def _choice(**words: Any) -> Callable[[Line], Any]:
    """One of some words; `_` in a name stands for `-`."""
    table = {name.replace("_", "-"): value for name, value in words.items()}

    def parse(line: Line) -> Any:
        word = line.one().lower()
        if word not in table:
            raise ConfigError(f'"{visible(line.one())}" is none of {", ".join(table)}')
        return table[word]

    return parse


def _yes_no(line: Line) -> bool:
    return yes_no(line.one())


def _text(line: Line) -> str:
    return line.one()


def _words(line: Line) -> tuple[str, ...]:
    return line.args


def _files(line: Line) -> tuple[str, ...]:
    return () if line.args == ("none",) else line.args


def _names(line: Line) -> tuple[str, ...]:
    return tuple(name for name in line.one().split(",") if name)


def _algorithms(kind: Kind, defaults: str) -> Callable[[Line], tuple[str, ...]]:
    return lambda line: algorithm_list(kind, line.one(), getattr(Policy.client(), defaults))


def _count(low: int = 0) -> Callable[[Line], int]:
    return lambda line: number(line.one(), low)


def _timeout(line: Line) -> int | None:
    return None if line.one().lower() == "none" else seconds(line.one())


def _variables(line: Line) -> tuple[tuple[str, str], ...]:
    pairs = [word.partition("=") for word in line.args]
    for name, sign, _ in pairs:
        if not name or not sign:
            raise ConfigError(f'"{visible(name)}" is not NAME=value')
    return tuple({name: value for name, _, value in reversed(pairs)}.items())[::-1]


def _command(line: Line) -> str | None:
    text = line.rest.strip()
    return None if text.lower() == "none" else text


def _escape(line: Line) -> str | None:
    word = line.one()
    if word.lower() == "none":
        return None
    if len(word) == 2 and word[0] == "^" and 64 <= ord(word[1].upper()) < 96:
        return chr(ord(word[1].upper()) & 31)
    if len(word) != 1:
        raise ConfigError(f'"{visible(word)}" is neither one character, ^ and a letter, nor none')
    return word


def _level(line: Line) -> str:
    word = line.one().upper()
    if word not in ("QUIET", "FATAL", "ERROR", "INFO", "VERBOSE", "DEBUG", "DEBUG1", "DEBUG2", "DEBUG3"):
        raise ConfigError(f'"{visible(line.one())}" is no LogLevel')
    return "DEBUG1" if word == "DEBUG" else word


def _agent(line: Line) -> str | None:
    word = line.one()
    if word.lower() == "none":
        return ""
    return None if word == "SSH_AUTH_SOCK" else f"${{{word[1:]}}}" if re.fullmatch(r"\$\w+", word) else word


def parse_forward(text: str, *, remote: bool = False) -> Forward:
    """`[bind:]port:host:hostport`, addresses of IPv6 in brackets. Raises ConfigError.

    Port 0 of a `remote` one means: the server chooses.
    """
    parts = re.findall(r"(?:\A|:)(\[[^\[\]]*\]|[^:\[\]]*)", text)
    if ":".join(parts) != text or len(parts) not in (3, 4):
        raise ConfigError(
            f'"{visible(text)}" is no forwarding', hint="write [bind:]port:host:hostport, IPv6 in brackets"
        )
    *bind, listen, host, target = (part.removeprefix("[").removesuffix("]") for part in parts)
    if not host:
        raise ConfigError(f'"{visible(text)}" names no host to forward to')
    where = None if not bind else "" if bind[0] == "*" else bind[0]
    return Forward(where, number(listen, 0 if remote else 1, 65535), host, port(target))


def _forward(remote: bool) -> Callable[[Line], tuple[Forward, ...]]:
    return lambda line: (parse_forward(":".join(line.args), remote=remote),)


Row: TypeAlias = tuple[str, Callable[[Line], Any]]

KEYWORDS: Final[Mapping[str, Row]] = {
    "hostname": ("hostname", _text),
    "port": ("port", lambda line: port(line.one())),
    "user": ("user", _text),
    "addressfamily": ("address_family", _choice(any="any", inet="inet", inet6="inet6")),
    "bindaddress": ("bind_address", _text),
    "connecttimeout": ("connect_timeout", _timeout),
    "connectionattempts": ("connection_attempts", _count(1)),
    "tcpkeepalive": ("tcp_keepalive", _yes_no),
    "identityfile": ("identity_files", _words),
    "identitiesonly": ("identities_only", _yes_no),
    "identityagent": ("identity_agent", _agent),
    "userknownhostsfile": ("user_known_hosts", _files),
    "globalknownhostsfile": ("global_known_hosts", _files),
    "stricthostkeychecking": (
        "strict_host_key_checking",
        _choice(yes="yes", true="yes", ask="ask", accept_new="accept-new", no="no", off="no", false="no"),
    ),
    "hashknownhosts": ("hash_known_hosts", _yes_no),
    "updatehostkeys": (
        "update_host_keys", _choice(yes="yes", true="yes", ask="ask", no="no", false="no")
    ),
    "hostkeyalias": ("host_key_alias", _text),
    "ciphers": ("ciphers", _algorithms(Kind.CIPHER, "ciphers")),
    "macs": ("macs", _algorithms(Kind.MAC, "macs")),
    "kexalgorithms": ("kex", _algorithms(Kind.KEX, "kex")),
    "hostkeyalgorithms": ("host_key_algorithms", _algorithms(Kind.HOST_KEY, "host_key_algorithms")),
    "pubkeyacceptedalgorithms": ("pubkey_algorithms", _algorithms(Kind.HOST_KEY, "pubkey_algorithms")),
    "compression": ("compression", _yes_no),
    "rekeylimit": ("rekey_limit", lambda line: rekey_limit(line.args)),
    "serveraliveinterval": ("server_alive_interval", lambda line: seconds(line.one())),
    "serveralivecountmax": ("server_alive_count_max", _count()),
    "allowterrapin": ("allow_terrapin", _yes_no),
    "speculation": ("speculation", _yes_no),
    "batchmode": ("batch_mode", _yes_no),
    "preferredauthentications": ("preferred_authentications", _names),
    "passwordauthentication": ("password_authentication", _yes_no),
    "pubkeyauthentication": (
        "pubkey_authentication",
        # What else it can say is about hostbound signatures alone.
        _choice(yes=True, true=True, no=False, false=False, unbound=True, host_bound=True),
    ),
    "kbdinteractiveauthentication": ("kbd_interactive_authentication", _yes_no),
    "numberofpasswordprompts": ("number_of_password_prompts", _count()),
    "requesttty": (
        "request_tty", _choice(no="no", false="no", yes="yes", true="yes", force="force", auto="auto"),
    ),
    "sessiontype": ("session_type", _choice(none="none", subsystem="subsystem", default="default")),
    "remotecommand": ("remote_command", _command),
    "setenv": ("set_env", _variables),
    "sendenv": ("send_env", _words),
    "stdinnull": ("stdin_null", _yes_no),
    "forkafterauthentication": ("fork", _yes_no),
    "escapechar": ("escape_char", _escape),
    "loglevel": ("log_level", _level),
    "localforward": ("local_forwards", _forward(False)),
    "remoteforward": ("remote_forwards", _forward(True)),
    "gatewayports": ("gateway_ports", _yes_no),
    "exitonforwardfailure": ("exit_on_forward_failure", _yes_no),
    "clearallforwardings": ("clear_all_forwardings", _yes_no),
}  # fmt: skip
"""Keyword -> the field it sets, and how its value is read."""

ALIASES: Final = {
    "challengeresponseauthentication": "kbdinteractiveauthentication",
    "pubkeyacceptedkeytypes": "pubkeyacceptedalgorithms",
}
"""Older names that OpenSSH still takes."""

_LISTS: Final = {
    "ciphers": Kind.CIPHER, "macs": Kind.MAC, "kex": Kind.KEX, "host_key_algorithms": Kind.HOST_KEY,
    "pubkey_algorithms": Kind.HOST_KEY,
}  # fmt: skip
"""Fields that are lists of algorithms."""

_ADDED_UP: Final = frozenset({"identity_files", "send_env", "local_forwards", "remote_forwards"})
"""Fields to which every line adds."""


# ---- reading


def option(keyword: str, *args: str) -> Line:
    """The line that a flag of the command line stands for."""
    return Line(keyword.lower(), args, COMMAND_LINE, 0, keyword, " ".join(args))


def load(
    host: str, facts: Facts, *, command_line: Sequence[Line] = (), file: str | None = None
) -> ClientOptions:
    """The options for `host`. `file` is that of -F, "none" for no file at all, None for the usual two.

    Raises ConfigError, which names the file and the line.
    """
    reading = _Reading(host)
    reading.take(command_line)
    if file is None:
        reading.file(USER_FILE, facts, base="~/.ssh", needed=False)
        reading.file(SYSTEM_FILE, facts, base="/etc/ssh", needed=False)
    elif file.lower() != "none":
        reading.file(file, facts, base="~/.ssh", needed=True)
    return _finish(reading, facts)


class _Reading:
    """What has been read so far: of each field the first value, or all of them."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.values: dict[str, Any] = {}
        self.sources: dict[str, str] = {}
        self.told: list[Told] = []
        self.warnings: dict[str, str] = {}

    def file(self, path: str, facts: Facts, *, base: str, needed: bool) -> None:
        """Reads a file, if it is there or `needed`."""
        path, base = _home(path, facts), _home(base, facts)
        try:
            lines = read_file(path, facts.read, facts.find, base=base, home=facts.home)
        except OSError as error:
            if needed:
                raise ConfigError(
                    f"Can't open user config file {visible(path)}: {error.strerror or error}"
                ) from None
            return
        self.told.append(("config_file", {"path": path}))
        self.take(lines)

    def take(self, lines: Iterable[Line], applies: bool = True) -> None:
        """Takes the lines of one file; an Include within a block of another host has nothing for us."""
        active = applies
        for line in lines:
            if line.keyword == "host":
                active = applies and self._matches(line)
            elif line.keyword == "match":
                raise line.error("Match is not supported yet", "use Host blocks, or choose another file: -F")
            elif line.keyword == "include":
                self._include(line, active)
            elif active:
                self._set(line)

    def _include(self, line: Line, active: bool) -> None:
        for lines in line.included:
            if lines:
                self.told.append(("config_file", {"path": lines[0].path}))
            self.take(lines, active)

    def _matches(self, line: Line) -> bool:
        found = ""
        for pattern in line.args:
            negated = pattern.startswith("!")
            if match_pattern(self.host.lower(), pattern[negated:].lower()):
                if negated:
                    return False
                found = found or pattern
        if found:
            self.told.append(("config_applied", {"path": line.path, "line": line.number, "pattern": found}))
        return bool(found)

    def _set(self, line: Line) -> None:
        row = KEYWORDS.get(ALIASES.get(line.keyword, line.keyword))
        if row is None:
            self.warnings.setdefault(
                line.keyword, f'{line.where}: Unsupported option "{visible(line.name)}" is ignored'
            )
            return
        name, parse = row
        try:
            value = parse(line)
            self._tell_unknown(name, line)
        except ConfigError as error:
            raise line.error(f"{line.name}: {error}", error.hint) from None
        if name not in self.values:
            self.values[name] = value
            self.sources[name] = line.where
        elif name in _ADDED_UP:
            self.values[name] += value
            self.sources[name] += f", {line.where}"


    def _tell_unknown(self, name: str, line: Line) -> None:
        """Algorithms that are not built narrow the choice and do no harm: only who typed them is told."""
        if name not in _LISTS or name in self.values:
            return
        if missing := ", ".join(unknown_algorithms(_LISTS[name], line.one())):
            text = f"{line.where}: {line.name}: not built, and left out: {visible(missing)}"
            if line.path == COMMAND_LINE:
                self.warnings[line.keyword] = text
            else:
                self.told.append(("note", {"level": "debug1", "text": text}))


# ---- what stands for something else


def _finish(reading: _Reading, facts: Facts) -> ClientOptions:
    """Replaces ~, ${VARIABLES} and %-tokens in the fields that may have them (ssh_config(5), TOKENS)."""
    values, original = reading.values, reading.host
    _replace(reading, "hostname", lambda text: _percent(text, {"h": original}))
    hostname = values.setdefault("hostname", original)
    user = values.setdefault("user", facts.user)
    tokens = {
        "h": hostname, "n": original, "p": str(values.get("port", 22)), "r": user, "u": facts.user,
        "d": facts.home, "i": str(facts.uid), "l": facts.local_host, "L": facts.local_host.partition(".")[0],
        "k": values.get("host_key_alias") or original,
    }  # fmt: skip

    def path(text: str) -> str:
        return _home(_percent(_environment(text, facts.environment), tokens), facts)

    def paths(texts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(path(text) for text in texts if text.lower() != "none")

    for name in ("identity_files", "user_known_hosts", "global_known_hosts"):
        _replace(reading, name, paths)
    _replace(reading, "identity_agent", path)
    _replace(reading, "remote_command", lambda text: _percent(text, tokens))
    _replace(reading, "send_env", _without_removed)
    return ClientOptions(
        host=original, **values, sources=reading.sources, told=tuple(reading.told),
        warnings=tuple(reading.warnings.values()),
    )  # fmt: skip


def _replace(reading: _Reading, name: str, change: Callable[[Any], Any]) -> None:
    value = reading.values.get(name)
    if value is None:
        return
    try:
        reading.values[name] = change(value)
    except ConfigError as error:
        raise ConfigError(f"{reading.sources[name]}: {error}", hint=error.hint) from None


def _without_removed(words: tuple[str, ...]) -> tuple[str, ...]:
    """SendEnv: `-pattern` takes back the names before it that it fits."""
    kept: list[str] = []
    for word in words:
        if word.startswith("-"):
            kept = [name for name in kept if not match_pattern(name, word[1:])]
        else:
            kept.append(word)
    return tuple(kept)


def _percent(text: str, tokens: Mapping[str, str]) -> str:
    def token(match: re.Match[str]) -> str:
        letter = match[1]
        if letter == "%":
            return "%"
        if letter not in tokens:
            known = " ".join(f"%{name}" for name in ("%", *tokens))
            told = f'"%{visible(letter)}" in "{visible(text)}" is no token'
            raise ConfigError(told, hint=f"known: {known}")
        return tokens[letter]

    return re.sub("%(.?)", token, text, flags=re.DOTALL)


def _environment(text: str, environment: Mapping[str, str]) -> str:
    def variable(match: re.Match[str]) -> str:
        value = environment.get(match[1])
        if value is None:
            raise ConfigError(f"the environment variable {visible(match[1])} is not set")
        return value

    return re.sub(r"\$\{([^}]*)\}", variable, text)


def _home(text: str, facts: Facts) -> str:
    """A leading ~ as the user's home; that of others is not known here."""
    return facts.home + text[1:] if text == "~" or text.startswith("~/") else text
