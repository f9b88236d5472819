"""The course of one connection: its phases, round trips and stalls, and one sentence that sums them up."""

from __future__ import annotations

from collections import defaultdict

from ..observe.record import Record, StateRecord
from .phases import OWN, PERSON, Clock, Phase
from .stalls import HOLDING, Stall, Stalls
from .trips import RoundTrips

__all__ = ["Course", "duration", "sentence"]

LOOKS: dict[str, tuple[str, str]] = {
    "delayed_ack": ("looks like a delayed ACK", "look like delayed ACKs"),
    "nagle": ("was held back by Nagle's algorithm", "were held back by Nagle's algorithm"),
    "fail_delay": ("is the server's deliberate delay", "are the server's deliberate delay"),
    "pam_fail": ("is PAM's delay after a failed login", "are PAM's delay after a failed login"),
    "dns": ("was a name look-up", "were name look-ups"),
    "syn_again": ("looks like a lost SYN", "look like lost SYNs"),
    "no_answer": ("got no answer to TCP", "got no answer to TCP"),
    "slow_keys": ("went into making keys", "went into making keys"),
    "signing": ("was spent signing", "were spent signing"),
    "unknown": ("has no known cause", "have no known cause"),
}
"""How the sentence says what a stall is, one and several; another kind is said by its title."""
CALM: dict[str, str] = {
    "program": "{} the remote program's own",
    "idle": "{} with nothing to send",
    "person": "{} a person at the prompt",
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
    who = "computing in the client" if course.role == "network" else "computing here"
    held = sum(stall.took for stall in found if stall.whose == OWN and stall.kind in HOLDING)
    if course.role == "network":  # nobody tells of a question there: what a person took looks like computing
        person = sum(stall.took for stall in found if stall.whose == PERSON)
        waiting, own = waiting + person, own - person
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
    if group[0].kind in CALM:
        return CALM[group[0].kind].format(duration(sum(stall.took for stall in group)))
    one, many = LOOKS.get(group[0].kind, (f"({group[0].title})", f"({group[0].title})"))
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
