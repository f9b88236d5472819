"""Two cores joined in memory under a virtual clock: a whole connection without a socket or a wait.

    pair = Pair()
    pair.run()                                  # handshake and login, as far as it goes by itself
    channel = pair.client.mux.open("session", SessionOpen())
    pair.run()
    assert ChannelOpened in pair.kinds("client")

Whoever sits between the two sees packets, payloads in clear beside them, and may keep, change, delete
and add (`relay`, `inject`); `run(until=...)` stops between two packets; `say` makes a side break the rules.

Questions are answered from `answers`, a table of functions by question class; one without an entry
stays open in `pair.open` until the test answers it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from ..crypto.packet_ciphers import (
    ChaChaOpener,
    ChaChaSealer,
    GcmOpener,
    GcmSealer,
    Null,
    Opener,
    Sealer,
)
from ..crypto.signatures import PrivateKey
from ..errors import UsageError
from ..events import (
    Closed,
    CredentialNeeded,
    Event,
    HostKeyOffered,
    HostKeySignatureNeeded,
    KeyMethod,
    KeyOffered,
    NoneMethod,
    NoneOffered,
    Question,
    SignatureNeeded,
    Verdict,
)
from ..keys.public import AnyKey
from ..observe.hub import Hub
from ..policy import Policy
from ..protocol import ClientProtocol, Protocol, ServerProtocol
from ..transport.packets import Outbound
from ..transport.rules import Phase

Side = Literal["client", "server"]
SIDES: Final[tuple[Side, Side]] = ("client", "server")
Answers = Mapping[type[Question], Callable[[Any], Any]]

_TURNS: Final = 100_000


@dataclass(frozen=True, slots=True)
class Packet:
    """What one side sent: `payload` in clear, `wire` as it travels. The identification has no payload."""

    sender: Side
    payload: bytes
    wire: bytes

    @property
    def number(self) -> int:
        """The message number; -1: the identification."""
        return self.payload[0] if self.payload else -1


class Pair:
    """A client and a server core, the packets between them, and the clock they share.

    `latency` is seconds one way; `chunk` cuts what is delivered into pieces of so many bytes. `relay`
    is given each packet and returns the bytes to deliver in its place; `sent` keeps them all. `certificates`
    are those of the host keys.
    """

    def __init__(
        self, client: Policy | None = None, server: Policy | None = None, *, user: str = "ada",
        methods: tuple[str, ...] = ("publickey",), answers: Answers | None = None, latency: float = 0.0,
        chunk: int = 0, hubs: Mapping[Side, Hub] | None = None, host_keys: Sequence[PrivateKey] = (),
        user_key: PrivateKey | None = None, random: Callable[[int], bytes] | None = None,
        certificates: Sequence[AnyKey] = (),
    ) -> None:  # fmt: skip
        self.now = 0.0
        self.latency = latency
        self.chunk = chunk
        self.relay: Callable[[Packet], bytes] = lambda packet: packet.wire
        self.sent: list[Packet] = []
        self.host_keys = tuple(host_keys) or (PrivateKey.generate("ssh-ed25519"),)
        self.user_key = user_key or PrivateKey.generate("ssh-ed25519")
        self.answers: dict[type[Question], Callable[[Any], Any]] = {**self._defaults(), **(answers or {})}
        self.log: dict[Side, list[Event]] = {"client": [], "server": []}
        self.open: list[tuple[Side, Question]] = []
        self._wire: deque[tuple[float, Packet]] = deque()
        hubs = hubs or {}
        more: dict[str, Any] = {"random": random} if random else {}
        self.client = ClientProtocol(
            client or Policy.client(), user=user, now=0.0, hub=hubs.get("client"), **more
        )
        self.server = ServerProtocol(
            server or Policy.server(), host_keys=[*certificates, *(key.public for key in self.host_keys)],
            methods=methods, now=0.0, hub=hubs.get("server"), **more,
        )  # fmt: skip
        self._sealed = {side: _Tap(self.core(side).transport.outbound) for side in SIDES}
        self._started = False

    def start(self) -> None:
        """Starts both cores; `run` does so where nobody has: until then a test may prepare them."""
        if not self._started:
            self._started = True
            self.client.start(self.now)
            self.server.start(self.now)

    def core(self, side: Side) -> Protocol:
        """One of the two cores."""
        return self.client if side == "client" else self.server

    def kinds(self, side: Side) -> list[type[Event]]:
        """The classes of the events that a side was told, in order."""
        return [type(event) for event in self.log[side]]

    def told(self, side: Side, kind: type[Any]) -> list[Any]:
        """The events of one class that a side was told."""
        return [event for event in self.log[side] if isinstance(event, kind)]

    def error(self, side: Side) -> BaseException | None:
        """What ended the connection, as one side sees it. Raises UsageError where it has not ended."""
        for event in self.told(side, Closed):
            return event.error  # type: ignore[no-any-return]
        raise UsageError(f"the {side} has not ended")

    def answer(self, side: Side, question: Question, value: Any) -> None:
        """Answers a question that stayed open."""
        self.open.remove((side, question))
        self.core(side).answer(question, value, self.now)

    def run(self, until: Callable[[], object] = lambda: False) -> None:
        """Delivers packets and answers questions until nothing moves, or `until` holds between two packets.

        The clock moves by latency only. Raises UsageError where the two do not come to rest.
        """
        self.start()
        for _ in range(_TURNS):
            if until():
                return
            moved = self._collect("client") | self._collect("server")
            if until():
                return
            if self._wire:
                self._deliver()
            elif not moved:
                return
        raise UsageError("the two cores do not come to rest")

    def run_until_phase(self, side: Side, phase: Phase) -> None:
        """`run` until `side` is in `phase`. Raises UsageError where it never is."""
        self.run(lambda: self.core(side).transport.phase is phase)
        if self.core(side).transport.phase is not phase:
            raise UsageError(f"the {side} never came to {phase.value}")

    def forge(self, sender: Side, payload: bytes) -> bytes:
        """A packet that the receiver takes for the next one of `sender`, who knows nothing of it.

        Raises UsageError for a cipher in counter mode, whose key stream cannot be looked into.
        """
        inbound = self.receiver(sender).transport.inbound
        out = Outbound(bytes)
        out.seq, out.epoch, out.sealer = inbound.seq, 1, _sealer_for(inbound.opener)
        out.seal(payload)
        return bytes(out.buffer)

    def inject(self, sender: Side, payload: bytes) -> None:
        """Delivers a forged packet of `sender` now, ahead of whatever is on its way."""
        self.receiver(sender).receive_data(self.forge(sender, payload), self.now)

    def say(self, sender: Side, payload: bytes) -> None:
        """Makes `sender` itself send `payload`, after what it has sent, whether it may or not."""
        self.core(sender).transport.outbound.seal(payload)

    def receiver(self, sender: Side) -> Protocol:
        """The core that hears `sender`."""
        return self.server if sender == "client" else self.client

    def advance(self, seconds: float) -> None:
        """Lets time pass: timers that come due on the way are run, each at its own moment."""
        end = self.now + seconds
        while True:
            self.run()
            due = [t for t in (self.client.next_timeout(), self.server.next_timeout()) if t is not None]
            if not due or min(due) > end:
                break
            self.now = max(self.now, min(due))
            self.client.handle_timeout(self.now)
            self.server.handle_timeout(self.now)
        self.now = end
        self.run()

    def _collect(self, side: Side) -> bool:
        """Takes one side's events and bytes; True where there were any."""
        core, moved = self.core(side), False
        for event in core.events():
            moved = True
            self.log[side].append(event)
            if isinstance(event, Question):
                self._ask(side, event)
        if data := bytes(core.data_to_send(self.now)):
            moved = True
            for packet in self._sealed[side].packets(side, data):
                self.sent.append(packet)
                self._wire.append((self.now + self.latency, packet))
        return moved

    def _ask(self, side: Side, question: Question) -> None:
        found = self.answers.get(type(question))
        if found is None:
            self.open.append((side, question))
        else:
            self.core(side).answer(question, found(question), self.now)

    def _deliver(self) -> None:
        at, packet = self._wire.popleft()
        self.now = max(self.now, at)
        data, other = self.relay(packet), self.receiver(packet.sender)
        step = self.chunk or len(data) or 1
        for start in range(0, len(data), step):
            other.receive_data(data[start : start + step], self.now)

    def _defaults(self) -> dict[type[Question], Callable[[Any], Any]]:
        """Host key trusted; `none`, then the user's key; the server takes that key."""
        held = {key.public.blob: key for key in (*self.host_keys, self.user_key)}
        return {
            HostKeyOffered: lambda q: True,
            HostKeySignatureNeeded: lambda q: held[q.key.blob].sign(q.algorithm, q.data),
            CredentialNeeded: self._credential,
            SignatureNeeded: lambda q: held[q.key.blob].sign(q.algorithm, q.data),
            NoneOffered: lambda q: Verdict(False),
            KeyOffered: lambda q: Verdict(q.key.blob == self.user_key.public.blob, grant="key"),
        }

    def _credential(self, question: CredentialNeeded) -> Any:
        if question.methods is None:
            return NoneMethod()
        tried = [attempt for attempt in question.attempts if attempt.method == "publickey"]
        return None if tried else KeyMethod(self.user_key.public)


