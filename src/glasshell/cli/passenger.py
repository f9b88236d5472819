"""Joining a connection that another ssh holds: the client's part of OpenSSH's PROTOCOL.mux.

The master at the other end of ControlPath does all the work: it gets this program's standard streams, and
says at the end how the program on the server ended. Nothing of asyncio or cryptography is needed, nor loaded.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

from ..config.client_options import ClientOptions, Forward
from ..errors import ConfigError, PeerError, Refused, SSHError, UsageError
from ..messages import mux
from ..messages.declare import Struct
from ..wire import visible
from .program import environment, wants_terminal
from .report import FAILED

if TYPE_CHECKING:
    from .ssh import Invocation

__all__ = ["COMMANDS", "join"]

COMMANDS: Final = ("check", "forward", "cancel", "proxy", "exit", "stop")
"""The words of -O that this program knows."""

MAX_MESSAGE: Final = 256 * 1024
"""Longest message taken, in bytes."""

MAX_PATH: Final = 108
"""Room for the path of a socket, in bytes, on Linux: its end included."""

Answer = TypeVar("Answer", bound=Struct)


def join(said: Invocation, options: ClientOptions) -> int | None:
    """Has the master of ControlPath do what was asked for; the exit status.

    None: there is no master, or none is to be asked, and an own connection is to be made. Raises SSHError
    where only a master could have done it.
    """
    path = options.control_path
    if path is None:
        if said.control:
            raise ConfigError(f'No ControlPath specified for "-O" command "{visible(said.control)}"')
        return None
    if not said.control and options.control_master in ("yes", "ask"):
        return None
    sock = _connect(path, options, commanded=bool(said.control))
    if sock is None:
        return FAILED if said.control else None
    with sock:
        master = Master(sock)
        try:
            master.greet()
            if said.control:
                return _command(master, said.control, options)
            return _attend(master, said, options)
        except (MasterGone, PeerError) as error:
            if said.control:
                raise
            _say(options, str(error))
            return None


class MasterGone(SSHError):
    """The master closed its end, or does not speak as it should."""


def _connect(path: str, options: ClientOptions, *, commanded: bool) -> socket.socket | None:
    if len(os.fsencode(path)) >= MAX_PATH:
        raise ConfigError(f"ControlPath too long ('{visible(path)}' >= {MAX_PATH} bytes)")
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.connect(path)
    except OSError as error:
        sock.close()
        if error.errno == errno.ECONNREFUSED and options.control_master != "no" and not commanded:
            Path(path).unlink(missing_ok=True)  # what a master that is gone has left
        elif commanded or error.errno not in (errno.ENOENT, errno.ECONNREFUSED):
            _say(options, f"Control socket connect({visible(path)}): {error.strerror}")
        return None
    return sock


class Master:
    """The master, asked one thing after the other."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._request = 0
        self.pid = 0

    def greet(self) -> None:
        """Each side says which version it speaks. Raises MasterGone."""
        self._send(mux.MuxHello(mux.VERSION))
        hello = self.receive()
        if not isinstance(hello, mux.MuxHello):
            raise MasterGone("the master did not begin with a hello")
        if hello.version != mux.VERSION:
            raise MasterGone(
                f"Unsupported multiplexing protocol version {hello.version} (expected {mux.VERSION})"
            )

    def alive(self) -> int:
        """The process number of the master."""
        self.pid = self._want(mux.MuxAlive, mux.MuxAliveCheck(self._next()), "alive check").pid
        return self.pid

    def open_session(self, wanted: Mapping[str, Any]) -> int:
        """A session with this process's standard streams; its number."""
        message = mux.MuxNewSession(request=self._next(), reserved="", **wanted)
        return self._want(mux.MuxSessionOpened, message, "session", descriptors=(0, 1, 2)).session

    def open_stdio(self, host: str, port: int) -> int:
        """-W: standard input and output led to `host` and `port`; the number of that."""
        message = mux.MuxStdioForward(self._next(), "", host, port)
        return self._want(mux.MuxSessionOpened, message, "stdio forwarding", descriptors=(0, 1)).session

    def forward(self, kind: int, forward: Forward, *, cancel: bool) -> int:
        """Begins or ends a forwarding; the port that the server has chosen, or 0."""
        listen = forward.path or {None: "", "": "*"}.get(forward.bind, forward.bind)
        message = mux.MuxCloseForward if cancel else mux.MuxOpenForward
        answer = self._ask(
            message(
                self._next(), kind, listen or "", mux.PATH if forward.path else forward.port,
                forward.host_path or forward.host, mux.PATH if forward.host_path else forward.host_port,
            ),
            "forwarding",
        )  # fmt: skip
        return answer.port if isinstance(answer, mux.MuxRemotePort) else 0

    def end(self) -> None:
        """Has the master end."""
        with suppress(MasterGone):  # it may be faster than its answer
            self._want(mux.MuxOk, mux.MuxTerminate(self._next()), "termination")

    def stop(self) -> None:
        """Has the master take no more requests."""
        self._want(mux.MuxOk, mux.MuxStopListening(self._next()), "stop listening")

    def receive(self) -> Struct:
        """The next message. Raises MasterGone, PeerError."""
        size = int.from_bytes(self._exactly(4), "big")
        if not 4 <= size <= MAX_MESSAGE:
            raise MasterGone(f"the master sent a message of {size} bytes")
        return mux.decode(self._exactly(size))

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            try:
                piece = self._sock.recv(size - len(data))
            except OSError as error:
                raise MasterGone(f"read from master failed: {error.strerror}") from None
            if not piece:
                raise MasterGone("read from master failed: Broken pipe")
            data += piece
        return data

    def _send(self, message: Struct, descriptors: Sequence[int] = ()) -> None:
        try:
            self._sock.sendall(mux.encode(message))
            for descriptor in descriptors:
                socket.send_fds(self._sock, [b"\0"], [descriptor])
        except OSError as error:
            raise MasterGone(f"write packet: {error.strerror}") from None

    def _next(self) -> int:
        self._request += 1
        return self._request - 1

    def _ask(self, message: Any, what: str, descriptors: Sequence[int] = ()) -> Struct:
        self._send(message, descriptors)
        answer: Any = self.receive()
        if getattr(answer, "request", None) != message.request:
            raise MasterGone("out of sequence reply of the master")
        if isinstance(answer, mux.MuxPermissionDenied):
            raise Refused(f"Master refused {what} request: {visible(answer.reason)}")
        if isinstance(answer, mux.MuxFailure):
            raise Refused(f"{what} request failed: {visible(answer.reason)}")
        assert isinstance(answer, Struct)
        return answer

    def _want(
        self, kind: type[Answer], message: Struct, what: str, descriptors: Sequence[int] = ()
    ) -> Answer:
        answer = self._ask(message, what, descriptors)
        if not isinstance(answer, kind):
            raise MasterGone(f"the master answered a request for {what} with {type(answer).__name__}")
        return answer


