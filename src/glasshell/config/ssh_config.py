"""ssh_config(5): what the command line and the files say about one host, as frozen `ClientOptions`.

The command line comes first, then the user's file, then the system's; of each keyword the first value
counts. Nothing here opens a file, asks for a name or knows who runs it: that comes in as `Facts`. All blocks
are checked, also those of other hosts; an algorithm of theirs that is not known here harms nobody.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from ..errors import ConfigError
from ..keys.patterns import match_list, match_pattern
from ..values import field, replace, slotted
from ..wire import visible
from . import unbuilt
from .client_keywords import (
    ALIASES,
    DEPRECATED,
    KEYWORDS,
    LISTS,
    UNSUPPORTED,
    Row,
    parse_forward,
    valid_user,
)
from .client_options import ClientOptions, Forward, Told
from .forms import UNSET, checked_addendum, unknown_algorithms
from .parse import COMMAND_LINE, MAX_DEPTH, MAX_FILES, Find, Line, Read, parse_lines
from .tokens import connection_hash, environment, expand, percent, tilde

__all__ = [
    "SYSTEM_FILE", "USER_FILE", "ClientOptions", "Event", "Facts", "Forward", "Reading", "Told", "load",
    "option", "parse_forward", "read",
]  # fmt: skip

USER_FILE: Final = "~/.ssh/config"
SYSTEM_FILE: Final = "/etc/ssh/ssh_config"
MAX_TAKEN: Final = 4096
"""Most times that files are gone through for one host; one that is included again is not read again."""
USER_KNOWN_HOSTS: Final = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2")


def _runs_nothing(command: str) -> bool:
    raise ConfigError("Match exec: no command can be run here")


@slotted(frozen=True, kw_only=True)
class Facts:
    """What the operating system knows: who runs this, and where.

    `read_own` reads what must belong to the user alone, and is `read` where it is None. `execute` runs a
    command with the user's shell and says whether its status was 0; `addresses` are those of this machine;
    `resolve` looks a name up: None where there is none, else its canonical name, or "".
    """

    home: str
    user: str
    uid: int = 0
    local_host: str = "localhost"
    environment: Mapping[str, str] = field(default_factory=dict)
    read: Read
    read_own: Read | None = None
    find: Find = lambda pattern: ()
    execute: Callable[[str], bool] = _runs_nothing
    addresses: Callable[[], Sequence[str]] = lambda: ()
    resolve: Callable[[str], str | None] = lambda name: None


# ---- reading


def option(keyword: str, *args: str) -> Line:
    """The line that a flag of the command line stands for."""
    return Line(keyword.lower(), args, COMMAND_LINE, 0, keyword, " ".join(args))


def load(
    host: str, facts: Facts, *, command_line: Sequence[Line] = (), file: str | None = None, command: str = ""
) -> ClientOptions:
    """The options for `host`. `file` is that of -F, "none" for no file at all, None for the usual two;
    `command` is what is to run on the server, for Match.

    Raises ConfigError, which names the file and the line.
    """
    return read(host, facts, command_line=command_line, file=file, command=command).options()


def read(
    host: str, facts: Facts, *, command_line: Sequence[Line] = (), file: str | None = None,
    command: str = "", trail: bool = False, obey: bool = True,
) -> Reading:  # fmt: skip
    """As `load`, with the way to the options; a `trail` tells every line and block. Raises ConfigError.

    Without `obey` what this program cannot do is no error: it is only shown (-G).
    """
    reading = Reading(host, facts, command)
    reading.obey = obey
    reading.trail = [] if trail else None
    reading.command_line(command_line)
    reading.files(file)
    reading.settle_host()
    if reading.wants_final:
        reading.final = True
        reading.values["hostname"] = reading.host
        reading.files(file)
    return reading


class Event(NamedTuple):
    """One step of a reading: what (`file`, `block`, `set`, `shadowed`, `ignored`), the line that it is about,
    the field, and what is to be said of it."""

    kind: str
    line: Line
    field: str = ""
    text: str = ""
    holds: bool = True


class _Place(NamedTuple):
    """Where a line stands: in the user's files or the system's, how deep in Includes, and whether the block
    around the Include is another host's."""

    own: bool
    depth: int = 0
    never: bool = False


