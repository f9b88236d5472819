"""-R of ssh(1): what the server listens to for us, and where each connection leads on this side."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..connection.socks import NOT_ALLOWED, REFUSED
from ..errors import ChannelOpenFailed, RequestFailed, SSHError
from ..events import ChannelOffered
from ..messages.connection import (
    CancelStreamlocalForward,
    CancelTcpipForward,
    ForwardedStreamlocal,
    ForwardedTcpip,
    OpenFailure,
    StreamlocalForward,
    TcpipForward,
    TcpipForwardReply,
)
from ..messages.declare import Struct
from ..values import slotted
from .forward import Listener, Place, ask_target, dial_out, finish, pump, show

if TYPE_CHECKING:
    from .client import Connection

__all__ = ["Permit", "Remote"]

Permit = Callable[[str, int], bool]


@slotted(frozen=True)
class Target:
    """Where a forwarding leads: `to`; None: where SOCKS says, as far as `permit` lets it."""

    to: Place | None
    permit: Permit | None


class Remote:
    """The remote forwardings of one connection, by the place where the server listens."""

    __slots__ = ("_connection", "_targets")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._targets: dict[Place, Target] = {}

    async def listen(self, place: Place, to: Place | None, permit: Permit | None) -> Listener:
        """Has the server listen at `place`. Raises RequestFailed where it refuses."""
        connection = self._connection
        granted, reply = await connection.global_request(*_request(place))
        kind = "remote dynamic" if to is None else "remote"
        connection.link.state("forward", kind=kind, listen=show(place), target=show(to), ok=granted)
        if not granted:
            what = f"path {place}" if isinstance(place, str) else f"port {place[1]}"
            raise RequestFailed(f"remote port forwarding failed for listen {what}")
        if not isinstance(place, str) and not place[1]:
            place = (place[0], TcpipForwardReply.decode(reply).port)
        self._targets[place] = Target(to, permit)

        async def close() -> None:
            if self._targets.pop(place, None) and not connection.closed:
                await connection.global_request(*_request(place, end=True))

        return Listener(place, close)

    def take(self, question: ChannelOffered) -> bool:
        """Takes a channel that belongs to one of the forwardings; False: it does not."""
        place: Place | None = None
        match question.body:
            case ForwardedTcpip(address=address, port=port):
                place = self._connection.core.mux.forwards.match(address, port)
            case ForwardedStreamlocal(socket_path=path):
                place = path
        target = self._targets.get(place) if place is not None else None
        if target is None:
            return False
        if target.to is None:
            self._connection.spawn(self._asked(question, target.permit))
        else:
            self._connection.spawn(self._forwarded(question, target.to))
        return True

    async def _forwarded(self, question: ChannelOffered, to: Place) -> None:
        connection = self._connection
        try:
            reader, writer = await dial_out(to)
        except SSHError as error:
            refusal = ChannelOpenFailed(str(error), reason=OpenFailure.CONNECT_FAILED.value)
            connection.link.answer(question, refusal)
            return
        io = connection.adopt(question.channel)
        connection.link.answer(question, True)
        await pump(io, reader, writer)

    async def _asked(self, question: ChannelOffered, permit: Permit | None) -> None:
        """With SOCKS the channel has to be open before it can say where it leads."""
        connection = self._connection
        io = connection.adopt(question.channel)
        connection.link.answer(question, True)
        try:
            socks = await ask_target(io.reader, io.writer)
            if socks is None or socks.target is None:
                return
            if permit is not None and not permit(*socks.target):
                io.writer.write(socks.refused(NOT_ALLOWED))
                text = f"PermitRemoteOpen does not let the server reach {show(socks.target)}"
                connection.link.state("note", level="error", text=text)
                return
            try:
                reader, writer = await dial_out(socks.target)
            except SSHError:
                io.writer.write(socks.refused(REFUSED))
                return
            io.writer.write(socks.granted())
            await pump(io, reader, writer, inward_first=socks.rest)
        except SSHError:
            pass  # the channel is over
        finally:
            await finish(io)


def _request(place: Place, *, end: bool = False) -> tuple[str, Struct]:
    """The global request that begins, or ends, the server's listening."""
    cancel = "cancel-" * end
    if isinstance(place, str):
        path = CancelStreamlocalForward(place) if end else StreamlocalForward(place)
        return f"{cancel}streamlocal-forward@openssh.com", path
    return f"{cancel}tcpip-forward", CancelTcpipForward(*place) if end else TcpipForward(*place)