# ---- -O


def _command(master: Master, word: str, options: ClientOptions) -> int:
    match word:
        case "check":
            print(f"Master running (pid={master.alive()})", end="\r\n", file=sys.stderr)
        case "exit":
            master.end()
            _tell(options, "Exit request sent.")
        case "stop":
            master.stop()
            _tell(options, "Stop listening request sent.")
        case "forward" | "cancel":
            return _forwards(master, options, cancel=word == "cancel")
        case _:
            raise UsageError(f"-O {visible(word)} is not supported")
    return 0


def _forwards(master: Master, options: ClientOptions, *, cancel: bool, shown: bool = True) -> int:
    """Begins, or ends, all forwardings that the options name."""
    wanted = [
        *((mux.LOCAL, each) for each in options.local_forwards),
        *((mux.DYNAMIC, each) for each in options.dynamic_forward),
        *((mux.REMOTE, each) for each in options.remote_forwards),
    ]
    status = 0
    for kind, forward in wanted:
        try:
            port = master.forward(kind, forward, cancel=cancel)
        except Refused as error:
            _say(options, str(error))
            status = FAILED
            continue
        if port and shown:
            print(port, flush=True)
    return status


# ---- a session


def _attend(master: Master, said: Invocation, options: ClientOptions) -> int | None:
    """A session, or -W, and what it ends with."""
    master.alive()
    tty = False
    try:
        if said.stdio_forward is not None:
            number = master.open_stdio(*said.stdio_forward)
        else:
            if _forwards(master, options, cancel=False, shown=False):
                return None
            if options.session_type == "none":
                return _Ride(master, 0, options, tty=False).wait()
            tty = wants_terminal(said.command, options, lambda text: _tell(options, text))
            if options.stdin_null:
                null = os.open(os.devnull, os.O_RDONLY)
                os.dup2(null, 0)
                os.close(null)
            number = master.open_session(_wanted(said, options, tty))
    except Refused as error:
        if said.stdio_forward is not None:
            raise
        _say(options, str(error))
        return None
    if options.fork and os.fork():
        return 0
    return _Ride(master, number, options, tty=tty and not options.fork).wait()


