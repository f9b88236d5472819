"""OpenSSH's lines about channels, requests and the end of a connection (RFC 4254)."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from ..messages import connection as c
from ..values import field, slotted
from ..wire import visible
from .lines import PACKET, Handler, Lines, Story, debug1, debug2, debug3, info, text_of, verbose

ACCEPTED = {"pty-req": "PTY allocation", "exec": "exec", "shell": "shell", "subsystem": "subsystem"}
"""The requests whose answer OpenSSH's client tells of."""

PROGRAM = frozenset({"exec", "shell", "subsystem"})
"""The requests that start the program of a session, the last of its setting up."""


@slotted
class Channel:
    """One channel: our number, the peer's, and how far it is."""

    number: int
    type: str
    by_us: bool
    peer: int = -1
    window: int = 0
    confirmed: tuple[int, int] | None = None
    session: int = -1
    started: bool = False
    close_sent: bool = False
    close_received: bool = False
    asked: deque[str] = field(default_factory=deque)

    @property
    def name(self) -> str:
        """The name OpenSSH gives it."""
        if self.type == "session":
            return "client-session" if self.by_us else "server-session"
        return self.type


class ConnectionLines:
    """The lines of the connection layer, of either role."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self.channels: dict[int, Channel] = {}
        self.of_peer: dict[int, Channel] = {}
        self.opening: dict[int, Channel] = {}
        self.main = -1
        self.exit_status: int | None = None
        self.pty = False
        self.began: float | None = None
        self.disconnected = False
        self.zlib: Mapping[str, Any] = {}

    def messages(self) -> Mapping[tuple[bool, int], Handler]:
        """Handlers by (sent, number)."""
        return {
            (True, 80): self.global_request_sent,
            (False, 80): self.global_request_received,
            (True, 90): self.open_sent,
            (False, 90): self.open_received,
            (True, 91): self.confirmation_sent,
            (False, 91): self.confirmation_received,
            (True, 92): self.refusal_sent,
            (False, 92): self.refusal_received,
            (True, 93): self.adjust_sent,
            (False, 93): self.adjust_received,
            (False, 94): self.data_received,
            (False, 95): self.extended_received,
            (True, 94): lambda m: (),
            (True, 95): self.extended_sent,
            (True, 96): self.eof_sent,
            (False, 96): self.eof_received,
            (True, 97): self.close_sent,
            (False, 97): self.close_received,
            (True, 98): self.request_sent,
            (False, 98): self.request_received,
            (False, 99): self.answer_received,
            (False, 100): self.answer_received,
        }

    def states(self) -> Mapping[str, Handler]:
        """Handlers by the name of the state."""
        return {
            "interactive": self.interactive,
            "session_started": self.session_started,
            "session_ended": self.session_ended,
            "exit_status": self.exited,
            "channel_closed": self.channel_closed,
            "forward": self.forward,
            "disconnect": self.note_disconnect,
            "compressed": self.compressed,
            "closed": self.closed,
        }

    def note_disconnect(self, f: Any) -> Lines:
        self.disconnected = True
        return ()

    # --- global requests (RFC 4254 §4)

    def global_request_sent(self, m: c.GlobalRequest) -> Lines:
        if m.request_name == "no-more-sessions@openssh.com":
            yield debug1(f"Requesting {m.request_name}")
        yield PACKET

    def global_request_received(self, m: c.GlobalRequest) -> Lines:
        yield PACKET
        told = f"rtype {m.request_name} want_reply {int(m.want_reply)}"
        yield debug1(f"{self.story.role}_input_global_request: {told}")
        if isinstance(m.body, c.TcpipForward):
            where = f"tcpip-forward listen {visible(m.body.address)} port {m.body.port}"
            yield debug1(f"{self.story.role}_input_global_request: {where}")

    # --- a channel opens (§5.1)

    def open_sent(self, m: c.ChannelOpen) -> Lines:
        channel = Channel(m.sender_channel, m.channel_type, by_us=True, window=m.initial_window_size)
        self.channels[channel.number] = channel
        if channel.type == "session" and self.main < 0:
            self.main = channel.number
        yield debug1(self.new(channel))
        if channel.type == "session":
            yield debug3(f"ssh_session2_open: channel_new: {channel.number}")
            yield debug2(f"channel {channel.number}: send open")
        yield PACKET

    @staticmethod
    def new(channel: Channel) -> str:
        """The line of a new channel; a session is called by its name alone."""
        kind = "session" if channel.type == "session" else channel.type
        return f"channel {channel.number}: new {kind} [{channel.name}] (inactive timeout: 0)"

    def open_received(self, m: c.ChannelOpen) -> Lines:
        self.opening[m.sender_channel] = Channel(-1, m.channel_type, by_us=False, peer=m.sender_channel)
        yield PACKET
        told = f"ctype {m.channel_type} rchan {m.sender_channel}"
        sizes = f"win {m.initial_window_size} max {m.maximum_packet_size}"
        yield debug1(f"{self.story.role}_input_channel_open: {told} {sizes}")
        if m.channel_type == "session":
            yield debug1("input_session_request")
        elif isinstance(m.body, c.DirectTcpip):
            source = f"originator {visible(m.body.originator_address)} port {m.body.originator_port}"
            target = f"target {visible(m.body.host)} port {m.body.port}"
            yield debug1(f"server_request_direct_tcpip: {source}, {target}")

    def confirmation_sent(self, m: c.ChannelOpenConfirmation) -> Lines:
        channel = self.opening.pop(m.recipient_channel, None)
        if channel is not None:
            channel.number, channel.window = m.sender_channel, m.initial_window_size
            self.channels[channel.number] = self.of_peer[channel.peer] = channel
            yield debug1(self.new(channel))
            if channel.type == "session":
                used = {each.session for each in self.channels.values()}
                channel.session = next(i for i in range(len(used) + 1) if i not in used)
                yield debug1(f"session_new: session {channel.session}")
                yield debug1(f"session_open: channel {channel.number}")
                told = f"session {channel.session}: link with channel {channel.number}"
                yield debug1(f"session_open: {told}")
            yield debug1(f"{self.story.role}_input_channel_open: confirm {channel.type}")
        yield PACKET

    def refusal_sent(self, m: c.ChannelOpenFailure) -> Lines:
        channel = self.opening.pop(m.recipient_channel, None)
        if channel is not None:
            yield debug1(f"{self.story.role}_input_channel_open: failure {channel.type}")
        yield PACKET

    def confirmation_received(self, m: c.ChannelOpenConfirmation) -> Lines:
        yield PACKET
        channel = self.channels.get(m.recipient_channel)
        if channel is None:
            return
        channel.peer = m.sender_channel
        self.of_peer[channel.peer] = channel
        sizes = (m.initial_window_size, m.maximum_packet_size)
        number = channel.number
        if channel.type != "session":
            yield debug2(self.open_confirm(number, sizes))
            return
        channel.confirmed = sizes
        yield debug2(f"channel_input_open_confirmation: channel {number}: callback start")
        yield debug2(f"client_session2_setup: id {number}")

    @staticmethod
    def open_confirm(number: int, sizes: tuple[int, int]) -> str:
        """The line of the peer's window and packet size."""
        return f"channel {number}: open confirm rwindow {sizes[0]} rmax {sizes[1]}"

    def refusal_received(self, m: c.ChannelOpenFailure) -> Lines:
        yield PACKET
        channel = self.channels.pop(m.recipient_channel, None)
        if channel is not None:
            reason = c.OpenFailure(m.reason_code) if m.reason_code in set(c.OpenFailure) else None
            words = reason.name.lower().replace("_", " ") if reason else f"reason {m.reason_code}"
            told = f"open failed: {words}"
            text = visible(m.description)
            yield info(f"channel {channel.number}: {told}{': ' if text else ''}{text}")

    # --- data (§5.2)

    def adjust_sent(self, m: c.ChannelWindowAdjust) -> Lines:
        channel = self.of_peer.get(m.recipient_channel)
        if channel is not None:
            yield debug2(f"channel {channel.number}: window {channel.window} sent adjust {m.bytes_to_add}")
            channel.window += m.bytes_to_add

    def adjust_received(self, m: c.ChannelWindowAdjust) -> Lines:
        yield debug2(f"channel {m.recipient_channel}: rcvd adjust {m.bytes_to_add}")

    def data_received(self, m: c.ChannelData) -> Lines:
        self.take(m.recipient_channel, len(m.data))
        return ()

    def extended_received(self, m: c.ChannelExtendedData) -> Lines:
        self.take(m.recipient_channel, len(m.data))
        yield debug2(f"channel {m.recipient_channel}: rcvd ext data {len(m.data)}")

    def take(self, number: int, count: int) -> None:
        channel = self.channels.get(number)
        if channel is not None:
            channel.window -= count

    def extended_sent(self, m: c.ChannelExtendedData) -> Lines:
        channel = self.of_peer.get(m.recipient_channel)
        if channel is not None:
            yield debug2(f"channel {channel.number}: sent ext data {len(m.data)}")

    # --- the end of a channel (§5.3)

    def eof_sent(self, m: c.ChannelEof) -> Lines:
        channel = self.of_peer.get(m.recipient_channel)
        if channel is None:
            yield PACKET
            return
        yield debug2(f"channel {channel.number}: input open -> drain")
        yield debug2(f"channel {channel.number}: ibuf empty")
        yield debug2(f"channel {channel.number}: send eof")
        yield PACKET
        yield debug2(f"channel {channel.number}: input drain -> closed")

    def eof_received(self, m: c.ChannelEof) -> Lines:
        yield PACKET
        yield debug2(f"channel {m.recipient_channel}: rcvd eof")
        yield debug2(f"channel {m.recipient_channel}: output open -> drain")
        yield debug2(f"channel {m.recipient_channel}: obuf empty")
        yield debug2(f"channel {m.recipient_channel}: output drain -> closed")

    def close_sent(self, m: c.ChannelClose) -> Lines:
        channel = self.of_peer.get(m.recipient_channel)
        if channel is None:
            yield PACKET
            return
        channel.close_sent = True
        number = channel.number
        if channel.close_received:
            yield debug2(f"channel {number}: almost dead")
            yield debug2(f"channel {number}: gc: notify user")
            yield debug2(f"channel {number}: gc: user detached")
        yield debug2(f"channel {number}: send close")
        yield PACKET
        if channel.close_received:
            yield debug2(f"channel {number}: is dead")
            yield from self.free(channel)
        else:
            yield debug3(f"channel {number}: will not send data after close")

    def close_received(self, m: c.ChannelClose) -> Lines:
        yield PACKET
        channel = self.channels.get(m.recipient_channel)
        if channel is None:
            return
        channel.close_received = True
        number = channel.number
        yield debug2(f"channel {number}: rcvd close")
        yield debug3(f"channel {number}: will not send data after close")
        if not channel.close_sent:
            return
        yield debug2(f"channel {number}: is dead")
        yield debug2(f"channel {number}: gc: notify user")
        if channel.session >= 0:
            yield debug1(f"session_by_channel: session {channel.session} channel {number}")
            yield debug1(f"session_close_by_channel: channel {number} child 0")
        if channel.started:
            yield verbose(self.close_session(channel))
        yield debug2(f"channel {number}: gc: user detached")
        yield debug2(f"channel {number}: is dead")
        yield from self.free(channel)

    def close_session(self, channel: Channel) -> str:
        channel.started = False
        user = f"user {self.story.user} from {self.story.peer}"
        return f"Close session: {user} id {channel.session}"

    def free(self, channel: Channel) -> Lines:
        yield debug2(f"channel {channel.number}: garbage collecting")
        yield debug1(f"channel {channel.number}: free: {channel.name}, nchannels {len(self.channels)}")
        self.channels.pop(channel.number, None)
        self.of_peer.pop(channel.peer, None)

    # --- requests of a channel (§5.4, §6)

    def expected(self) -> Channel | None:
        """The channel that a request is for which does not wait until the peer has opened it."""
        opening = [each for each in self.channels.values() if each.by_us and each.peer < 0]
        return opening[0] if len(opening) == 1 else None

    def request_sent(self, m: c.ChannelRequest) -> Lines:
        channel = self.of_peer.get(m.recipient_channel) or self.expected()
        if channel is None:
            yield PACKET
            return
        number, kind = channel.number, m.request_type
        match m.body:
            case c.Env():
                name, value = visible(m.body.name), visible(m.body.value)
                yield debug1(f'channel {number}: setting env {name} = "{value}"')
            case c.Exec():
                yield debug1(f"Sending command: {visible(m.body.command)}")
            case c.Subsystem():
                yield debug1(f"Sending subsystem: {visible(m.body.name)}")
            case c.AgentReq():
                yield debug1("Requesting authentication agent forwarding.")
        yield debug2(f"channel {number}: request {kind} confirm {int(m.want_reply)}")
        yield PACKET
        if kind in ("exit-status", "exit-signal") and channel.session >= 0:
            yield debug1(f"session_exit_message: release channel {number}")
        if m.want_reply:
            channel.asked.append(kind)
        if kind in PROGRAM and channel.confirmed:
            yield debug2(f"channel_input_open_confirmation: channel {number}: callback done")
            yield debug2(self.open_confirm(number, channel.confirmed))
            channel.confirmed = None

    def request_received(self, m: c.ChannelRequest) -> Lines:
        yield PACKET
        number, kind, reply = m.recipient_channel, m.request_type, int(m.want_reply)
        if self.story.role == "client":
            yield debug1(f"client_input_channel_req: channel {number} rtype {kind} reply {reply}")
            return
        yield debug1(f"server_input_channel_req: channel {number} request {kind} reply {reply}")
        channel = self.channels.get(number)
        if channel is None or channel.session < 0:
            return
        yield debug1(f"session_by_channel: session {channel.session} channel {number}")
        yield debug1(f"session_input_channel_req: session {channel.session} req {kind}")
        if isinstance(m.body, c.Env):
            told = f"{visible(m.body.name)}={visible(m.body.value)}"
            yield debug2(f"Setting env {channel.session}: {told}")
        elif isinstance(m.body, c.PtyReq):
            yield debug1("Allocating pty.")
        elif isinstance(m.body, c.Subsystem):
            yield debug2(f"subsystem request for {visible(m.body.name)} by user {self.story.user}")

    def answer_received(self, m: c.ChannelSuccess | c.ChannelFailure) -> Lines:
        yield PACKET
        number = m.recipient_channel
        yield debug2(f"channel_input_status_confirm: type {m.NUMBER} id {number}")
        channel = self.channels.get(number)
        asked = channel.asked.popleft() if channel is not None and channel.asked else ""
        if asked not in ACCEPTED:
            return
        if isinstance(m, c.ChannelSuccess):
            yield debug2(f"{ACCEPTED[asked]} request accepted on channel {number}")
        else:
            yield info(f"{ACCEPTED[asked]} request failed on channel {number}")

    # --- sessions and forwardings, as they are told of

    def interactive(self, f: Any) -> Lines:
        self.pty, self.began = bool(f.get("pty")), float(f.get("time", 0.0))
        yield debug1("Entering interactive session.")

    def session_started(self, f: Any) -> Lines:
        channel = self.channels.get(int(f.get("channel", -1)))
        number = max(channel.session, 0) if channel is not None else 0
        if channel is not None:
            channel.started = True
        kind = text_of(f.get("kind", ""))
        command = text_of(f.get("command", ""))
        what = {"exec": "command", "subsystem": f"subsystem '{command}'"}.get(kind, kind)
        tty = text_of(f.get("tty") or "").removeprefix("/dev/")
        on = f" on {tty}" if tty else ""
        user = text_of(f.get("user", self.story.user))
        yield verbose(f"Starting session: {what}{on} for {user} from {self.story.peer} id {number}")

    def session_ended(self, f: Any) -> Lines:
        yield debug1("Received SIGCHLD.")
        channel = self.channels.get(int(f.get("channel", -1)))
        if channel is not None and channel.session >= 0:
            told = f"session {channel.session} channel {channel.number}"
            yield debug1(f"session_exit_message: {told}")

    def exited(self, f: Any) -> Lines:
        if f.get("channel") in (self.main, None) and self.exit_status is None:
            status = f.get("status")
            self.exit_status = -1 if status is None else int(status)
        return ()

    def channel_closed(self, f: Any) -> Lines:
        if f.get("channel") == self.main and self.exit_status is not None:
            self.story.finished = True
        return ()

    def forward(self, f: Any) -> Lines:
        kind, listen, target = (text_of(f.get(name, "")) for name in ("kind", "listen", "target"))
        if not f.get("ok", True):
            yield info(f"Warning: {kind} port forwarding failed for listen {listen}")
        elif kind == "remote":
            yield debug1(f"remote forward success for: listen {listen}, connect {target}")
        else:
            yield debug1(f"Local connections to {listen} forwarded to remote address {target}")

    # --- the end

    def closed(self, f: Any) -> Lines:
        sent, received = int(f.get("sent_bytes", 0)), int(f.get("received_bytes", 0))
        story = self.story
        if story.role == "server":
            for channel in self.channels.values():
                if channel.started:
                    yield verbose(self.close_session(channel))
            if not self.disconnected:
                yield verbose(f"Transferred: sent {sent}, received {received} bytes")
                yield verbose(f"Closing connection to {story.peer}")
            return
        if not story.authenticated or self.main < 0 or story.errors:
            return
        if self.pty:
            yield info(f"Connection to {story.host or story.address} closed.")
        if self.began is not None:
            seconds = float(f.get("time", 0.0)) - self.began
            yield verbose(f"Transferred: sent {sent}, received {received} bytes, in {seconds:.1f} seconds")
            if seconds > 0:
                rates = f"sent {sent / seconds:.1f}, received {received / seconds:.1f}"
                yield verbose(f"Bytes per second: {rates}")
        yield debug1(f"Exit status {-1 if self.exit_status is None else self.exit_status}")
        yield from self.factors()

    def compressed(self, f: Any) -> Lines:
        self.zlib = f
        return ()

    def factors(self) -> Lines:
        for way, name in (("outgoing", "deflated"), ("incoming", "inflated")):
            if self.zlib.get(name):
                plain, packed = self.zlib[name]
                factor = packed / plain if plain else 0.0
                told = f"raw data {plain}, compressed {packed}, factor {factor:.2f}"
                yield debug1(f"compress {way}: {told}")
