"""Sharing a connection with other ssh programs: the master's part of OpenSSH's PROTOCOL.mux.

Whoever may connect to the socket of ControlPath, which is its owner alone, has programs run on the server as
if the connection were theirs: on descriptors that they send along.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import struct
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final

from ..aio.client import Connection
from ..config.client_options import ClientOptions, Forward
from ..errors import ConnectionClosed, LimitExceeded, PeerError, ProtocolViolation, SSHError
from ..keys.patterns import match_pattern
from ..messages import mux
from ..messages.declare import Struct
from ..system.asuser import bind
from ..values import replace
from ..wire import visible
from . import terminal
from .forwards import Forwards, Kind
from .passenger import MAX_MESSAGE
from .report import FAILED
from .session import Session

__all__ = ["MasterSocket"]

MAX_CLIENTS: Final = 64
MAX_VARIABLES: Final = 4096
"""Most variables of the environment that one session is given: OpenSSH's own bound."""

_KINDS: Final[dict[int, Kind]] = {mux.LOCAL: "local", mux.REMOTE: "remote", mux.DYNAMIC: "dynamic"}


class MasterSocket:
    """The listening end. `ended` is done when somebody has asked the master to end, or it has nothing left to
    wait for."""

    def __init__(
        self, connection: Connection, options: ClientOptions, forwards: Forwards, note: Callable[[str], None]
    ) -> None:
        self._connection = connection
        self._options = options
        self._forwards = forwards
        self._note = note
        self._path: Path | None = None
        self._listening: asyncio.Task[None] | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self._leaving: asyncio.TimerHandle | None = None
        self._persists = False
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def listen(self) -> bool:
        """Takes the place of ControlPath; False: somebody else has it."""
        path = Path(str(self._options.control_path))
        # Bound under another name and linked: nobody connects to a socket that nobody listens to yet, and of
        # two masters one gets the name.
        new = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
        try:
            sock = bind(str(new))
            try:
                sock.listen(MAX_CLIENTS)
                os.link(new, path)
            except BaseException:
                sock.close()
                raise
            finally:
                new.unlink(missing_ok=True)
        except FileExistsError:
            self._note(f"ControlSocket {visible(str(path))} already exists, disabling multiplexing")
            return False
        except OSError as error:
            self._note(f"ControlSocket {visible(str(path))}: {error.strerror or error}: no multiplexing")
            return False
        self._path = path
        sock.setblocking(False)
        self._listening = self._connection.spawn(self._accept(sock))
        return True

    def stop(self) -> None:
        """Takes no more requests."""
        if self._listening is not None:
            self._listening.cancel()
            self._listening = None
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            self._path = None

    async def persist(self) -> int:
        """ControlPersist: waits until nobody has come for so long, or somebody asks for the end. 0."""
        self._persists = True
        self._wait_for_more()
        over = asyncio.ensure_future(self._connection.wait_closed())
        try:
            await asyncio.wait([self.ended, over], return_when=asyncio.FIRST_COMPLETED)
        finally:
            over.cancel()
        return 0

    async def until_done(self, session: Coroutine[Any, Any, int]) -> int:
        """The master's own session, and then the others'; 255 where somebody has asked for the end."""
        own = asyncio.ensure_future(session)
        both: tuple[asyncio.Future[Any], ...] = (own, self.ended)
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if not own.done():
                return FAILED
            status = own.result()
            self.stop()
            while self._clients and not self.ended.done():
                await asyncio.wait([*self._clients, self.ended], return_when=asyncio.FIRST_COMPLETED)
            await self._connection.idle()
            return status
        finally:
            own.cancel()
            await asyncio.wait([own])

    def _wait_for_more(self) -> None:
        seconds = self._options.control_persist
        if self._leaving is not None:
            self._leaving.cancel()
            self._leaving = None
        if self._persists and seconds and not self._clients and not self.ended.done():
            loop = self._connection.link.loop
            self._leaving = loop.call_later(seconds, self._end)

    def _end(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)

    # Clients

    async def _accept(self, sock: socket.socket) -> None:
        loop = self._connection.link.loop
        with sock:
            while True:
                client, _ = await loop.sock_accept(sock)
                if len(self._clients) >= MAX_CLIENTS or not _is_mine(client):
                    client.close()
                    continue
                task = asyncio.ensure_future(self._serve(client))
                self._clients.add(task)
                task.add_done_callback(self._served)
                self._wait_for_more()

    def _served(self, task: asyncio.Task[None]) -> None:
        self._clients.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._note(f"a shared session failed: {error}")
        self._wait_for_more()

    async def close(self) -> None:
        """Ends all that is still served."""
        self.stop()
        if self._leaving is not None:
            self._leaving.cancel()
        for task in self._clients:
            task.cancel()
        if self._clients:
            await asyncio.wait(self._clients)

    async def _serve(self, sock: socket.socket) -> None:
        stream = Stream(sock)
        try:
            stream.send(mux.MuxHello(mux.VERSION))
            hello = await stream.receive()
            if not isinstance(hello, mux.MuxHello) or hello.version != mux.VERSION:
                raise ProtocolViolation("a client of another multiplexing protocol")
            while (message := await stream.receive()) is not None:
                if await self._answer(stream, message):
                    return
        except (PeerError, OSError) as error:
            self._note(f"multiplexing control connection: {error}")
        finally:
            stream.close()

    async def _answer(self, stream: Stream, message: Struct) -> bool:
        """Does one request; True: the socket has served its purpose."""
        match message:
            case mux.MuxAliveCheck(request=number):
                stream.send(mux.MuxAlive(number, os.getpid()))
            case mux.MuxNewSession():
                return await self._session(stream, message)
            case mux.MuxStdioForward():
                return await self._stdio(stream, message)
            case mux.MuxOpenForward() | mux.MuxCloseForward():
                stream.send(await self._forward(message))
            case mux.MuxTerminate(request=number):
                if await self._refused(stream, number, "Terminate shared connection to"):
                    return False
                stream.send(mux.MuxOk(number))
                self._end()
            case mux.MuxStopListening(request=number):
                question = "Disable further multiplexing on shared connection to"
                if await self._refused(stream, number, question):
                    return False
                stream.send(mux.MuxOk(number))
                self.stop()
            case _:
                number = getattr(message, "request", 0)
                stream.send(mux.MuxFailure(number, f"{type(message).__name__[3:]}: unsupported request"))
        return False

    async def _refused(self, stream: Stream, number: int, question: str) -> bool:
        """ControlMaster ask: whether the user says no, which is then answered."""
        if self._options.control_master not in ("ask", "autoask"):
            return False
        from ..aio.askpass import confirm

        if await confirm(f"{question} {self._options.host}? "):
            return False
        stream.send(mux.MuxPermissionDenied(number, "Permission denied"))
        return True

    async def _forward(self, message: mux.MuxOpenForward | mux.MuxCloseForward) -> Struct:
        number, kind = message.request, _KINDS.get(message.kind)
        if kind is None:
            return mux.MuxFailure(number, "Invalid forwarding type")
        forward = _forward_of(message)
        try:
            if isinstance(message, mux.MuxCloseForward):
                if await self._forwards.cancel(kind, forward):
                    return mux.MuxOk(number)
                return mux.MuxFailure(number, "port not forwarded")
            port = await self._forwards.open(kind, forward)
        except SSHError as error:
            return mux.MuxFailure(number, str(error))
        if kind == "remote" and not forward.path and not forward.port:
            return mux.MuxRemotePort(number, port)
        return mux.MuxOk(number)

    async def _session(self, stream: Stream, message: mux.MuxNewSession) -> bool:
        descriptors = await stream.descriptors(3)
        try:
            if await self._refused(stream, message.request, "Allow shared connection to"):
                return False
            await self._run(stream, message, descriptors)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return True

    async def _run(self, stream: Stream, message: mux.MuxNewSession, descriptors: tuple[int, ...]) -> None:
        pty = None
        if message.tty:
            pty = replace(terminal.current(descriptors[0]), term=message.term)
        escape = chr(message.escape) if message.tty and message.escape < 256 else None
        session = Session(self._connection, escape=escape, stdin=True, streams=descriptors, sole=False)
        opened = asyncio.Event()

        def ready() -> None:
            opened.set()
            stream.send(mux.MuxSessionOpened(message.request, session.number))

        running = asyncio.ensure_future(
            session.program(
                message.command or None, subsystem=bool(message.subsystem),
                environment=self._environment(message), pty=pty,
                ready=ready,
            )
        )  # fmt: skip
        gone = asyncio.ensure_future(stream.receive())
        try:
            await asyncio.wait([running, gone], return_when=asyncio.FIRST_COMPLETED)
            if not running.done():
                return  # its user is gone
            try:
                stream.send(mux.MuxExitMessage(session.number, running.result()))
            except ConnectionClosed:
                pass  # without a word, as the connection ended
            except SSHError as error:
                if not opened.is_set():
                    stream.send(mux.MuxFailure(message.request, str(error)))
        finally:
            running.cancel()
            gone.cancel()
            await asyncio.wait([running, gone])
            session.close()

    def _environment(self, message: mux.MuxNewSession) -> dict[str, str]:
        """What of the client's is sent on: what SendEnv of the master names, as with OpenSSH's."""
        pairs = [variable.text.partition("=") for variable in message.environment[:MAX_VARIABLES]]
        return {
            name: value
            for name, sign, value in pairs
            if name and sign and any(match_pattern(name, pattern) for pattern in self._options.send_env)
        }

    async def _stdio(self, stream: Stream, message: mux.MuxStdioForward) -> bool:
        descriptors = await stream.descriptors(2)
        try:
            if await self._refused(stream, message.request, "Allow forward to"):
                return False
            session = Session(
                self._connection, escape=None, stdin=True, streams=(*descriptors, 2), sole=False
            )
            running = asyncio.ensure_future(
                session.stdio_forward(
                    message.host, message.port,
                    lambda: stream.send(mux.MuxSessionOpened(message.request, session.number)),
                )
            )  # fmt: skip
            gone = asyncio.ensure_future(stream.receive())
            try:
                await asyncio.wait([running, gone], return_when=asyncio.FIRST_COMPLETED)
                if running.done() and (error := running.exception()) is not None:
                    stream.send(mux.MuxFailure(message.request, str(error)))
            finally:
                running.cancel()
                gone.cancel()
                await asyncio.wait([running, gone])
                session.close()
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return True


