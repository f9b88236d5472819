"""The TCP sockets of this machine and what the kernel knows of each: states, round trips, windows, bytes.

They come by sock_diag (sock_diag(7), what ss(8) reads) through pyroute2, for everybody's sockets and without
root. Where that cannot be had they come from /proc/net/tcp and tcp6 through psutil, without the figures of
`TcpInfo`, and `Sockets.missing` says so. Only the network namespace of this process is seen.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from ..errors import ConfigError, install

__all__ = ["LISTEN", "SETTLED", "Place", "Socket", "Sockets", "TcpInfo", "need_psutil", "tcp_sockets"]

STATES: Final = (
    "UNKNOWN", "ESTABLISHED", "SYN-SENT", "SYN-RECV", "FIN-WAIT-1", "FIN-WAIT-2", "TIME-WAIT", "CLOSE",
    "CLOSE-WAIT", "LAST-ACK", "LISTEN", "CLOSING", "NEW-SYN-RECV",
)  # fmt: skip
"""The kernel's numbers (include/net/tcp_states.h), by the names that RFC 9293 §3.3.2 has for them."""

LISTEN: Final = "LISTEN"
SETTLED: Final = frozenset({"TIME-WAIT", "CLOSE", "NEW-SYN-RECV"})
"""States of connections that no process holds any more, or not yet."""

_INET_DIAG_INFO: Final = 2
_INET_DIAG_CONG: Final = 4
_UNKNOWN_MIN_RTT: Final = (1 << 32) - 1
_INFINITE_SSTHRESH: Final = 0x7FFFFFFF

_PSUTIL_STATES: Final = {
    "SYN_SENT": "SYN-SENT", "SYN_RECV": "SYN-RECV", "FIN_WAIT1": "FIN-WAIT-1", "FIN_WAIT2": "FIN-WAIT-2",
    "TIME_WAIT": "TIME-WAIT", "CLOSE_WAIT": "CLOSE-WAIT", "LAST_ACK": "LAST-ACK", "NONE": "UNKNOWN",
}  # fmt: skip


class Place(NamedTuple):
    """One end of a connection; an IPv4 address that came mapped into IPv6 is shown as IPv4."""

    address: str
    port: int

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True)
class TcpInfo:
    """What tcp(7) TCP_INFO tells of one connection.

    Times are milliseconds, `None` where the kernel has not measured yet; `last_sent` and `last_received` are
    how long ago data was. `cwnd` and `ssthresh` count segments of `mss` bytes. `bytes_sent` counts
    retransmitted bytes too, `bytes_acked` what the peer has, its SYN counted as one. `retransmits` are
    segments, over the whole life of the connection. Rates are bytes per second.
    """

    rtt: float | None
    rttvar: float | None
    min_rtt: float | None
    rto: float
    cwnd: int
    ssthresh: int | None
    mss: int
    unacked: int
    retransmits: int
    bytes_sent: int
    bytes_acked: int
    bytes_received: int
    bytes_retransmitted: int
    not_sent: int
    segments_out: int
    segments_in: int
    delivery_rate: int
    pacing_rate: int | None
    last_sent: int
    last_received: int
    peer_window: int


@dataclass(frozen=True, slots=True)
class Socket:
    """One TCP socket. `inode` is what /proc/PID/fd calls it, 0 where no process holds it.

    `receive_queue` and `send_queue` are bytes not read, and not acknowledged; of a listener they are the
    connections waiting and how many may. `owner` is the process, known only where psutil told of the socket.
    """

    local: Place
    peer: Place
    state: str
    uid: int | None
    inode: int
    receive_queue: int | None = None
    send_queue: int | None = None
    congestion: str = ""
    info: TcpInfo | None = None
    owner: int | None = None


@dataclass(frozen=True, slots=True)
class Sockets:
    """All TCP sockets, and in words what could not be had."""

    all: tuple[Socket, ...]
    missing: tuple[str, ...] = ()


def tcp_sockets() -> Sockets:
    """Every TCP socket of this network namespace. Blocks for milliseconds; needs a thread under asyncio.

    Raises ConfigError where neither pyroute2 nor psutil can tell.
    """
    try:
        found = _by_netlink()
    except ImportError:
        reason = f"pyroute2 is not installed ({install('ps')})"
    except OSError as error:
        reason = f"the kernel gives no sock_diag: {error.strerror or error}"
    else:
        if found:
            return Sockets(tuple(found))
        reason = "the kernel's sock_diag tells of no TCP socket"
    found = _by_psutil()
    # A machine without a single socket is no reason for a complaint.
    return Sockets(tuple(found), (f"no rtt, cwnd, bytes and retransmits: {reason}",) if found else ())


