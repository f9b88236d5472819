"""Stalls that are provoked, and stalls in captures of others: named as what they are, and nothing else."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from glasshell.capture.keylog import KeyLog
from glasshell.capture.reader import read
from glasshell.explain.course import Course
from glasshell.explain.stalls import Stall
from glasshell.observe.record import SubsystemRecord
from glasshell.observe.seen import Seen
from tests.interop.conftest import Start
from tests.interop.delay import DelayLine
from tests.interop.kit import connect, talk
from tests.interop.peers import LOOPBACK, Keys, OpenSSHServer, Target, require_peer
from tests.needs import absent

CAPTURES = Path(os.environ.get("GLASSHELL_SHARED", Path(__file__).parents[3] / "shared")) / "captures"


def stalls(target: Target, ring: Keys, command: str = "true", **changes: Any) -> dict[str, Stall]:
    """What our client's records of one command show, by kind."""
    course = Course()

    async def once() -> None:
        async with connect(target, ring, sinks=[course.hear], **changes) as connection:
            await connection.run(command)

    talk(once())
    return {stall.kind: stall for stall in course.stalls.found}


@asynccontextmanager
async def slow_door(port: int, seconds: float) -> AsyncIterator[int]:
    """A proxy that opens the way to `port` only after `seconds`."""

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            sink.write(data)
        sink.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(seconds)
        there, back = await asyncio.open_connection(LOOPBACK, port)
        await asyncio.gather(pump(reader, back), pump(there, writer))

    async with await asyncio.start_server(serve, LOOPBACK, 0) as server:
        yield server.sockets[0].getsockname()[1]


def test_a_server_that_is_slow_to_speak(start: Start, keys: Keys) -> None:
    server = start(OpenSSHServer("10.6", keys))
    course = Course()

    async def once() -> None:
        async with (
            slow_door(server.target.port, 0.25) as port,
            connect(replace(server.target, port=port), keys, sinks=[course.hear]) as connection,
        ):
            await connection.run("true")

    talk(once())
    (stall,) = [each for each in course.stalls.found if each.kind == "slow_banner"]
    assert stall.took > 0.249


def test_a_lost_syn(start: Start, keys: Keys) -> None:
    with DelayLine() as line:
        server = start(OpenSSHServer("10.6", keys, extra_config=f"ListenAddress {line.near}"))
        line.drop = 1
        found = stalls(replace(server.target, host=line.far), keys)
    assert found["syn_again"].took > 0.9  # RFC 6298 2.1: the first time-out is 1 s


def test_a_program_that_takes_its_time(start: Start, keys: Keys) -> None:
    server = start(OpenSSHServer("10.6", keys))
    assert stalls(server.target, keys, "sleep 0.3")["program"].took > 0.29


@pytest.mark.parametrize("version", ["9.2", "10.6"])
def test_openssh_says_itself_that_it_delays_a_refusal(version: str, start: Start, keys: Keys) -> None:
    server = start(OpenSSHServer(version, keys, extra_config="LogLevel DEBUG3"))
    stranger, known = keys.stranger().private, keys.user().private
    for _ in range(8):  # a busy machine delays the refusal as well, and more: then it is another stall
        found = stalls(server.target, keys, keys=[stranger, known])
        if "fail_delay" in found:
            break
    told = re.findall(r"ensure_minimum_time_since: elapsed [\d.]+ms, delaying ([\d.]+)ms", server.log)
    assert told
    assert float(told[-1]) - 1 < found["fail_delay"].took * 1000


def capture(name: str, *, keys: bool) -> Course:
    path = CAPTURES / name
    if not path.exists():
        absent(f"no capture {name} in the folder of shared files")
    log = KeyLog()
    if keys:
        log.add(path.with_name(f"{name}.keylog.shared").read_bytes(), "keylog")
    course = Course()
    for seen in read(path, keys=log):
        if isinstance(seen, Seen) and not isinstance(seen.record, SubsystemRecord):
            course.hear(seen.record)
    return course


def acknowledged(name: str) -> list[float]:
    """When a bare acknowledgement ended a silence of 35 to 60 ms and let data go, by tshark (seconds)."""
    require_peer("tshark")
    words = ["tshark", "-r", str(CAPTURES / name), "-T", "fields", "-e", "frame.time_relative",
             "-e", "frame.time_delta", "-e", "tcp.len"]  # fmt: skip
    shown = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    frames = [tuple(map(float, line.split("\t"))) for line in shown.splitlines()]
    return [
        at for (at, after, length), (_, next_after, next_length) in pairwise(frames)
        if length == 0 and 0.035 < after < 0.060 and next_length and next_after < 0.001
    ]  # fmt: skip


@pytest.mark.parametrize("keys", [True, False])
@pytest.mark.parametrize("name", [
    "generated__p01-openssh106-client-mlkem768x25519-aes128-gcm.pcap", "generated__g01-gcm128-exec.pcap",
    "generated__g03-chacha-strict-sftp.pcap",
])  # fmt: skip
def test_delayed_acknowledgements_in_captures(name: str, keys: bool) -> None:
    """What held the packet back is in the capture: it left when the bare acknowledgement had come."""
    found = [stall.ended for stall in capture(name, keys=keys).stalls.found if stall.kind == "delayed_ack"]
    truth = acknowledged(name)
    if keys:
        assert len(found) == len(truth)
    for ended in found:
        assert any(0 <= ended - at < 0.001 for at in truth)
