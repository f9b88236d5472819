"""Why did it fail? `explain(records)` says it in plain words, or None where nothing failed.

The records are those of one connection: of a live client (`error.records`, or a sink's), of a server, or of a
capture, with or without what was encrypted. Where the caller holds the exception that ended it all, it is
given too: what happened before there was a connection, or after the login, may be in no record.

    found = explain(records, error)
    if found is not None:
        print(found.what, *found.causes, *found.user, *found.admin, sep="\\n")

A caller that cannot keep the records feeds a `Story`, which is a sink of bounded size, and calls
`explain_story`. The sentences are data, one file a phase; `RULES` has them all. A failure that no rule knows
is "unexplained", in the error's own words.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ..errors import SSHError
from ..observe.record import Record, SubsystemRecord
from ..wire import visible
from .admission import LOGIN
from .opening import NEGOTIATE, TRUST
from .reaching import CONNECT, IDENTIFY, RESOLVE
from .rules import Cause, Explanation, Facts, Phase, Rule
from .session import SESSION
from .story import Story

__all__ = ["PHASES", "RULES", "Cause", "Explanation", "Story", "explain", "explain_story"]

PHASES: Final[tuple[Phase, ...]] = (RESOLVE, CONNECT, IDENTIFY, NEGOTIATE, TRUST, LOGIN, SESSION)
"""In the order in which a connection goes through them."""

RULES: Final[dict[str, Rule]] = {rule.name: rule for phase in PHASES for rule in phase.rules}
"""Every failure that is told apart, by name."""

_FINE: Final = ("", "ConnectionClosed", "CommandFailed")
"""Errors of a connection that did what it was asked for."""


def explain(
    records: Iterable[Record | SubsystemRecord], error: SSHError | None = None
) -> Explanation | None:
    """Why the connection that `records` tell of failed; None where it did not, as far as they go."""
    story = Story()
    for record in records:
        story(record)
    if error is not None:
        story.told(error)
    return explain_story(story)


def explain_story(story: Story) -> Explanation | None:
    """The same for a story that has heard it all."""
    phase = _phase(story)
    if phase is None:
        return None
    common = _common(story)
    for rule in phase.rules:
        found = rule.explain(phase.name, story, common, phase.said)
        if found is not None:
            return found
    if not story.end.text:
        return None
    client, server = phase.said(story)
    return Explanation(
        rule="unexplained", phase=phase.name, what=visible(story.end.text)[:300], client=tuple(client),
        server=tuple(server), user=tuple(filter(None, (story.end.hint,))),
    )  # fmt: skip


def _phase(story: Story) -> Phase | None:
    """Where it failed; None where nothing did."""
    way, opening, end = story.way, story.opening, story.end
    if story.login.done:
        return SESSION if _session_failed(story) else None
    if not (_broken(story) or way.failures):
        return None
    if "Could not resolve" in end.text:
        return RESOLVE
    if not way.address and not opening.client and not opening.server and story.role != "network":
        return CONNECT
    verdict = opening.verdict
    if (verdict and not verdict.get("accepted")) or end.type in ("HostKeyRefused", "ConfigError"):
        return NEGOTIATE if "prove" in end.text or "signature" in end.text else TRUST
    if story.login.began or story.login.tries or story.login.methods or end.type == "AuthenticationFailed":
        return LOGIN
    if opening.done:
        return LOGIN
    if not opening.server or not opening.client or "Protocol major versions" in end.text:
        # A capture of one direction says nothing of what the other did not say.
        return IDENTIFY if story.role != "network" or end.both_ways else None
    return NEGOTIATE


def _broken(story: Story) -> bool:
    """Whether it ended otherwise than by the client's own good-bye."""
    end = story.end
    if end.type not in _FINE or story.login.inferred.get("what") == "authentication_failed":
        return True
    if end.ways & {"fin", "rst"} and not story.opening.done and not end.by_client:
        return True
    if end.by_server and end.by_server[0] != 11:
        return True
    if end.by_client and end.by_client[0] != 11:
        return True
    return end.eof and not end.by_client


def _session_failed(story: Story) -> bool:
    session, end = story.session, story.end
    if session.refused or session.denied or session.signal or session.late:
        return True
    if session.status:
        # What a command ends with is its own affair; for `true`, and where no program began, it is not.
        return session.command == "true" or session.status in (126, 127, 254)
    if session.command == "true" and session.status == 0:
        return bool(session.said.strip())
    served = session.status is not None or bool(session.granted) or session.opened > 0
    return (end.type not in _FINE or end.eof) and not served


def _common(story: Story) -> Facts:
    """What every sentence may use."""
    way, opening, end, login = story.way, story.opening, story.end, story.login
    user = login.user or way.user
    host = way.host or way.address or "the server"
    return {
        "host": host, "port": str(way.port or 22), "address": way.address or way.trying or host,
        "user": user or "the user", "target": f"{user}@{host}" if user else host,
        "flags": f"-p {way.port} " if way.port not in (0, 22) else "",
        "client_address": way.local or "CLIENT_ADDRESS", "server_line": opening.server or "nothing",
        "error": visible(end.text)[:300].rstrip("."),
    }  # fmt: skip
