"""What a line of the bench found: rows of figures, and how they stand to what the line has to reach."""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, cast

Work = Callable[[], Mapping[str, float]]
"""One round of one contender: figures, in the table's unit, of one row or of some that belong together."""

MET, MISSED = "reached", "missed"


@dataclass
class Goal:
    """`ours` beside `theirs` (or alone, when that is ""): at least, or at most, `bound`.

    Beside another it is the median of the ratios of each round, so what slows both for a while cancels out.
    """

    ours: str
    theirs: str
    least: bool
    bound: float

    def found(self, rows: Mapping[str, list[float]]) -> float:
        """The ratio, or the median; NaN when a contender is not there."""
        ours, theirs = rows.get(self.ours, []), rows.get(self.theirs, [])
        if not ours or (self.theirs and not theirs):
            return math.nan
        if not self.theirs:
            return statistics.median(ours)
        if len(ours) != len(theirs):
            return statistics.median(ours) / statistics.median(theirs)
        return statistics.median(one / two for one, two in zip(ours, theirs, strict=True))

    def met(self, rows: Mapping[str, list[float]]) -> bool:
        """Whether it is reached, as printed."""
        found = round(self.found(rows), 2)
        return found >= self.bound if self.least else found <= self.bound

    def wanted(self) -> str:
        """The bound in signs."""
        return f"{'≥' if self.least else '≤'} {self.bound:g}{' ×' if self.theirs else ''}"


@dataclass
class Table:
    """One table: `unit` of its figures, whether `more` is better, and what `note` has to be known to read it.

    `missing` names the contenders that are not installed, and why. `clock` says when it was measured.
    """

    key: str
    title: str
    unit: str
    more: bool
    note: str = ""
    rows: dict[str, list[float]] = field(default_factory=dict)
    goals: list[Goal] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    clock: str = ""
    digits: int = 1

    def run(self, works: Sequence[Work], rounds: int, *, warm: bool = True) -> None:
        """Every contender in turn in each round, after one round that does not count (`warm`).

        Who goes first changes from round to round.
        """
        for each in range(-1 if warm else 0, rounds):
            start = max(each, 0) % len(works)
            for work in (*works[start:], *works[:start]):
                for name, figure in work().items():
                    kept = self.rows.setdefault(name, [])
                    if each >= 0:
                        kept.append(figure)
        self.clock = time.strftime("%Y-%m-%d %H:%M")

    def shown(self, figure: float) -> str:
        """A figure as it is printed."""
        return "–" if math.isnan(figure) else f"{figure:,.{self.digits}f}"

    def lines(self) -> list[tuple[str, str, str]]:
        """Name, median, and least–most of each row."""
        return [
            (name, self.shown(statistics.median(kept)), f"{self.shown(min(kept))}–{self.shown(max(kept))}")
            for name, kept in self.rows.items()
            if kept
        ]

    def verdicts(self) -> list[tuple[str, str, str, str]]:
        """What was compared, what was found, what is wanted, and whether it is reached."""
        told = []
        for goal in self.goals:
            found = goal.found(self.rows)
            what = f"{goal.ours} ÷ {goal.theirs}" if goal.theirs else goal.ours
            if math.isnan(found):
                gone = next((name for name in (goal.ours, goal.theirs) if not self.rows.get(name)), "")
                told.append((what, "–", goal.wanted(), f"not measured: {self.missing.get(gone, gone)}"))
            else:
                figure = f"{found:.2f} ×" if goal.theirs else f"{self.shown(found)} {self.unit}"
                told.append((what, figure, goal.wanted(), MET if goal.met(self.rows) else MISSED))
        return told

    def text(self) -> str:
        """For a terminal."""
        out = [f"{self.key}: {self.title}", f"  {'':38}{self.unit:>16}   least–most"]
        out += [f"  {name:38}{median:>16}   {spread}" for name, median, spread in self.lines()]
        out += [f"  {name:38}{'–':>16}   {why}" for name, why in self.missing.items()]
        out += [f"  {' '.join((what, *rest))}" for what, *rest in self.verdicts()]
        return "\n".join(out) + "\n"


FORMAT: Final = 1


def dump(machine: Mapping[str, str], tables: list[Table]) -> str:
    """All that was found, as JSON."""
    return json.dumps({"format": FORMAT, "machine": machine, "tables": [asdict(each) for each in tables]})


def load(text: str) -> tuple[dict[str, str], list[Table]]:
    """What `dump` wrote; raises ValueError for anything else."""
    found: Any = json.loads(text)
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ValueError("not what this bench writes")
    tables = [Table(**each) for each in found["tables"]]
    for table in tables:
        table.goals = [Goal(**goal) for goal in cast(list[dict[str, Any]], table.goals)]
    return found["machine"], tables
