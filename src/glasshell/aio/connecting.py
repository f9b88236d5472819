"""`connect`: from a host's name to a connection that is logged in."""

from __future__ import annotations

import asyncio
import getpass
import os
import socket
from collections.abc import Callable, Coroutine, Generator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from ..errors import (
    SSHError,
    UsageError,
)
from ..observe.hub import Sink
from ..policy import Policy
from ..wire import Secret
from .agent import Agent, usable
from .channels import ChannelIO
from .client import Connection
from .dial import dial
from .hostchecks import USUAL, HostChecks
from .identity import CertificateLike, KeyLike
from .login import Asking, Login
from .memory import PROCESS, Memory
from .recorder import Recorder
from .speculation import Speculation
from .tasks import deadline as within
from .trust import DEFAULT_FILES, AskHostKey, KnownHostsLike, Strict, Trust

if TYPE_CHECKING:
    from .otherways import OtherWay

__all__ = ["Connecting", "connect"]

CONNECT_SECONDS = 60.0
"""The deadline of `connect` unless another is given: name, TCP, key exchange and login together."""


class Connecting:
    """What `connect` returns: `await` it, or enter it with `async with`, which closes it at the end."""

    def __init__(self, opening: Callable[[], Coroutine[Any, Any, Connection]]) -> None:
        self._opening = opening
        self._connection: Connection | None = None

    def __await__(self) -> Generator[Any, None, Connection]:
        return self._opening().__await__()

    async def __aenter__(self) -> Connection:
        self._connection = await self._opening()
        return self._connection

    async def __aexit__(self, *exc: object) -> None:
        if self._connection is not None:
            await self._connection.close()


def connect(
    host: str, port: int = 22, *, user: str | None = None, keys: Sequence[KeyLike] | None = None,
    passphrase: str | Secret | None = None, password: str | Secret | None = None,
    agent: Agent | bool | str | os.PathLike[str] | None = True, agent_only: bool = False,
    known_hosts: KnownHostsLike = DEFAULT_FILES, strict: Strict = "ask", alias: str = "",
    ask_host_key: AskHostKey | None = None, asking: Asking | None = None, order: Sequence[str] | None = None,
    policy: Policy | None = None, deadline: float | None = CONNECT_SECONDS, sinks: Sequence[Sink] = (),
    on_banner: Callable[[str], None] | None = None, family: int = 0, bind: str = "",
    sock: socket.socket | None = None, via: Connection | None = None, memory: Memory | None = PROCESS,
    checks: HostChecks = USUAL, certificates: Sequence[CertificateLike] = (),
    others: Callable[[], Sequence[OtherWay]] = tuple,
) -> Connecting:  # fmt: skip
    """Connects to an SSH server and logs in: `async with connect(...) as connection`, or `await` it.

    Who: `user`, by default the one who runs this. With what: `keys` (PrivateKeys and files; None: the
    user's own), `passphrase` for the files, `agent` (True: $SSH_AUTH_SOCK; `agent_only`: only those keys of
    it that `keys` names), `certificates` of keys (files too; without them FILE-cert.pub beside each file),
    `password`, and `asking`: whom to ask for the rest; `others` makes further ways for each attempt, say
    `lambda: [Tickets(host)]` of `glasshell.aio.otherways`. In OpenSSH's order, or `order`.

    Whether it is the right server: `known_hosts` and `strict`, as StrictHostKeyChecking; `ask_host_key`
    decides about a new host where `strict` is "ask". `alias` is looked up instead of `host`; `checks` is
    what else ssh_config(5) can ask for: revoked keys, DNS, a command, the address.

    How: `policy` (algorithms, limits), `deadline` in seconds for everything up to the login, None for no
    limit; `sinks` hear every record; `family` and `bind` as socket's; `sock`: a socket that is connected;
    `via`: the connection to a jump host, from which `host` is reached (-J), and which has to stay open.
    `memory` is where servers are remembered, so that less has to be waited for the next time: by default
    in this process; `Memory(default_file())`: where `glasshell ssh` does; None: everything in turns.

    Raises CannotConnect, HostKeyRefused, NegotiationFailed, AuthenticationFailed (`attempts`: what was tried,
    in order), DeadlineExceeded, ConnectionClosed, PeerError; each with `records`, all that happened.
    """

    async def opening() -> Connection:
        name = user if user is not None else _user()
        clock = asyncio.get_running_loop().time
        recorder = Recorder("client", sinks, clock)
        state = recorder.state
        trust = Trust(
            host, port, known_hosts=known_hosts, strict=strict, alias=alias, ask=ask_host_key,
            warn=asking.warn if asking else None, checks=checks,
        )  # fmt: skip
        settings = policy or _usual_policy()
        speculation = None

        async def attempt() -> Connection:
            login = Login(
                name, host, keys=keys, agent=usable(agent), agent_only=agent_only,
                passphrase=_secret(passphrase), password=_secret(password), order=order, asking=asking,
                state=state, certificates=certificates, others=others(),
            )  # fmt: skip
            if via is not None:
                from .through import reach

                connected: socket.socket | ChannelIO = await reach(via, host, port, user=name, state=state)
            else:
                connected = sock or await dial(host, port, family=family, bind=bind, user=name, state=state)
            login.tell_files()
            connection = Connection(
                host, port, name, policy=settings, trust=trust, login=login, recorder=recorder,
                sinks=bool(sinks), on_banner=on_banner, speculation=speculation,
            )  # fmt: skip
            await connection.start(connected)
            return connection

        try:
            async with within(deadline, f"connecting to {host} port {port}"):
                await trust.prepare(state)
                if memory is not None and sock is None:  # a socket of the caller's cannot be had twice
                    speculation = Speculation(memory, trust, settings, name, state, fixed=_fixed(policy))
                connection = await (speculation.connect(attempt) if speculation else attempt())
                recorder.pack()
        except SSHError as error:
            if not any(getattr(record, "name", "") == "error" for record in recorder.records):
                kind = type(error).__name__  # no connection was there to tell it
                state("error", type=kind, text=str(error), hint=error.hint, clause=error.clause)
            error.records = recorder.records
            raise
        return connection

    return Connecting(opening)


@cache
def _usual_policy() -> Policy:
    """One for all: a thousand connections are told apart by other things."""
    return Policy.client(login_grace=0)


def _fixed(policy: Policy | None) -> tuple[str, ...]:
    """The lists of `policy` that are not the default ones: their order is somebody's wish."""
    usual = _usual_policy()
    names = ("kex", "host_key_algorithms")
    return tuple(name for name in names if policy and getattr(policy, name) != getattr(usual, name))


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        raise UsageError("who is logged in here is not known: name the user") from None


def _secret(value: str | Secret | None) -> Secret | None:
    return Secret(value) if isinstance(value, str) else value
