"""Addresses side by side (RFC 8305), in virtual time: nothing is waited for."""

from __future__ import annotations

import asyncio
import errno
import selectors
import socket
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

from glasshell.aio import dial as module
from glasshell.aio.dial import dial, in_turn
from glasshell.errors import CannotConnect

T = TypeVar("T")
FOUR, SIX = socket.AF_INET, socket.AF_INET6


class _Selector(selectors.DefaultSelector):
    """Waits for nobody: what was to be waited is how much later it is."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        assert timeout is not None, "nothing is going to happen any more"
        self.now += max(timeout, 0)
        return super().select(0)


def at_once(work: Coroutine[Any, Any, T]) -> T:
    selector = _Selector()
    loop = asyncio.SelectorEventLoop(selector)
    loop.time = lambda: selector.now  # type: ignore[method-assign]
    try:
        return loop.run_until_complete(work)
    finally:
        loop.close()


class Socket:
    def __init__(self, address: str) -> None:
        self.address = address
        self.closed = False

    def getpeername(self) -> tuple[str, int]:
        return self.address, 22

    def getsockname(self) -> tuple[str, int]:
        return "local", 1

    def close(self) -> None:
        self.closed = True


class Network:
    """Addresses in the system's order, each with the seconds until it answers, and whether that is a yes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **answers: tuple[float, bool]) -> None:
        self.answers = answers
        self.begun: list[tuple[str, float]] = []
        self.given_up: list[str] = []
        self.made: list[Socket] = []
        monkeypatch.setattr(module, "open_socket", self._open)
        monkeypatch.setattr(module, "resolve", self._resolve)

    async def _resolve(self, host: str, port: int, family: int) -> list[tuple[int, tuple[str, int]]]:
        return [(SIX if name.startswith("six") else FOUR, (name, port)) for name in self.answers]

    async def _open(self, kind: int, address: tuple[str, int], bind: str) -> Any:
        self.begun.append((address[0], asyncio.get_running_loop().time()))
        seconds, good = self.answers[address[0]]
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.given_up.append(address[0])
            raise
        if not good:
            raise OSError(errno.ECONNREFUSED, "no")
        self.made.append(Socket(address[0]))
        return self.made[-1]

    def dial(self) -> tuple[str, float]:
        """Who answered, and when."""

        async def work() -> tuple[str, float]:
            sock = await dial("h", 22, state=lambda name, **facts: None)
            return sock.getpeername()[0], asyncio.get_running_loop().time()

        return at_once(work())


def test_an_address_that_is_silent_costs_a_quarter_of_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network(monkeypatch, six=(100.0, True), four=(0.02, True))
    assert network.dial() == ("four", pytest.approx(0.27))
    assert network.begun == [("six", 0.0), ("four", 0.25)]
    assert network.given_up == ["six"]


def test_one_that_answers_in_time_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network(monkeypatch, six=(0.24, True), four=(0.0, True))
    assert network.dial() == ("six", pytest.approx(0.24))
    assert [name for name, _ in network.begun] == ["six"]


def test_the_slower_one_may_still_win(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network(monkeypatch, six=(0.3, True), four=(0.2, True))
    assert network.dial() == ("six", pytest.approx(0.3))
    assert network.given_up == ["four"]


def test_a_refusal_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network(monkeypatch, six=(0.01, False), four=(0.02, True))
    assert network.dial() == ("four", pytest.approx(0.03))


def test_of_two_that_answer_at_once_one_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network(monkeypatch, six=(0.5, True), four=(0.25, True))
    winner, _ = network.dial()
    assert [sock.closed for sock in network.made] == [sock.address != winner for sock in network.made]


def test_all_that_failed_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network(monkeypatch, six1=(3.0, False), six2=(1.0, False), four=(0.0, False))
    with pytest.raises(CannotConnect, match="Connection refused") as caught:
        network.dial()
    assert {address for address, _ in caught.value.failures} == {"six1", "six2", "four"}
    assert [name for name, _ in network.begun] == ["six1", "four", "six2"]


def test_the_families_take_turns() -> None:
    """RFC 8305 §4: the first address stays the first."""
    order = [(SIX, "a"), (SIX, "b"), (SIX, "c"), (FOUR, "d"), (FOUR, "e")]
    found = in_turn([(kind, (name,)) for kind, name in order])
    assert "".join(address[0] for _, address in found) == "adbec"
    assert in_turn([]) == []


def test_the_address_of_an_interface() -> None:
    """BindInterface: the loopback's, and none of an interface that is not there."""

    async def work(name: str) -> str:
        async with await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            sock = await dial("127.0.0.1", port, interface=name, state=lambda name, **facts: None)
            with sock:
                return str(sock.getsockname()[0])

    name = next(name for _, name in socket.if_nameindex() if name.startswith("lo"))
    assert asyncio.run(work(name)) == "127.0.0.1"
    with pytest.raises(CannotConnect, match="assign requested address"):
        asyncio.run(work("nosuch0"))
