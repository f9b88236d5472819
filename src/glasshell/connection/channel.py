"""One channel (RFC 4254 §5): its state, its windows, what was received and not yet read.

`Channel` keeps no output: what `send` accepts is the transport's, in order, and so EOF and CLOSE
never overtake data.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, Final

from ..errors import (
    ChannelOpenFailed,
    ConnectionClosed,
    LimitExceeded,
    ProtocolViolation,
    SpeculationFailed,
    SSHError,
    UsageError,
)
from ..events import (
    ChannelClosed,
    ChannelEof,
    ChannelExit,
    ChannelOpened,
    ChannelReadable,
    ChannelRefused,
    ChannelReplied,
    ChannelRequested,
    ChannelWritable,
)
from ..messages import connection as m
from ..messages.declare import Struct
from ..transport.port import Port
from ..wire import visible
from . import requests
from .forwarding import OPENER, RemoteForwards
from .window import MAX_WINDOW, Budget, Buffer, Chunk, Incoming, Outgoing

STDERR: Final = m.DataType.STDERR.value
MAX_TEXT: Final = 1024
"""Most characters of the peer's words that are shown."""
MAX_STRAYS: Final = 100
"""Most replies to nothing: some programs answer requests that want no reply, none does so often."""

MAX_BURST: Final = 256
"""Most packets that one `send` makes: a peer that takes a byte in each would hold up everybody else's."""

_NOTHING: Final[frozenset[str]] = frozenset()

_pack_data = m.CHANNEL_DATA_HEADER.pack
_pack_extended = m.EXTENDED_DATA_HEADER.pack
_DATA = m.ChannelData.NUMBER
_EXTENDED = m.ChannelExtendedData.NUMBER


class State(Enum):
    """Where a channel is; only `OPEN` and `CLOSING` are known to the peer by our number."""

    OPENING = "opening"  # we sent CHANNEL_OPEN
    OFFERED = "offered"  # the peer did, and the application has not answered
    OPEN = "open"
    CLOSING = "closing"  # we sent CHANNEL_CLOSE
    CLOSED = "closed"


class Shared:
    """What the channels of one connection have in common."""

    __slots__ = ("budget", "channels", "expected", "forwards", "pending", "port", "readable", "role",
                 "sessions", "short", "strays")  # fmt: skip

    def __init__(self, port: Port, role: requests.Role) -> None:
        self.port = port
        self.role = role
        self.channels: dict[int, Channel] = {}
        self.readable: dict[int, Channel] = {}
        """Channels with data that the application was not told of."""
        self.short: dict[Channel, bool] = {}
        """Channels whose `send` fell short, the longest served first; and whether they were told since."""
        self.budget = Budget(port.policy.receive_budget, port.policy.max_channels)
        self.pending = requests.Pending(port.policy.max_output)
        self.forwards = RemoteForwards()
        self.expected: frozenset[str] = _NOTHING
        """Channel types that a request of ours lets the server open."""
        self.sessions = 0
        self.strays = 0

    def add(self, channel: Channel) -> None:
        """Puts a channel in the table."""
        self.channels[channel.id] = channel
        self.sessions += channel.type == "session"

    def remove(self, channel: Channel) -> None:
        """Frees a channel's number."""
        del self.channels[channel.id]
        self.sessions -= channel.type == "session"
        self.readable.pop(channel.id, None)
        self.short.pop(channel, None)

    @property
    def peer_role(self) -> requests.Role:
        """What the peer is."""
        return "client" if self.role == "server" else "server"

    def tell(self, name: str, **facts: Any) -> None:
        """Tells the stream of records, if anybody listens."""
        if self.port.hub:
            self.port.hub.state(name, **facts)

    def stray_reply(self, name: str) -> None:
        """A reply came that nothing waits for: harmless by itself, a flood of them is not.

        RFC 4254 §4 and §5.4 know replies to requests with `want reply` only, and say nothing of
        others; OpenSSH ignores them. Raises LimitExceeded past `MAX_STRAYS`.
        """
        self.strays += 1
        if self.strays > MAX_STRAYS:
            raise LimitExceeded(f"the peer sent {self.strays} replies to nothing, the last {name}")


