"""sshd_config: lines become the Policy of every connection and the ServerOptions beside it.

As in OpenSSH the first value of a keyword counts, lists grow, and the keyword's case does not matter. Match
blocks are asked again for each login; what the blocks that apply say stands before what was said for
everybody. A keyword that is not obeyed is in `unbuilt`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from ..errors import ConfigError
from ..policy import Policy
from ..values import field, replace, slotted, specs
from ..wire import visible
from . import unbuilt
from .forms import LEVELS, UNSET, unknown_algorithms
from .match import SERVER, Condition, Login, ask_server, check_server, conditions
from .options import Forwarding, ServerOptions, UserList
from .parse import Line
from .server_keywords import ALIASES, DEPRECATED, KEYWORDS, LISTS, Row

__all__ = ["LOG_LEVELS", "Block", "Login", "ServerConfig", "load"]

LOG_LEVELS: Final = LEVELS

NEVER: Final = 1 << 31
"""Unanswered keepalives that no connection will live to see: ClientAliveCountMax 0."""

MAX_KEPT: Final = 256
"""Most combinations of blocks whose options are kept."""


class Block(NamedTuple):
    """Lines that apply where all of `needs` hold: the Match line above them, and those around their file."""

    needs: tuple[tuple[Line, tuple[Condition, ...]], ...]
    values: Mapping[str, Any]
    sources: Mapping[str, str]

    def holds(self, login: Login) -> bool:
        """Whether the block is for `login`."""
        return all(ask_server(found, login).holds for _, found in self.needs)


@slotted(frozen=True)
class ServerConfig:
    """What the lines say for everybody; `warnings` names each keyword that has no effect, with its place.

    `values` are by the names of the rows of `server_keywords`, `sources` where each came from; `blocks` are
    those of Match. `at` has what a login gets.
    """

    policy: Policy
    options: ServerOptions
    warnings: tuple[str, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    blocks: tuple[Block, ...] = ()
    _kept: dict[tuple[int, ...], tuple[Policy, ServerOptions]] = field(
        default_factory=dict, repr=False, compare=False
    )
    _base: tuple[Policy, ServerOptions] | None = field(default=None, repr=False, compare=False)

    def at(self, login: Login) -> tuple[Policy, ServerOptions]:
        """The settings for one login: those of everybody where no Match block is for it.

        Equal combinations of blocks share one object, however many logins have them.
        """
        if not self.blocks:
            return self.policy, self.options
        chosen = tuple(index for index, block in enumerate(self.blocks) if block.holds(login))
        found = self._kept.get(chosen)
        if found is None:
            assert self._base is not None
            found = _build(self.merged(chosen), *self._base)
            if len(self._kept) < MAX_KEPT:
                self._kept[chosen] = found
        return found

    def merged(self, chosen: Iterable[int]) -> dict[str, Any]:
        """The values where the blocks of these numbers apply."""
        said: dict[str, Any] = {}
        for index in chosen:
            for name, value in self.blocks[index].values.items():
                if name not in said:
                    said[name] = value
                elif _ADDS[name]:
                    said[name] += value
        if "subsystems" in said:  # these alone are put together, by their names
            said["subsystems"] += self.values.get("subsystems", ())
        return {**self.values, **said}

    @property
    def subsystems(self) -> tuple[str, ...]:
        """The names of all subsystems that some login may ask for."""
        found = [self.values, *(block.values for block in self.blocks)]
        names = (name for values in found for name, _, _ in values.get("subsystems", ()))
        return tuple(dict.fromkeys((*self.options.subsystems, *names)))

    def values_at(self, login: Login | None) -> dict[str, Any]:
        """As `at`, before anything is made of them: what -T prints. None: nobody logs in; then what blocks
        for everybody say stands behind the rest."""
        if login is None:
            always = [index for index, block in enumerate(self.blocks) if block.holds(Login())]
            return {**self.merged(always), **self.values}
        return self.merged(index for index, block in enumerate(self.blocks) if block.holds(login))


_ADDS: Final = {row.name: row.adds for row in KEYWORDS.values()}


def load(
    lines: Iterable[Line], *, policy: Policy | None = None, options: ServerOptions | None = None,
    obey: bool = True,
) -> ServerConfig:  # fmt: skip
    """Applies `lines`, Includes among them, to the given defaults. Raises ConfigError.

    Without `obey` what this program cannot do is no error: it is only shown (-G, -T).
    """
    base = policy or Policy.server(), options or ServerOptions()
    draft = _Draft(obey)
    draft.take(list(lines), ())
    draft.finish()
    made = _build(draft.values, *base)
    for what in ("Keys", "Principals"):
        name = f"authorized_{what.lower()}_command"
        if getattr(made[1], name) and not getattr(made[1], f"{name}_user"):
            raise ConfigError(f"Authorized{what}Command set without Authorized{what}CommandUser")
    blocks = tuple(Block(needs, values, sources) for needs, values, sources in draft.blocks)
    return ServerConfig(*made, tuple(draft.warnings.values()), draft.values, draft.sources, blocks, {}, base)


_Needs = tuple[tuple[Line, tuple[Condition, ...]], ...]


class _Draft:
    """The configuration while its lines are applied."""

    def __init__(self, obey: bool) -> None:
        self.obey = obey
        self.values: dict[str, Any] = {}
        self.sources: dict[str, str] = {}
        self.blocks: list[tuple[_Needs, dict[str, Any], dict[str, str]]] = []
        self.warnings: dict[str, str] = {}
        self.wrong: dict[str, list[ConfigError]] = {}

    def take(self, lines: Sequence[Line], outer: _Needs) -> None:
        """Takes the lines of one file, which is included where `outer` holds."""
        needs = outer
        values, sources = self._place(needs)
        for line in lines:
            try:
                if line.keyword == "match":
                    needs = (*outer, (line, self._match(line)))
                    values, sources = self._place(needs)
                elif line.keyword == "include":
                    for one_file in line.included:
                        self.take(one_file, needs)
                    if line.included:  # what follows stands behind what was included
                        values, sources = self._place(needs)
                else:
                    self._apply(line, values, sources, matched=bool(needs))
            except ConfigError as error:
                self.wrong.setdefault(line.path, []).append(error)

    def _place(self, needs: _Needs) -> tuple[dict[str, Any], dict[str, str]]:
        """Where the lines that need this go."""
        if not needs:
            return self.values, self.sources
        self.blocks.append((needs, {}, {}))
        return self.blocks[-1][1], self.blocks[-1][2]

    def finish(self) -> None:
        """Raises what was wrong, in OpenSSH's words."""
        for path, wrong in self.wrong.items():
            first, *others = wrong
            count = f"{path}: terminating, {len(wrong)} bad configuration options"
            raise ConfigError(str(first), hint=first.hint, line=first.line, more=[*map(str, others), count])
        self.blocks = [block for block in self.blocks if block[1]]

    def _match(self, line: Line) -> tuple[Condition, ...]:
        try:
            found = conditions(line, SERVER)
            for text in check_server(found):
                self.warn(line, text)
        except ConfigError as error:
            raise line.error(f"Bad Match condition: {error}", error.hint) from None
        return tuple(found)

    def _apply(self, line: Line, values: dict[str, Any], sources: dict[str, str], *, matched: bool) -> None:
        keyword = ALIASES.get(line.keyword, line.keyword)
        row = KEYWORDS.get(keyword)
        if row is None:
            self._unknown(line)
            return
        if matched and not row.matched:
            raise line.error(f"Directive '{line.name}' is not allowed within a Match block")
        try:
            value = row.form.read(line)
        except ConfigError as error:
            raise line.error(f"{line.name}: {error}", error.hint) from None
        if value is UNSET:
            return
        self._check(line, row, value, unbuilt.SERVER.get(keyword))
        if matched:
            self._check(line, row, value, unbuilt.MATCHED.get(keyword))
        if row.name not in values:
            values[row.name] = value
            sources[row.name] = line.where
        elif row.adds:
            values[row.name] += value
            sources[row.name] += f", {line.where}"

    def _check(self, line: Line, row: Row, value: Any, asks: unbuilt.Unbuilt | None) -> None:
        """Says what will not be obeyed."""
        if row.name in LISTS and (unknown := unknown_algorithms(LISTS[row.name], line.one())):
            self.warn(line, f"{line.name}: not to be had here: {visible(', '.join(unknown))}")
        if asks is None or row.form.show(value) in asks.nothing:
            return
        if asks.refused and self.obey:
            raise line.error(f"{line.name}: {asks.text}")
        self.warn(line, f"{line.name} {visible(line.rest)} {asks.text}")

    def _unknown(self, line: Line) -> None:
        if line.keyword in DEPRECATED:
            if line.keyword != "protocol":
                self.warn(line, f"Deprecated option {visible(line.name)}")
            return
        place = f"{line.path}: line {line.number}" if line.number else line.path
        raise ConfigError(f"{place}: Bad configuration option: {visible(line.name)}", line=line.text)

    def warn(self, line: Line, text: str) -> None:
        self.warnings.setdefault(line.keyword, f"{line.where}: {text}")


