"""How an explanation is written down: a rule is data, and this is the little language of its lines.

A line may hold `{fact}`, and may begin with conditions `[fact]` or `[!fact]`. It is said only where each
fact that it names, and each condition, has a value (`!`: has none). So a rule lists everything there is to
say about a failure, and what was seen decides what of it is said.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from .story import Story

__all__ = ["Cause", "Explanation", "Phase", "Rule", "Said", "say"]

Facts: TypeAlias = Mapping[str, str]
When: TypeAlias = Callable[[Story], Facts | bool | None]
"""Whether a rule is the one: its facts, or True where it has none of its own."""
Said: TypeAlias = Callable[[Story], tuple[Sequence[str], Sequence[str]]]
"""What the client and what the server said or offered in a phase."""


@dataclass(frozen=True, slots=True)
class Cause:
    """One likely cause, and what speaks for it; empty where nothing seen does."""

    text: str
    evidence: str = ""

    def __str__(self) -> str:
        return f"{self.text} ({self.evidence})" if self.evidence else self.text


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why a connection failed, in words. `rule` names the sentence, `phase` where it failed.

    `client` and `server` are what each side said or offered; `causes` are in order of likelihood; `user` and
    `admin` are what can be done, by the user and on the server.
    """

    rule: str
    phase: str
    what: str
    client: tuple[str, ...] = ()
    server: tuple[str, ...] = ()
    causes: tuple[Cause, ...] = ()
    user: tuple[str, ...] = ()
    admin: tuple[str, ...] = ()

    def brief(self) -> tuple[str, ...]:
        """At most three lines: what, the likeliest cause, the first remedy."""
        lines = [f"why: {self.what}"]
        if self.causes:
            lines.append(f"likely: {self.causes[0]}")
        if remedy := (*self.user, *self.admin)[:1]:
            lines.append(f"try: {remedy[0]}")
        return tuple(lines)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "rule": self.rule, "phase": self.phase, "what": self.what, "client": list(self.client),
            "server": list(self.server),
            "causes": [{"text": each.text, "evidence": each.evidence} for each in self.causes],
            "user": list(self.user), "admin": list(self.admin),
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One failure that is known: when it is that one, and every line there is to say of it.

    `causes` are lines, or (line, evidence) pairs.
    """

    name: str
    when: When
    what: str
    causes: tuple[str | tuple[str, str], ...] = ()
    user: tuple[str, ...] = ()
    admin: tuple[str, ...] = ()

    def explain(self, phase: str, story: Story, common: Facts, said: Said) -> Explanation | None:
        """The explanation where this rule is the one."""
        found = self.when(story)
        if not found:
            return None
        facts = {**common, **(found if isinstance(found, Mapping) else {})}
        client, server = said(story)
        return Explanation(
            rule=self.name, phase=phase, what=say(self.what, facts) or self.what,
            client=tuple(client), server=tuple(server),
            causes=tuple(_causes(self.causes, facts)),
            user=_lines(self.user, facts), admin=_lines(self.admin, facts),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """One phase's rules, the first that is the one explains; `said` is what to show of both sides."""

    name: str
    rules: tuple[Rule, ...]
    said: Said


_CONDITION: Final = re.compile(r"\A\[(!?)(\w+)\]")
_FIELD: Final = re.compile(r"\{(\w+)\}")


def say(line: str, facts: Facts) -> str:
    """The line with its facts, or "" where it is not to be said."""
    while condition := _CONDITION.match(line):
        if bool(facts.get(condition[2])) == bool(condition[1]):
            return ""
        line = line[condition.end() :]
    if any(not facts.get(name) for name in _FIELD.findall(line)):
        return ""
    return _FIELD.sub(lambda match: facts[match[1]], line)


def _lines(lines: tuple[str, ...], facts: Facts) -> tuple[str, ...]:
    return tuple(filter(None, (say(line, facts) for line in lines)))


def _causes(causes: tuple[str | tuple[str, str], ...], facts: Facts) -> list[Cause]:
    found = []
    for each in causes:
        line, evidence = (each, "") if isinstance(each, str) else each
        if text := say(line, facts):
            found.append(Cause(text, say(evidence, facts)))
    # What something seen speaks for comes before what is only possible.
    return sorted(found, key=lambda cause: not cause.evidence)
