"""What stands above the key exchange of a captured connection: login and channels, read or inferred."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from ..crypto import readonly
from ..crypto.registry import CipherAlgorithm, Kind, MacAlgorithm
from ..errors import MalformedMessage
from ..messages import auth, transport
from ..messages.auth import method_context
from ..messages.declare import lookup
from ..wire import visible
from .channels import Channels
from .infer import Login, Sizes, Traffic
from .side import LateDecompressor, Side
from .telling import NOWHERE, Frames, Teller

MAX_EXTENSIONS: Final = 64


class Upper:
    """Follows the messages that matter to somebody who only watches."""

    def __init__(self, tell: Teller, sides: Mapping[bool, Side]) -> None:
        self._tell = tell
        self._sides = sides
        self.authenticated = False
        self.compression = {True: "none", False: "none"}
        """The compression agreed on, by direction."""
        self._auth_context = ""
        self._user = self._method = ""
        self._at: tuple[float, Frames, bool, bool | None] = (0.0, NOWHERE, True, None)
        """Time, frames, direction and verdict of the message that is being taken."""
        self._channels = Channels(self._state, self._packet)
        self._sizes: dict[bool, Sizes] = {}
        """How long packets are in a sealed connection, by whether the client sends them."""
        self._login: Login | None = None
        self._traffic: Traffic | None = None

    def context(self, number: int) -> str:
        """What a number from 60 to 79 means now."""
        return self._auth_context if 60 <= number < 80 else ""

    # --- read

    def take(self, side: Side, payload: bytes, time: float, at: Frames, verified: bool | None) -> None:
        """One message, after its record has been told."""
        number = payload[0]
        if number < 90:
            handle = _HANDLERS.get(number)
            found = lookup("", number) if handle else None
            if handle is None or found is None:
                return
            self._at = time, at, side.forward, verified
            try:
                message = found.decode(payload)
            except MalformedMessage:
                return
            handle(self, side, message)
        elif self.authenticated and number <= 99:
            self._at = time, at, side.forward, verified
            self._channels.take(side.forward is self._tell.client, payload)

    def lost(self, side: Side) -> None:
        """Something of this direction is missing."""
        self._channels.lost(side.forward is self._tell.client)

    def _state(self, name: str, /, **facts: Any) -> None:
        time, at, forward, verified = self._at
        self._tell.state(name, time, at, forward, verified, **facts)

    def _packet(self, sent: bool, channel: int, context: str, payload: bytes) -> None:
        time, at, _, verified = self._at
        self._tell.subsystem(sent, time, at, verified, channel=channel, context=context, payload=payload)

    def _on_disconnect(self, side: Side, message: transport.Disconnect) -> None:
        time, at, forward, verified = self._at
        reason, text = message.reason_code, visible(message.description)
        self._tell.late(
            time, at, forward,
            lambda sent: ("disconnect", {"sent": sent, "reason": reason, "description": text}), verified,
        )  # fmt: skip

    def _on_ext_info(self, side: Side, message: transport.ExtInfo) -> None:
        for extension in message.extensions[:MAX_EXTENSIONS]:
            self._state("extension", name=visible(extension.name), value=visible(extension.value))

    def _on_request(self, side: Side, message: auth.UserauthRequest) -> None:
        self._user, self._method = visible(message.user_name), message.method_name
        self._auth_context = method_context(message.method_name)

    def _on_failure(self, side: Side, message: auth.UserauthFailure) -> None:
        self._state("auth_methods", methods=message.methods, partial=message.partial_success)

    def _on_success(self, side: Side, message: auth.UserauthSuccess) -> None:
        if self.authenticated:
            return
        self.authenticated = True
        self._state("authenticated", user=self._user, method=self._method)
        for each in self._sides.values():
            row = readonly.find(Kind.COMPRESSION, self.compression[each.forward])
            if row is not None and row.delayed:
                each.inbound.decompressor = LateDecompressor()

    # --- inferred

    def seal(
        self, side: Side, cipher: CipherAlgorithm | None, mac: MacAlgorithm | None, compression: str
    ) -> None:  # fmt: skip
        """`side` cannot be read from here on; its algorithms say how long its packets are."""
        sent = side.forward is self._tell.client
        sizes = None
        if cipher is not None and (cipher.aead or mac is not None):
            clear = cipher.aead or (mac is not None and mac.etm)
            tag = 16 if cipher.aead else mac.tag_size if mac is not None else 0
            sizes = self._sizes[sent] = Sizes(cipher.block_size, 4 if clear else 0, tag)
        if not sent and compression != "zlib" and not self.authenticated:
            self._login = Login(self._tell.state, sizes)
        if self._traffic is None or sent:
            self._traffic = Traffic(self._sizes)

    def sealed(self, side: Side, data: bytes, time: float, frame: int) -> None:
        """Bytes that cannot be read [hot]: counted, and what their length says."""
        at = (frame, frame)
        walker = side.walker
        if walker is not None and not walker.lost:
            units = walker.feed(data)
            facts = {"bytes": len(data), "packet_length": walker.first, "packets": walker.begun}
            self._tell.encrypted(time, at, side.forward, **facts)
        else:
            units = [len(data)]
            self._tell.encrypted(time, at, side.forward, bytes=len(data), packet_length=0, packets=None)
        if self._traffic is None or not units:
            return
        sent = side.forward is self._tell.client
        self._traffic.take(sent, units, time)
        login = self._login
        if login is None or login.done:
            return
        if sent:
            login.client(time)
        else:
            login.server(units, time, at)

    def finish(self, time: float) -> None:
        """The connection is over."""
        if self._login is not None and self._login.succeeded is None:
            self._tell.state(
                "inferred", time, what="no_login", attempts=0,
                evidence="no answer of the server has a length that a login's end would have",
            )  # fmt: skip
        if self._traffic is not None:
            self._tell.state("traffic", time, **self._traffic.verdict())


_HANDLERS: Final[dict[int, Callable[[Upper, Side, Any], None]]] = {
    transport.Disconnect.NUMBER: Upper._on_disconnect,
    transport.ExtInfo.NUMBER: Upper._on_ext_info,
    auth.UserauthRequest.NUMBER: Upper._on_request,
    auth.UserauthFailure.NUMBER: Upper._on_failure,
    auth.UserauthSuccess.NUMBER: Upper._on_success,
}
