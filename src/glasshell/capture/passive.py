"""An observer of one SSH connection that it is no part of: bytes of a TCP stream in, records out.

What is in clear is told as a client would tell it; what is encrypted is opened where a key log has the
secret of the key exchange, and else counted, with what the lengths give away. Nothing that a peer may have
sent raises anything: what cannot be read is named.

    passive = Passive(stream, frame, sink, keys)
    passive.receive(forward, data, time, frame_number)     bytes, in order
    passive.gap(forward, length, time, frame_number)       bytes that the capture has not
    passive.ended(forward, how, time, frame_number)        FIN, RST or the end of the file
    passive.finish()                                       nothing more comes

`forward` is the direction from the sender of the stream's first frame. `passive.ssh` is False as soon
as the stream is known not to be SSH; whoever feeds it may then drop the stream.
"""

from __future__ import annotations

from typing import Final

from ..errors import IntegrityError, MalformedMessage, SSHError
from ..observe.seen import Frame
from ..transport.ident import Identification, IdentificationReader, parse_lax
from ..transport.rules import Role
from ..wire import visible
from .exchanges import Exchanges
from .keylog import KeyLog
from .resync import Piece, can_seek
from .side import Mode, Side
from .telling import NOWHERE, Frames, Sink, Teller
from .upper import Upper

SYN: Final = 0x02
ACK: Final = 0x10
SSH_PORT: Final = 22
MAX_PREFACE: Final = 8192
"""Bytes in front of an identification, while nothing else says that the stream is SSH."""
MAX_BAD_TAGS: Final = 3
"""Packets in a row that do not verify, before a direction is given up."""
KEXINIT: Final = 20
NEWKEYS: Final = 21
_PREFIX: Final = b"SSH-"


