"""How a timeline is drawn: lines under the headings of their phases, then where the time went.

Only drawing needs `rich`, so only this module imports it.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Final

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ..explain.course import CALM
from ..explain.phases import Phase
from .screen import columns, fit
from .timeline import ALGORITHMS, Row, Timeline, size_text

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST_STALLS: Final = 8
NARROW: Final = 76
"""Below this many columns stalls are no table."""
WIDE: Final = 120
"""From this many columns on, facts stand in a column of their own."""
HEAD, NAME, ALIGNED = 30, 40, 55
"""Widths: time, direction, size and layer together; the name; both, where room is short."""
INDENT, SHORT_INDENT = HEAD + 1, 12
"""Where facts begin that stand on a line of their own: under the name, or further left if they are long."""

COLORS: Final = {
    "tcp": "bright_black", "transport": "cyan", "kex": "magenta", "auth": "yellow",
    "connection": "green", "session": "green", "error": "bold red", "view": "red", "capture": "blue",
}  # fmt: skip
WAITING, OWN = "blue", "bright_magenta"

LABELS: Final = {
    "kex": "key exchange", "host_key": "host key", "cipher": "cipher", "mac": "MAC",
    "compression": "compression",
}  # fmt: skip
OTHER: Final = {"c2s": "s2c", "s2c": "c2s"}
WAYS: Final = {"c2s": "to server", "s2c": "to client", "": ""}


def render(timeline: Timeline, width: int | None, color: bool, stream: IO[str]) -> None:
    """As `Timeline.render`."""
    console = Console(
        file=io.StringIO(), width=width or columns(stream), height=25, force_terminal=color,
        color_system="truecolor" if color else None, no_color=not color, highlight=False, markup=False,
        emoji=False, legacy_windows=False,
    )  # fmt: skip
    for part in _parts(timeline, console.width):
        console.print(part)
    drawn = console.file.getvalue()  # type: ignore[attr-defined]
    text = "".join(f"{line.rstrip()}\n" for line in drawn.splitlines())
    stream.write(fit(text, stream))


def to_svg(timeline: Timeline, width: int, title: str) -> str:
    """As `Timeline.to_svg`."""
    console = Console(
        file=io.StringIO(), width=width, record=True, force_terminal=True, color_system="truecolor",
        highlight=False, markup=False, emoji=False,
    )  # fmt: skip
    for part in _parts(timeline, width):
        console.print(part)
    return _self_contained(console.export_svg(title=title))


def _self_contained(svg: str) -> str:
    """rich's picture without its fonts: a picture must not make whoever looks at it fetch something."""
    bare = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    return bare.replace("Fira Code", "ui-monospace, Menlo, Consolas, DejaVu Sans Mono")


def _parts(timeline: Timeline, width: int) -> Iterator[RenderableType]:
    yield _title(timeline, width)
    yield from _lines(timeline, width)
    if timeline.clock.spent:
        yield Text()
        yield _phases(timeline, width)
        yield _totals(timeline)
        yield from _stalls(timeline, width)
    if timeline.told.algorithms:
        yield Text()
        yield _algorithms(timeline, width)
    if timeline.told.error:
        yield Text()
        yield Text(timeline.told.error, style="bold red")


def _title(timeline: Timeline, width: int) -> Text:
    told = timeline.told
    arrow = {"client": "→", "server": "←", "network": "→"}.get(told.role, "·")
    role = "client" if told.role == "network" else told.role
    sides = (f"{role} {told.software}".strip(), arrow, f"{told.peer_software} {told.peer}".strip())
    text = Text(" ".join(side for side in sides if side), style="bold", overflow="ellipsis", no_wrap=True)
    text.truncate(width, overflow="ellipsis")
    return text


# --- the lines