def _forward_of(message: mux.MuxOpenForward | mux.MuxCloseForward) -> Forward:
    """The forwarding that a request is about, in the words of ssh_config(5)."""
    bind: str | None = message.listen_host or None
    path = message.listen_host if message.listen_port == mux.PATH else ""
    host_path = message.connect_host if message.connect_port == mux.PATH else ""
    dynamic = message.kind == mux.DYNAMIC or (message.kind == mux.REMOTE and not message.connect_port)
    return Forward(
        None if path else "" if bind == "*" else bind, 0 if path else message.listen_port,
        "" if host_path or dynamic else message.connect_host,
        0 if host_path or dynamic else message.connect_port, path, host_path,
    )  # fmt: skip


def _is_mine(sock: socket.socket) -> bool:
    """Whether the process at the other end is our own user's, or root's."""
    peer = getattr(socket, "SO_PEERCRED", None)
    if peer is None:
        return True  # the mode of the socket has to do
    _, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, peer, 12))
    return uid in (0, os.geteuid())


class Stream:
    """One client's socket: messages, and descriptors between them."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._buffer = bytearray()
        self._descriptors: list[int] = []

    async def receive(self) -> Struct | None:
        """The next message; None: the client has gone. Raises PeerError."""
        while True:
            if len(self._buffer) >= 4:
                size = int.from_bytes(self._buffer[:4], "big")
                if not 4 <= size <= MAX_MESSAGE:
                    raise LimitExceeded(f"a message of {size} bytes")
                if len(self._buffer) >= 4 + size:
                    data = bytes(self._buffer[4 : 4 + size])
                    del self._buffer[: 4 + size]
                    return mux.decode(data)
            if not await self._read():
                return None

    async def descriptors(self, count: int) -> tuple[int, ...]:
        """The descriptors that follow a message, each beside one byte. Raises PeerError."""
        while len(self._descriptors) < count or len(self._buffer) < count:
            if not await self._read():
                raise ProtocolViolation("the client did not send its file descriptors")
        del self._buffer[:count]
        taken, self._descriptors = self._descriptors[:count], self._descriptors[count:]
        return tuple(taken)

    async def _read(self) -> bool:
        while True:
            try:
                data, descriptors, _, _ = socket.recv_fds(self._sock, 1 << 16, 4)
            except BlockingIOError:
                await self._readable()
                continue
            except OSError:
                return False
            self._buffer += data
            self._descriptors += descriptors
            if len(self._descriptors) > 8 or len(self._buffer) > 2 * MAX_MESSAGE:
                raise LimitExceeded("a client that sends more than it was asked for")
            return bool(data)

    async def _readable(self) -> None:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_reader(self._sock, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(self._sock)

    def send(self, message: Struct) -> None:
        """Sends an answer; a client that is gone, or reads nothing, hears nothing."""
        with contextlib.suppress(OSError):
            self._sock.send(mux.encode(message))

    def close(self) -> None:
        """Ends the connection."""
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors.clear()
        self._sock.close()
