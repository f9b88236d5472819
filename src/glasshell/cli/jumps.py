"""ProxyJump and ProxyCommand of ssh_config(5): the ways to a host that begin elsewhere.

A jump host is a host of its own: its block of the configuration, its known_hosts, its keys and its questions
are its own, and its connection has views of its own. All connections of the way are in this process, each in
a channel of the one before it.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final

from ..aio.client import Connection
from ..aio.through import reach
from ..config.client_keywords import valid_host, valid_user
from ..config.ssh_config import ClientOptions, load, option
from ..config.tokens import percent
from ..errors import CannotConnect, ConfigError, SSHError
from ..wire import visible
from .ssh import Invocation, facts
from .watching import Scope as ViewScope
from .watching import scope, wanted

if TYPE_CHECKING:
    from ..aio.channels import ChannelIO
    from ..aio.recorder import Recorder
    from .client import Client

__all__ = ["Jumping", "Piping", "hop_options"]

MOST: Final = 8
"""Most jump hosts on a way: more are hosts that name each other."""

PASSED_ON: Final = frozenset({"loglevel", "batchmode", "speculation"})
"""What the command line says about every connection of the way; ssh(1) hands on -v alone."""


def hop_options(options: ClientOptions, said: Invocation) -> ClientOptions:
    """What holds for the last jump host before the one with `options`, as ssh -J has it: its own block of the
    configuration, and the hops before it. Raises ConfigError."""
    *before, (user, host, port) = options.proxy_jump
    lines = [line for line in said.lines if line.keyword in PASSED_ON]
    if user:
        lines.append(option("User", user))
    if port:
        lines.append(option("Port", str(port)))
    if before:
        lines.append(option("ProxyJump", ",".join(_text(*hop) for hop in before)))
    return load(host, facts(), command_line=lines, file=said.config)


def _text(user: str | None, host: str, port: int | None) -> str:
    place = f"[{host}]" if ":" in host else host
    return (f"{user}@" if user else "") + place + (f":{port}" if port else "")


class Jumping:
    """The way to a host by others; stands where a `Dialing` does.

    `depth` is how many connections go through this one already, `asked` the views of the first of those.
    """

    def __init__(
        self, said: Invocation, options: ClientOptions, depth: int = 0,
        asked: Sequence[tuple[str, str]] | None = None,
    ) -> None:  # fmt: skip
        if depth >= MOST:
            raise ConfigError(
                f"more than {MOST} jump hosts to {visible(options.host)}",
                hint="does ProxyJump lead in a circle? ssh -G shows it; ProxyJump none ends it",
            )
        self.since = asyncio.get_running_loop().time()
        self.failed = False
        """Whether a jump host could not be passed, which has been told."""
        self._said = said
        self._options = options
        self._depth = depth
        self._asked = said.views if asked is None else asked
        self._recorder: Recorder | None = None
        self._client: Client | None = None
        self._via: Connection | None = None

    def heard_by(self, recorder: Recorder) -> None:
        """As `Dialing.heard_by`."""
        self._recorder = recorder

    async def begin(self) -> None:
        """Logs in to the jump hosts, the nearest first. Raises SSHError, which has been told."""
        from .client import Client, Views

        options = hop_options(self._options, self._said)
        said = Invocation(
            host=options.host, config=self._said.config, log_file=self._said.log_file,
            lines=self._said.lines, views=_views(self._asked, self._depth + 1),
            # Nothing runs on a jump host.
            stdio_forward=(self._options.hostname, self._options.port),
        )  # fmt: skip
        way: Any = None
        if options.proxy_jump:
            way = Jumping(said, options, self._depth + 1, self._asked)
        if way is None and options.proxy_command:
            way = Piping(options)
        if way is None:
            from .dialing import Dialing

            way = Dialing(options)
        self._client = Client(said, options, Views(said, options), lambda: None, way)
        try:
            self._via = await self._client.hop()
        except SSHError as error:
            self.failed = True
            target = f"{visible(self._options.hostname)} port {self._options.port}"
            host = f"{visible(options.user)}@{visible(options.hostname)}"
            raise CannotConnect(f"connect to host {target}: the jump host {host} was not passed") from error

    async def connected(self) -> ChannelIO:
        """A channel that leads to the host. Raises CannotConnect."""
        assert self._via is not None
        assert self._recorder is not None
        options = self._options
        return await reach(
            self._via, options.hostname, options.port, user=options.user, state=self._recorder.state
        )

    async def reached(self, recorder: Recorder) -> ChannelIO:
        """All of it: a channel that leads to the host, for a connection that `recorder` records."""
        self.heard_by(recorder)
        await self.begin()
        return await self.connected()

    async def close(self) -> None:
        """Ends the connections of the way, the farthest first."""
        if self._client is not None:
            await self._client.leave(self._via)


def _views(asked: Sequence[tuple[str, str]], number: int) -> list[tuple[str, str]]:
    """What looks on at a jump host's connection: as at the other, into files of its own."""
    found = []
    for flag, value in wanted(asked):
        if flag.startswith("--record"):
            continue  # nothing runs there
        path = PurePath(value) if value else None
        if path is not None and flag != "--keylog" and scope(flag, value) is ViewScope.ONE:
            value = str(path.with_name(f"{path.stem}.jump{number}{path.suffix}"))
        found.append((flag, value))
    return found


