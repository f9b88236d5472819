"""Steps and an explanation as people read them: colour and signs on a terminal, plain text in a pipe."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import Final, TextIO

from ..explain.rules import Explanation
from ..explain.steps import Step
from .screen import console, fit

__all__ = ["Checkup"]

SIGNS: Final = {True: ("✓", "green"), False: ("✗", "bold red"), None: ("!", "yellow")}
"""How a step went: its sign and its colour."""


class Checkup:
    """Writes each step as it comes, and what it all means at the end."""

    def __init__(
        self, stream: TextIO, *, color: bool, width: int | None = None, details: bool = True
    ) -> None:
        self._stream = stream
        self._details = details
        self._console = console(stream, color=color, width=width)

    def step(self, step: Step) -> None:
        """One step, with what belongs to it."""
        from rich.text import Text

        sign, style = SIGNS[step.ok]
        line = Text()
        line.append(self._plain(f"{sign} "), style=style)
        line.append(f"{step.phase:14} ", style="bold")
        line.append(self._plain(step.text))
        if step.seconds is not None and step.seconds >= 0.0005:
            line.append(f"  {step.seconds * 1000:.0f} ms", style="dim")
        self._console.print(line, soft_wrap=True)
        if self._details:
            for each in step.details:
                self._wrapped(each, " " * 17, style="dim")

    def explanation(self, found: Explanation) -> None:
        """The whole of it: what, both sides, causes, what to do."""
        from rich.text import Text

        self._console.print()
        self._console.print(Text(self._fold(self._plain(found.what), ""), style="bold"), soft_wrap=True)
        self._part("the client", found.client)
        self._part("the server", found.server)
        self._part("likely causes, most likely first", [str(cause) for cause in found.causes], numbered=True)
        self._part("what you can do", found.user)
        self._part("what the server's administrator can do", found.admin)

    def _part(self, title: str, lines: Sequence[str], *, numbered: bool = False) -> None:
        from rich.text import Text

        if not lines:
            return
        self._console.print()
        self._console.print(Text(f"{title}:", style="bold"))
        for number, each in enumerate(lines, 1):
            self._wrapped(each, "  ", first=f"  {number}. " if numbered else "  - ")

    def lines(self, lines: Iterable[str]) -> None:
        """Lines as they are."""
        for line in lines:
            self._wrapped(line, "  ", first="")

    def _wrapped(self, text: str, indent: str, *, first: str | None = None, style: str = "") -> None:
        from rich.text import Text

        lead = indent if first is None else first
        folded = self._fold(self._plain(text), indent if first is None else " " * len(first), lead)
        self._console.print(Text(folded, style=style), soft_wrap=True)

    def _fold(self, text: str, indent: str, first: str = "") -> str:
        return textwrap.fill(
            text, max(40, self._console.width), initial_indent=first, subsequent_indent=indent,
            break_long_words=False, break_on_hyphens=False,
        )  # fmt: skip

    def _plain(self, text: str) -> str:
        return fit(text, self._stream)
