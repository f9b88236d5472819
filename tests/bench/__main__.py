"""Measures, prints, and writes docs/performance.md: `python -m tests.bench [LINE ...]`.

Without a line everything is measured and the page written. With lines these are measured and printed, and the
page stays as it is until --page draws it again from the last figures of every line.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from tests.bench import counts, data, many, reach
from tests.bench.machine import load_average, machine
from tests.bench.page import of, page
from tests.bench.plot import plot
from tests.bench.reach import Plan
from tests.bench.table import Table, dump, load

LINES: Final[dict[str, Callable[[Plan], Iterator[Table]]]] = {
    "trips": reach.trips,
    "gcm": data.gcm,
    "chacha": data.chacha,
    "distance": reach.distance,
    "logins": many.logins,
    "idle": many.idle,
    "start": reach.start,
    "price": reach.price,
    "counts": counts.counts,
    "memory": data.memory,
    "inspect": data.inspect,
}
SMALL: Final = Plan(rounds=1, size=40, many=100, logins=16)
ROOT: Final = Path(__file__).parents[2]
FIGURES: Final = ROOT / "build/bench.json"
"""The last figures of every line."""


def main(words: list[str]) -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("lines", nargs="*", metavar="LINE", help="what to measure: all, unless named")
    parser.add_argument("--list", action="store_true", help="name the lines")
    parser.add_argument("--page", action="store_true", help="draw the page from the last figures")
    parser.add_argument("--rounds", type=int, help="rounds of each contender")
    parser.add_argument("--small", action="store_true", help="see that it runs; the figures mean nothing")
    options = parser.parse_args(words)
    if unknown := [name for name in options.lines if name not in LINES]:
        parser.error(f"there is no line {', '.join(unknown)}; there are {', '.join(LINES)}")
    if options.list:
        for name, line in LINES.items():
            print(f"{name:10}{(line.__doc__ or '').strip()}")
        return 0
    if options.page and not options.lines:
        write(*kept())
        return 0
    plan = SMALL if options.small else Plan()
    if options.rounds:
        plan = replace(plan, rounds=options.rounds)
    found = measure(options.lines or list(LINES), plan)
    if options.small:
        return 0
    tables = merged(kept()[1], found)
    FIGURES.parent.mkdir(exist_ok=True)
    FIGURES.write_text(dump(machine(), tables), "utf-8")
    if options.page or not options.lines:
        write(machine(), tables)
    return 0


def measure(lines: list[str], plan: Plan) -> list[Table]:
    """Each line, printed as soon as it is known."""
    for name, value in machine().items():
        print(f"{name}: {value}")
    print(f"load before: {load_average()}\n")
    found = []
    for line in lines:
        began = time.monotonic()
        for table in LINES[line](plan):
            print(table.text(), flush=True)
            found.append(table)
        print(f"({line}: {time.monotonic() - began:.0f} s)\n", flush=True)
    return found


def kept() -> tuple[dict[str, str], list[Table]]:
    """The last figures, if there are any."""
    try:
        return load(FIGURES.read_text("utf-8"))
    except (OSError, ValueError, TypeError, KeyError):
        return machine(), []


def merged(old: list[Table], new: list[Table]) -> list[Table]:
    """The old tables, those of newly measured lines replaced, in the order of the lines."""
    lines = {of(each) for each in new}
    order = list(LINES)
    tables = [*(each for each in old if of(each) in LINES and of(each) not in lines), *new]
    return sorted(tables, key=lambda each: order.index(of(each)))


def write(described: dict[str, str], tables: list[Table]) -> None:
    """docs/performance.md and docs/performance.svg."""
    shown = ("processor", "Python", "openssh-9.2", "openssh-10.6")
    about = " · ".join(described[name].split(", for")[0] for name in shown if name in described)
    (ROOT / "docs/performance.md").write_text(page(described, tables), "utf-8")
    (ROOT / "docs/performance.svg").write_text(plot(tables, about), "utf-8")
    print("docs/performance.md and docs/performance.svg are written")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
