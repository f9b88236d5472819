"""What noise cannot hide: the instructions of the interpreter, and the calls, that moving data takes.

No counter of the processor is needed: the interpreter itself says when it runs one of its instructions
(opcode events of sys.settrace) and when it calls into C. The same code gives the same count each time, so a
change of one in a thousand is a change of the code.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType
from typing import Any, Final

from glasshell.events import ChannelOffered
from glasshell.messages.connection import SessionOpen
from glasshell.observe.hub import Hub
from glasshell.policy import Policy
from glasshell.testing.pair import Pair, Side
from glasshell.views.jsonl import JsonLines
from glasshell.views.pcapng import Pcapng
from glasshell.views.timeline import Timeline
from tests.bench.reach import Plan
from tests.bench.table import Table

SIZE: Final = 1 << 20
UNIT: Final = 32 * 1024
READ: Final = 256 * 1024
BLOCK: Final = memoryview(bytes(SIZE))


def counts(plan: Plan) -> Iterator[Table]:
    """Instructions of the interpreter, and calls into C, for each 32 KiB."""
    sinks: dict[str, Callable[[], Hub] | None] = {
        "unwatched": None,
        "timeline": lambda: Hub(Timeline()),
        "JSON lines": lambda: Hub(JsonLines(lambda line: None)),
        "capture": lambda: Hub(Pcapng("/dev/null")),
    }
    tables = [
        Table(
            "counts, instructions", "Instructions of the interpreter for each 32 KiB", "instructions",
            more=False, digits=0,
            note="In memory, AES-GCM, from `Channel.send` to `Channel.read_chunks`; the same on every run.",
        ),
        Table("counts, calls", "Calls into C for each 32 KiB", "calls", more=False),
    ]  # fmt: skip
    for name, hub in sinks.items():
        for table, found in zip(tables, measure(hub), strict=True):
            for way, count in zip(("send", "receive"), found, strict=True):
                if hub is None or way == "receive":  # the receiver is the one that is watched
                    table.rows[f"{way}, {name}"] = [count * UNIT / SIZE]
            table.clock = time.strftime("%Y-%m-%d %H:%M")
    yield from tables


def measure(hub: Callable[[], Hub] | None = None) -> tuple[tuple[int, int], tuple[int, int]]:
    """Instructions, then calls into C: to send and to receive SIZE bytes, the receiver watched by `hub`."""
    return _moved(instructions, hub), _moved(calls, hub)


def _moved(counter: Callable[[Callable[[], object]], int], hub: Callable[[], Hub] | None) -> tuple[int, int]:
    hubs: dict[Side, Hub] = {"client": hub()} if hub else {}
    policy = Policy.client(ciphers=("aes256-gcm@openssh.com",))
    pair = Pair(policy, answers={ChannelOffered: lambda question: True}, hubs=hubs)
    pair.run()
    mine = pair.client.mux.open("session", SessionOpen())
    pair.run()
    theirs = pair.told("server", ChannelOffered)[0].channel
    found = 0, 0
    for _ in range(2):  # the second time nothing is new: windows have grown, what is cached is there
        left, found = SIZE, (0, 0)
        while left:
            sent: list[int] = []
            wire: list[bytes] = []

            def send(size: int, sent: list[int] = sent, wire: list[bytes] = wire) -> None:
                sent.append(theirs.send(BLOCK[:size]))
                wire.append(bytes(pair.server.data_to_send(pair.now)))

            def receive(wire: list[bytes] = wire) -> None:
                for start in range(0, len(wire[0]), READ):
                    pair.client.receive_data(memoryview(wire[0])[start : start + READ], pair.now)
                    mine.read_chunks()
                    pair.client.events()

            found = found[0] + counter(partial(send, left)), found[1] + counter(receive)
            pair.server.receive_data(pair.client.data_to_send(pair.now), pair.now)
            pair.server.events()
            if not sent[0]:
                raise RuntimeError("the window stays shut")
            left -= sent[0]
    return found


def instructions(work: Callable[[], object]) -> int:
    """Instructions of the interpreter that `work` runs."""
    count = 0

    def opened(frame: FrameType, event: str, argument: Any) -> Any:
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        return each

    def each(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        if event == "opcode":
            count += 1
        return each

    before = sys.gettrace()
    sys.settrace(opened)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def calls(work: Callable[[], object]) -> int:
    """Calls from Python into C that `work` makes."""
    count = 0

    def each(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal count
        if event == "c_call":
            count += 1

    before = sys.getprofile()
    sys.setprofile(each)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count
