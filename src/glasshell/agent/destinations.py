"""Where a key may be used: its destinations, and where a client of the agent leads (OpenSSH PROTOCOL.agent).

A client that says where its connection leads is bound to that: hop by hop, each with the host key that the
server has proved to have. A key with destinations is shown, and signs, only along a way that they allow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ..errors import LimitExceeded, MalformedMessage
from ..keys.certificate import AnyKey, Certificate, read_key
from ..keys.patterns import match_pattern
from ..messages.auth import HOSTBOUND, HostboundRequest, PublickeyRequest, UserauthRequest
from ..values import slotted
from ..wire import Reader, string
from . import adding

__all__ = [
    "MAX_DESTINATIONS",
    "Bound",
    "Route",
    "SignedLogin",
    "Stop",
    "allowed",
    "encode_routes",
    "login_in",
    "read_routes",
]  # fmt: skip

MAX_DESTINATIONS: Final = 1024
"""Most destinations of a key: OpenSSH's own bound."""

MAX_USER: Final = 256
"""Longest pattern of users, in characters. Who is lent the agent may add keys, and ask about users of 256 KB:
what each is compared with has to be short."""


@slotted(frozen=True)
class Stop:
    """One end of a destination. Without a host it is where the agent runs.

    `keys` are the host's, each with whether it is an authority's that vouches for the host by certificates;
    `user` is a pattern, empty: anybody.
    """

    host: str = ""
    keys: tuple[tuple[AnyKey, bool], ...] = ()
    user: str = ""

    def is_at(self, key: AnyKey, wall: float) -> bool:
        """Whether a host that shows `key` is this one; `wall`: seconds since 1970."""
        if isinstance(key, Certificate):
            trusted = any(authority and each == key.authority for each, authority in self.keys)
            return trusted and not key.objection("host", self.host, wall)
        return any(not authority and each == key for each, authority in self.keys)


@slotted(frozen=True)
class Route:
    """A destination: from where to where."""

    origin: Stop
    target: Stop


@slotted(frozen=True)
class Bound:
    """One hop of a client's way: the host's key and the session there; whether the agent goes on from it."""

    key: AnyKey
    session_id: bytes
    forwarding: bool


@slotted(frozen=True)
class SignedLogin:
    """What a signature is for, where that is a login: in which session, as whom, at which host if it says."""

    session_id: bytes
    user: str
    host_key: bytes | None


def allowed(routes: Sequence[Route], way: Sequence[Bound], user: str | None, wall: float) -> str:
    """Why `routes` do not allow a key to be used along `way`; empty where they do.

    `user` is whom a signature would log in; None: the key is to be seen, no more.
    """
    here: AnyKey | None = None
    for number, bound in enumerate(way):
        last = number == len(way) - 1
        if last and bound.forwarding and user is not None:
            return "a signature was asked for on a hop that forwards"
        if not last and not bound.forwarding:
            return "forwarded from a connection that was to log in alone"
        if not _leads(routes, here, bound.key, user if last else None, wall):
            return f"no destination leads to {bound.key.fingerprint()}"
        here = bound.key
    if way and way[-1].forwarding and user is None and not _leads(routes, here, None, None, wall):
        return "no destination leads on from there"
    return ""


def _leads(
    routes: Sequence[Route], origin: AnyKey | None, target: AnyKey | None, user: str | None, wall: float
) -> bool:
    """Whether a route goes from `origin` (None: here) to `target` (None: anywhere), for `user` if given."""
    for route in routes:
        starts = not route.origin.host if origin is None else route.origin.is_at(origin, wall)
        ends = target is None or route.target.is_at(target, wall)
        fits = user is None or not route.target.user or match_pattern(user, route.target.user)
        if starts and ends and fits:
            return True
    return False


# --- on the wire


def read_routes(constraint: adding.RestrictDestination) -> tuple[Route, ...]:
    """The destinations of a constraint.

    Raises MalformedMessage for what contradicts itself or has extensions, KeyFormatError for a key that
    cannot be read, LimitExceeded for too many.
    """
    items = adding.Destinations.decode(constraint.destinations).items
    if len(items) > MAX_DESTINATIONS:
        raise LimitExceeded(f"{len(items)} destinations of a key; {MAX_DESTINATIONS} are allowed")
    return tuple(_route(adding.Destination.decode(item.destination)) for item in items)


def _route(told: adding.Destination) -> Route:
    origin, target = _stop(adding.Hop.decode(told.origin)), _stop(adding.Hop.decode(told.target))
    if told.reserved:
        raise MalformedMessage("a destination with an extension, which is not known")
    if origin.user or bool(origin.host) != bool(origin.keys):
        raise MalformedMessage("a destination that contradicts itself about where it starts")
    if len(target.user) > MAX_USER:
        raise LimitExceeded(f"a destination with a user of {len(target.user)} characters")
    if not target.host or not target.keys:
        raise MalformedMessage("a destination that leads nowhere")
    return Route(origin, target)


def _stop(told: adding.Hop) -> Stop:
    if told.reserved:
        raise MalformedMessage("a hop with an extension, which is not known")
    return Stop(told.hostname, tuple((read_key(each.key), each.authority) for each in told.keys), told.user)


def encode_routes(routes: Sequence[Route]) -> adding.RestrictDestination:
    """The constraint that says `routes`."""
    items = tuple(
        adding.DestinationItem(adding.Destination(_hop(route.origin), _hop(route.target)).encode())
        for route in routes
    )
    return adding.RestrictDestination(adding.Destinations(items).encode())


def _hop(stop: Stop) -> bytes:
    keys = tuple(adding.HopKey(key.blob, authority) for key, authority in stop.keys)
    return adding.Hop(stop.user, stop.host, b"", keys).encode()


def login_in(data: bytes, blob: bytes) -> SignedLogin | None:
    """The login that a signature of `data` by the key `blob` would be for (RFC 4252 §7, OpenSSH PROTOCOL);
    None where it is for something else."""
    try:
        reader = Reader(data)
        session_id = reader.string()
        # What is signed stops before the signature.
        request = UserauthRequest.decode(reader.rest() + string(b""))
    except MalformedMessage:
        return None
    asked = request.body
    if data[len(string(session_id))] != UserauthRequest.NUMBER or request.service_name != "ssh-connection":
        return None
    if not isinstance(asked, PublickeyRequest | HostboundRequest):
        return None
    if not asked.has_signature or asked.public_key != blob:
        return None
    host_key = asked.host_key if isinstance(asked, HostboundRequest) else None
    if (request.method_name == HOSTBOUND) != (host_key is not None):
        return None
    return SignedLogin(session_id, request.user_name, host_key)
