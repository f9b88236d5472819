"""Names of hosts by their addresses, as far as they lead back to those."""

from __future__ import annotations

import socket

from ..keys.patterns import parse_address
from ..wire import visible

__all__ = ["host_name"]


def host_name(address: str) -> tuple[str | None, str]:
    """The name of a client at `address`, None where none is to be believed; and why not, in OpenSSH's words.

    It is looked up by the address, and has to have that address itself: who owns the addresses may give them
    any name (sshd_config(5), UseDNS). Takes as long as the name servers do.
    """
    try:
        name = socket.getnameinfo((address, 0), socket.NI_NAMEREQD)[0].lower()
    except (OSError, UnicodeError):
        return None, ""
    if parse_address(name) is not None:
        return None, f'Nasty PTR record "{visible(name)}" is set up for {address}, ignoring'
    try:
        found = {str(each[4][0]) for each in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        return None, f"reverse mapping checking getaddrinfo for {visible(name)} [{address}] failed."
    if parse_address(address) not in map(parse_address, found):
        return None, f"Address {address} maps to {visible(name)}, but this does not map back to the address."
    return name, ""