# ---- what is made of the values


_FIELDS: Final = frozenset(spec.name for spec in specs(ServerOptions))


def _build(values: Mapping[str, Any], policy: Policy, options: ServerOptions) -> tuple[Policy, ServerOptions]:
    fields = {name: value for name, value in values.items() if name in _FIELDS}
    for name in ("allow_users", "deny_users"):
        if name in fields:
            fields[name] = UserList(fields[name])
    if "max_startups" in values:
        begin, rate, fields["max_startups"] = values["max_startups"]
        fields |= {"max_startups_begin": begin, "max_startups_rate": rate}
    if "tcp_keepalive" in values:
        fields["tcp_keepalive"] = values["tcp_keepalive"] != "false"
    if "pubkey_auth_options" in values:
        fields["pubkey_auth_options"], queries = values["pubkey_auth_options"]
        fields["max_pk_ok"] = options.max_pk_ok if queries is None else queries
    if "set_env" in values:
        fields["set_env"] = dict(values["set_env"])
    if "subsystems" in values:
        fields["subsystems"] = {name: command for name, command, _ in reversed(values["subsystems"])}
    if "banner" in values:
        fields["banner"] = values["banner"] or ""
    if "host_keys" in values:
        fields["host_keys"] = tuple(path for path in values["host_keys"] if path.lower() != "none")
    fields["permissions"] = _permissions(values, options)
    return policy.but(**_settings(values, policy)), replace(options, **fields)