class Reading:
    """What has been read so far: of each field the first value, or all of them."""

    def __init__(self, host: str, facts: Facts, command: str = "") -> None:
        self.original = host
        self.host = host
        """What Host lines are held against: after HostName and canonicalization the result of those."""
        self.facts = facts
        self.command = command
        self.values: dict[str, Any] = {}
        self.sources: dict[str, str] = {}
        self.told: list[Told] = []
        self.warnings: dict[str, str] = {}
        self.trail: list[Event] | None = None
        self.obey = True
        self.final = False
        self.wants_final = False
        self._count = self._taken = 0
        self._block: Line | None = None
        """The Host or Match line above, of this file or of the one that includes it."""
        self._contents: dict[str, list[Line | ConfigError]] = {}

    # Where lines come from

    def command_line(self, lines: Sequence[Line]) -> None:
        """Takes what flags and -o said."""
        for line in lines:
            if line.keyword in ("host", "match", "include"):
                raise line.error(f"{line.name} directive not supported as a command-line option")
            self._set(line, True)

    def files(self, file: str | None) -> None:
        """Takes the file of -F, or the usual two."""
        if file is None:
            self._file(tilde(USER_FILE, self.facts.home), _Place(True), private=True)
            self._file(SYSTEM_FILE, _Place(False))
        elif file.lower() != "none":
            error = self._file(tilde(file, self.facts.home), _Place(True))
            if error is not None:
                name = visible(tilde(file, self.facts.home))
                raise ConfigError(f"Can't open user config file {name}: {error.strerror or error}")

    def _file(self, path: str, place: _Place, *, private: bool = False) -> OSError | None:
        """Reads a file and what it includes; what kept it from being opened."""
        lines = self._contents.get(path)
        if lines is None:
            self._count += 1
            if self._count > MAX_FILES:
                raise ConfigError(f"{visible(path)}: more than {MAX_FILES} configuration files")
            opens = self.facts.read_own if private and self.facts.read_own is not None else self.facts.read
            try:
                data = opens(path)
            except OSError as error:
                return error
            lines = self._contents[path] = list(parse_lines(data, path))
        if not self.final:
            self.told.append(("config_file", {"path": path}))
        self._taken += 1
        if self._taken > MAX_TAKEN:
            raise ConfigError(f"{visible(path)}: files were included {MAX_TAKEN} times")
        self._tell("file", Line("", (), path, 0), text="again" if self.final else "")
        self._take(lines, path, place)
        return None

    def _take(self, lines: Sequence[Line | ConfigError], path: str, place: _Place) -> None:
        """Takes the lines of one file; raises what was wrong with it when all of it has been seen."""
        active, around = not place.never, self._block
        wrong: list[ConfigError] = []
        for line in lines:
            try:
                if isinstance(line, ConfigError):
                    raise line
                active = self._line(line, active, place)
            except ConfigError as error:
                wrong.append(error)
        self._block = around
        if wrong:
            raise _summary(path, wrong)

    def _line(self, line: Line, active: bool, place: _Place) -> bool:
        """Takes one line; whether those after it are for us."""
        if line.keyword in ("host", "match"):
            self._block = line
        if line.keyword == "host":
            return self._host_line(line) and not place.never
        if line.keyword == "match":
            return self._match(line, place.never) and not place.never
        if line.keyword == "include":
            self._include(line, active, place)
        else:
            self._set(line, active)
        return active

    def _include(self, line: Line, active: bool, place: _Place) -> None:
        if place.depth >= MAX_DEPTH:
            raise line.error(f"Include is nested more than {MAX_DEPTH} deep")
        inside = _Place(place.own, place.depth + 1, not active)
        for pattern in line.args:
            for path in self._paths(line, pattern, place):
                error = self._file(path, inside, private=True)
                if error is not None:
                    said = error.strerror or error
                    raise line.error(f"Can't open user config file {visible(path)}: {said}")

    def _paths(self, line: Line, pattern: str, place: _Place) -> Sequence[str]:
        if not pattern:
            raise line.error("keyword Include empty argument")
        try:
            path = expand(pattern, self.tokens(), self.facts.environment)
        except ConfigError as error:
            raise line.error(f"Include: {error}", error.hint) from None
        if path.startswith("~"):
            if not place.own or path[1:2] not in ("", "/") or not self.facts.home:
                raise line.error(f"bad include path {visible(path)}: ~ stands for nobody's home here")
            return self.facts.find(tilde(path, self.facts.home))
        base = f"{self.facts.home}/.ssh" if place.own else "/etc/ssh"
        return self.facts.find(posixpath.join(base, path))

    # Blocks

    def _host_line(self, line: Line) -> bool:
        from .match import host_line

        if not all(line.args):
            raise line.error("keyword Host empty argument")
        holds, pattern = host_line(line, self.host)
        if holds:
            self._applied(line, pattern)
        said = f"{visible(self.host)} fits {pattern}" if pattern else f"{visible(self.host)} fits no pattern"
        self._tell("block", line, text=said, holds=holds)
        return holds

    def _match(self, line: Line, never: bool) -> bool:
        from .match import CLIENT, Asked, ask_client, conditions

        try:
            found = conditions(line, CLIENT)
            if any(each.name == "final" and not each.negated for each in found):
                self.wants_final = True
            if never:
                return False
            values = self.values
            session = {"none": "none", "subsystem": "subsystem"}.get(
                values.get("session_type", ""), "exec" if self.command else "shell"
            )
            asked = Asked(
                host=self._host_now(), original=self.original, user=values.get("user", self.facts.user),
                local_user=self.facts.user, tag=values.get("tag", ""), command=self.command, session=session,
                final=self.final, execute=self._execute, addresses=self.facts.addresses,
            )  # fmt: skip
            verdict = ask_client(found, asked)
        except ConfigError as error:
            raise line.error(f"Bad Match condition: {error}", error.hint) from None
        for each in found:
            if each.name not in CLIENT:
                self._warn(line, f"Match {visible(str(each))} is not known: its block never applies")
        if verdict.holds:
            self._applied(line, line.rest)
        self._tell("block", line, text=verdict.reason, holds=verdict.holds)
        return verdict.holds

    def _applied(self, line: Line, pattern: str) -> None:
        self.told.append(("config_applied", {"path": line.path, "line": line.number, "pattern": pattern}))

    def _execute(self, command: str) -> bool:
        return self.facts.execute(percent(command, self.tokens()))

    def _host_now(self) -> str:
        """The host, before the reading is over."""
        name = self.values.get("hostname")
        return self.host if name is None or self.final else percent(name, {"h": self.host})

    # Values

    def _set(self, line: Line, active: bool) -> None:
        keyword = ALIASES.get(line.keyword, line.keyword)
        row = KEYWORDS.get(keyword)
        if row is None:
            self._unknown(line)
            return
        try:
            if row.adds and "${" in line.rest and keyword.endswith("forward"):
                args = tuple(environment(arg, self.facts.environment) for arg in line.args)
                line = replace(line, args=args)
            value = row.form.read(line)
            if active:
                self._tell_unknown(row.field, line)
        except ConfigError as error:
            if not active and row.field in LISTS and error.hint:
                return
            raise line.error(f"{line.name}: {error}", error.hint) from None
        if not active or value is UNSET:
            return
        if keyword == "refuseconnection":
            raise line.error(f"RefuseConnection: {line.one()}")
        if row.field == "profile" and value == "legacy":
            self._legacy(line)
        if keyword in unbuilt.CLIENT:
            self._not_built(line, row, value)
        self._keep(line, row, value)

    def _legacy(self, line: Line) -> None:
        """Profile legacy: loud, and for hosts that are named."""
        from .match import names_hosts

        if line.path != COMMAND_LINE and (self._block is None or not names_hosts(self._block)):
            raise line.error(
                "Profile legacy is for hosts that are named, not for all",
                "put it into a Host block with the names of the old devices",
            )
        self._warn(line, f"Profile legacy: {visible(self.original)} may use algorithms that are broken"
                   " (SHA-1, CBC): whoever is in between may read, and be taken for it")  # fmt: skip

    def _keep(self, line: Line, row: Row, value: Any) -> None:
        name = row.field
        if name == "proxy_jump" and "proxy_command" in self.values:
            self._tell("shadowed", line, name, f"ProxyCommand of {self.sources['proxy_command']} came first")
        elif name == "proxy_command" and self.values.get("proxy_jump"):
            self._tell("shadowed", line, name, f"ProxyJump of {self.sources['proxy_jump']} came first")
        elif name not in self.values:
            self.values[name] = value
            self.sources[name] = line.where
            self._tell("set", line, name)
        elif row.adds:
            # The second pass sees the lines of the first again.
            fresh = (
                value
                if name == "send_env"
                else tuple(each for each in value if each not in self.values[name])
            )
            if fresh:
                self.values[name] += fresh
                self.sources[name] += f", {line.where}"
            self._tell("set", line, name)
        elif not self.final or self.sources.get(name) != line.where:
            self._tell("shadowed", line, name, f"{self.sources.get(name, 'the first pass')} came first")

    def _unknown(self, line: Line) -> None:
        """A keyword that has no row."""
        keyword = line.keyword
        if keyword in DEPRECATED:
            text = f'{line.where}: Deprecated option "{keyword}"'
            self.told.append(("note", {"level": "debug1", "text": text}))
        elif keyword in UNSUPPORTED:
            self._warn(line, f'Unsupported option "{keyword}"')
        elif match_list(keyword, self.values.get("ignore_unknown", "").split(",")):
            text = f'{line.where}: Ignored unknown option "{visible(keyword)}"'
            self.told.append(("note", {"level": "debug1", "text": text}))
            self._tell("ignored", line, text="IgnoreUnknown")
        else:
            place = f"{line.path}: line {line.number}" if line.number else line.path
            raise ConfigError(
                f"{place}: Bad configuration option: {visible(line.name)}", line=line.text,
                hint=f"if another program knows it: IgnoreUnknown {visible(line.name)} before it",
            )  # fmt: skip

    def _not_built(self, line: Line, row: Row, value: Any) -> None:
        """A keyword that is read and has no effect: said once, where it asks for something."""
        asks = unbuilt.CLIENT[ALIASES.get(line.keyword, line.keyword)]
        one = value[0] if row.adds else value
        if row.field in self.values or row.form.show(one) in asks.nothing:
            return
        if asks.refused and self.obey:
            raise line.error(f"{line.name}: {asks.text}")
        self._warn(line, f"{line.name} {asks.text}")

    def _warn(self, line: Line, text: str) -> None:
        self.warnings.setdefault(line.keyword, f"{line.where}: {text}")

    def _tell_unknown(self, name: str, line: Line) -> None:
        """Algorithms that are not built narrow the choice and do no harm: only who typed them is told."""
        if name not in LISTS or name in self.values:
            return
        if missing := ", ".join(unknown_algorithms(LISTS[name], line.one())):
            text = f"{line.where}: {line.name}: not built, and left out: {visible(missing)}"
            if line.path == COMMAND_LINE:
                self.warnings[line.keyword] = text
            else:
                self.told.append(("note", {"level": "debug1", "text": text}))

    def _tell(self, kind: str, line: Line, name: str = "", text: str = "", *, holds: bool = True) -> None:
        if self.trail is not None:
            self.trail.append(Event(kind, line, name, text, holds))

    # What stands for something else

    def settle_host(self) -> None:
        """HostName and canonicalization, after the first pass."""
        name = self.values.get("hostname")
        if name is not None:
            self.host = self.at("hostname", lambda: percent(name, {"h": self.original}))
            self.values["hostname"] = self.host
        if self.values.get("canonicalize_hostname", "no") != "no":
            from .canonical import canonical

            self.wants_final = True
            self.host = canonical(self)
        elif self.host[:1].isdecimal() or ":" in self.host:
            from .canonical import address

            self.host = address(self.host) or self.host
        elif (
            self.values.get("canonicalize_permitted_cnames")
            and not (self.values.get("proxy_jump") or self.values.get("proxy_command"))
            and self.facts.resolve(self.host) is None
        ):  # no alias is followed where names are not canonical, but ssh(1) wants the name to be known
            raise ConfigError(f"Could not resolve hostname {visible(self.host)}")
        if self.wants_final:
            self.host = self.host.lower()

    def tokens(self) -> dict[str, str]:
        """What the tokens are, as far as is known by now."""
        facts, values = self.facts, self.values
        jumps = values.get("proxy_jump") or ()
        host, jump = self._host_now(), jumps[-1].host if jumps else ""
        port, user = str(values.get("port", 22)), values.get("user", facts.user)
        return {
            "h": host, "n": self.original, "p": port, "r": user, "u": facts.user, "d": facts.home,
            "i": str(facts.uid), "l": facts.local_host, "L": facts.local_host.partition(".")[0], "j": jump,
            "k": values.get("host_key_alias") or host,
            "C": connection_hash(facts.local_host, host, port, user, jump),
        }  # fmt: skip

    def at(self, name: str, change: Callable[[], Any]) -> Any:
        """`change()`; its error gets the place where the field `name` was set."""
        try:
            return change()
        except ConfigError as error:
            raise ConfigError(f"{self.sources[name]}: {error}", hint=error.hint) from None

    def options(self) -> ClientOptions:
        """What came of it all. Raises ConfigError."""
        return _finish(self)