class Passive:
    """Watches one stream; see the module's own words."""

    def __init__(
        self, stream: int, opened: Frame, sink: Sink, keys: KeyLog | None = None, *,
        show_secrets: bool = False,
    ) -> None:  # fmt: skip
        self.ssh: bool | None = None
        """Whether the stream is SSH; None: not known yet."""
        self._opened = opened
        self._tell = Teller(stream, sink, opened.time, show_secrets=show_secrets)
        self._sides = {True: Side(True), False: Side(False)}
        self._exchanges = Exchanges(self._tell, self._sides, keys, self._received)
        self._upper = Upper(self._tell, self._sides)
        self._handshake: list[float] = []
        """When SYN, SYN ACK and ACK were seen."""
        self._now = opened.time
        self._closed = False

    @property
    def undecided(self) -> bool:
        """Whether records wait because it is not known yet who the client is."""
        return self._tell.client is None and self.ssh is not False

    @property
    def over(self) -> bool:
        """Whether both directions have ended and everything has been told."""
        return self._closed

    @property
    def kept(self) -> int:
        """Bytes that are kept because more of them must come, or keys, before they can be told of."""
        return sum(side.kept for side in self._sides.values())

    def give_up(self, why: str) -> None:
        """Keeps nothing any longer: what waits is not read, and what is not known to be SSH is none."""
        if self.ssh is None:
            self.ssh = False
        for side in self._sides.values():
            if side.kept:
                self._give_up(side, why, self._now, NOWHERE)
                side.reader = IdentificationReader("client", parse_lax)

    # --- what comes in

    def segment(self, frame: Frame) -> None:
        """A frame of the stream, whatever it carries: the three of the TCP handshake are timed."""
        steps = len(self._handshake)
        if steps < 3 and frame.flags & (SYN | ACK) == (SYN, SYN | ACK, ACK)[steps]:
            self._handshake.append(frame.time)

    def receive(self, forward: bool, data: bytes, time: float, frame: int = 0) -> None:
        """The next bytes of one direction, which came at `time` (seconds since 1970) in `frame`."""
        if self.ssh is False or not data:
            return
        side = self._sides[forward]
        side.total += len(data)
        self._received(side, data, time, frame)

    def gap(self, forward: bool, length: int, time: float, frame: int = 0) -> None:
        """`length` bytes of one direction are missing; `frame` is the first one after them."""
        if self.ssh is False:
            return
        side, self._now = self._sides[forward], max(self._now, time)
        if side.mode is Mode.IDENTIFICATION:
            if self.ssh is None and not self._begins_in_the_middle():
                self.ssh = False
                return
            if self.ssh is None:
                self._middle()
            else:
                self._give_up(side, "the beginning is not in the capture", time, (frame, frame))
        self._tell.state("gap", time, (frame, frame), forward, bytes=length)
        needed = side.inbound.needed() if side.mode is Mode.PACKETS else 0
        if needed and length <= needed:
            side.damaged = True
            side.inbound.feed(bytes(length))
            self._open(side, time, frame)
        elif side.mode is Mode.PACKETS and self._can_seek(side):
            side.seek(length)
            self._upper.lost(side)
            self._count(side, [Piece(side.inbound.rest(), time, side.first_frame)])
        elif side.mode in (Mode.PACKETS, Mode.HELD, Mode.SEEKING):
            self._give_up(side, f"{length} bytes are missing", time, (frame, frame))
        elif side.walker is not None:
            side.walker.pass_over(length)

    def ended(self, forward: bool, how: str, time: float, frame: int = 0) -> None:
        """Nothing more comes in one direction; `how` as in `streams.Ended`."""
        if self.ssh is False or self._sides[forward].ended:
            return
        self._sides[forward].ended, self._now = True, max(self._now, time)
        if self.ssh:
            self._tell.state("ended", self._now, (frame, frame), forward, how=how)
        if all(side.ended for side in self._sides.values()):
            self.finish()

    def finish(self) -> None:
        """The stream is over: what waited is told, then the sums."""
        if self._closed:
            return
        self._closed = True
        if self.ssh is not True:
            self.ssh = False
            return
        self.decide()
        self._exchanges.finish(self._now)
        for side in self._sides.values():
            if side.mode is Mode.IDENTIFICATION and side.total:
                self._no_identification(side)
            elif side.mode is Mode.SEEKING:
                self._give_up(side, "no packet is found behind the missing bytes", self._now, NOWHERE)
            elif side.mode is Mode.PACKETS and side.inbound.buffered():
                at = (side.first_frame, side.first_frame)
                self._give_up(side, "it ends within a packet", self._now, at)
        self._upper.finish(self._now)
        client = self._sides[bool(self._tell.client)]
        server = self._sides[not self._tell.client]
        self._tell.state("closed", self._now, sent_bytes=client.total, received_bytes=server.total)

    # --- who is who

    def decide(self) -> None:
        """Settles who is the client, by what is known now."""
        if self._tell.client is None and self.ssh:
            self._decided(self._likely_client())

    def settle(self) -> None:
        """Nobody can wait any longer: what is not known to be SSH by now is none."""
        if self.ssh is None:
            self.ssh = False
        self.decide()

    def _likely_client(self) -> bool:
        """Who connected; else who had no lines before its identification, or is not at port 22."""
        frame = self._opened
        if frame.flags & SYN:
            return not frame.flags & ACK
        preface = [side.forward for side in self._sides.values() if side.told and side.ident]
        if len(preface) == 1:
            return not preface[0]
        if SSH_PORT in (frame.source_port, frame.destination_port):
            return frame.source_port != SSH_PORT
        return frame.source_port >= frame.destination_port

    def _decided(self, client_is_first: bool) -> None:
        self._tell.decide(client_is_first)
        self._exchanges.roles_known(self._now)

    # --- identification

    def _received(self, side: Side, data: bytes, time: float, frame: int) -> None:
        self._now = max(self._now, time)
        mode = side.mode
        if mode is Mode.PACKETS:
            if not side.inbound.total_bytes and self._odd_start(side, data, time, frame):
                return
            if not side.inbound.buffered():
                side.first_frame = frame
            side.inbound.feed(data)
            self._open(side, time, frame)
        elif mode is Mode.IDENTIFICATION:
            self._identify(side, data, time, frame)
        elif mode is Mode.SEEKING:
            self._seek(side, Piece(data, time, frame))
        elif mode is Mode.HELD:
            if not side.hold(data, time, frame):
                self._exchanges.seal(side, "too much came before the key exchange was complete", time)
        else:
            self._upper.sealed(side, data, time, frame)

    def _can_seek(self, side: Side) -> bool:
        inbound = side.inbound
        return inbound.decompressor is None and can_seek(inbound.opener, side.cipher)

    def _seek(self, side: Side, piece: Piece) -> None:
        """Looks for a packet behind a hole; what comes before it is counted."""
        found = side.found(piece)
        if found is not None:
            before, after = found
            self._count(side, before)
            side.mode = Mode.PACKETS
            for each in after:
                self._received(side, each.data, each.time, each.frame)
        elif side.seeker is not None and side.seeker.hopeless:
            why = "no packet is found behind the missing bytes"
            self._give_up(side, why, piece.time, (piece.frame, piece.frame))

    def _count(self, side: Side, pieces: list[Piece]) -> None:
        for each in pieces:
            if each.data:
                self._upper.sealed(side, each.data, each.time, each.frame)

    def _odd_start(self, side: Side, data: bytes, time: float, frame: int) -> bool:
        """Names what begins like no packet of SSH-2: a line of text, or the first packet of SSH-1."""
        if side.inbound.buffered() or len(data) < 6:
            return False
        ident, length = side.ident, int.from_bytes(data[:4], "big")
        if data[:6].decode("latin-1").isprintable():
            text = visible(data[:100].rstrip())
            self._give_up(side, f"text in place of a packet: {text}", time, (frame, frame))
        elif ident is not None and ident.protocol == "1.99" and data[5] != KEXINIT and (length + 4) % 8:
            self._give_up(side, "SSH-1 follows, which is not read here", time, (frame, frame))
        else:
            return False
        self._upper.sealed(side, data, time, frame)
        return True

    def _identify(self, side: Side, data: bytes, time: float, frame: int) -> None:
        side.first_frame = side.first_frame or frame
        side.head = (side.head + data)[:4] if len(side.head) < 4 else side.head
        if not self._may_be_ssh(side, data):
            return
        try:
            found = side.reader.feed(data)
        except SSHError as error:
            self.ssh = self.ssh or False
            self._give_up(side, str(error), time, (side.first_frame, frame))
            return
        if found is None:
            return
        side.ident, rest = found
        if self.ssh is None:
            self._begin(time)
        self._preface(side, time, frame)
        # It may have come byte by byte, and other lines before it; its end is LF, or CR LF.
        before = sum(len(text) + 2 for text in side.reader.preface)
        length = min(max(side.total - len(rest) - before, len(side.ident.line) + 1), len(side.ident.line) + 2)
        self._identified(side, side.ident, length, time, (side.first_frame, frame))
        side.first_frame = frame
        if rest and self.ssh:
            self._received(side, rest, time, frame)

    def _may_be_ssh(self, side: Side, data: bytes) -> bool:
        """Whether it is worth reading on; settles `ssh` where it is not."""
        if _PREFIX.startswith(side.head[:4]):
            return True
        if self.ssh is None:
            if self._begins_in_the_middle():
                self._middle()
                self._upper.sealed(side, data, self._now, side.first_frame)
                return False
            other = self._sides[not side.forward]
            both = other.total and not _PREFIX.startswith(other.head)
            if both or side.total > MAX_PREFACE or any(c < 9 for c in data[:256]):
                self.ssh = False  # only a server may say something first (RFC 4253 §4.2)
                return False
        return True

    def _begins_in_the_middle(self) -> bool:
        frame = self._opened
        ports = frame.source_port, frame.destination_port
        return not frame.flags & SYN and SSH_PORT in ports

    def _middle(self) -> None:
        """The capture begins in the middle of a connection at SSH's own port: all of it is encrypted."""
        self._begin(self._now)
        self.decide()
        for side in self._sides.values():
            side.mode = Mode.SEALED
        why = "the capture begins in the middle of the connection"
        self._tell.state("not_decrypted", self._now, why=why, epoch=None)

    def _begin(self, time: float) -> None:
        self.ssh = True
        frame = self._opened
        self._tell.state("started", frame.time, role="network", wall_time=frame.time, software="", version="")
        answered = self._handshake[1] if len(self._handshake) > 1 else frame.time
        self._tell.late(answered, NOWHERE, None, self._connected)
        if len(self._handshake) == 3:
            syn, syn_ack, ack = self._handshake
            self._tell.state("tcp_handshake", ack, NOWHERE, None, syn_ack=syn_ack - syn, ack=ack - syn_ack)

    def _connected(self, _: bool) -> tuple[str, dict[str, object]]:
        frame = self._opened
        first, second = (frame.source, frame.source_port), (frame.destination, frame.destination_port)
        client, server = (first, second) if self._tell.client else (second, first)
        facts = {"address": server[0], "port": server[1], "local_address": client[0], "local_port": client[1]}
        return "connected", facts

    def _preface(self, side: Side, time: float, frame: int) -> None:
        for text in side.reader.preface[side.told :]:
            self._tell.state("preface_line", time, (side.first_frame, frame), side.forward, text=text)
        side.told = len(side.reader.preface)

    def _identified(self, side: Side, ident: Identification, length: int, time: float, at: Frames) -> None:
        line = visible(ident.line)

        def say(sent: bool) -> tuple[str, dict[str, object]]:
            if sent:
                return "identification_sent", {"line": line, "length": length}
            facts = {"line": line, "protocol": ident.protocol, "software": ident.name, "length": length}
            return "identification_received", facts

        side.mode = Mode.PACKETS
        self._tell.late(time, at, side.forward, say)
        if ident.protocol.startswith("1.") and ident.protocol != "1.99":
            self.decide()
            for each in self._sides.values():
                each.mode = Mode.SEALED if each.ident or each is side else each.mode
            self._tell.state(
                "not_decrypted", time, at, side.forward, epoch=None,
                why=f"SSH-{ident.protocol}: the first protocol, which is not read here",
            )  # fmt: skip

    def _no_identification(self, side: Side) -> None:
        who = "client" if side.forward is self._tell.client else "server"
        self._tell.state(
            "error", self._now, NOWHERE, side.forward, type="ProtocolViolation",
            text=f"the {who} did not begin with an SSH identification string but with:"
            f" {visible(side.reader.received)}",
            hint="Something that speaks another protocol.", clause="RFC 4253 4.2",
        )  # fmt: skip

    # --- packets

    def _open(self, side: Side, time: float, frame: int) -> None:
        """Opens what is whole."""
        inbound = side.inbound
        while side.mode is Mode.PACKETS:
            seq, epoch, before = inbound.seq, inbound.epoch, inbound.total_bytes
            try:
                payload = inbound.next()
            except IntegrityError:
                inbound.skip()
                self._altered(side, time, frame)
                continue
            except SSHError as error:
                self._unreadable(side, error, inbound.total_bytes > before, time, frame)
                continue
            if payload is None:
                return
            at, side.first_frame = (side.first_frame, frame), frame
            if side.damaged:
                self._damaged(side, time, at)
                continue
            side.bad_tags = 0
            self._packet(side, bytes(payload), time, at, side.verdict(), seq, epoch)

    def _packet(
        self, side: Side, payload: bytes, time: float, at: Frames, verified: bool | None, seq: int, epoch: int
    ) -> None:  # fmt: skip
        number = payload[0]
        lengths = side.inbound.lengths
        context = self._upper.context(number)
        if 30 <= number < 50:
            if self._tell.client is None:
                self._decided(self._exchanges.client_by_number(side, number, self._likely_client()))
            context = self._exchanges.context(side)
        self._tell.message(
            side.forward, time, at, verified,
            seq=seq, epoch=epoch, context=context, payload=payload, lengths=lengths,
        )  # fmt: skip
        if number == KEXINIT:
            marked = self._exchanges.on_kexinit(side, payload, time, at)
            if self._tell.client is None and marked is not None:
                self._decided(side.forward if marked == "client" else not side.forward)
            elif self._tell.client is None and self._tell.full:
                self.decide()
        elif number == NEWKEYS:
            self.decide()
            self._exchanges.on_newkeys(side, time, at, self._upper)
        elif 30 <= number < 50:
            self._exchanges.on_method(side, payload, context, time, at)
        else:
            if self._tell.client is None and (number > 4 or self._tell.full):
                self.decide()
            self._upper.take(side, payload, time, at, verified)

    def _altered(self, side: Side, time: float, frame: int) -> None:
        """A packet of an AEAD that does not verify: its length is in clear, so that the next may be read."""
        at, side.first_frame = (side.first_frame, frame), frame
        side.bad_tags += 1
        length, _, total = side.inbound.lengths
        if side.damaged:
            self._damaged(side, time, at)
        else:
            facts = {"bytes": total, "packet_length": length, "packets": 1}
            self._tell.encrypted(time, at, side.forward, False, **facts)
            why = "a packet does not verify"
            self._tell.state("not_decrypted", time, at, side.forward, epoch=side.epoch, why=why)
            self._upper.lost(side)
        if side.inbound.decompressor is not None or side.bad_tags >= MAX_BAD_TAGS:
            self._give_up(side, "what follows a packet that does not verify cannot be read", time, at)

    def _unreadable(self, side: Side, error: SSHError, passed: bool, time: float, frame: int) -> None:
        """A packet that opens and makes no sense, or a length that is none."""
        at, side.first_frame = (side.first_frame, frame), frame
        compressed = side.inbound.decompressor is not None
        if passed and isinstance(error, MalformedMessage) and not compressed:
            side.damaged = False
            self._tell.state("not_decrypted", time, at, side.forward, epoch=side.epoch, why=str(error))
            return
        self._give_up(side, str(error), time, at)

    def _damaged(self, side: Side, time: float, at: Frames) -> None:
        """A packet of which bytes are missing; where the next one begins is known."""
        side.damaged = False
        side.verdict()
        length, _, total = side.inbound.lengths
        self._tell.encrypted(time, at, side.forward, bytes=total, packet_length=length, packets=1)
        self._upper.lost(side)
        if side.kex is not None:
            side.kex.incomplete = True
        if side.inbound.decompressor is not None or side.cipher.endswith("-cbc"):
            self._give_up(side, "what follows missing bytes cannot be read", time, at)

    def _give_up(self, side: Side, why: str, time: float, at: Frames) -> None:
        """From here on nothing of this direction can be read."""
        rest = side.inbound.rest()
        side.mode, side.walker = Mode.LOST, None
        if self.ssh:
            self._tell.state("not_decrypted", time, at, side.forward, epoch=side.epoch, why=why)
            self._upper.lost(side)
            self._count(side, [*side.held, Piece(rest, time, at[1])])
            if side.seeker is not None:
                self._count(side, side.seeker.pieces)
        side.held, side.held_size, side.seeker = [], 0, None

    def role(self, side: Side) -> Role:
        """Which side sends this direction."""
        return "client" if side.forward is self._tell.client else "server"
