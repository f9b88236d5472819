"""The course of one connection: its phases, round trips and stalls, and one sentence that sums them up."""

from __future__ import annotations

from collections import defaultdict

from ..observe.record import Record, StateRecord
from .phases import OWN, PERSON, Clock, Phase
from .stalls import HOLDING, Stall, Stalls
from .trips import RoundTrips

__all__ = ["Course", "duration", "sentence"]

NOUNS: dict[str, tuple[str, str]] = {
    "delayed_ack": ("a delayed ACK", "delayed ACKs"),
    "nagle": ("a packet held by Nagle's algorithm", "packets held by Nagle's algorithm"),
    "fail_delay": ("the server's deliberate delay", "the server's deliberate delay"),
    "pam_fail": ("PAM's delay after a failed login", "PAM's delay after failed logins"),
    "dns": ("a name look-up", "name look-ups"),
    "syn_again": ("a lost SYN", "lost SYNs"),
    "slow_keys": ("the making of keys", "the making of keys"),
    "signing": ("signing", "signing"),
    "judging": ("the judging of a login", "the judging of logins"),
    "session_start": ("a slow start of the session", "slow starts of sessions"),
    "host_key": ("the judging of the host key", "the judging of host keys"),
}
"""How the sentence calls a stall, one and several; one of another kind is called by its title."""
VERBS: dict[str, tuple[str, str]] = {
    "certain": ("was", "were"), "likely": ("looks like", "look like"), "possible": ("may be", "may be"),
}  # fmt: skip
"""What the sentence says of a stall, by how sure it is."""
SURE = ("unknown", "possible", "likely", "certain")
CALM: dict[str, str] = {
    "program": "{} {}the remote program's own",
    "idle": "{} {}with nothing to send",
    "person": "{} {}a person at the prompt",
}
"""What is no stall of the connection: only how long it was together matters."""
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


class Course:
    """A sink that measures a connection."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.trips = RoundTrips()
        self.stalls = Stalls(self.clock, self.trips)
        self.role = "client"

    def hear(self, record: Record) -> Phase:
        """Takes one record; answers with the phase it is shown in."""
        if isinstance(record, StateRecord):
            if record.name == "started":
                self.role = str(record.facts.get("role") or "client")
            elif record.name == "accepted":
                self.role = "server"
        phase = self.clock.hear(record)
        self.trips.hear(record)
        self.stalls(record)
        return phase

    @property
    def took(self) -> float:
        """Seconds from the first record to the latest."""
        return self.clock.now - (self.clock.start or 0.0)


def sentence(course: Course) -> str:
    """Where the time went: `208 ms, 8 round trips: 61 % waiting for the server; two stalls of ...`."""
    took, depth = course.took, course.trips.depth
    head = f"{duration(took)}, {depth} round trip{'' if depth == 1 else 's'}"
    parts = [part for part in (_share(course), *_stalls(course.stalls.found, took)) if part]
    return f"{head}: {'; '.join(parts)}." if parts else f"{head}."


def _share(course: Course) -> str:
    """What most of the time went into."""
    spents, found = course.clock.spent.values(), course.stalls.found
    waiting, own = sum(each.waiting for each in spents), sum(each.own for each in spents)
    if not waiting + own:
        return ""
    peer = "client" if course.role == "server" else "server"
    whom = f"the {peer} or a person" if any(stall.whose == PERSON for stall in found) else f"the {peer}"
    who = "the client's own" if course.role == "network" else "computing here"
    held = sum(stall.took for stall in found if stall.whose == OWN and stall.kind in HOLDING)
    shares = {f"waiting for {whom}": waiting - held, who: own, "waiting for acknowledgements": held}
    most = max(shares, key=lambda name: shares[name])
    return f"{round(100 * shares[most] / (waiting + own))} % {most}"


def _stalls(found: list[Stall], took: float) -> list[str]:
    """The kinds that cost most, at most three; nothing below a twentieth of the whole."""
    groups: dict[str, list[Stall]] = defaultdict(list)
    for stall in found:
        groups[stall.kind].append(stall)
    ranked = sorted(groups.values(), key=lambda group: -sum(stall.took for stall in group))
    return [_group(group) for group in ranked if sum(stall.took for stall in group) >= took / 20][:3]


def _group(group: list[Stall]) -> str:
    kind, sure = group[0].kind, min((stall.confidence for stall in group), key=SURE.index)
    if kind in CALM:
        perhaps = "" if sure == "certain" else "perhaps "
        return CALM[kind].format(duration(sum(stall.took for stall in group)), perhaps)
    one, many = "has no known cause", "have no known cause"
    if sure in VERBS:
        nouns = NOUNS.get(kind, (group[0].title, group[0].title))
        one, many = (f"{verb} {noun}" for verb, noun in zip(VERBS[sure], nouns, strict=True))
    if len(group) == 1:
        return f"one stall of {duration(group[0].took)} {one}"
    least, most = (duration(pick(stall.took for stall in group)) for pick in (min, max))
    span = least if least == most else f"{least} to {most}"
    count = NUMBERS[len(group)] if len(group) < len(NUMBERS) else str(len(group))
    return f"{count} stalls of {span} {many}"


def duration(seconds: float) -> str:
    """A time as people say it: 0.4 ms, 208 ms, 3.2 s, 4 min 10 s."""
    if seconds >= 119.5:
        return f"{round(seconds) // 60} min {round(seconds) % 60} s"
    if seconds >= 1.0:
        return f"{seconds:.1f} s"
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.0095 else f"{seconds * 1000:.1f} ms"
