"""Which steps make a login: AuthenticationMethods of sshd_config(5). Decides, and asks nobody."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..errors import ConfigError
from ..values import slotted
from .methods import NONE

__all__ = ["ANY", "Step", "Steps", "read_lists"]

ANY = ("any",)
"""The one list that leaves it to any single method."""


@slotted(frozen=True)
class Step:
    """One method, as a list names it or as it was passed; `submethod`: what did it (`pam`), if anything."""

    method: str
    submethod: str = ""

    def __str__(self) -> str:
        return f"{self.method}:{self.submethod}" if self.submethod else self.method

    def fits(self, passed: Step) -> bool:
        """Whether `passed` is what this step of a list wants."""
        return self.method == passed.method and self.submethod in ("", passed.submethod)


def read_lists(words: Iterable[str]) -> tuple[tuple[Step, ...], ...]:
    """The lists of AuthenticationMethods: words of comma lists. Raises ConfigError for an empty step."""
    lists = tuple(tuple(_step(name) for name in word.split(",")) for word in words)
    return () if lists in ((), (tuple(map(Step, ANY)),)) else lists


def _step(name: str) -> Step:
    method, colon, submethod = name.partition(":")
    if not method or (colon and not submethod):
        raise ConfigError(f'an empty method in AuthenticationMethods: "{name}"')
    return Step(method, submethod)


class Steps:
    """What the lists ask of a login, for the methods that are `enabled`, in the order of the server's offers.

    Every list that names only enabled methods can be completed, and one that is complete lets in; without
    lists any one method does. What was passed is given each time, oldest first: nothing is kept here.
    """

    __slots__ = ("_enabled", "_lists", "disabled")

    def __init__(self, enabled: Sequence[str], lists: Sequence[Sequence[Step]] = ()) -> None:
        """Raises ConfigError where no list can be completed: then nobody can log in."""
        self._enabled = tuple(enabled)
        self._lists = tuple(tuple(steps) for steps in lists if self._possible(steps))
        self.disabled = tuple(",".join(map(str, steps)) for steps in lists if not self._possible(steps))
        """The lists that name a disabled method, and are passed over."""
        if lists and not self._lists:
            raise ConfigError("No AuthenticationMethods left after eliminating disabled methods")

    def _possible(self, steps: Sequence[Step]) -> bool:
        return bool(steps) and all(step.method in self._enabled for step in steps)

    def _left(self, passed: Sequence[Step]) -> list[tuple[Step, ...]]:
        """What is left of each list: a step that was passed is taken off where it is the next one."""
        left = list(self._lists)
        for step in passed:
            left = [steps[1:] if steps and steps[0].fits(step) else steps for steps in left]
        return left

    def complete(self, passed: Sequence[Step]) -> bool:
        """Whether the login is done."""
        return bool(passed) if not self._lists else any(not steps for steps in self._left(passed))

    def allows(self, step: Step, passed: Sequence[Step] = ()) -> bool:
        """Whether `step` may be tried now."""
        if step.method not in self._enabled:
            return False
        return not self._lists or any(steps and steps[0].fits(step) for steps in self._left(passed))

    def following(self, passed: Sequence[Step] = ()) -> tuple[str, ...]:
        """The methods that can continue; `none` is never listed (RFC 4252 §5.2)."""
        heads = {steps[0].method for steps in self._left(passed) if steps}
        return tuple(
            method for method in self._enabled if method != NONE and (not self._lists or method in heads)
        )
