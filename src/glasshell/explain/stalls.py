"""Stalls: stretches of a connection that took longer than they need, each with its likely cause.

A stall is named from the records alone, with the evidence for it and with how sure that is: "certain" where
a record says so, "likely" where the times and the place fit one known cause, "possible" where several fit,
"unknown" where time passed and nothing tells why. What the network itself takes is no stall: one trip of the
fastest answer of this connection is allowed for wherever something was asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from ..errors import MalformedMessage
from ..messages import message_name
from ..observe.record import MessageRecord, Record, StateRecord
from ..wire import Reader, visible
from .phases import HELD, OWN, PEER, PERSON, Clock, Phase
from .trips import CROSSED, DELAYED, SLOW, RoundTrips

__all__ = ["Stall", "Stalls"]

LEAST: Final = 0.004
"""Seconds: what is shorter is not worth a word."""
SLOW_KEYS: Final = 0.005
SLOW_ANSWER: Final = 0.020
SLOW_BANNER: Final = 0.050
LONG: Final = 0.100
"""From this many seconds on, a stretch is told though nothing explains it."""
PAM_FAIL: Final = (1.0, 3.3)
"""Seconds that pam_unix asks for after a failure: 2, which libpam spreads by up to half each way."""
OPENSSH_FAIL: Final = (0.0045, 0.0125)
"""Seconds that OpenSSH's sshd takes at least to refuse: 5 ms, and up to 4.3 ms by the name (auth2.c)."""
RESOLVER: Final = 5.0
"""Seconds until a resolver asks again (resolv.conf(5), timeout)."""
SYN_AGAIN: Final = (1.0, 3.0, 7.0, 15.0, 31.0)
"""Seconds after which TCP has sent its SYN once, twice, ... more (RFC 6298: 1 s, doubled each time)."""
HOLDING: Final = ("delayed_ack", "nagle")
"""The kinds in which whoever sends is waiting, though nothing is received."""
MOST: Final = 200
"""Most stalls kept; of more the longest."""


class Stall(NamedTuple):
    """One stretch (seconds since the connection's start), what it looks like, and why we think so.

    `kind` is a word for programs, `title` a few for people; `whose` is "peer", "own", "person" or "network".
    """

    began: float
    ended: float
    kind: str
    title: str
    evidence: str
    confidence: str
    whose: str

    @property
    def took(self) -> float:
        """Seconds."""
        return self.ended - self.began


class Cause(NamedTuple):
    """What a rule finds: the last five of a Stall, and the seconds it took if they are not the whole gap."""

    kind: str
    title: str
    evidence: str
    confidence: str
    whose: str = PEER
    took: float | None = None