class _Tap:
    """Remembers where one packet ends and the next begins in what a side sends."""

    def __init__(self, out: Outbound) -> None:
        self.out = out
        self.sizes: list[tuple[bytes, int]] = []
        self._seal = out.seal
        out.seal = self._note  # type: ignore[method-assign]

    def _note(self, head: bytes, data: bytes | memoryview = b"") -> tuple[int, int, int]:
        sealed = self._seal(head, data)
        self.sizes.append((b"".join((head, data)), sealed[2]))
        return sealed

    def packets(self, side: Side, data: bytes) -> list[Packet]:
        """`data` cut into packets; what was not sealed comes first: it is the identification."""
        sizes, self.sizes = self.sizes, []
        at = max(0, len(data) - sum(size for _, size in sizes))
        made = [Packet(side, b"", data[:at])] if at else []
        for payload, size in sizes:
            made.append(Packet(side, payload, data[at : at + size]))
            at += size
        return made


def _sealer_for(opener: Opener) -> Sealer:
    """What seals the packet that `opener` opens next."""
    sealer: Any
    slots: tuple[str, ...]
    match opener:
        case Null():
            return opener
        case GcmOpener():
            sealer, slots = GcmSealer.__new__(GcmSealer), ("_aead", "_counter", "_fixed")
        case ChaChaOpener():
            sealer, slots = ChaChaSealer.__new__(ChaChaSealer), ("_length", "_payload")
        case _:
            raise UsageError(f"{type(opener).__name__} cannot be looked into")
    for name in slots:
        setattr(sealer, name, getattr(opener, name))
    return sealer  # type: ignore[no-any-return]