def _lines(timeline: Timeline, width: int) -> Iterator[RenderableType]:
    lines = timeline.lines
    pending: list[Row] = []
    phase: Phase | None = None
    for index, row in enumerate(lines.rows):
        if row.phase is not phase:
            yield from _block(pending, width)
            phase = row.phase
            yield Text()
            yield _heading(timeline, phase, width)
        pending.append(row)
        if lines.dropped and index == lines.head - 1:
            yield from _block(pending, width)
            yield Text(f"   … {lines.dropped} lines left out", style="italic")
        if row is timeline.encrypted:
            yield from _block(pending, width)
            yield _boundary(width)
    yield from _block(pending, width)


def _block(rows: list[Row], width: int) -> Iterator[RenderableType]:
    """The rows so far, and none of them any more."""
    if rows and width >= WIDE:
        yield _wide_table(rows, width)
    else:
        yield from _narrow_lines(rows, width)
    rows.clear()


def _heading(timeline: Timeline, phase: Phase, width: int) -> Text:
    spent = timeline.clock.spent[phase].total * 1000
    return _rule(f" {phase.title} ", f" {spent:.1f} ms ", width, "─", "bold")


def _boundary(width: int) -> Text:
    title = " EVERYTHING ENCRYPTED FROM HERE "
    left = (width - len(title)) // 2
    return Text("━" * left + title + "━" * (width - left - len(title)), style="bold green")


def _rule(left: str, right: str, width: int, sign: str, style: str) -> Text:
    text = Text(sign * 2, style="bright_black")
    text.append(left, style=style)
    text.append(sign * max(width - 4 - len(left) - len(right), 1))
    text.append(right, style=style)
    return text.append(sign * 2)


def _wide_table(rows: Iterable[Row], width: int) -> Table:
    table = Table.grid(padding=(0, 1, 0, 0), expand=False)
    table.width = width
    table.add_column(width=HEAD, no_wrap=True)
    table.add_column(width=NAME, overflow="fold")
    table.add_column(ratio=1, overflow="fold")
    for row in rows:
        table.add_row(_head(row), _name(row), _facts(row))
    return table


def _narrow_lines(rows: Iterable[Row], width: int) -> Iterator[RenderableType]:
    for row in rows:
        line, facts = _head(row).append(" ").append_text(_name(row)), _facts(row)
        column = max(line.cell_len, ALIGNED) + 2
        if column + facts.cell_len > width:
            column = line.cell_len + 2
        if column + facts.cell_len <= width:
            yield line.append(" " * (column - line.cell_len)).append_text(facts)
            continue
        line.truncate(width)
        yield line
        indent = INDENT if INDENT + facts.cell_len <= width else SHORT_INDENT
        yield Padding(facts, (0, 0, 0, indent))


def _head(row: Row) -> Text:
    """Time, direction, size and layer, in columns."""
    arrow = "·" if row.sent is None else "→" if row.sent else "←"
    return Text.assemble(
        (f"{row.time * 1000:8.1f} ", "bright_black"),
        (arrow, "bright_black" if row.sent is None else "bold"),
        (f" {size_text(row.size) if row.size else '':>8} ", "bright_black"),
        (f"{row.layer:<10}", COLORS.get(row.layer, "")),
    )


def _name(row: Row) -> Text:
    weight = "italic" if row.sent is None else "bold"
    name = f"{row.count} × {row.name}" if row.count > 1 else row.name
    return Text(name, style=f"{weight} {COLORS.get(row.layer, '')}".strip())


def _facts(row: Row) -> Text:
    if row.name == "SSH_MSG_CHANNEL_WINDOW_ADJUST":
        told = f"{row.facts} +{size_text(row.content)}"
    elif row.content:
        told = f"{row.facts} {size_text(row.content)}"
    else:
        told = row.facts
    if row.count > 1:
        told += f" in {(row.until - row.time) * 1000:.1f} ms"
    return Text(told, style="red" if row.layer == "error" else "", overflow="fold")


# --- where the time went


