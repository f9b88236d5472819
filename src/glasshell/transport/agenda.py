"""What is open between the core and its application: questions asked, and timers set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import UsageError
from ..events import Question

Action = Callable[[], None]


class Agenda:
    """Questions by token and timers by name; times are absolute, in seconds of the caller's clock."""

    __slots__ = ("_due", "_open", "_timers", "_tokens", "held")

    def __init__(self) -> None:
        self._timers: dict[str, tuple[float, Action]] = {}
        self._due: float | None = None
        self._open: dict[int, tuple[Callable[[Any], None], bool]] = {}
        self._tokens = 0
        self.held = 0
        """How many open questions keep the peer's next message waiting."""

    def ask(self, question: Question, resume: Callable[[Any], None], *, hold: bool) -> None:
        """Numbers the question; `resume` is called with its answer."""
        self._tokens += 1
        question.token = self._tokens
        self._open[question.token] = (resume, hold)
        self.held += hold

    def answered(self, question: Question) -> Callable[[Any], None]:
        """What to call with the answer. Raises UsageError for a question that is not open."""
        try:
            resume, hold = self._open.pop(question.token)
        except KeyError:
            raise UsageError(f"{type(question).__name__} is not open: never asked, or answered") from None
        self.held -= hold
        return resume

    def schedule(self, name: str, at: float, action: Action) -> None:
        """Sets the timer `name`, or sets it anew."""
        self._timers[name] = (at, action)
        self._due = self._earliest()

    def cancel(self, name: str) -> None:
        """Forgets the timer `name`."""
        if self._timers.pop(name, None) is not None:
            self._due = self._earliest()

    def next_timeout(self) -> float | None:
        """When the next timer is due, or None."""
        return self._due

    def _earliest(self) -> float | None:
        return min([at for at, _ in self._timers.values()], default=None)

    def due(self, now: float) -> list[Action]:
        """The actions whose time has come, earliest first; they are forgotten here."""
        ripe = sorted((at, name) for name, (at, _) in self._timers.items() if at <= now)
        actions = [self._timers.pop(name)[1] for _, name in ripe]
        self._due = self._earliest()
        return actions

    def clear(self) -> None:
        """Forgets everything: the connection is over."""
        self._timers.clear()
        self._due = None
        self._open.clear()
        self.held = 0