def _summary(path: str, wrong: Sequence[ConfigError]) -> ConfigError:
    """One error for everything that is wrong with a file, in OpenSSH's words."""
    first = wrong[0]
    others = [each for error in wrong[1:] for each in (str(error), *error.more)]
    count = f"{path}: terminating, {len(wrong)} bad configuration options"
    return ConfigError(str(first), hint=first.hint, line=first.line, more=(*first.more, *others, count))


def _finish(reading: Reading) -> ClientOptions:
    """Replaces ~, ${VARIABLES} and %-tokens in the fields that may have them (ssh_config(5), TOKENS)."""
    values, facts = dict(reading.values), reading.facts
    host = reading.host if ":" in reading.host else reading.host.lower()
    values["hostname"] = host
    if alias := values.get("host_key_alias"):
        values["host_key_alias"] = alias.lower()
    written = _written(values)
    tokens = reading.tokens() | {"h": host, "k": values.get("host_key_alias") or reading.original}
    if "user" in values:
        del tokens["r"], tokens["C"]
        values["user"] = reading.at("user", lambda: _user(values["user"], reading, tokens))
    user = values.setdefault("user", facts.user)
    values.setdefault("user_known_hosts", tuple(tilde(each, facts.home) for each in USER_KNOWN_HOSTS))
    tokens["r"] = user
    tokens["C"] = connection_hash(facts.local_host, host, tokens["p"], user, tokens["j"])
    _check_jump(values, reading, tokens)

    def text(value: str) -> str:
        return expand(value, tokens, facts.environment)

    def path(value: str) -> str:
        return expand(tilde(value, facts.home), tokens, facts.environment)

    def paths(found: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(path(each) for each in found if each.lower() != "none")

    def sockets(found: tuple[Forward, ...]) -> tuple[Forward, ...]:
        return _with_sockets(found, tokens)

    changes: dict[str, Callable[[Any], Any]] = {
        "identity_files": paths, "certificate_file": paths, "user_known_hosts": paths,
        "revoked_host_keys": paths, "identity_agent": path, "control_path": path,
        "forward_agent": lambda value: path(value) if isinstance(value, str) else value,
        "version_addendum": lambda value: checked_addendum(text(value)),
        "remote_command": lambda value: percent(value, tokens),
        "set_env": lambda pairs: tuple((name, text(value)) for name, value in pairs),
        "local_forwards": sockets, "remote_forwards": sockets, "send_env": _without_removed,
    }  # fmt: skip
    for name, change in changes.items():
        if (value := values.get(name)) is not None:
            values[name] = reading.at(name, lambda change=change, value=value: change(value))  # type: ignore[misc]
    return ClientOptions(
        host=reading.original, **values, sources=reading.sources, told=tuple(reading.told),
        warnings=tuple(reading.warnings.values()), written=written, tokens=tokens,
    )  # fmt: skip


def _with_sockets(found: tuple[Forward, ...], tokens: Mapping[str, str]) -> tuple[Forward, ...]:
    """Forwards, the tokens in their paths replaced."""
    return tuple(
        each._replace(path=percent(each.path, tokens), host_path=percent(each.host_path, tokens))
        for each in found
    )


def _written(values: dict[str, Any]) -> dict[str, Any]:
    """What -G shows as it was written; fields of two states have a third in the file."""
    kept = ("identity_files", "certificate_file", "tcp_keepalive", "pubkey_authentication")
    written = {name: values[name] for name in kept if name in values}
    if "identity_agent" in values and values["identity_agent"] is None:
        written["identity_agent"] = "SSH_AUTH_SOCK"
    if "tcp_keepalive" in values:
        values["tcp_keepalive"] = values["tcp_keepalive"] != "false"
    if "pubkey_authentication" in values:
        values["pubkey_host_bound"] = values["pubkey_authentication"] != "unbound"
        values["pubkey_authentication"] = values["pubkey_authentication"] != "false"
    return written


def _user(name: str, reading: Reading, tokens: Mapping[str, str]) -> str:
    """The user's name, expanded where a file gave it; what a shell would read is refused."""
    given = reading.sources["user"] == COMMAND_LINE
    expanded = name if given else expand(name, tokens, reading.facts.environment)
    if (given or expanded != name) and not valid_user(expanded):
        raise ConfigError("remote username contains invalid characters")
    return expanded


def _check_jump(values: Mapping[str, Any], reading: Reading, tokens: Mapping[str, str]) -> None:
    jumps = values.get("proxy_jump")
    if jumps:
        user, host, port = jumps[-1]
        own = (tokens["h"], tokens["p"], values["user"])
        if (host, str(port or 22), user or values["user"]) == own:
            raise ConfigError(f"{reading.sources['proxy_jump']}: jumphost loop via {visible(host)}")


def _without_removed(words: tuple[str, ...]) -> tuple[str, ...]:
    """SendEnv: `-pattern` takes back the names before it that it fits."""
    kept: list[str] = []
    for word in words:
        if word.startswith("-"):
            kept = [name for name in kept if not match_pattern(name, word[1:])]
        else:
            kept.append(word)
    return tuple(kept)