def _phases(timeline: Timeline, width: int) -> Table:
    clock = timeline.clock
    bar = min(max(width - 59, 10), 60)
    longest = max((spent.total for spent in clock.spent.values()), default=0.0) or 1.0
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(width=18, no_wrap=True)
    for _ in range(3):
        table.add_column(justify="right", width=9, no_wrap=True)
    table.add_column(no_wrap=True)
    by, own_by = ("server", "client") if timeline.told.role == "network" else ("waiting", "own")
    head = ("phase", ""), ("ms", ""), (f"█ {by}", WAITING), (f"▓ {own_by}", OWN)
    table.add_row(*(Text(word, style=f"bold {color}".strip()) for word, color in head))
    for phase, spent in sorted(clock.spent.items()):
        columns = round(spent.total / longest * bar)
        blue = round(spent.waiting / spent.total * columns) if spent.total else 0
        drawn = Text.assemble(("█" * blue, WAITING), ("▓" * (columns - blue), OWN))
        table.add_row(phase.title, *_figures(spent.total, spent.waiting, spent.own), drawn)
    spents = clock.spent.values()
    waiting, own = sum(spent.waiting for spent in spents), sum(spent.own for spent in spents)
    table.add_row("total", *_figures(waiting + own, waiting, own), "", style="bold")
    return table


def _figures(*seconds: float) -> Iterator[str]:
    return (f"{value * 1000:.1f}" for value in seconds)


def _totals(timeline: Timeline) -> Text:
    told = timeline.told
    trips = timeline.trips.depth
    parts = [f"{trips} round trip{'' if trips == 1 else 's'}"]
    verbs = ("client", "server") if told.role == "network" else ("sent", "received")
    for sent, verb in zip((True, False), verbs, strict=True):
        parts.append(f"{verb} {told.messages[sent]} messages, {size_text(told.octets[sent])}")
    if told.rekeys:
        parts.append(f"{told.rekeys} key re-exchange{'' if told.rekeys == 1 else 's'}")
    return Text(" · ".join(parts), style="bold")


def _stalls(timeline: Timeline, width: int) -> Iterator[RenderableType]:
    """The longest stalls: how long, what it looks like, how sure that is, and why."""
    found = [stall for stall in timeline.course.stalls.found if stall.kind not in CALM]
    if not found:
        return
    yield Text()
    longest = sorted(sorted(found, key=lambda each: -each.took)[:MOST_STALLS])
    if width < NARROW:
        for stall in longest:
            yield Text(f"{stall.took * 1000:.1f} ms {stall.title} ({stall.confidence})", style="bold")
            yield Padding(Text(stall.evidence), (0, 0, 0, 3))
        return
    table = Table.grid(padding=(0, 2, 0, 0))
    table.width = width
    table.add_column(width=9, justify="right", no_wrap=True)
    table.add_column(width=26, overflow="fold", style="bold")
    table.add_column(width=8, no_wrap=True)
    table.add_column(ratio=1, overflow="fold")
    table.add_row(*(Text(word, style="bold") for word in ("ms", "stall", "sure?", "evidence")))
    for stall in longest:
        table.add_row(f"{stall.took * 1000:.1f}", stall.title, stall.confidence, stall.evidence)
    yield table


def _algorithms(timeline: Timeline, width: int) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.width = width
    table.add_column(width=21, no_wrap=True)
    table.add_column(width=29, overflow="fold", style="bold")
    table.add_column(ratio=1, overflow="fold")
    table.add_row(Text("algorithm", style="bold"), "chosen", Text("why", style="bold"))
    for label, name, why in _choices(timeline):
        table.add_row(label, name, why)
    return table


def _choices(timeline: Timeline) -> Iterator[tuple[str, str, str]]:
    """What was agreed on and why; one line where both directions have the same."""
    told = timeline.told
    for name in ALGORITHMS:
        kind, _, way = name.partition("_") if name != "host_key" else (name, "", "")
        chosen, why = choice = told.algorithms.get(name, ""), told.why.get(name, "")
        other = f"{kind}_{OTHER.get(way, '')}"
        if (told.algorithms.get(other), told.why.get(other, "")) == choice:
            if way == "c2s":
                yield LABELS[kind], chosen, why
        else:
            yield f"{LABELS[kind]} {WAYS[way]}".rstrip(), chosen, why
    asked = "both sides asked for it" if told.strict else "one side did not ask for it"
    yield "strict kex", "yes" if told.strict else "no", asked
