"""Round trips on a slow line: what the line costs beyond a fast one, in trips, is the integer that we count.

The line is real TCP through a device (delay.py), so the handshake and what Nagle's algorithm holds back are
in it. (A proxy would not do: it takes the connection at once, and its two legs acknowledge at once.)
"""

from __future__ import annotations

import asyncio
import math
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, TypeAlias

import pytest

import glasshell
from glasshell.aio.gatekeeper import KnownUsers
from glasshell.aio.process import Terminal
from glasshell.aio.session import ServerSession
from glasshell.capture.reader import read
from glasshell.explain.course import Course
from glasshell.keys.openssh import load_private_key
from glasshell.keys.public import load_public_key
from glasshell.observe.record import Record, SubsystemRecord
from glasshell.observe.seen import Seen
from tests.interop.conftest import Start
from tests.interop.delay import DelayLine
from tests.interop.kit import connect, talk
from tests.interop.peers import Client, Keys, OpenSSHServer, Target, require_peer

Work: TypeAlias = Callable[[Any], Awaitable[None]]


@pytest.fixture(scope="module")
def line() -> Iterator[DelayLine]:
    with DelayLine() as made:
        yield made


async def command(connection: Any) -> None:
    assert (await connection.run("true")).status == 0


async def shell(connection: Any) -> None:
    process = await connection.open(pty=Terminal())
    process.stdin.write(b"exit 3\n")
    await process.communicate()
    assert process.status == 3


async def two_at_once(connection: Any) -> None:
    await asyncio.gather(connection.run("true"), connection.run("true"))


async def one_after_the_other(connection: Any) -> None:
    await command(connection)
    await command(connection)


def took(target: Target, ring: Keys, work: Work) -> tuple[float, int]:
    """Seconds from the first record to the last, and the trips counted."""
    course = Course()

    async def once() -> None:
        async with connect(target, ring, sinks=[course.hear]) as connection:
            await work(connection)

    talk(once())
    return course.took, course.trips.depth


def hold(line: DelayLine, trip: float, once: Callable[[], tuple[float, int]]) -> None:
    """What `trip` seconds cost `once`, which says how long it took and what it counted, is what it counted.

    A busy machine only ever adds to both times: where it has, the least of several is nearer to the truth,
    and on a longer line what it adds is less of a trip. (Beyond a second TCP would send its SYN again.)
    """
    fast = math.inf
    for longer in (1.0, 1.5, 2.0):
        slow, counted = math.inf, 0
        for _ in range(3):
            line.round_trip = 0.0
            fast = min(fast, once()[0])
            line.round_trip = trip * longer
            slow, counted = min((slow, counted), once())
            if abs((slow - fast) / line.round_trip - counted) <= 0.5:
                return
    assert (slow - fast) / line.round_trip == pytest.approx(counted, abs=0.5)


# The trip must be long beside what the server computes meanwhile: where a program starts while its input is
# on the way, the two overlap, and the line costs less. sshd 9.2 takes a tenth of a second to start one, and
# on a busy machine several: its shells are left out.
@pytest.mark.parametrize(("version", "trip", "work"), [
    ("9.2", 0.4, command), ("10.6", 0.25, command), ("10.6", 0.25, shell),
    ("10.6", 0.25, two_at_once), ("10.6", 0.25, one_after_the_other),
])  # fmt: skip
def test_a_client(
    version: str, trip: float, work: Work, line: DelayLine, start: Start, keys: Keys
) -> None:  # fmt: skip
    server = start(OpenSSHServer(version, keys, extra_config=f"ListenAddress {line.near}"))
    target = replace(server.target, host=line.far)
    hold(line, trip, lambda: took(target, keys, work))


@pytest.mark.parametrize("version", ["openssh-9.2", "openssh-10.6"])
@pytest.mark.parametrize("words", [("true",), (None, "-tt")])
def test_a_server(
    version: str, words: tuple[str | None, ...], client: Callable[[str], Client], line: DelayLine, keys: Keys
) -> None:  # fmt: skip
    """Our server counts what OpenSSH's client pays, from its start to its end."""
    host = keys.host()

    async def answer(session: ServerSession) -> int:
        session.stdout.write(b"ready\r\n")
        await session.stdout.drain()
        return 3

    async def once() -> tuple[float, int]:
        course, over = Course(), asyncio.Event()

        def hear(record: Record) -> None:
            course.hear(record)
            if getattr(record, "name", "") == "closed":
                over.set()

        users = KnownUsers({"ada": [load_public_key(keys.user().public)[0]]})
        async with glasshell.serve(
            line.near, 0, host_keys=[load_private_key(host.private.read_bytes())], gatekeeper=users,
            handler=answer, sinks=lambda peer: [hear],
        ) as running:  # fmt: skip
            target = Target(running.port, "ada", (host.public,), host=line.far)
            began = time.monotonic()
            stdin = b"" if words[0] else None
            done = await asyncio.to_thread(
                client(version).run, target, *words, identity=keys.user(), stdin=stdin
            )
            seconds = time.monotonic() - began
            assert done.returncode == 3, done.stderr
            await over.wait()
        return seconds, course.trips.depth

    hold(line, 0.3, lambda: talk(once()))


@pytest.mark.parametrize("version", ["9.2", "10.6"])
def test_a_capture_without_keys(
    version: str, client: Callable[[str], Client], line: DelayLine, start: Start, keys: Keys, tmp_path: Path
) -> None:  # fmt: skip
    """OpenSSH among itself: from the login on there is only whose turn it was."""
    server = start(OpenSSHServer(version, keys, extra_config=f"ListenAddress {line.near}"))
    target = replace(server.target, host=line.far)
    run = client(f"openssh-{version}").run
    number = count()

    def once() -> tuple[float, int]:
        with capturing(line, target.port, tmp_path / f"{next(number)}.pcap") as counted:
            began = time.monotonic()
            assert run(target, "true", identity=keys.user()).returncode == 0
            return time.monotonic() - began, counted()

    hold(line, 0.3, once)


@contextmanager
def capturing(line: DelayLine, port: int, path: Path) -> Iterator[Callable[[], int]]:
    """tcpdump at the client's end of the line; afterwards, how many trips the capture tells of."""
    require_peer("tcpdump")
    ours = f"(src host {line.near} and dst port {port}) or (dst host {line.near} and src port {port})"
    words = ["tcpdump", "-i", line.name, "--immediate-mode", "-U", "-w", str(path), ours]
    with subprocess.Popen(words, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert b"listening on" in process.stderr.readline()

        def counted() -> int:
            for _ in range(200):
                course, over = Course(), False
                for seen in read(path):
                    if isinstance(seen, Seen) and not isinstance(seen.record, SubsystemRecord):
                        course.hear(seen.record)
                        over = over or getattr(seen.record, "name", "") == "closed"
                if over and course.trips.depth:
                    return course.trips.depth
                time.sleep(0.02)
            raise AssertionError("the capture does not end")

        try:
            yield counted
        finally:
            process.terminate()