def _command(options: ClientOptions) -> str:
    """ProxyCommand with its tokens. Raises ConfigError, also where a name would be more to a shell."""
    hostname, user = options.hostname, options.user
    if not (valid_host(hostname) and valid_host(options.host) and valid_user(user)):
        raise ConfigError(
            f"ProxyCommand with the host {visible(hostname)} and the user {visible(user)}: a shell would read"
            " more in these names than names"
        )
    tokens = {
        "h": hostname, "n": options.host, "p": str(options.port), "r": user,
        "k": options.host_key_alias or options.host,
    }  # fmt: skip
    return percent(options.proxy_command or "", tokens)


async def _passed(sock: socket.socket) -> socket.socket:
    """ProxyUseFdpass: the connection that a program hands over by `sock`. Raises CannotConnect."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(sock, ready.set)
    try:
        await ready.wait()
        _, descriptors, _, _ = socket.recv_fds(sock, 1, 1)
    except OSError as error:
        raise CannotConnect(f"ProxyUseFdpass: {error.strerror}") from error
    finally:
        loop.remove_reader(sock)
        sock.close()
    if not descriptors:
        raise CannotConnect(
            "ProxyUseFdpass: the ProxyCommand ended without passing a connection",
            hint="a program that carries the data itself wants ProxyUseFdpass no",
        )
    connection = socket.socket(fileno=descriptors[0])
    connection.setblocking(False)
    return connection


class Piping:
    """ProxyCommand: a program whose input and output lead to the host; stands where a `Dialing` does.

    The user's shell replaces itself by it, as with ssh(1), so that ending the program ends no more.
    """

    failed: Final = False

    def __init__(self, options: ClientOptions) -> None:
        self.since = asyncio.get_running_loop().time()
        self._options = options
        self._recorder: Recorder | None = None
        self._process: asyncio.subprocess.Process | None = None

    def heard_by(self, recorder: Recorder) -> None:
        """As `Dialing.heard_by`."""
        self._recorder = recorder

    async def begin(self) -> None:
        """There is nothing to do before."""

    async def connected(self) -> socket.socket:
        """A socket at whose other end a new program is. Raises CannotConnect."""
        options = self._options
        command = _command(options)
        await self.close()
        ours, theirs = socket.socketpair()
        shell = os.environ.get("SHELL") or "/bin/sh"
        assert self._recorder is not None
        state = self._recorder.state
        state("jump", via=command)
        host, port = options.hostname, options.port
        state("connecting", host=host, address=host, port=port, user=options.user)
        try:
            self._process = await asyncio.create_subprocess_exec(
                shell, "-c", f"exec {command}", stdin=theirs.fileno(), stdout=theirs.fileno()
            )
        except OSError as error:
            ours.close()
            raise CannotConnect(f"cannot run the ProxyCommand: {error.strerror or error}") from error
        finally:
            theirs.close()
        ours.setblocking(False)
        if options.proxy_use_fdpass:
            ours = await _passed(ours)
        state("connected", address=host, port=port, local_address="", local_port=0)
        return ours

    async def reached(self, recorder: Recorder) -> socket.socket:
        """As `Jumping.reached`."""
        self.heard_by(recorder)
        return await self.connected()

    async def close(self) -> None:
        """Ends the program."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.terminate()
            await self._process.wait()
            self._process = None
