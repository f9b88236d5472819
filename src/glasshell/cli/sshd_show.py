"""`glasshell sshd -T` and `-G`: the configuration that holds, and where that is listened."""

from __future__ import annotations

import argparse
import socket
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, UsageError
from ..wire import visible

if TYPE_CHECKING:
    from ..config.match import Login
    from ..config.options import ServerOptions
    from ..config.sshd_config import ServerConfig

__all__ = ["addresses", "login", "places", "show"]


def show(arguments: argparse.Namespace, config: ServerConfig) -> int:
    """-T and -G: what holds for everybody, or for the login of -C."""
    from ..config.show import show_server
    from .hostkeys import SYSTEM_KEYS

    asked = login(",".join(arguments.login)) if arguments.login else None
    values = {"host_keys": SYSTEM_KEYS, **config.values_at(asked)}
    for line in show_server(values, config.policy, config.options, addresses(config.options)):
        print(line)
    return 0


def login(text: str) -> Login:
    """The login that -C describes. Raises UsageError."""
    from ..config.match import Login

    named = {"user": "user", "addr": "address", "host": "host", "laddr": "local_address",
             "rdomain": "rdomain", "lport": "local_port"}  # fmt: skip
    found: dict[str, Any] = {}
    for word in filter(None, text.split(",")):
        name, sign, value = word.partition("=")
        if word == "invalid-user":
            found["invalid_user"] = True
        elif not sign or name not in named:
            raise UsageError(f"Invalid test mode specification {visible(word)}")
        elif name == "lport" and not (value.isascii() and value.isdecimal() and int(value) < 65536):
            raise UsageError(f"Invalid port '{visible(value)}' in test mode specification {visible(word)}")
        else:
            found[named[name]] = int(value) if name == "lport" else value
    if "user" in found:
        from ..system.accounts import find_account, group_names

        account = find_account(found["user"])
        found["groups"] = group_names(account) if account is not None else ()
    return Login(**found)


def addresses(options: ServerOptions) -> list[str]:
    """What is listened on, as OpenSSH shows it: of each name the last address first."""
    shown = []
    for group in places(options):
        for (family, address), port in reversed(group):
            numeric = address[0]
            shown.append(f"[{numeric}]:{port}" if family == socket.AF_INET6 else f"{numeric}:{port}")
    return shown


def places(options: ServerOptions) -> list[list[tuple[tuple[int, Any], int]]]:
    """Of each address and port that is asked for: families with socket addresses, and their ports.

    Raises ConfigError for a name that is not to be found.
    """
    family = {"inet": socket.AF_INET, "inet6": socket.AF_INET6}.get(options.family, socket.AF_UNSPEC)
    found = []
    for host, own in options.listen or ((None, None),):
        for port in options.ports if own is None else (own,):
            try:
                infos = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, 0, socket.AI_PASSIVE)
            except OSError as error:
                raise ConfigError(f"bad addr or host: {host}: {error.strerror}") from None
            found.append([((int(info[0]), info[4]), port) for info in infos])
    return found
