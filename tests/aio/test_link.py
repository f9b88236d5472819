"""The glue between asyncio and a core, with a transport that the test plays."""

from __future__ import annotations

import asyncio
from typing import Any

from glasshell.aio.link import Link
from glasshell.events import Event, HostKeyOffered, PrefaceLine
from tests.aio.kit import HOST_KEY, run


class FakeTransport(asyncio.Transport):
    """Remembers what is done to it."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.calls: list[str] = []
        self.high: int | None = None

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.high = high

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes.append(bytes(data))

    def pause_reading(self) -> None:
        self.calls.append("pause")

    def resume_reading(self) -> None:
        self.calls.append("resume")

    def close(self) -> None:
        self.calls.append("close")

    def abort(self) -> None:
        self.calls.append("abort")

    def is_closing(self) -> bool:
        return "close" in self.calls


class FakeCore:
    """A core that says back what it is told to."""

    def __init__(self) -> None:
        self.closed = False
        self.reading_paused = False
        self.told: list[Event] = []
        self.output = b""
        self.due: float | None = None
        self.rung: list[float] = []
        self.received = b""
        self.rang = asyncio.Event()

    def start(self, now: float) -> None:
        self.output += b"hello "

    def receive_data(self, data: memoryview, now: float) -> None:
        self.received += bytes(data)
        self.told.append(PrefaceLine("data"))

    def receive_eof(self, now: float, *, error: str = "") -> None:
        self.closed = True

    def data_to_send(self, now: float) -> bytes:
        data, self.output = self.output, b""
        return data

    def events(self) -> list[Event]:
        told, self.told = self.told, []
        return told

    def pending(self, *, sending: bool = True) -> bool:
        return bool(self.told or (sending and self.output))

    def answer(self, question: object, value: object, now: float) -> None:
        self.output += b"answer "

    def next_timeout(self) -> float | None:
        return self.due

    def handle_timeout(self, now: float) -> None:
        self.rung.append(now)
        self.due = None
        self.rang.set()


class Rig:
    """A link between the two."""

    def __init__(self) -> None:
        self.core = FakeCore()
        self.transport = FakeTransport()
        self.heard: list[Event] = []
        core: Any = self.core
        self.link = Link(core, self.hear, None)
        self.link.connection_made(self.transport)

    def hear(self, event: Event) -> None:
        self.heard.append(event)

    def arrive(self, data: bytes) -> None:
        buffer = self.link.get_buffer(-1)
        buffer[: len(data)] = data
        self.link.buffer_updated(len(data))


def test_events_are_told_and_their_answers_leave_in_the_same_write() -> None:
    async def main() -> None:
        rig = Rig()
        assert rig.transport.writes == [b"hello "]
        rig.core.output = b"reply "
        rig.hear = lambda event: rig.link.answer(HostKeyOffered(HOST_KEY.public, "x"), True)  # type: ignore[method-assign]
        rig.link._tell = rig.hear
        rig.arrive(b"abc")
        assert rig.core.received == b"abc"
        assert rig.transport.writes[1:] == [b"reply answer "]

    run(main())


def test_many_calls_in_one_turn_of_the_loop_are_one_write() -> None:
    async def main() -> None:
        rig = Rig()
        for _ in range(5):
            rig.core.output += b"x"
            rig.link.wake()
        assert rig.transport.writes == [b"hello "]
        await asyncio.sleep(0)
        assert rig.transport.writes == [b"hello ", b"xxxxx"]

    run(main())


def test_nothing_is_taken_from_the_core_while_the_socket_is_full() -> None:
    async def main() -> None:
        rig = Rig()
        assert rig.transport.high == 0, "what is taken has to be at the socket"
        rig.link.pause_writing()
        rig.core.output = b"waits"
        rig.link.wake()
        await asyncio.sleep(0)
        assert rig.core.output == b"waits"
        rig.link.resume_writing()
        await asyncio.sleep(0)
        assert rig.transport.writes[1:] == [b"waits"]

    run(main())


def test_reading_is_paused_and_resumed_as_the_core_wants() -> None:
    async def main() -> None:
        rig = Rig()
        rig.core.reading_paused = True
        rig.arrive(b"a")
        rig.arrive(b"b")
        rig.core.reading_paused = False
        rig.link.answer(HostKeyOffered(HOST_KEY.public, "x"), True)
        await asyncio.sleep(0)
        assert rig.transport.calls == ["pause", "resume"]

    run(main())


def test_a_closed_core_writes_what_is_left_and_closes_the_socket_once() -> None:
    async def main() -> None:
        rig = Rig()
        rig.core.closed = True
        rig.link.pause_writing()
        rig.core.output = b"goodbye"
        rig.link.wake()
        await asyncio.sleep(0)
        rig.link.wake()
        await asyncio.sleep(0)
        assert rig.transport.writes[1:] == [b"goodbye"]
        assert rig.transport.calls == ["close"]
        rig.link.connection_lost(None)
        await rig.link.over

    run(main())


def test_one_timer_that_looks_again_where_the_time_has_moved() -> None:
    async def main() -> None:
        rig = Rig()
        now = rig.link.now
        rig.core.due = now + 0.01
        rig.arrive(b"a")
        timer = rig.link._timer
        rig.core.due = now + 0.02
        rig.arrive(b"b")
        assert rig.link._timer is timer, "a later time needs no new timer"
        await rig.core.rang.wait()
        assert rig.core.rung[0] >= now + 0.02
        assert rig.link._timer is None
        rig.link.connection_lost(None)

    run(main())


def test_all_links_of_a_loop_read_into_one_buffer() -> None:
    """256 KiB each, and every page of them touched by the kernel, made a stranger cost 300 KiB."""

    async def main() -> memoryview:
        first, second = Rig().link.get_buffer(-1), Rig().link.get_buffer(-1)
        assert first.obj is second.obj
        return first

    assert run(main()).obj is not run(main()).obj


def test_a_link_with_much_to_say_lets_the_others_have_their_turn() -> None:
    async def main() -> None:
        rig = Rig()

        def more(now: float) -> bytes:
            assert len(rig.transport.writes) < 1000, "nobody else ever gets a turn"
            return b"more "

        rig.core.data_to_send = more  # type: ignore[method-assign]
        rig.core.pending = lambda sending=True: sending  # type: ignore[method-assign]
        rig.arrive(b"x")
        written = len(rig.transport.writes)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(rig.transport.writes) > written  # and goes on by itself
        rig.core.data_to_send = lambda now: b""  # type: ignore[method-assign]
        rig.core.pending = lambda sending=True: False  # type: ignore[method-assign]

    run(main())