def _settings(values: Mapping[str, Any], base: Policy) -> dict[str, Any]:
    """What the values say of the Policy."""
    found: dict[str, Any] = {
        name: values[name] for name in (*LISTS, "allow_terrapin") if name in values and hasattr(base, name)
    }
    for name, setting in _SETTINGS.items():
        if name in values:
            found[setting] = values[name]
    if "hostbased_accepted_algorithms" in values:
        found["hostbased_algorithms"] = values["hostbased_accepted_algorithms"]
    if found.get("keepalive_count") == 0:
        found["keepalive_count"] = NEVER
    if "required_rsa_size" in values:
        found["min_rsa_bits"] = max(values["required_rsa_size"], 1024)
    if "compression" in values:
        found["compression"] = ("none",) if values["compression"] == "no" else ("none", "zlib@openssh.com")
    if "version_addendum" in values:
        found["software"] = f"{base.software} {values['version_addendum']}".rstrip()
    volume, time = values.get("rekey_limit", (None, None))
    return found | {
        name: value for name, value in (("rekey_bytes", volume), ("rekey_seconds", time)) if value is not None
    }


_SETTINGS: Final = {
    "login_grace_time": "login_grace", "max_auth_tries": "max_auth_failures", "max_sessions": "max_sessions",
    "client_alive_interval": "keepalive_interval", "client_alive_count_max": "keepalive_count",
}  # fmt: skip


def _permissions(values: Mapping[str, Any], options: ServerOptions) -> Any:
    """What every login may do at most."""
    import dataclasses

    changes: dict[str, Any] = {}
    if "force_command" in values:
        changes["command"] = values["force_command"]
    for name, permission in _PERMISSIONS.items():
        if name in values:
            changes[permission] = values[name]
    tcp: Forwarding = values.get("allow_tcp_forwarding", "yes")
    disabled = values.get("disable_forwarding", False)
    if tcp == "no":
        changes["port_forwarding"] = False
    for name, other in (("permit_open", "remote"), ("permit_listen", "local")):
        if disabled or tcp == other:
            changes[name] = ()
        elif said := values.get(name):
            changes[name] = () if said == ("none",) else tuple(map(_place, said))
    if disabled:
        changes |= {"agent_forwarding": False, "x11_forwarding": False}
    return dataclasses.replace(options.permissions, **changes)


_PERMISSIONS: Final = {
    "permit_tty": "pty", "allow_agent_forwarding": "agent_forwarding", "permit_user_rc": "user_rc",
}  # fmt: skip


def _place(text: str) -> tuple[str, int | None]:
    host, _, digits = text.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), None if digits == "*" else int(digits)