class Stalls:
    """A sink; `found` is what it has found, in the order of time.

    `clock` and `trips` are those of the same connection and have heard each record before this one does.
    """

    def __init__(self, clock: Clock, trips: RoundTrips) -> None:
        self._clock = clock
        self._trips = trips
        self._found: list[Stall] = []
        self._before: Record | None = None
        self._latest: dict[bool, MessageRecord | None] = {True: None, False: None}
        self._asked: dict[int, float] = {}
        self._states: dict[str, float] = {}
        self._software = {"own": "", "peer": ""}
        self._role = "client"
        self._method = ""
        self._running = False
        self._rules: dict[int, Callable[[MessageRecord, float], Cause | None]] = {
            20: self._kexinit, 30: self._key, 32: self._key, 34: self._key, 31: self._key, 33: self._key,
            21: self._host_key, 50: self._attempt, 51: self._refused, 52: self._accepted, 60: self._judged,
            61: self._attempt, 91: self._session, 99: self._session, 100: self._session,
        }  # fmt: skip
        self._told: dict[str, Callable[[StateRecord, float], Cause | None]] = {
            "resolved": self._resolved, "error": self._error, "connected": self._connected,
            "connect_failed": self._connect_failed, "preface_line": self._preface_line,
            "identification_received": self._identification, "answered": self._person,
            "encrypted": self._sealed,
        }  # fmt: skip

    @property
    def found(self) -> list[Stall]:
        """In the order of time."""
        return sorted(self._found, key=lambda stall: stall.began)

    def __call__(self, record: Record) -> None:
        """Takes one record."""
        began, ended = self._clock.since, record.time
        gap = ended - began
        cause = self._cause(record, gap) if self._before is not None else None
        if cause is not None:
            start = began if cause.took is None else ended - cause.took
            if self._clock.kind == OWN and (cause.kind in HOLDING or cause.whose == PERSON):
                self._clock.was(PERSON if cause.whose == PERSON else HELD, ended - start)
            self._keep(Stall(start, ended, *cause[:5]))
        self._remember(record)

    def _keep(self, stall: Stall) -> None:
        self._found.append(stall)
        if len(self._found) > MOST:
            self._found.remove(min(self._found, key=lambda each: each.took))

    def _remember(self, record: Record) -> None:
        self._before = record
        if isinstance(record, StateRecord):
            self._states[record.name] = record.time
            match record.name:
                case "started":
                    self._role = str(record.facts.get("role") or "client")
                    self._software["own"] = str(record.facts.get("software", ""))
                case "accepted":
                    self._role = "server"
                case "identification_received":
                    self._software["peer"] = str(record.facts.get("software") or record.facts.get("line", ""))
                case "identification_sent" if self._role == "network":
                    self._software["own"] = str(record.facts.get("line", ""))
        else:
            self._latest[record.sent] = record
            self._asked[record.number] = record.time
            if record.number == 50:
                self._method = _method(record)
            elif record.number == 99:
                self._running = True

    # ---- which rule

    def _cause(self, record: Record, gap: float) -> Cause | None:
        if isinstance(record, StateRecord):
            told = self._told.get(record.name)
            return told(record, gap) if told else None
        if gap < LEAST:
            return None
        found = self._held(record, gap)
        rule = self._rules.get(record.number)
        if found is None and rule is not None:
            found = rule(record, gap)
        return found or self._unexplained(record, gap)

    @property
    def _they(self) -> str:
        return "the client" if self._role == "server" else "the server"

    @property
    def _we(self) -> str:
        return "the client" if self._role == "network" else "this side"

    def _late(self, asked: float | None, record: Record, gap: float) -> float:
        """Seconds by which an answer came later than the line explains."""
        since = record.time - asked if asked is not None else gap
        return min(gap, since - self._trips.fastest)

    # ---- the way to the connection

    def _resolved(self, record: StateRecord, gap: float) -> Cause | None:
        if gap < SLOW_ANSWER or "resolving" not in self._states:
            return None
        again = f"; a resolver asks again after {RESOLVER:.0f} s" if gap >= RESOLVER * 0.98 else ""
        text = f"{_ms(gap)} from the question to the addresses of {_text(record.facts.get('host'))}{again}"
        return Cause("dns", "name look-up", text, "certain", "network")

    def _error(self, record: StateRecord, gap: float) -> Cause | None:
        looking = isinstance(self._before, StateRecord) and self._before.name == "resolving"
        if not looking or gap < SLOW_ANSWER:
            return None
        return Cause("dns", "name look-up that failed", f"{_ms(gap)} until it failed", "certain", "network")

    def _connected(self, record: StateRecord, gap: float) -> Cause | None:
        sent = next((n for n, wait in enumerate(SYN_AGAIN, 1) if wait <= gap < wait * 1.6), 0)
        if not sent:
            return None
        times = "once" if sent == 1 else f"{sent} times"
        text = f"connect took {gap:.2f} s: TCP sends its SYN again after {SYN_AGAIN[sent - 1]:.0f} s"
        return Cause("syn_again", f"a lost SYN, sent again {times}", text, "likely", "network")

    def _connect_failed(self, record: StateRecord, gap: float) -> Cause | None:
        if gap < LONG:
            return None
        text = f"{gap:.1f} s until connect failed: {_text(record.facts.get('error'))}"
        return Cause("no_answer", "no answer to TCP", text, "certain", "network")

    def _preface_line(self, record: StateRecord, gap: float) -> Cause | None:
        line = _text(record.facts.get("text"))
        if "maxstartups" not in line.lower() and "not allowed at this time" not in line.lower():
            return None
        penalty = "not allowed" in line.lower()
        title = "refused by PerSourcePenalties" if penalty else "refused by MaxStartups"
        return Cause("max_startups", title, f"the server said {line!r} and no identification", "certain")

    def _identification(self, record: StateRecord, gap: float) -> Cause | None:
        began = self._states.get("accepted" if self._role == "server" else "connected")
        late = self._late(began, record, record.time - (began or record.time))
        if began is None or late < SLOW_BANNER:
            return None
        text = f"TCP was up at once, the identification came {_ms(late)} later than the line explains"
        if self._role == "server":
            return Cause("slow_banner", "the client was slow to speak", text, "possible", took=late)
        if any(abs(late - n * RESOLVER) < 0.35 for n in (1, 2, 3, 4)):
            text += f"; a resolver gives up after {RESOLVER:.0f} s: the client was looked up (TCP wrappers)"
            return Cause("slow_banner", "the server's reverse DNS look-up", text, "likely", took=late)
        text += "; the program starts late (load, MaxStartups, inetd) or looks the client up (TCP wrappers)"
        return Cause("slow_banner", "the server was slow to speak", text, "possible", took=late)

    def _person(self, record: StateRecord, gap: float) -> Cause | None:
        if gap < LONG:
            return None
        text = f"a question was open ({_text(record.facts.get('what'))}) and answered after {gap:.1f} s"
        return Cause("person", "a person at the prompt", text, "certain", PERSON)

    def _sealed(self, record: StateRecord, gap: float) -> Cause | None:
        """What cannot be read tells by its time alone."""
        if gap - self._trips.fastest < LONG:
            return None
        if record.facts.get("sent") and gap >= 1.0:
            text = f"{gap:.1f} s until the client sent something, which cannot be read"
            return Cause("person", "a person at the prompt or the keyboard", text, "possible", PERSON)
        who, whose = (self._we, "own") if record.facts.get("sent") else (self._they, PEER)
        text = f"{_ms(gap)} until {who} sent something, which cannot be read"
        if whose == PEER and PAM_FAIL[0] <= gap <= PAM_FAIL[1]:
            text += "; PAM waits 2 s after a failed login"
            return Cause("pam_fail", f"{who} was silent, as after a failed login", text, "possible", whose)
        return Cause("unknown", f"{who} was silent", text, "unknown", whose)

    # ---- Nagle's algorithm

    def _held(self, record: MessageRecord, gap: float) -> Cause | None:
        """A small packet that waited until the one before it was acknowledged."""
        before, other = self._latest[record.sent], self._latest[not record.sent]
        nodelay = record.sent and self._role != "network"  # our own sockets have TCP_NODELAY
        last = before.time if before else self._states.get(
            "identification_sent" if record.sent else "identification_received"
        )  # fmt: skip
        trip = self._trips.fastest
        crossed = trip * CROSSED if trip >= SLOW and not record.sent else 0.0
        if nodelay or self._running or last is None:
            return None
        if other is not None and other.time > last - crossed and not self._passed(last, other.time, record):
            return None  # it may as well be an answer
        late = record.time - last - trip
        name = message_name(record.number, record.context)
        who = self._we if record.sent else self._they
        if DELAYED[0] <= late <= DELAYED[1]:
            text = (
                f"{who} sent {name} {_ms(record.time - last)} after its last packet, no answer between them:"
                " Nagle's algorithm holds a small packet until the last is acknowledged, which takes 40 ms"
            )
            likely = "likely" if late <= 0.046 else "possible"
            whose = "own" if record.sent else PEER
            return Cause("delayed_ack", "delayed ACK", text, likely, whose, late)
        if self._trips.holds(last, record.time):
            text = f"{who} sent {name} one trip of the line ({_ms(trip)}) after its last packet"
            whose = "own" if record.sent else "network"
            return Cause("nagle", "held until acknowledged (Nagle)", text, "likely", whose)
        return None

    def _passed(self, last: float, other: float, record: MessageRecord) -> bool:
        """Whether what came between cannot be the cause: the other's KEXINIT crosses ours (RFC 4253 §7.1)."""
        return record.number in (30, 32, 34) and self._asked.get(20) == other and other - last < LEAST * 2

    # ---- the key exchange

    def _kexinit(self, record: MessageRecord, gap: float) -> Cause | None:
        first = self._states.get("identification_received")
        if record.sent or first is None or self._late(first, record, gap) < SLOW_BANNER:
            return None
        text = f"{_ms(gap)} after its identification"
        return Cause("slow_start", f"{self._they} prepared its KEXINIT", text, "possible")

    def _key(self, record: MessageRecord, gap: float) -> Cause | None:
        name = message_name(record.number, record.context)
        if record.sent:
            if gap < SLOW_KEYS:
                return None
            text = f"{_ms(gap)} of computing before {name}"
            return Cause("slow_keys", f"{self._we} made its key", text, "likely", "own")
        before = [self._asked.get(n, 0.0) for n in (20, 30, 31, 32, 34) if n != record.number]
        asked = max(before)
        late = self._late(asked, record, gap)
        if late < SLOW_KEYS:
            return None
        does = "made its key and signed" if record.number in (31, 33) else "made its key"
        text = f"{name} came {_ms(late)} later than the line explains"
        return Cause("slow_keys", f"{self._they} {does}", text, "likely", took=late)

    def _host_key(self, record: MessageRecord, gap: float) -> Cause | None:
        asked = self._asked.get(33, self._asked.get(31))
        late = gap if record.sent else self._late(asked, record, gap)
        if asked is None or late < SLOW_ANSWER or (record.sent and self._role == "server"):
            return None
        who, whose = (self._we, "own") if record.sent else (self._they, PEER)
        person = late > 1.0
        title = f"{who} judged the host key" + (", perhaps by asking somebody" if person else "")
        return Cause("host_key", title, f"{_ms(late)} between REPLY and NEWKEYS", "possible", whose, late)

    # ---- the login

    def _attempt(self, record: MessageRecord, gap: float) -> Cause | None:
        signed = record.number == 50 and _signed(record)
        if record.sent and self._role != "server":
            if gap < SLOW_ANSWER:
                return None
            if signed:
                touch = gap > 0.5
                title = "signing" + (": an agent or a hardware key, perhaps waiting for a touch" * touch)
                text = f"{_ms(gap)} from the server's word for the key to the signature"
                return Cause("signing", title, text, "likely" if not touch else "possible", "own")
        late = gap if record.sent else self._late(self._answered(), record, gap)
        if late < 1.0:
            return None
        text = f"{late:.1f} s from the server's last answer to the next attempt"
        return Cause("person", "a person at the prompt", text, "possible", PERSON, late)

    def _answered(self) -> float | None:
        return max((self._asked[n] for n in (6, 51, 60) if n in self._asked), default=None)

    def _verdict(self, record: MessageRecord, gap: float) -> float:
        """Seconds that a verdict took beyond the line; 0 for our own as a server."""
        asked = max((self._asked[n] for n in (50, 61) if n in self._asked), default=None)
        return gap if record.sent else self._late(asked, record, gap)

    def _refused(self, record: MessageRecord, gap: float) -> Cause | None:
        late = self._verdict(record, gap)
        if late < LEAST:
            return None
        text = f"the refusal of {self._method or 'the attempt'} came {_ms(late)} later than the line explains"
        interactive = self._method in ("password", "keyboard-interactive")
        if record.sent:
            return Cause("judging", "the login was judged here", text, "certain", "own")
        if interactive and PAM_FAIL[0] <= late <= PAM_FAIL[1]:
            return Cause("pam_fail", "PAM's delay after a failed login", f"{text}: PAM waits 2 s", "likely",
                         took=late)  # fmt: skip
        if "openssh" in self._software["peer"].lower() and OPENSSH_FAIL[0] <= late <= OPENSSH_FAIL[1]:
            text += "; OpenSSH refuses after 5 to 9 ms, so that the time tells nothing of the account"
            return Cause("fail_delay", "the server's deliberate delay", text, "likely", took=late)
        if late < SLOW_ANSWER:
            return None
        text += ": on purpose, or PAM"
        return Cause("judging", "the server refused slowly", text, "possible", took=late)

    def _accepted(self, record: MessageRecord, gap: float) -> Cause | None:
        return self._slow_verdict(record, gap, "accepted the login")

    def _judged(self, record: MessageRecord, gap: float) -> Cause | None:
        return self._slow_verdict(record, gap, "looked for the key")

    def _slow_verdict(self, record: MessageRecord, gap: float, did: str) -> Cause | None:
        late = self._verdict(record, gap)
        if late < SLOW_ANSWER:
            return None
        text = f"{_ms(late)} beyond the line: the account, its files, PAM, a directory such as LDAP"
        who, whose = (self._we, "own") if record.sent else (self._they, PEER)
        return Cause("judging", f"{who} {did} slowly", text, "possible", whose, late)

    # ---- the session

    def _session(self, record: MessageRecord, gap: float) -> Cause | None:
        asked = self._asked.get(90 if record.number == 91 else 98)
        late = gap if record.sent else self._late(asked, record, gap)
        if late < SLOW_ANSWER:
            return None
        what = "opened the session" if record.number == 91 else "started the program"
        who, whose = (self._we, "own") if record.sent else (self._they, PEER)
        text = f"{_ms(late)} beyond the line: PAM's session modules, the account's files, the machine's load"
        return Cause("session_start", f"{who} {what} slowly", text, "possible", whose, late)

    def _unexplained(self, record: MessageRecord, gap: float) -> Cause | None:
        if gap - self._trips.fastest < LONG:
            return None
        if self._clock.phase in (Phase.CONNECTION, Phase.TEARDOWN) and self._running:
            return self._idle(record, gap)
        whose, who = ("own", self._we) if record.sent else (PEER, self._they)
        name = message_name(record.number, record.context)
        title = f"{_ms(gap)} until {name}"
        return Cause("unknown", title, f"nothing in the records says why {who} took it", "unknown", whose)

    def _idle(self, record: MessageRecord, gap: float) -> Cause:
        whose = "own" if record.sent else PEER
        if record.sent is (self._role == "server"):
            text = f"nothing was said for {_ms(gap)} until the program spoke or ended"
            return Cause("program", "the program worked, or waited", text, "certain", whose)
        text = f"nothing was said for {_ms(gap)} until there was something to send to the program"
        return Cause("idle", "nothing to send", text, "certain", whose)


def _ms(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 10 else f"{seconds * 1000:.0f} ms" if seconds >= 0.02 else (
        f"{seconds * 1000:.1f} ms"
    )  # fmt: skip


def _text(value: object) -> str:
    return visible(str(value or ""))[:120]


def _strings(record: MessageRecord) -> Iterator[str]:
    reader = Reader(record.payload, 1)
    try:
        while True:
            yield bytes(reader.string()).decode("ascii", "replace")
    except MalformedMessage:
        return


def _method(record: MessageRecord) -> str:
    """The method of a USERAUTH_REQUEST; its user and service come first (RFC 4252 §5)."""
    found = _strings(record)
    next(found, "")
    next(found, "")
    return next(found, "")


def _signed(record: MessageRecord) -> bool:
    """Whether a request with a key bears the signature (RFC 4252 §7)."""
    reader = Reader(record.payload, 1)
    try:
        for _ in range(3):
            reader.string()
        return _method(record).startswith("publickey") and reader.boolean()
    except MalformedMessage:
        return False
