"""`glasshell explain [flags] host`: where each value of the configuration comes from, what lost against it.

The flags are those of `glasshell ssh`; with --server it is sshd_config, and a login as in `sshd -T -C`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from ..values import field, slotted
from ..wire import visible

if TYPE_CHECKING:
    from ..config.sshd_config import ServerConfig

__all__ = ["main"]

USAGE: Final = """usage: glasshell explain [--all] [--json] [flags of glasshell ssh] [user@]host [command]
       glasshell explain --server [--all] [--json] [-f FILE] [-C user=...,addr=...]

Where each value comes from: the file and the line, the lines that lost against it, and which Host and Match
blocks apply, and why. --all shows what nobody has set, too.
"""


@slotted
class Value:
    """One keyword: what holds, where that was said, and what was said in vain."""

    keyword: str
    values: list[str]
    source: str
    shadowed: list[tuple[str, str]] = field(default_factory=list)
    """Of each line that lost: where it stands, and itself with the reason."""


@slotted
class Block:
    """A file, or a Host or Match line."""

    where: str
    line: str
    holds: bool
    reason: str


@slotted
class Explanation:
    """All of it."""

    title: str
    values: list[Value] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def main(arguments: Sequence[str]) -> int:
    """Runs the command; its exit status."""
    words = list(arguments)
    own = {}
    for name in ("--all", "--json", "--server"):
        own[name] = name in words
        words = [word for word in words if word != name]
    if (not words and not own["--server"]) or "--help" in words:
        print(USAGE, end="", file=sys.stdout if "--help" in words else sys.stderr)
        return 0 if "--help" in words else 255
    found = _server(words) if own["--server"] else _client(words)
    if not own["--all"]:
        found.values = [each for each in found.values if each.source != DEFAULT or each.shadowed]
    print(_json(found) if own["--json"] else _text(found))
    return 0


DEFAULT: Final = "default"

# ---- ssh_config


def _client(words: Sequence[str]) -> Explanation:
    from ..config.client_keywords import KEYWORDS
    from ..config.show import show_client
    from ..config.ssh_config import read
    from . import ssh

    said = ssh.parse(words)
    reading = read(
        said.host, ssh.facts(), command_line=said.lines, file=said.config, command=said.command or "",
        trail=True, obey=False,
    )  # fmt: skip
    options = reading.options()
    found = Explanation(f"{visible(said.host)} is {options.user}@{options.hostname} port {options.port}")
    for keyword, values in _grouped(show_client(options)).items():
        if keyword != "host":
            source = options.sources.get(KEYWORDS[keyword].field, DEFAULT)
            found.values.append(Value(keyword, values, source))
    by_field = {KEYWORDS[value.keyword].field: value for value in found.values}
    for event in reading.trail or ():
        line = event.line
        if event.kind == "file":
            again = ": again, for Match final and the canonical name" if event.text else ""
            found.blocks.append(Block(line.path, "", True, f"read{again}"))
        elif event.kind == "block":
            found.blocks.append(Block(line.where, line.text, event.holds, event.text))
        elif event.kind == "shadowed" and event.field in by_field:
            by_field[event.field].shadowed.append((line.where, f"{line.text}: {event.text}"))
    found.notes += options.warnings
    found.notes += [str(about["text"]) for name, about in options.told if name == "note"]
    return found


# ---- sshd_config


def _server(words: Sequence[str]) -> Explanation:
    from ..config.server_keywords import ALIASES, KEYWORDS
    from ..config.show import show_server
    from . import sshd, sshd_show

    arguments = sshd.parser().parse_args(["-G", *words])
    config = sshd.configure(arguments)
    login = sshd_show.login(",".join(arguments.login)) if arguments.login else None
    who = "everybody" if login is None else ",".join(arguments.login)
    found = Explanation(f"sshd_config for {visible(who)}")
    sources, shadowed = _sources(config, login, found)
    shown = show_server(config.values_at(login), config.policy, config.options, ())
    for keyword, values in _grouped(shown).items():
        name = KEYWORDS[ALIASES.get(keyword.lower(), keyword.lower())].name
        value = Value(keyword, values, sources.get(name, DEFAULT))
        lost = "everybody's; the Match block comes first"
        value.shadowed += [(where, lost) for where in shadowed.get(name, ())]
        found.values.append(value)
    found.notes += config.warnings
    return found


def _sources(
    config: ServerConfig, login: Any, found: Explanation
) -> tuple[Mapping[str, str], Mapping[str, list[str]]]:
    """Where each value of a login comes from, and what it stands before; the blocks go into `found`."""
    from ..config.match import Login, ask_server

    sources: dict[str, str] = {}
    for block in config.blocks:
        asked = [(line, ask_server(conditions, login or Login())) for line, conditions in block.needs]
        holds = all(verdict.holds for _, verdict in asked)
        line, verdict = asked[-1]
        found.blocks.append(Block(line.where, line.text, holds, verdict.reason))
        if holds:
            for name, where in block.sources.items():
                sources.setdefault(name, where)
    lost = {name: [where] for name, where in config.sources.items() if name in sources}
    return {**config.sources, **sources}, lost


# ---- how it looks


def _grouped(lines: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in lines:
        keyword, _, value = line.partition(" ")
        found.setdefault(keyword, []).append(value)
    return found


def _text(found: Explanation) -> str:
    lines = [found.title, ""]
    for block in found.blocks:
        if not block.line:
            lines.append(f"{block.where}: {block.reason}")
        else:
            lines.append(f"  {'+' if block.holds else '-'} {visible(block.line)}")
            lines.append(f"      {block.where}: {visible(block.reason)}")
    if found.blocks:
        lines.append("")
    width = max([len(value.keyword) for value in found.values], default=0)
    for value in found.values:
        for index, each in enumerate(value.values):
            lines.append(f"{value.keyword if not index else '':{width}}  {visible(each)}")
        lines.append(f"{'':{width}}    from {visible(value.source)}")
        lines += [f"{'':{width}}    not  {where}: {visible(text)}" for where, text in value.shadowed]
    if not found.values:
        lines.append("Nothing is set: every value is the default (--all shows them).")
    lines += ["", *map(visible, found.notes)] if found.notes else []
    return "\n".join(lines)


def _json(found: Explanation) -> str:
    """One object; its names are those of `Explanation`, `Value` and `Block`."""
    return json.dumps({
        "title": found.title,
        "values": [
            {"keyword": each.keyword, "values": each.values, "source": each.source,
             "shadowed": [{"where": where, "line": text} for where, text in each.shadowed]}
            for each in found.values
        ],
        "blocks": [
            {"where": each.where, "line": each.line, "holds": each.holds, "reason": each.reason}
            for each in found.blocks
        ],
        "notes": found.notes,
    }, indent=2)  # fmt: skip

