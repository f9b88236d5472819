"""The connection protocol as a whole (RFC 4254): the table of channels, opens and global requests."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from ..errors import ChannelOpenFailed, ProtocolViolation, SSHError, UsageError
from ..events import ChannelOffered, GlobalReplied, GlobalRequested
from ..messages import connection as m
from ..messages.declare import Message, Struct
from ..transport.port import Port
from ..transport.rules import Handler, Methods
from . import forwarding, requests
from .channel import Channel, Shared, State, judge_offer
from .window import SMALL, Incoming, Outgoing

PROHIBITED: Final = m.OpenFailure.ADMINISTRATIVELY_PROHIBITED.value
SHORTAGE: Final = m.OpenFailure.RESOURCE_SHORTAGE.value
NO_MORE_SESSIONS: Final = "no-more-sessions@openssh.com"

_HANDLERS: Final = {
    m.GlobalRequest.NUMBER: "_on_global_request",
    m.RequestSuccess.NUMBER: "_on_request_success",
    m.RequestFailure.NUMBER: "_on_request_failure",
    m.ChannelOpen.NUMBER: "_on_open",
    m.ChannelOpenConfirmation.NUMBER: "_on_confirmation",
    m.ChannelOpenFailure.NUMBER: "_on_open_failure",
    m.ChannelWindowAdjust.NUMBER: "_on_adjust",
    m.ChannelData.NUMBER: "_on_data",
    m.ChannelExtendedData.NUMBER: "_on_extended_data",
    m.ChannelEof.NUMBER: "_on_eof",
    m.ChannelClose.NUMBER: "_on_close",
    m.ChannelRequest.NUMBER: "_on_channel_request",
    m.ChannelSuccess.NUMBER: "_on_success",
    m.ChannelFailure.NUMBER: "_on_failure",
}

_unpack_data = m.CHANNEL_DATA_HEADER.unpack_from
_HEAD: Final = m.CHANNEL_DATA_HEADER.size


class Mux:
    """All channels of one connection.

    Install `handlers()` when the user is authenticated; call `after_receive()` at the end of each
    `receive_data`, `resume_writing()` when the output has room again, `close_all()` at the end.
    """

    __slots__ = (
        "_answers", "_asked", "_next_id", "_no_more_sessions", "_port", "_readable", "_shared", "channels",
        "forwards",
    )  # fmt: skip

    def __init__(self, port: Port, *, is_server: bool) -> None:
        self._port = port
        self._shared = Shared(port, "server" if is_server else "client")
        self.channels = self._shared.channels
        """The channels by our number, from open until closed both ways."""
        self.forwards = self._shared.forwards
        """What the server listens on for us."""
        self._readable = self._shared.readable
        self._next_id = 0
        self._no_more_sessions = False
        self._asked: list[tuple[str, Struct | bytes]] = []
        self._answers = requests.Answers(self._shared.pending, self._send_answer)

    def handlers(self, others: Mapping[int, Handler] = MappingProxyType({})) -> Methods:
        """What takes each message of RFC 4254, and `others`, for `Port.install`."""
        return Methods(self, _HANDLERS, others)

    # --- the application's side

    def open(
        self, channel_type: str, body: Struct | bytes, *,
        window: int | None = None, max_packet: int | None = None, peer_id: int | None = None,
    ) -> Channel:  # fmt: skip
        """Asks the peer for a channel; `ChannelOpened` or `ChannelRefused` follows.

        `window` and `max_packet` are bytes; the window may turn out smaller where many channels
        share `Policy.receive_budget`. Where `peer_id` is given the peer is expected to number the channel
        so, and requests may be sent at once; the connection ends with SpeculationFailed where it does not.
        Raises ChannelOpenFailed (RESOURCE_SHORTAGE) where no more channels, or no window, are left.
        """
        full = len(self.channels) >= self._port.policy.max_channels
        incoming = None if full else self._window(window, max_packet)
        if incoming is None:
            raise ChannelOpenFailed("this side has no room for another channel", reason=SHORTAGE)
        channel = self._add(channel_type, State.OPENING, incoming, "us")
        if peer_id is not None:
            channel.assume(peer_id)
        message = m.ChannelOpen(channel_type, channel.id, incoming.size, incoming.max_packet, body)
        try:
            self._port.send(message)
        except SSHError:
            channel.forget()
            raise
        return channel

    def global_request(self, name: str, body: Struct | bytes, want_reply: bool) -> None:
        """Asks something of the connection (RFC 4254 §4); with `want_reply` a `GlobalReplied` follows.

        Replies come in the order of the requests. Raises UsageError for a forwarding of port 0
        without a reply.
        """
        forwarding.check_request(body, want_reply)
        self._port.send(m.GlobalRequest(name, want_reply, body))
        if want_reply:
            self._asked.append((name, body))
        else:
            self.forwards.granted(body)

    @property
    def told_late(self) -> bool:
        """Whether `after_receive` has anything to tell."""
        return bool(self._readable)

    @property
    def waiting(self) -> bool:
        """Whether a channel's `send` fell short, so that `resume_writing` may have something to do."""
        return bool(self._shared.short)

    def after_receive(self) -> None:
        """Tells of the channels that got data; call it at the end of each `receive_data`."""
        for channel in tuple(self._readable.values()):
            channel.tell_readable()

    def resume_writing(self) -> None:
        """Tells who fell short that there is room again; call it when `room()` is back."""
        if self._shared.short and self._port.room() > 0:
            for channel in tuple(self._shared.short):
                if channel.outgoing.left:
                    channel.tell_writable()

    def close_all(self, error: SSHError | None) -> None:
        """The connection is over: `ChannelClosed` for every channel that is left."""
        for channel in tuple(self.channels.values()):
            channel.lost(error)
        self._answers.drop()

    # --- data

    def _on_data(self, payload: memoryview) -> None:
        """[hot] The shortcut for what nearly every packet is; all else takes the long way."""
        if len(payload) >= _HEAD:
            _, number, size = _unpack_data(payload)
            channel = self.channels.get(number)
            if channel is not None and channel.hears and size == len(payload) - _HEAD:
                window = channel.incoming
                if 0 < size <= window.max_packet and size <= window.left:
                    window.left -= size
                    buffer = channel.stdout
                    if size >= SMALL:
                        buffer.size += size
                        buffer.chunks.append(payload[_HEAD:])
                    else:
                        buffer.append(payload[_HEAD:])
                    self._readable[number] = channel
                    return
        self._on_unusual_data(payload)

    def _on_unusual_data(self, payload: memoryview) -> None:
        """CHANNEL_DATA, decoded and judged by the book."""
        message = m.ChannelData.decode(payload)
        self._known(message.recipient_channel, message).received(message.data)

    def _on_extended_data(self, payload: memoryview) -> None:
        message = m.ChannelExtendedData.decode(payload)
        channel = self._known(message.recipient_channel, message)
        channel.received(message.data, message.data_type_code)

    def _on_adjust(self, payload: memoryview) -> None:
        message = m.ChannelWindowAdjust.decode(payload)
        self._known(message.recipient_channel, message).adjusted(message.bytes_to_add)

    def _on_eof(self, payload: memoryview) -> None:
        message = m.ChannelEof.decode(payload)
        self._known(message.recipient_channel, message).ended()

    def _on_close(self, payload: memoryview) -> None:
        message = m.ChannelClose.decode(payload)
        self._known(message.recipient_channel, message).closed_by_peer()

    def _known(self, number: int, message: Message) -> Channel:
        """The channel `number`. Raises ProtocolViolation where the peer cannot know of it."""
        channel = self.channels.get(number)
        if channel is None or channel.state in (State.OPENING, State.OFFERED):
            raise ProtocolViolation(
                f"{message.NAME} for channel {number}, which is not open", clause="RFC 4254 5"
            )
        return channel

    # --- requests of channels

    def _on_channel_request(self, payload: memoryview) -> None:
        message = m.ChannelRequest.decode(payload)
        self._known(message.recipient_channel, message).requested(message, len(payload))

    def _on_success(self, payload: memoryview) -> None:
        message = m.ChannelSuccess.decode(payload)
        self._known(message.recipient_channel, message).replied(True)

    def _on_failure(self, payload: memoryview) -> None:
        message = m.ChannelFailure.decode(payload)
        self._known(message.recipient_channel, message).replied(False)

    # --- opening

    def _on_confirmation(self, payload: memoryview) -> None:
        message = m.ChannelOpenConfirmation.decode(payload)
        self._opening(message.recipient_channel, message).confirmed(message)

    def _on_open_failure(self, payload: memoryview) -> None:
        message = m.ChannelOpenFailure.decode(payload)
        self._opening(message.recipient_channel, message).refused(message)

    def _opening(self, number: int, message: Message) -> Channel:
        channel = self.channels.get(number)
        if channel is None:
            raise ProtocolViolation(
                f"{message.NAME} for channel {number}, which does not exist", clause="RFC 4254 5.1"
            )
        return channel

    def _on_open(self, payload: memoryview) -> None:
        message = m.ChannelOpen.decode(payload)
        refusal = self._refusal(message)
        incoming = None if refusal else self._window(None, None)
        if incoming is None:
            self._refuse(message, *(refusal or (SHORTAGE, "no receive window is left")))
            return
        size = len(payload)
        if not self._shared.pending.take(size):
            self._shared.budget.give(incoming.size)
            self._refuse(message, SHORTAGE, "too many requests wait for an answer")
            return
        channel = self._add(message.channel_type, State.OFFERED, incoming, "peer")
        channel.peer_id = message.sender_channel
        channel.outgoing = Outgoing(message.initial_window_size, message.maximum_packet_size)
        question = ChannelOffered(channel, message.channel_type, message.body)
        # Who knows how we number channels may have sent its requests along: they wait for the answer.
        hold = message.channel_type == "session"
        self._port.ask(question, lambda answer: self._answered_offer(channel, size, answer), hold=hold)

    def _answered_offer(self, channel: Channel, size: int, answer: Any) -> None:
        judge_offer(channel, answer)
        self._shared.pending.give(size)

    def _refusal(self, message: m.ChannelOpen) -> tuple[int, str] | None:
        """Reason and text where the application need not be asked: the answer is no."""
        kind, policy = message.channel_type, self._port.policy
        if message.maximum_packet_size == 0:
            return PROHIBITED, "a maximum packet size of 0 lets no data through"
        if forwarding.OPENER.get(kind, self._shared.peer_role) != self._shared.peer_role:
            return PROHIBITED, f"this side takes no {kind} channels"
        if text := self._unwanted(message) or forwarding.objection(message.body):
            return PROHIBITED, text
        if len(self.channels) >= policy.max_channels:
            return SHORTAGE, f"{policy.max_channels} channels are open"
        if kind == "session" and self._shared.sessions >= policy.max_sessions:
            return SHORTAGE, f"{policy.max_sessions} sessions are open"
        return None

    def _unwanted(self, message: m.ChannelOpen) -> str:
        """Why the peer may not open this: we did not ask for it, or it promised not to."""
        kind = message.channel_type
        if kind == "session" and self._no_more_sessions:
            return f"{NO_MORE_SESSIONS} was sent before"
        if forwarding.OPENER.get(kind) != "server":
            return ""
        asked = kind in self._shared.expected or self.forwards.allows(message.body)
        return "" if asked else f"no {kind} channel was asked for"

    def _refuse(self, message: m.ChannelOpen, reason: int, text: str) -> None:
        self._port.send(m.ChannelOpenFailure(message.sender_channel, reason, text))
        self._shared.tell(
            "channel_refused", channel=None, type=message.channel_type, reason=reason, description=text
        )

    def _window(self, window: int | None, max_packet: int | None) -> Incoming | None:
        """A window within the budget, or None where none is left."""
        policy = self._port.policy
        wanted = policy.window if window is None else window
        granted = self._shared.budget.take(wanted, len(self.channels))
        if not granted:
            return None
        packet = min(policy.max_packet if max_packet is None else max_packet, granted)
        return Incoming(granted, packet, self._port.now)

    def _add(self, kind: str, state: State, incoming: Incoming, by: str) -> Channel:
        """A new channel under a number that no other has.

        Numbers are not used again before 2^32 others were: a late message for a channel that is
        gone does not reach its successor.
        """
        while self._next_id in self.channels:
            self._next_id = (self._next_id + 1) & 0xFFFFFFFF
        channel = Channel(self._shared, self._next_id, kind, state, incoming)
        self._shared.add(channel)
        self._next_id = (self._next_id + 1) & 0xFFFFFFFF
        self._shared.tell("channel_opening", channel=channel.id, type=kind, by=by)
        return channel

    # --- global requests

    def _on_global_request(self, payload: memoryview) -> None:
        message = m.GlobalRequest.decode(payload)
        turn = self._answers.turn(message.want_reply, len(payload))
        answer = self._verdict(message)
        if answer is not None:
            self._answers.settle(turn, answer)
            return
        question = GlobalRequested(message.request_name, message.body, message.want_reply)
        self._port.ask(question, lambda given: self._answered_global(turn, given))

    def _verdict(self, message: m.GlobalRequest) -> bool | None:
        """The answer where the application need not be asked."""
        name, sender = message.request_name, self._shared.peer_role
        if name == requests.KEEPALIVE or forwarding.REQUESTER.get(name, sender) != sender:
            return False
        if name == NO_MORE_SESSIONS:
            self._no_more_sessions = True
            return True
        return False if forwarding.objection(message.body) else None

    def _answered_global(self, turn: requests.Turn, answer: Any) -> None:
        if not isinstance(answer, bool | bytes):
            raise UsageError(f"the answer to a GlobalRequested is True, False or bytes, not {answer!r}")
        self._answers.settle(turn, answer)

    def _send_answer(self, answer: bool | bytes) -> None:
        if answer is False:
            self._port.send(m.RequestFailure())
        else:
            self._port.send(m.RequestSuccess(b"" if answer is True else answer))

    def _on_request_success(self, payload: memoryview) -> None:
        message = m.RequestSuccess.decode(payload)
        if not self._asked:
            self._shared.stray_reply(message.NAME)
            return
        name, body = self._asked.pop(0)
        self.forwards.granted(body, message.body)
        self._port.emit(GlobalReplied(name, True, message.body))

    def _on_request_failure(self, payload: memoryview) -> None:
        message = m.RequestFailure.decode(payload)
        if not self._asked:
            self._shared.stray_reply(message.NAME)
            return
        name, _ = self._asked.pop(0)
        self._port.emit(GlobalReplied(name, False, b""))