# -- netlink


def _by_netlink() -> list[Socket]:
    from pyroute2 import DiagSocket  # type: ignore[import-untyped]
    from pyroute2.netlink.diag import SS_ALL  # type: ignore[import-untyped]
    from pyroute2.netlink.exceptions import NetlinkError  # type: ignore[import-untyped]

    wanted = 1 << (_INET_DIAG_INFO - 1) | 1 << (_INET_DIAG_CONG - 1)
    found: list[Socket] = []
    try:
        with DiagSocket() as diag:
            diag.bind()
            for family in (socket.AF_INET, socket.AF_INET6):
                # SS_ALL ends before NEW_SYN_RECV: half-open connections are nobody's yet.
                messages = diag.get_sock_stats(family=family, states=SS_ALL, extensions=wanted)
                found += map(_from_message, messages)
    except NetlinkError as error:
        raise OSError(error.code, str(error)) from None
    return found


def _from_message(message: Any) -> Socket:
    info = message.get_attr("INET_DIAG_INFO")
    number = message["idiag_state"]
    state = STATES[number] if number < len(STATES) else str(number)
    return Socket(
        local=_place(message["idiag_src"], message["idiag_sport"]),
        peer=_place(message["idiag_dst"], message["idiag_dport"]),
        state=state, uid=message["idiag_uid"], inode=message["idiag_inode"],
        receive_queue=message["idiag_rqueue"], send_queue=message["idiag_wqueue"],
        congestion=message.get_attr("INET_DIAG_CONG") or "",
        info=_info(info) if info and state not in (LISTEN, *SETTLED) else None,
    )  # fmt: skip


def _info(raw: Mapping[str, int]) -> TcpInfo:
    """An older kernel sends a shorter structure: what it lacks is 0."""

    def take(name: str) -> int:
        return raw.get(f"tcpi_{name}") or 0

    rtt, minimum, pacing, ssthresh = take("rtt"), take("min_rtt"), take("pacing_rate"), take("snd_ssthresh")
    return TcpInfo(
        rtt=rtt / 1000 if rtt else None,
        rttvar=take("rttvar") / 1000 if rtt else None,
        min_rtt=None if minimum in (0, _UNKNOWN_MIN_RTT) else minimum / 1000,
        rto=take("rto") / 1000, cwnd=take("snd_cwnd"),
        ssthresh=None if ssthresh >= _INFINITE_SSTHRESH else ssthresh,
        mss=take("snd_mss"), unacked=take("unacked"), retransmits=take("total_retrans"),
        bytes_sent=take("bytes_sent"), bytes_acked=take("bytes_acked"),
        bytes_received=take("bytes_received"), bytes_retransmitted=take("bytes_retrans"),
        not_sent=take("notsent_bytes"), segments_out=take("segs_out"), segments_in=take("segs_in"),
        delivery_rate=take("delivery_rate"), pacing_rate=None if pacing == (1 << 64) - 1 else pacing,
        last_sent=take("last_data_sent"), last_received=take("last_data_recv"), peer_window=take("snd_wnd"),
    )  # fmt: skip


def _place(address: str, port: int) -> Place:
    if address.startswith("::ffff:"):
        mapped = ipaddress.IPv6Address(address).ipv4_mapped
        address = str(mapped) if mapped else address
    return Place(address, port)


# -- psutil


def need_psutil() -> Any:
    """The module psutil. Raises ConfigError where it is not installed."""
    try:
        import psutil  # type: ignore[import-untyped]
    except ImportError:
        raise ConfigError("psutil is not installed", hint=install("ps")) from None
    return psutil


def _by_psutil(connections: Callable[[], Iterable[Any]] | None = None) -> list[Socket]:
    psutil = need_psutil()
    try:
        rows = connections() if connections else psutil.net_connections(kind="tcp")
    except (psutil.Error, OSError) as error:
        raise ConfigError(f"the system does not tell of its TCP sockets: {error}") from None
    return [
        Socket(
            local=_place(*row.laddr), peer=_place(*row.raddr) if row.raddr else Place("", 0),
            state=_PSUTIL_STATES.get(row.status, row.status), uid=None, inode=0, owner=row.pid,
        )
        for row in rows
    ]  # fmt: skip
