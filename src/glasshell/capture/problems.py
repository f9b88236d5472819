"""What in a capture could not be used: named once, and counted. Nothing is passed over in silence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["Problem", "note"]

MAX_KINDS: Final = 100
"""Different sentences kept; a hostile file may cause any number."""


@dataclass(slots=True)
class Problem:
    """How often something was found, and the number of the first frame."""

    count: int
    first: int


def note(problems: dict[str, Problem], what: str, number: int) -> None:
    """Counts one more `what`, found in frame `number`."""
    if what in problems:
        problems[what].count += 1
    elif len(problems) < MAX_KINDS:
        problems[what] = Problem(1, number)
