"""One address, several processes: each listens for itself (SO_REUSEPORT); the kernel shares callers out.

A worker is a fork of the process that serves, with a loop of its own. It ends in order when it is told to
(SIGTERM) and when its parent is gone; one that dies is replaced. Nothing is shared between workers: limits
such as `limits`, status sockets and metrics are each worker's own.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Final, NoReturn, TypeAlias

from ..errors import CannotConnect, SSHError

__all__ = ["Work", "Workers", "cleared", "keep", "reserve"]

Work: TypeAlias = Callable[[int, Sequence[socket.socket]], AbstractAsyncContextManager[Any]]
"""Serves at listening sockets while it is entered, in the process of the worker with this number, from 1."""

ENDING: Final = 10.0
"""Seconds that workers may take to end."""
HASTY: Final = 1.0
"""A worker that lived less than this many seconds is not replaced at once: what killed it is still there."""
SLOWEST: Final = 30.0
"""Most seconds between two such replacements."""

SERVES: Final = b"\0"
"""What a worker says when it serves; anything else is why it cannot."""
MAX_SAID: Final = 4096

_INHERITED: Final = ((socket.SOL_SOCKET, socket.SO_KEEPALIVE), (socket.IPPROTO_IPV6, socket.IPV6_V6ONLY))


def reserve(host: str, port: int) -> list[socket.socket]:
    """Sockets that keep the addresses of `host` ("": all) and `port` (0: a free one), and do not listen.

    Raises CannotConnect.
    """
    made: list[socket.socket] = []
    try:
        kind, flags = socket.SOCK_STREAM, socket.AI_PASSIVE
        for family, _, _, _, place in socket.getaddrinfo(host or None, port, type=kind, flags=flags):
            sock = socket.socket(family, kind)
            made.append(sock)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            chosen = made[0].getsockname()[1] if not port and len(made) > 1 else port
            keep(sock, (place[0], chosen, *place[2:]), alone=True)
    except (OSError, OverflowError) as error:
        for sock in made:
            sock.close()
        raise CannotConnect(f"cannot listen at {host or '*'} port {port}: {error}") from error
    return made


def cleared(path: Path) -> Path:
    """`path`, without the socket that a worker left there which died."""
    if path.is_socket():
        path.unlink()
    return path


def keep(sock: socket.socket, place: Any, *, alone: bool = False) -> None:
    """Binds `sock` so that workers can bind the same. Raises OSError.

    `alone`: where another server listens already, that is an error, as it would be without workers.
    """
    if alone and place[1]:
        with socket.socket(sock.family, socket.SOCK_STREAM) as probe:
            if sock.family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(place)


def _listening(kept: socket.socket, backlog: int) -> socket.socket:
    """A socket of our own at the address of `kept`."""
    sock = socket.socket(kept.family, socket.SOCK_STREAM)
    for level, option in _INHERITED:
        if level != socket.IPPROTO_IPV6 or kept.family == socket.AF_INET6:
            sock.setsockopt(level, option, kept.getsockopt(level, option))
    keep(sock, kept.getsockname())
    sock.listen(backlog)
    return sock


class _Worker:
    """One child, as its parent sees it."""

    def __init__(self, number: int, pid: int, pipe: int, since: float) -> None:
        self.number = number
        self.pid = pid
        self.pipe = pipe
        """Where it says that it serves, or why it cannot; its end is the end of the pipe."""
        self.trouble = ""
        self.since = since
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class Workers:
    """`count` processes that do `work` at the addresses of `kept`, from `start` until `close`."""

    def __init__(self, count: int, work: Work, kept: Sequence[socket.socket], *, backlog: int) -> None:
        self._count = count
        self._work = work
        self._kept = tuple(kept)
        self._backlog = backlog
        self._workers: dict[int, _Worker] = {}
        self._haste = 0.0
        """Seconds to wait before the next replacement of one that died young."""
        self._closing = False
        self._starting = True
        self._alive = os.pipe()
        """Its writing end is the parent's alone: when the parent is gone, a worker reads the end."""

    @property
    def pids(self) -> list[int]:
        """The processes that run now."""
        return sorted(self._workers)

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Where they listen."""
        return [sock.getsockname()[:2] for sock in self._kept]

    async def start(self) -> None:
        """Starts them all, and waits until each serves. Raises CannotConnect where one cannot."""
        for number in range(1, self._count + 1):
            self._fork(number)
        try:
            await asyncio.gather(*(worker.ready for worker in tuple(self._workers.values())))
        except BaseException:
            await self.close()
            raise
        self._starting = False

    async def close(self) -> None:
        """Ends them in order, and by force what does not end."""
        self._closing = True
        waiting = [worker.over for worker in self._workers.values()]
        self._signal(signal.SIGTERM)
        if waiting:
            _, left = await asyncio.wait(waiting, timeout=ENDING)
            if left:
                self._signal(signal.SIGKILL)
                await asyncio.wait(left)
        for sock in self._kept:
            sock.close()
        for descriptor in self._alive:
            os.close(descriptor)

    def _signal(self, number: int) -> None:
        for pid in self._workers:
            os.kill(pid, number)  # it has not been waited for: the number is nobody else's

    # The parent's side

    def _fork(self, number: int) -> None:
        if self._closing:
            return
        loop = asyncio.get_running_loop()
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()  # or the child would write it once more
        mine, theirs = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(mine)
            self._child(number, theirs)
        os.close(theirs)
        self._workers[pid] = worker = _Worker(number, pid, mine, loop.time())
        loop.add_reader(mine, self._heard, worker)

    def _heard(self, worker: _Worker) -> None:
        said = os.read(worker.pipe, MAX_SAID)
        if said == SERVES:
            worker.ready.set_result(None)
        elif said:
            worker.trouble = said.decode("utf-8", "replace")
        if said:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(worker.pipe)
        os.close(worker.pipe)
        _, status = os.waitpid(worker.pid, 0)
        del self._workers[worker.pid]
        worker.over.set_result(None)
        failed = not worker.ready.done()
        if failed:
            worker.ready.set_exception(CannotConnect(worker.trouble or "a worker ended before it served"))
            worker.ready.exception()  # nobody waits for one that is a replacement
        if not self._closing and not (failed and self._starting):
            self._replace(worker, os.waitstatus_to_exitcode(status))

    def _replace(self, worker: _Worker, status: int) -> None:
        loop = asyncio.get_running_loop()
        young = loop.time() - worker.since < HASTY
        self._haste = min(max(2 * self._haste, 0.1), SLOWEST) if young else 0.0
        how = f"signal {-status}" if status < 0 else f"status {status}"
        text = f"worker {worker.number} (pid {worker.pid}) ended with {how}; another takes its place"
        loop.call_exception_handler({"message": text})
        loop.call_later(self._haste, self._fork, worker.number)

    # The child's side

    def _child(self, number: int, pipe: int) -> NoReturn:
        """A new life in the copied process: nothing below this call on the stack runs on."""
        status = 1
        try:
            os.close(self._alive[1])
            asyncio._set_running_loop(None)  # the parent's, which runs there only
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: the parent hears it, and tells us
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            asyncio.run(self._serve(number, pipe))
            status = 0
        except SSHError as error:
            os.write(pipe, str(error).encode("utf-8", "replace")[:MAX_SAID])
        except BaseException:
            traceback.print_exc()
        finally:
            for stream in (sys.stdout, sys.stderr):
                if stream is not None:
                    stream.flush()
            os._exit(status)

    async def _serve(self, number: int, pipe: int) -> None:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, stop.set)
        loop.add_reader(self._alive[0], stop.set)
        sockets = [_listening(kept, self._backlog) for kept in self._kept]
        for kept in self._kept:
            kept.close()
        async with self._work(number, sockets):
            os.write(pipe, SERVES)
            await stop.wait()
            loop.remove_reader(self._alive[0])