class Channel:
    """One channel. `id` is our number for it, `peer_id` the peer's; `type` as in RFC 4254 §5.1.

    `exit_status` or `exit_signal` is what the peer said of its program. `error` is what ended the
    connection under an open channel. Events: see `glasshell.events`.
    """

    __slots__ = (
        "_answers", "_replies", "_shared", "abandoned", "assumed", "eof_received", "eof_sent", "eow_received",
        "error", "exit_signal", "exit_status", "hears", "id", "incoming", "outgoing", "peer_id",
        "program", "state", "stderr", "stdout", "type",
    )  # fmt: skip

    def __init__(self, shared: Shared, number: int, kind: str, state: State, incoming: Incoming) -> None:
        self._shared = shared
        self.id = number
        self.peer_id = -1
        self.type = kind
        self.state = state
        self.error: SSHError | None = None
        self.incoming = incoming
        self.outgoing = Outgoing()
        self.stdout = Buffer()
        self.stderr = Buffer()
        self.hears = False
        """Whether data may come and is kept; for the hot path."""
        self.abandoned = False
        self.assumed = False
        """Whether `peer_id` is what we expect, and not what the peer has said."""
        self.eof_received = False
        self.eof_sent = False
        self.eow_received = False
        self.exit_status: int | None = None
        self.exit_signal = ""
        self.program = ""
        """Empty, `asked` or `started`: the one shell, command or subsystem of a session."""
        self._replies: list[str] = []
        self._answers = requests.Answers(shared.pending, self._send_answer)

    def __repr__(self) -> str:
        return f"<Channel {self.id} {self.type} {self.state.value}>"

    @property
    def closed(self) -> bool:
        """Whether the channel is over; what was received can still be read."""
        return self.state is State.CLOSED

    # --- the application's side: data

    def send(self, data: bytes | bytearray | memoryview) -> int:
        """Sends as much of `data` as window, output and one burst take; returns how many bytes.

        Where that is less than all, `ChannelWritable` follows when there is room again. Raises
        UsageError before the channel is open and after `send_eof` or `close`, ConnectionClosed
        where the peer takes no more.
        """
        number, peer = _DATA, self.peer_id
        return self._send(data, lambda size: _pack_data(number, peer, size))

    def send_stderr(self, data: bytes | bytearray | memoryview) -> int:
        """As `send`, as extended data of type 1 (RFC 4254 §5.2); the window is the same."""
        number, peer = _EXTENDED, self.peer_id
        return self._send(data, lambda size: _pack_extended(number, peer, STDERR, size))

    def _send(self, data: bytes | bytearray | memoryview, head: Callable[[int], bytes]) -> int:
        self._check_sending()
        view = memoryview(data).cast("B")
        total = len(view)
        out, port = self.outgoing, self._shared.port
        limit = min(out.max_packet, port.policy.max_packet)
        most = min(total, limit * MAX_BURST)
        done = 0
        while done < most:
            size = min(most - done, limit, out.left, port.room())
            if size <= 0:
                break
            port.send_data(head(size), view[done : done + size])
            out.left -= size
            done += size
        out.sent += done
        self._note_short(done, total)
        return done

    def _note_short(self, done: int, total: int) -> None:
        """Keeps `short` in the order of who was served longest ago: nobody starves."""
        short = self._shared.short
        if done and self in short:
            del short[self]
        if done < total:
            short[self] = False

    def _check_sending(self) -> None:
        if self.state is State.CLOSED or self.eow_received:
            raise ConnectionClosed(f"the peer takes no more data on channel {self.id}", clause="RFC 4254 5.3")
        if self.state is not State.OPEN or self.eof_sent:
            raise UsageError(f"nothing can be sent on a channel that is {self._how()}", clause="RFC 4254 5.3")

    def _how(self) -> str:
        return "half closed by send_eof()" if self.state is State.OPEN else self.state.value

    def readable(self, stream: int = 0) -> int:
        """How many bytes wait to be read: of data (0) or of stderr (1)."""
        return self._buffer(stream).size

    def read(self, max_bytes: int = -1, stream: int = 0) -> bytes:
        """Up to `max_bytes` bytes (-1: all) of data (0) or stderr (1), joined; empty where none wait."""
        return b"".join(self.read_chunks(max_bytes, stream))

    def read_chunks(self, max_bytes: int = -1, stream: int = 0) -> list[Chunk]:
        """As `read`, without joining what came in several packets."""
        buffer = self._buffer(stream)
        before = buffer.size
        chunks = buffer.take(max_bytes)
        self._consume(before - buffer.size)
        return chunks

    def _buffer(self, stream: int) -> Buffer:
        return self.stderr if stream == STDERR else self.stdout

    def _consume(self, count: int) -> None:
        """`count` bytes left the buffers: grants them again, in halves of the window."""
        if self.state is State.CLOSED:
            self._shared.budget.give(count)
        elif count and self.hears:
            port, window = self._shared.port, self.incoming
            if window.consume(count, port.now, port.round_trip):
                self._resize(port.now)
                if granted := window.grant():
                    port.send(m.ChannelWindowAdjust(self.peer_id, granted))

    def _resize(self, now: float) -> None:
        """Lets a window grow that may hold the peer up, or gives back what others need more."""
        window, shared, count = self.incoming, self._shared, len(self._shared.channels)
        if excess := min(window.consumed, shared.budget.excess(window.size, count)):
            window.resize(-excess, now)
            shared.budget.give(excess)
        elif window.holds_up and self.stdout.size + self.stderr.size <= window.size // 4:
            wanted = min(window.size, MAX_WINDOW - window.size)
            if more := shared.budget.more(wanted, window.size, count):
                window.resize(more, now)
                round_trip = shared.port.round_trip
                shared.tell("window_grown", channel=self.id, window=window.size, round_trip=round_trip)

    # --- the application's side: requests and the end

    def request(self, type: str, body: Struct | bytes, want_reply: bool) -> None:
        """Sends a request (RFC 4254 §5.4); with `want_reply` a `ChannelReplied` follows, in order.

        Requests without an answer when the channel closes get none. Raises UsageError before the
        channel is open and after `close`, ConnectionClosed where the peer closed it.
        """
        if self.state is State.CLOSED:
            raise ConnectionClosed(f"channel {self.id} is closed: {type} was not sent")
        if self.state is not State.OPEN and not self.assumed:
            raise UsageError(f"nothing can be asked of a channel that is {self.state.value}")
        self._shared.port.send(m.ChannelRequest(self.peer_id, type, want_reply, body))
        if want_reply:
            self._replies.append(type)
        else:
            self._expect_opens(type)

    def _expect_opens(self, kind: str) -> None:
        if kind in requests.OPENS:
            self._shared.expected |= {requests.OPENS[kind]}

    def exit(
        self, status: int | None, *, signal: str = "", core_dumped: bool = False, message: str = ""
    ) -> None:
        """Tells the client how its program ended (RFC 4254 §6.10), if it still listens.

        `status`, or None and the `signal` that ended it (without SIG).
        """
        if self.state is not State.OPEN:
            return
        if status is None:
            self.request("exit-signal", m.ExitSignal(signal, core_dumped, message), want_reply=False)
        else:
            self.request("exit-status", m.ExitStatus(status & 0xFFFFFFFF), want_reply=False)

    def send_eof(self) -> None:
        """No more data follows (RFC 4254 §5.3); the peer may go on. Once is enough, twice does no harm."""
        if self.state in (State.OPENING, State.OFFERED):
            raise UsageError(f"a channel that is {self.state.value} has no end yet")
        if self.state is State.OPEN and not self.eof_sent:
            self.eof_sent = True
            self._shared.short.pop(self, None)
            self._shared.port.send(m.ChannelEof(self.peer_id))

    def close(self) -> None:
        """Done with the channel: unread data is dropped, and CHANNEL_CLOSE sent if it was not.

        `ChannelClosed` follows when the peer has closed as well. Raises UsageError for a channel
        that the application was offered and has not answered.
        """
        if self.state is State.OFFERED:
            raise UsageError("answer the ChannelOffered instead")
        if self.state is State.OPENING:
            self.abandoned = True  # the peer's number, and so CLOSE, must wait for its answer
        elif self.state is State.CLOSED:
            self._drop_unread()
        elif self.state is State.OPEN:
            self._send_close()
            self.state = State.CLOSING
            # What still comes is thrown away (§5.3), so the window holds no memory from here on.
            self.stdout.clear()
            self.stderr.clear()
            self._shared.budget.give(self.incoming.size)

    def _send_close(self) -> None:
        self.hears = False
        self._shared.readable.pop(self.id, None)
        self._shared.short.pop(self, None)
        self._answers.drop()
        self._shared.port.send(m.ChannelClose(self.peer_id))

    def _drop_unread(self) -> None:
        self._shared.budget.give(self.stdout.size + self.stderr.size)
        self.stdout.clear()
        self.stderr.clear()

    # --- the peer's side: opening. Called by the Mux.

    def accept(self) -> None:
        """The application takes an offered channel."""
        if self.state is not State.OFFERED:
            return
        self._open()
        window, packet = self.incoming.size, self.incoming.max_packet
        self._shared.port.send(m.ChannelOpenConfirmation(self.peer_id, self.id, window, packet))

    def reject(self, reason: int, description: str) -> None:
        """The application does not take an offered channel; `reason` as in RFC 4254 §5.1."""
        if self.state is not State.OFFERED:
            return
        self.forget()
        self._shared.port.send(m.ChannelOpenFailure(self.peer_id, reason, description))
        self._tell_refused(reason, description)

    def assume(self, peer_id: int) -> None:
        """Requests may be sent before the peer has opened our channel, which it will number `peer_id`."""
        self.peer_id, self.assumed = peer_id, True

    def confirmed(self, message: m.ChannelOpenConfirmation) -> None:
        """The peer opened our channel."""
        self._check_opening(message.NAME)
        if self.assumed and message.sender_channel != self.peer_id:
            # What was asked of a channel that is not there was not done; nobody knows what is answered to it.
            raise SpeculationFailed(
                f"the server numbered the channel {message.sender_channel}, not {self.peer_id} as expected"
            )
        self.assumed = False
        if message.maximum_packet_size == 0:
            raise ProtocolViolation(
                f"the peer opened channel {self.id} with a maximum packet size of 0: no data fits",
                clause="RFC 4254 5.1",
            )
        self.peer_id = message.sender_channel
        self.outgoing = Outgoing(message.initial_window_size, message.maximum_packet_size)
        port = self._shared.port
        port.round_trip = min(port.round_trip, port.now - self.incoming.began)
        self._open()
        if self.abandoned:
            self.close()
        else:
            self._shared.port.emit(ChannelOpened(self))

    def refused(self, message: m.ChannelOpenFailure) -> None:
        """The peer did not open our channel."""
        self._check_opening(message.NAME)
        text = visible(message.description[:MAX_TEXT])
        self.forget()
        self._tell_refused(message.reason_code, text)
        self._shared.port.emit(ChannelRefused(self, message.reason_code, text))

    def _check_opening(self, name: str) -> None:
        if self.state is not State.OPENING:
            raise ProtocolViolation(
                f"{name} for channel {self.id}, which is {self.state.value}", clause="RFC 4254 5.1"
            )

    def _open(self) -> None:
        self.state = State.OPEN
        self.hears = True
        self._shared.tell(
            "channel_open", channel=self.id, peer=self.peer_id, type=self.type,
            window=self.incoming.size, max_packet=self.incoming.max_packet,
            peer_window=self.outgoing.left, peer_max_packet=self.outgoing.max_packet,
        )  # fmt: skip

    def _tell_refused(self, reason: int, text: str) -> None:
        self._shared.tell(
            "channel_refused", channel=self.id, type=self.type, reason=reason, description=text
        )

    def forget(self) -> None:
        """Frees the number and the window."""
        if self.state is not State.CLOSING:
            self._shared.budget.give(self.incoming.size - self.stdout.size - self.stderr.size)
        self.state = State.CLOSED
        self.hears = self.assumed = False
        self._answers.drop()
        self._shared.remove(self)

    # --- the peer's side: data. Called by the Mux.

    def received(self, data: bytes, code: int | None = None) -> None:
        """CHANNEL_DATA, or CHANNEL_EXTENDED_DATA of type `code`. `Mux` has a shortcut past this."""
        if self.eof_received:
            raise ProtocolViolation(
                f"the peer sent data on channel {self.id} after its EOF", clause="RFC 4254 5.3"
            )
        self.incoming.spend(len(data))
        if self.state is State.CLOSING or not data:
            return  # data that crossed our CLOSE has no reader (§5.3); none is no news
        if code is None or (code == STDERR and self._has_stderr()):
            self._buffer(code or 0).append(memoryview(data))
            self._shared.readable[self.id] = self
        else:
            # §5.2 defines no other type: the data is counted, and read by nobody.
            self._consume(len(data))

    def _has_stderr(self) -> bool:
        """Whether extended data of type 1 means anything here: from a program, to its client."""
        if self.type == "session":
            return self._shared.role == "client"
        return self.type not in OPENER

    def tell_readable(self) -> None:
        """Tells of unread data now, so that what follows in the stream follows in the events."""
        if self._shared.readable.pop(self.id, None):
            self._shared.port.emit(ChannelReadable(self))

    def adjusted(self, count: int) -> None:
        """CHANNEL_WINDOW_ADJUST."""
        self.outgoing.grow(count)
        if self.outgoing.left and self._shared.port.room() > 0:
            self.tell_writable()

    def tell_writable(self) -> None:
        """Tells, once, that a `send` which fell short may be repeated."""
        if self._shared.short.get(self) is False:
            self._shared.short[self] = True
            self._shared.port.emit(ChannelWritable(self))

    def ended(self) -> None:
        """CHANNEL_EOF. A second one says nothing new."""
        if self.eof_received:
            return
        self.eof_received = True
        self.hears = False
        if self.state is State.OPEN:
            self.tell_readable()
            self._shared.port.emit(ChannelEof(self))

    # --- the peer's side: requests and the end. Called by the Mux.

    def requested(self, message: m.ChannelRequest, size: int) -> None:
        """CHANNEL_REQUEST; `size` is that of the whole payload."""
        kind, body = message.request_type, message.body
        exited = kind in requests.EXITS and self._exited(body)
        if self.state is State.CLOSING:
            return  # after CLOSE nothing may be sent on the channel (§5.3), an answer neither
        turn = self._answers.turn(message.want_reply, size)
        answer = exited or requests.verdict(
            kind, body, sender=self._shared.peer_role, session=self.type == "session", program=self.program
        )
        if kind == requests.EOW:
            self._end_of_write()
        if answer is not None:
            self._answers.settle(turn, answer)
            return
        if kind in requests.PROGRAMS:
            self.program = "asked"
        question = ChannelRequested(self, kind, body, message.want_reply)
        self._shared.port.ask(question, lambda given: self._answered(turn, kind, given))

    def _answered(self, turn: requests.Turn, kind: str, answer: Any) -> None:
        if not isinstance(answer, bool):
            raise UsageError(f"the answer to a ChannelRequested is True or False, not {answer!r}")
        if kind in requests.PROGRAMS:
            self.program = "started" if answer else ""
        self._answers.settle(turn, answer)

    def _send_answer(self, ok: bool) -> None:
        answer = m.ChannelSuccess(self.peer_id) if ok else m.ChannelFailure(self.peer_id)
        self._shared.port.send(answer)

    def _exited(self, body: Struct | bytes) -> bool:
        """The peer's program ended; told once. False where the peer has no program here."""
        if self.type != "session" or self._shared.role == "server":
            return False
        if self.exit_status is not None or self.exit_signal:
            return True
        if isinstance(body, m.ExitStatus):
            self.exit_status = body.status
            event = ChannelExit(self, body.status)
        elif isinstance(body, m.ExitSignal):
            self.exit_signal = visible(body.signal_name)
            text = visible(body.message[:MAX_TEXT])
            event = ChannelExit(self, None, self.exit_signal, body.core_dumped, text)
        else:
            return False
        self._shared.tell("exit_status", channel=self.id, status=self.exit_status, signal=self.exit_signal)
        self._shared.port.emit(event)
        return True

    def _end_of_write(self) -> None:
        """The peer's reader is gone (OpenSSH PROTOCOL 2.1): wakes who waits to send, to be told."""
        self.eow_received = True
        self.tell_writable()
        self._shared.short.pop(self, None)

    def replied(self, ok: bool) -> None:
        """CHANNEL_SUCCESS or CHANNEL_FAILURE: the answer to the oldest request."""
        if not self._replies:
            self._shared.stray_reply(m.ChannelSuccess.NAME if ok else m.ChannelFailure.NAME)
            return
        kind = self._replies.pop(0)
        if ok:
            self._expect_opens(kind)
        self._shared.port.emit(ChannelReplied(self, kind, ok))

    def closed_by_peer(self) -> None:
        """CHANNEL_CLOSE: answered with the same, if that was not sent before (RFC 4254 §5.3)."""
        self.tell_readable()
        if self.state is State.OPEN:
            self._send_close()
        self._finish()

    def lost(self, error: SSHError | None) -> None:
        """The connection is over."""
        self.error = error
        self.tell_readable()
        self._finish()

    def _finish(self) -> None:
        self.forget()
        self._shared.tell(
            "channel_closed", channel=self.id, type=self.type,
            sent=self.outgoing.sent, received=self.incoming.received,
        )  # fmt: skip
        self._shared.port.emit(ChannelClosed(self))


def judge_offer(channel: Channel, answer: Any) -> None:
    """The application's answer to a `ChannelOffered`."""
    if answer is True:
        channel.accept()
    elif isinstance(answer, ChannelOpenFailed):
        prohibited = m.OpenFailure.ADMINISTRATIVELY_PROHIBITED.value
        channel.reject(answer.reason or prohibited, str(answer))
    else:
        raise UsageError(f"the answer to a ChannelOffered is True or a ChannelOpenFailed, not {answer!r}")