def _wanted(said: Invocation, options: ClientOptions, tty: bool) -> dict[str, Any]:
    variables = (f"{name}={value}" for name, value in environment(options).items())
    escape = options.escape_char
    return {
        "tty": int(tty), "x11": int(options.forward_x11), "agent": int(bool(options.forward_agent)),
        "subsystem": int(options.session_type == "subsystem"),
        "escape": mux.NO_ESCAPE if escape is None else ord(escape),
        "term": os.environ.get("TERM", ""), "command": said.command or options.remote_command or "",
        "environment": tuple(map(mux.MuxVariable, variables)),
    }  # fmt: skip


class _Ended(Exception):
    """A signal has asked this process to end."""


class _Ride:
    """What is left to do while the master works: wait, pass signals on, keep the terminal raw."""

    def __init__(self, master: Master, number: int, options: ClientOptions, *, tty: bool) -> None:
        self._master = master
        self._number = number
        self._options = options
        self._tty = tty

    def wait(self) -> int:
        """The exit status: the program's, or 255."""
        for name in ("SIGHUP", "SIGINT", "SIGTERM"):
            if signal.getsignal(number := getattr(signal, name)) is not signal.SIG_IGN:
                signal.signal(number, self._end)
        signal.signal(signal.SIGWINCH, self._resized)
        status = FAILED
        raw = self._raw_mode()
        try:
            status = self._until_the_end(raw)
        except (_Ended, MasterGone, PeerError):
            pass
        finally:
            if raw is not None:
                raw.leave()
        if self._tty and self._options.log_level not in ("QUIET", "FATAL", "ERROR"):
            print(f"Shared connection to {self._options.host} closed.", end="\r\n", file=sys.stderr)
        return status

    def _raw_mode(self) -> Any:
        if not self._tty:
            return None
        from .terminal import RawMode

        raw = RawMode(0)
        raw.enter()
        return raw

    def _until_the_end(self, raw: Any) -> int:
        status = FAILED
        while True:
            try:
                message = self._master.receive()
            except MasterGone:
                return status
            match message:
                case mux.MuxExitMessage(session=self._number, status=found):
                    status = found & 0xFF
                case mux.MuxTtyAllocFail(session=self._number):
                    if raw is not None:
                        raw.leave()
                case _:
                    raise MasterGone("the master said what nobody asked it")

    def _end(self, number: int, frame: object) -> NoReturn:
        raise _Ended

    def _resized(self, number: int, frame: object) -> None:
        # Where it is gone, that shows soon enough; what it says may be no number of a process.
        with suppress(OSError, OverflowError):
            os.kill(self._master.pid, signal.SIGWINCH)


# ---- what is said


def _say(options: ClientOptions, text: str) -> None:
    if options.log_level not in ("QUIET", "FATAL"):
        print(text, end="\r\n", file=sys.stderr)


def _tell(options: ClientOptions, text: str) -> None:
    if options.log_level not in ("QUIET", "FATAL", "ERROR"):
        print(text, end="\r\n", file=sys.stderr)
