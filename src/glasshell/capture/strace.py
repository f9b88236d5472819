"""SSH connections out of system calls: what strace(1) wrote of any ssh or sshd, as the events of streams.

Which descriptor is the connection, the identification string says (RFC 4253 §4.2): the bytes `SSH-` at the
beginning of a line, on a TCP socket. A server hands its sockets to processes whose birth these system
calls do not show, so descriptors are followed through dup and close, and inherited from the parent that
SIGCHLD names, or else from whoever was active last.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import BinaryIO, Final

from ..observe.seen import Call, Frame
from .problems import Problem, note
from .streams import ACK, SYN, Data, Ended, Event, Gap, How, Opened
from .syscalls import Exit, Piece, Syscall, Syscalls, argument, buffers, descriptor, unquote

__all__ = ["FLAGS", "StraceSource"]

FLAGS: Final = ("-f", "-ttt", "-xx", "-s", "300000", "-e", "trace=network,read,write,desc")
"""What strace must be told so that nothing of a connection is left out."""

UNDECIDED: Final = 32_768
"""Bytes of a socket that are kept until it shows whether it speaks SSH."""

MAX_UNDECIDED: Final = 16 << 20
"""The same of all sockets together."""

MAX_CALLS: Final = 4_096
"""Calls of a socket that are kept so long."""

CALL: Final = 1_000
"""What a call takes beside its bytes, about, in bytes."""

MAX_PROCESSES: Final = 1_024
"""Processes that are remembered; the oldest gives way."""

MAX_DESCRIPTORS: Final = 1_024
"""Descriptors of one process that are remembered."""

MAX_LEFT: Final = 64
"""Descriptors that a process has closed, and a child not yet seen may have inherited."""

MAX_PAIR: Final = 1_000
"""Bytes of the arguments of pipe and socketpair in which the two descriptors are sought."""

MAX_CHILDREN: Final = 100_000
"""Processes whose parent is taken down before reading."""

_READS: Final = frozenset({"read", "readv", "recv", "recvfrom", "recvmsg"})
_WRITES: Final = frozenset({"write", "writev", "send", "sendto", "sendmsg"})
_VECTORED: Final = frozenset({"readv", "recvmsg", "writev", "sendmsg"})
_MAKERS: Final = frozenset({
    "creat", "epoll_create", "epoll_create1", "eventfd", "eventfd2", "inotify_init", "inotify_init1",
    "memfd_create", "open", "openat", "openat2", "pidfd_open", "signalfd", "signalfd4", "timerfd_create",
})  # fmt: skip
"""Calls whose result is a descriptor that is no socket."""

_FORKS: Final = frozenset({"clone", "clone3", "fork", "vfork"})

# Bounded, so that a line of any kind costs no more steps than it has bytes.
_ADDRESS: Final = re.compile(
    rb"sa_family=AF_INET6?, sin6?_port=htons\((\d{1,5})\),[^\"]{0,100}\"((?:[^\"\\]|\\.){0,400}+)\"",
    re.DOTALL,
)
_LABEL: Final = re.compile(rb"TCP(?:v6)?:\[(\[[^]]+\]|[\d.]+):(\d{1,5})->(\[[^]]+\]|[\d.]+):(\d{1,5})\]")
_INODE: Final = re.compile(rb"(?:socket|TCP|TCPv6):\[(\d+)\]")
_PAIR: Final = re.compile(rb"\[(\d{1,10})(?:<[^,]{0,200}?>)?, (\d{1,10})(?:<[^,]{0,200}?>)?\]")
_CHILD: Final = re.compile(rb"^(?:\[pid +)?(\d{1,10})[^-]{0,60}--- SIGCHLD \{[^}]{0,200}?si_pid=(\d{1,10})")

_PIPES: Final = (b"pipe:", b"UNIX", b"socket:")

_End = tuple[str, int]
_NOWHERE: Final[_End] = ("", 0)


class _Socket:
    """A TCP socket, or what may be one: `proven` once a call or strace itself says so.

    Or the pipes of a ProxyCommand: then `maker` is the process that made them, and only what it moves counts,
    for at their other end sits a process that sees the same bytes.
    """

    __slots__ = (
        "closed", "dropped", "ended", "first_sent", "heard", "keeper", "local", "made", "maker", "positions",
        "proven", "remote", "stream", "user", "waiting",
    )  # fmt: skip

    def __init__(self, proven: bool) -> None:
        self.proven = proven
        self.local = self.remote = _NOWHERE
        self.made: tuple[Syscall, bool] | None = None  # the call, and whether we are the client
        self.maker = -1
        self.stream = -1
        self.dropped = False
        self.first_sent = False
        self.positions = [0, 0]  # received, sent
        self.heard = [b"", b""]
        self.waiting: list[tuple[Syscall, bool, list[Piece]]] | None = []
        self.ended = [False, False]
        self.closed: Frame | None = None
        self.user = -1
        self.keeper: _Process | None = None  # who had it last time somebody asked


class _Process:
    """What a process has open. None: no TCP socket. `ghosts`: what its parent had closed just before."""

    __slots__ = ("fds", "ghosts", "left", "pipes")

    def __init__(self, fds: dict[int, _Socket | None], ghosts: dict[int, _Socket | None]) -> None:
        self.fds = fds
        self.ghosts = ghosts
        self.left: dict[int, _Socket | None] = {}
        self.pipes: _Socket | None = None

    def put(self, fd: int, socket: _Socket | None) -> None:
        if len(self.fds) >= MAX_DESCRIPTORS and fd not in self.fds:
            self.fds.pop(next(iter(self.fds)))
        self.fds[fd] = socket

    def take(self, fd: int) -> _Socket | None:
        """Closes `fd`; a child whose birth comes to light only now may still have it."""
        found = self.fds.pop(fd, None)
        self.ghosts.pop(fd, None)
        self.left.pop(fd, None)
        self.left[fd] = found
        if len(self.left) > MAX_LEFT:
            self.left.pop(next(iter(self.left)))
        return found


class StraceSource:
    """The SSH streams in an open file of strace's output. `frame.call` says which call carried the bytes."""

    def __init__(self, file: BinaryIO, name: str = "the file") -> None:
        self._problems: dict[str, Problem] = {}
        self._name = name
        self._parents = _parents(file)
        self._calls = Syscalls(file, self._problems)
        self._processes: dict[int, _Process] = {}
        self._active = 0
        self._now = 0.0
        self._labels: dict[bytes, _Socket] = {}
        self._streams: list[_Socket] = []
        self._undecided: dict[_Socket, int] = {}
        """What is kept of each socket of which nobody knows yet whether it speaks SSH, in bytes."""
        self._kept = 0
        self._out: list[Event] = []
        self._do: dict[str, Callable[[_Process, Syscall], None]] = {
            **dict.fromkeys(_READS | _WRITES, self._moved), **dict.fromkeys(_MAKERS, self._opened_other),
            **dict.fromkeys(_FORKS, self._forked), **dict.fromkeys(("dup", "dup2", "dup3"), self._dup),
            **dict.fromkeys(("pipe", "pipe2", "socketpair"), self._pair),
            **dict.fromkeys(("accept", "accept4"), self._accept),
            **dict.fromkeys(("getsockname", "getpeername"), self._named),
            "fcntl": self._fcntl, "fcntl64": self._fcntl, "socket": self._socket, "connect": self._connect,
            "bind": self._named, "close": self._close, "shutdown": self._shutdown,
            "setsockopt": self._setsockopt, "close_range": self._close_range,
        }  # fmt: skip

    @property
    def packets(self) -> int:
        """Lines of the file so far."""
        return self._calls.lines

    @property
    def problems(self) -> Mapping[str, Problem]:
        """What could not be used, with how often and in which line first."""
        return self._problems

    def drop(self, stream: int) -> None:
        """Nobody wants to know more of `stream`."""
        if 0 <= stream < len(self._streams):
            self._streams[stream].dropped = True

    def __iter__(self) -> Iterator[Event]:
        for item in self._calls:
            process = self._process(item.pid)
            if isinstance(item, Exit):
                self._now = item.time or self._now
                self._exit(item.pid, process)
            elif (do := self._do.get(item.name)) is not None:
                self._now = item.end or self._now
                do(process, item)
            self._active = item.pid
            if self._out:
                yield from self._flush()
        for socket in self._streams:
            for sent in (True, False):
                frame = socket.closed
                self._ended(socket, sent, "fin" if frame else "end", frame or self._last(socket, sent))
        yield from self._flush()

    def _flush(self) -> Iterable[Event]:
        told, self._out = self._out, []
        return [event for event in told if not self._streams[event.stream].dropped]

    # -- processes and descriptors ---------------------------------------------------------------

    def _process(self, pid: int) -> _Process:
        found = self._processes.get(pid)
        if found is None:
            parent = self._processes.get(self._parents.get(pid, self._active))
            if parent is None:
                found = _Process({}, {})
            else:
                found = _Process(dict(parent.fds), dict(parent.left))
            self._add(pid, found)
        return found

    def _add(self, pid: int, process: _Process) -> None:
        if len(self._processes) >= MAX_PROCESSES:
            self._processes.pop(next(iter(self._processes)))
            note(self._problems, "process forgotten, too many at once", self._calls.lines)
        self._processes[pid] = process

    def _lookup(self, process: _Process, fd: int, label: bytes, make: bool = True) -> _Socket | None:
        """The socket that `fd` is; a descriptor nobody knows may be one."""
        known: _Socket | None = process.fds[fd] if fd in process.fds else process.ghosts.get(fd)
        if label:
            known = self._labelled(label, known)
            process.put(fd, known)
        elif known is None and make and fd not in process.fds:
            known = _Socket(False)
            process.put(fd, known)
        return known

    def _labelled(self, label: bytes, known: _Socket | None) -> _Socket | None:
        """The socket that strace's own -y or -yy names."""
        text = unquote(label)
        ends = _LABEL.match(text)
        inode = _INODE.match(text)
        if ends is None and inode is None:
            return known if known is not None and known.maker >= 0 and text.startswith(_PIPES) else None
        key = text if ends else b"inode " + inode[1]  # type: ignore[index]
        found = self._labels.get(key)
        if found is None:
            # The same socket had an inode only, or no name at all, before it was connected.
            same = known is not None and (not ends or known.remote in (_NOWHERE, _end(ends[3], ends[4])))
            found = known if known is not None and same else _Socket(text.startswith(b"TCP"))
            if len(self._labels) >= MAX_DESCRIPTORS * 16:
                self._labels.clear()
            self._labels[key] = found
        if ends:
            found.proven = True
            found.local, found.remote = _end(ends[1], ends[2]), _end(ends[3], ends[4])
        return found

    def _opened_other(self, process: _Process, call: Syscall) -> None:
        if call.result is not None and call.result >= 0:
            process.put(call.result, None)

    def _forked(self, process: _Process, call: Syscall) -> None:
        if call.result is None or call.result <= 0 or call.result in self._processes:
            return
        if b"CLONE_FILES" in call.arguments:
            self._add(call.result, process)
        else:
            self._add(call.result, _Process(dict(process.fds), dict(process.left)))

    def _dup(self, process: _Process, call: Syscall) -> None:
        source = descriptor(call.arguments)
        if source is None or call.result is None or call.result < 0 or source[0] == call.result:
            return
        socket = self._lookup(process, *source)
        self._gone(process, call.result, call)
        process.put(call.result, socket)

    def _fcntl(self, process: _Process, call: Syscall) -> None:
        if b"F_DUPFD" in call.arguments:
            self._dup(process, call)

    def _pair(self, process: _Process, call: Syscall) -> None:
        """A client that has a ProxyCommand makes two pipes, or a pair of sockets, and speaks through them."""
        found = _PAIR.search(call.arguments, 0, MAX_PAIR) if call.result == 0 else None
        if found is None:
            return
        if process.pipes is None or process.pipes.waiting != []:
            process.pipes = made = _Socket(False)
            made.maker = call.pid
            made.made = (call, True)
            made.local, made.remote = (f"process {call.pid}", 0), ("its ProxyCommand", 0)
        process.put(int(found[1]), process.pipes)
        process.put(int(found[2]), process.pipes)

    def _close(self, process: _Process, call: Syscall) -> None:
        found = descriptor(call.arguments)
        if found is not None and call.result == 0:
            self._gone(process, found[0], call)

    def _close_range(self, process: _Process, call: Syscall) -> None:
        words = call.arguments.split(b", ")
        if call.result == 0 and len(words) == 3 and words[0].isdigit() and len(words[0]) < 11:
            first = int(words[0])
            last = int(words[1]) if words[1].isdigit() and len(words[1]) < 11 else 1 << 32
            for fd in [fd for fd in process.fds if first <= fd <= last]:
                self._gone(process, fd, call)

    def _exit(self, pid: int, process: _Process) -> None:
        self._processes.pop(pid, None)
        for socket in {socket for socket in process.fds.values() if socket is not None}:
            self._close_if_last(socket, pid, None)

    def _gone(self, process: _Process, fd: int, call: Syscall) -> None:
        socket = process.take(fd)
        if socket is not None:
            self._close_if_last(socket, call.pid, call)

    def _close_if_last(self, socket: _Socket, pid: int, call: Syscall | None) -> None:
        """Whoever used the connection last has closed it, and nobody else has it: it is over.

        Without that, a server's listener would end the connections it hands on.
        """
        if socket.stream < 0 or (socket.user != pid and socket.user in self._processes):
            return
        if call is not None:
            socket.closed = self._frame(socket, call, True, Piece(b"", 0))
        if all(socket.ended) or self._is_kept(socket):
            return
        frame = socket.closed or self._last(socket, True)
        self._ended(socket, True, "fin", frame)
        self._ended(socket, False, "end", frame)

    def _is_kept(self, socket: _Socket) -> bool:
        """Whether a process has it; who had it last time is asked first."""
        last = socket.keeper
        if last is not None and last in self._processes.values() and socket in last.fds.values():
            return True
        socket.keeper = next((each for each in self._processes.values() if socket in each.fds.values()), None)
        return socket.keeper is not None

    # -- sockets ---------------------------------------------------------------------------------

    def _socket(self, process: _Process, call: Syscall) -> None:
        if call.result is not None and call.result >= 0:
            tcp = call.arguments.startswith((b"AF_INET, SOCK_STREAM", b"AF_INET6, SOCK_STREAM"))
            process.put(call.result, _Socket(True) if tcp else None)

    def _connect(self, process: _Process, call: Syscall) -> None:
        socket, end = self._addressed(process, call)
        if socket is not None and end is not None and (call.result == 0 or call.error == "EINPROGRESS"):
            socket.remote = end
            socket.made = (call, True)

    def _accept(self, process: _Process, call: Syscall) -> None:
        listener = descriptor(call.arguments)
        end = _ADDRESS.search(call.arguments)
        if call.result is None or call.result < 0 or listener is None:
            return
        if end is None and not _LABEL.match(call.label):
            process.put(call.result, None)
            return
        socket = _Socket(True)
        heard = self._lookup(process, *listener)
        socket.local = heard.local if heard else _NOWHERE
        socket.made = (call, False)
        if end is not None:
            socket.remote = _end(end[2], end[1])
        process.put(call.result, socket)
        if call.label:
            self._labelled(call.label, socket)

    def _named(self, process: _Process, call: Syscall) -> None:
        """bind, getsockname and getpeername tell addresses, and by them whose socket it is."""
        if call.result != 0:
            return
        socket, end = self._addressed(process, call)
        if socket is None or end is None:
            return
        if call.name != "getpeername":
            if end[1]:
                socket.local = end
            return
        if socket.remote not in (_NOWHERE, end):  # inherited from the wrong parent
            fd = descriptor(call.arguments)
            same = [known for known in self._known() if known.remote == end]
            socket = same[-1] if same else _Socket(True)
            process.put(fd[0] if fd else -1, socket)
        socket.remote = end
        socket.proven = True

    def _known(self) -> Iterator[_Socket]:
        for process in self._processes.values():
            yield from (socket for socket in process.fds.values() if socket is not None)

    def _addressed(self, process: _Process, call: Syscall) -> tuple[_Socket | None, _End | None]:
        found = descriptor(call.arguments)
        address = _ADDRESS.search(call.arguments)
        if found is None or address is None:
            return None, None
        return self._lookup(process, *found), _end(address[2], address[1])

    def _setsockopt(self, process: _Process, call: Syscall) -> None:
        """TCP's own options prove a socket of TCP."""
        found = descriptor(call.arguments)
        if found and (b"SOL_TCP" in call.arguments or b"IPPROTO_TCP" in call.arguments) and call.result == 0:
            socket = self._lookup(process, *found)
            if socket is not None:
                socket.proven = True

    def _shutdown(self, process: _Process, call: Syscall) -> None:
        found = descriptor(call.arguments)
        socket = self._lookup(process, *found, make=False) if found else None
        if socket is not None and call.result == 0 and b"SHUT_RD" not in call.arguments.replace(b"RDWR", b""):
            self._ended(socket, True, "fin", self._frame(socket, call, True, Piece(b"", 0)))

    # -- bytes -----------------------------------------------------------------------------------

    def _moved(self, process: _Process, call: Syscall) -> None:
        found = descriptor(call.arguments)
        if found is None or call.result is None or b"MSG_PEEK" in call.arguments[-200:]:
            return
        socket = self._lookup(process, *found)
        if socket is None or socket.maker not in (-1, call.pid):
            return
        sent = call.name in _WRITES
        if call.result <= 0:
            self._nothing(socket, call, sent)
            return
        socket.user = call.pid
        if call.name in _VECTORED:
            pieces = list(buffers(call.arguments, call.result))
        else:
            pieces = [argument(call.arguments, call.result)]
        if socket.waiting is None:
            if socket.stream >= 0:
                self._deliver(socket, call, sent, pieces)
        elif not self._decide(socket, call, sent, pieces):
            process.put(found[0], None)

    def _nothing(self, socket: _Socket, call: Syscall, sent: bool) -> None:
        """No byte moved: the end of the peer's, or of all."""
        if socket.stream < 0:
            return
        frame = self._frame(socket, call, sent, Piece(b"", 0))
        if call.result == 0 and not sent:
            self._ended(socket, False, "fin", frame)
        elif call.error in ("ECONNRESET", "EPIPE"):
            self._ended(socket, False, "rst", frame)
            self._ended(socket, True, "rst", frame)

    def _decide(self, socket: _Socket, call: Syscall, sent: bool, pieces: list[Piece]) -> bool:
        """Whether it may be SSH: keeps the bytes until that is sure, then tells them all."""
        assert socket.waiting is not None
        if not socket.waiting:
            socket.first_sent = sent
        socket.waiting.append((call, sent, pieces))
        for piece in pieces:
            socket.heard[sent] += piece.data
        self._keep(socket, len(call.arguments) + CALL)
        beginnings = [_speaks(text) for text in socket.heard]
        # One that was there before the trace began may be in the middle: whoever listens must judge.
        old = socket.made is None and socket.remote != _NOWHERE
        if all(beginnings) or (socket.proven and (any(beginnings) or old)):
            self._open(socket)
            return True
        # A server may say other lines first (RFC 4253 §4.2); of what may be any file we expect no such thing.
        maybe = all(b"SSH-".startswith(text[:4]) or socket.proven for text in socket.heard)
        long = sum(map(len, socket.heard)) > UNDECIDED or len(socket.waiting) > MAX_CALLS
        if not maybe or long:
            self._let_go(socket)
            return maybe and socket.proven
        while self._kept > MAX_UNDECIDED:
            self._let_go(next(iter(self._undecided)))
            note(self._problems, "sockets too many at once that show not what they speak", call.line)
        return True

    def _keep(self, socket: _Socket, size: int) -> None:
        self._undecided[socket] = self._undecided.get(socket, 0) + size
        self._kept += size

    def _let_go(self, socket: _Socket) -> None:
        """Nothing more is kept of `socket`, whatever it is."""
        self._kept -= self._undecided.pop(socket, 0)
        socket.waiting = None
        socket.heard = [b"", b""]

    def _open(self, socket: _Socket) -> None:
        waiting = socket.waiting or []
        self._let_go(socket)
        socket.stream = len(self._streams)
        self._streams.append(socket)
        if socket.made is not None:
            call, client = socket.made
            frame = self._frame(socket, call, client, Piece(b"", 0))
            frame.flags, frame.seq, frame.relative_seq = SYN, 0, 0
        else:
            call, sent, pieces = waiting[0]
            frame = self._frame(socket, call, sent, pieces[0])
        self._out.append(Opened(socket.stream, frame))
        for call, sent, pieces in waiting:
            self._deliver(socket, call, sent, pieces)

    def _deliver(self, socket: _Socket, call: Syscall, sent: bool, pieces: list[Piece]) -> None:
        if socket.ended[sent]:
            note(self._problems, "data after the end of its connection", call.line)
            return
        forward = self._forward(socket, sent)
        for piece in pieces:
            frame = self._frame(socket, call, sent, piece)
            if piece.data:
                self._out.append(Data(socket.stream, forward, piece.data, frame))
            if frame.missing:
                note(self._problems, f"strace shortened what it shows of {call.name} (its -s)", call.line)
                self._out.append(Gap(socket.stream, forward, frame.missing, frame))
            socket.positions[sent] += piece.size

    def _forward(self, socket: _Socket, sent: bool) -> bool:
        """Whether `sent` is the direction of the stream's first frame: the client's, where that is known."""
        return sent == (socket.made[1] if socket.made is not None else socket.first_sent)

    def _ended(self, socket: _Socket, sent: bool, how: How, frame: Frame) -> None:
        if socket.stream >= 0 and not socket.ended[sent]:
            socket.ended[sent] = True
            self._out.append(Ended(socket.stream, self._forward(socket, sent), how, frame))

    def _frame(self, socket: _Socket, call: Syscall, sent: bool, piece: Piece) -> Frame:
        time = (call.time if sent else call.end) or 0.0
        here, there = (socket.local, socket.remote) if sent else (socket.remote, socket.local)
        seq = socket.positions[sent] + 1
        fd = descriptor(call.arguments)
        return Frame(
            number=call.line if sent else call.end_line, time=time, length=piece.size,
            source=here[0], destination=there[0], source_port=here[1], destination_port=there[1],
            seq=seq & 0xFFFFFFFF, ack=0, flags=ACK, payload=piece.data, missing=piece.size - len(piece.data),
            time_ns=round(time * 1_000_000) * 1_000, stream=socket.stream, relative_seq=seq & 0xFFFFFFFF,
            call=Call(call.pid, call.name, fd[0] if fd else -1, max(call.result or 0, 0), call.duration),
        )  # fmt: skip

    def _last(self, socket: _Socket, sent: bool) -> Frame:
        """A frame for an end that no call tells of."""
        here, there = (socket.local, socket.remote) if sent else (socket.remote, socket.local)
        seq = socket.positions[sent] + 1
        return Frame(
            number=self._calls.lines, time=self._now, length=0, source=here[0], destination=there[0],
            source_port=here[1], destination_port=there[1], seq=seq, ack=0, flags=ACK, payload=b"",
            time_ns=round(self._now * 1_000_000) * 1_000, stream=socket.stream, relative_seq=seq,
        )  # fmt: skip


def _speaks(text: bytes) -> bool:
    """Whether an identification begins here, other lines before it or not."""
    return text.startswith(b"SSH-") or b"\nSSH-" in text


def _end(address: bytes, port: bytes) -> _End:
    text = unquote(address).decode("ascii", "replace").strip("[]")
    return text.removeprefix("::ffff:") if "." in text else text, int(port)


def _parents(file: BinaryIO) -> dict[int, int]:
    """Child → parent, as far as the deaths of children tell; the file is left at its beginning."""
    found: dict[int, int] = {}
    if not file.seekable():
        return found
    start = file.tell()
    while line := file.readline(1 << 16):
        if b"SIGCHLD" in line and len(found) < MAX_CHILDREN and (child := _CHILD.match(line)):
            found.setdefault(int(child[2]), int(child[1]))
    file.seek(start)
    return found
