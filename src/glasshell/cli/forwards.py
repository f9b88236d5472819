"""What -L, -R and -D of ssh(1) ask for, requested of a connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, TypeAlias

from ..aio.client import Connection
from ..aio.forward import Listener, Place, show
from ..config.client_options import ClientOptions, Forward
from ..errors import HostKeyRefused, SSHError
from ..keys.patterns import match_pattern

__all__ = ["Forwards", "Kind"]

Kind: TypeAlias = Literal["local", "remote", "dynamic"]


class Forwards:
    """The forwardings of one connection, in the words of ssh_config(5)."""

    def __init__(self, connection: Connection, options: ClientOptions, note: Callable[[str], None]) -> None:
        """`note` hears what ssh(1) tells meanwhile."""
        self._connection = connection
        self._options = options
        self._note = note
        self._open: dict[tuple[Kind, Place], Listener] = {}

    async def request(self) -> None:
        """All that the options ask for. What cannot be is told; raises under ExitOnForwardFailure."""
        options = self._options
        wanted: tuple[tuple[Kind, tuple[Forward, ...]], ...] = (
            ("local", options.local_forwards), ("dynamic", options.dynamic_forward),
            ("remote", options.remote_forwards),
        )  # fmt: skip
        if self._connection.trust.restricted and any(forwards for _, forwards in wanted):
            self._note("Port forwarding is disabled to avoid man-in-the-middle attacks.")
            if options.exit_on_forward_failure:
                why = self._connection.trust.restricted
                raise HostKeyRefused(f"Error: forwarding disabled due to host key check failure: {why}")
            return
        for kind, forwards in wanted:
            for forward in forwards:
                try:
                    port = await self.open(kind, forward)
                except SSHError as error:
                    if options.exit_on_forward_failure:
                        raise
                    self._note(f"Could not request {kind} forwarding: {error}")
                    continue
                if kind == "remote" and not forward.port and not forward.path:
                    self._note(f"Allocated port {port} for remote forward to {show(_leads_to(forward))}")

    async def open(self, kind: Kind, forward: Forward) -> int:
        """Asks for one; the port that is listened to, 0 for a path. Raises SSHError."""
        options, connection = self._options, self._connection
        place, to = self._place(kind, forward), _leads_to(forward)
        if kind == "remote":
            listener = await connection.forward_remote(place, to, permit=None if to else self._permits)
        elif to is None:
            listener = await connection.forward_dynamic(place)
        else:
            listener = await connection.forward_local(
                place, to, mask=options.stream_local_bind_mask, unlink=options.stream_local_bind_unlink
            )
        self._open[kind, place] = listener
        return listener.port

    async def cancel(self, kind: Kind, forward: Forward) -> bool:
        """Ends one that was asked for with the same words; whether there was one."""
        listener = self._open.pop((kind, self._place(kind, forward)), None)
        if listener is not None:
            await listener.close()
        return listener is not None

    def _place(self, kind: Kind, forward: Forward) -> Place:
        if forward.path:
            return forward.path
        usual = "" if self._options.gateway_ports and kind != "remote" else "localhost"
        return (usual if forward.bind is None else forward.bind), forward.port

    def _permits(self, host: str, port: int) -> bool:
        """PermitRemoteOpen: without it everything may be reached, as with `any`."""
        permitted = self._options.permit_remote_open
        return not permitted or any(_permits(item, host, port) for item in permitted)


_EVERYTHING: Final = "any"


def _permits(item: str, host: str, port: int) -> bool:
    if item.lower() in (_EVERYTHING, "none"):
        return item.lower() == _EVERYTHING
    name, _, number = item.rpartition(":")
    name = name.removeprefix("[").removesuffix("]")
    return match_pattern(host.lower(), name.lower()) and number in ("*", str(port))


def _leads_to(forward: Forward) -> Place | None:
    """Where it leads; None: each says so by SOCKS."""
    if forward.host_path:
        return forward.host_path
    return (forward.host, forward.host_port) if forward.host else None
