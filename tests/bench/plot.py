"""The plot: each table as a panel of bars, drawn by hand as SVG. Light and dark as the reader's screen is."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from typing import Final
from xml.sax.saxutils import escape

from tests.bench.table import Table

WIDTH: Final = 1000
COLUMN: Final = 490
NAME, BAR = 225, 180
"""Widths inside a column: who, and the longest bar."""
FIGURE: Final = 48
"""Where a goal this near behind a bar would be read as its figure's, the figure goes behind it."""
ROW: Final = 21
HEAD: Final = 52
GAP: Final = 22
TOP: Final = 74
OTHERS: Final = ("ssh ", "sshd", "OpenSSH", "asyncssh", "paramiko", "tshark", "plain TCP")
LEFT_OUT: Final = ("memory", "counts")
"""Tables whose rows are no contenders."""
STYLE: Final = """
svg { --page: #ffffff; --ink: #1f2328; --faint: #59636e;
  --ours: #0f766e; --theirs: #a3adb8; --goal: #b42318; }
@media (prefers-color-scheme: dark) { svg { --page: #0d1117; --ink: #e6edf3; --faint: #9198a1;
  --ours: #2dd4bf; --theirs: #59636e; --goal: #ffa198; } }
.page { fill: var(--page); } text { fill: var(--ink); font: 12.5px system-ui, sans-serif; }
.title { font-weight: 600; font-size: 13.5px; } .faint { fill: var(--faint); font-size: 11.5px; }
.large { font-size: 19px; font-weight: 600; } .right { text-anchor: end; }
.ours { fill: var(--ours); } .theirs { fill: var(--theirs); }
.goal { stroke: var(--goal); stroke-width: 2.5; } text.mine { font-weight: 600; }
"""


def plot(tables: Sequence[Table], about: str) -> str:
    """The whole picture; `about` stands below its title."""
    panels = [each for each in tables if each.rows and not each.key.startswith(LEFT_OUT)]
    columns: list[list[Table]] = [[], []]
    heights = [TOP, TOP]
    for each in panels:
        shorter = heights.index(min(heights))
        columns[shorter].append(each)
        heights[shorter] += _height(each)
    height = max(heights) + 8
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" role="img" aria-label="glasshell beside its peers">',
        f"<style>{STYLE}</style>",
        f'<rect class="page" width="{WIDTH}" height="{height}" rx="8"/>',
        '<text class="large" x="16" y="30">glasshell beside its peers</text>',
        f'<text class="faint" x="16" y="50">{escape(about)}</text>',
        '<path class="goal" d="M760 20v14"/><text class="faint" x="768" y="31">what is to be reached</text>',
    ]
    for x, column in zip((16, 16 + COLUMN), columns, strict=True):
        y = TOP
        for each in column:
            out += _panel(each, x, y)
            y += _height(each)
    return "\n".join([*out, "</svg>", ""])


def is_ours(name: str) -> bool:
    """Whether a row is glasshell's."""
    return not name.startswith(OTHERS)


def _height(table: Table) -> int:
    return HEAD + ROW * sum(bool(kept) for kept in table.rows.values()) + GAP


def _panel(table: Table, x: int, y: int) -> Iterator[str]:
    medians = {name: statistics.median(kept) for name, kept in table.rows.items() if kept}
    marks = _marks(table, medians)
    longest = max([*medians.values(), *(most for most in marks.values() if most < 3 * max(medians.values()))])
    scale = BAR / longest if longest > 0 else 0.0
    better = "more is better" if table.more else "less is better"
    yield f'<text class="title" x="{x}" y="{y + 16}">{escape(_clear(table.title))}</text>'
    yield f'<text class="faint" x="{x}" y="{y + 33}">{escape(table.unit)}, {better}</text>'
    for number, (name, median) in enumerate(medians.items()):
        top, mine = y + HEAD - 8 + number * ROW, is_ours(name)
        length = max(median * scale, 1.0)
        middle = top + ROW / 2 + 3
        yield (
            f'<text class="right {"mine" if mine else ""}" x="{x + NAME - 8}" y="{middle:.1f}">'
            f"{escape(_clear(name))}</text>"
        )
        yield (
            f'<rect class="{"ours" if mine else "theirs"}" x="{x + NAME}" y="{top + 4}" '
            f'width="{length:.1f}" height="{ROW - 8}" rx="2"/>'
        )
        end = x + NAME + length
        if name in marks and marks[name] <= longest:
            at = x + NAME + marks[name] * scale
            yield f'<path class="goal" d="M{at:.1f} {top + 1}v{ROW - 2}"/>'
            if end - 2 < at < end + FIGURE:
                end = at
        yield f'<text x="{end + 6:.1f}" y="{middle:.1f}">{table.shown(median)}</text>'


def _marks(table: Table, medians: dict[str, float]) -> dict[str, float]:
    """Where the hardest goal of a row lies, in the table's unit."""
    found: dict[str, float] = {}
    for goal in table.goals:
        at = goal.bound * (medians.get(goal.theirs, math.nan) if goal.theirs else 1.0)
        if goal.ours in medians and not math.isnan(at):
            harder = max if goal.least else min
            found[goal.ours] = harder(found.get(goal.ours, at), at)
    return found


def _clear(text: str) -> str:
    """Without Markdown's marks and what the unit says already."""
    text = text.replace("`", "").replace("Round trips to the exit status of ", "Round trips to the exit of ")
    return text.replace("@openssh.com", "").replace(" idle authenticated connections:", " idle connections:")
