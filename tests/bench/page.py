"""docs/performance.md: the tables, and the words around them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tests.bench.prose import FRAME, LINES, WHY
from tests.bench.table import MISSED, Table


def page(machine: Mapping[str, str], tables: Sequence[Table]) -> str:
    """The whole page."""
    before, between, after = FRAME
    parts = [before, _machine(machine), between, _summary(tables), after]
    for line, (title, text) in LINES.items():
        mine = [each for each in tables if of(each) == line]
        if mine:
            parts += [f"## {title}", text, *(part for each in mine for part in _table(each))]
            if line in WHY and any(verdict == MISSED for each in mine for *_, verdict in each.verdicts()):
                parts.append(WHY[line])
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"


def of(table: Table) -> str:
    """The line that a table belongs to."""
    return table.key.split(",")[0]


def _rows(head: Sequence[str], rows: Iterator[Sequence[str]], align: str) -> str:
    marks = {"l": "---", "r": "---:"}
    lines = [head, [marks[each] for each in align], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _machine(machine: Mapping[str, str]) -> str:
    return _rows(("", ""), iter(machine.items()), "ll")


def _summary(tables: Sequence[Table]) -> str:
    def rows() -> Iterator[Sequence[str]]:
        for each in tables:
            for verdict in each.verdicts():
                yield (each.title, *verdict)

    return _rows(("", "", "found", "wanted", ""), rows(), "llrrl")


def _table(table: Table) -> Iterator[str]:
    better = "more is better" if table.more else "less is better"
    yield f"**{table.title}** ({table.unit}; {better})"
    rounds = max((len(kept) for kept in table.rows.values()), default=0)
    rows = [(name, median, spread if rounds > 1 else "") for name, median, spread in table.lines()]
    rows += [(name, "–", why) for name, why in table.missing.items() if not table.rows.get(name)]
    yield _rows(("", "median", "least–most" if rounds > 1 else ""), iter(rows), "lrr")
    for what, found, wanted, verdict in table.verdicts():
        yield f"- {what}: **{found}**, wanted {wanted}: {verdict}."
    yield f"{table.note} Measured {table.clock}{f', {rounds} rounds' if rounds > 1 else ''}."
