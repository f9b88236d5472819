"""`glasshell sshd`: the server. As root it serves every account, as an ordinary user that user.

What it says is the LogView of its connections' records, and of its own; nothing is printed beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..errors import ConfigError, SSHError, UsageError
from ..wire import visible
from . import serving
from .sshd_log import ClosedAtTheEnd, Log, without_start
from .sshd_show import show
from .sshd_sockets import BACKLOG, Doors, inherited
from .watching import (
    Scope,
    add_flags,
    check_views,
    for_capture,
    open_folder,
    open_views,
    scope,
    tell_of_secrets,
    wanted,
)

if TYPE_CHECKING:
    from ..aio.gatekeeper import Peer
    from ..aio.server import Server, ServerConnection
    from ..aio.session import Handler
    from ..aio.shellgate import AccountGatekeeper
    from ..config.options import ServerOptions
    from ..config.sshd_config import ServerConfig
    from ..crypto.signatures import PrivateKey
    from ..keys.public import AnyKey
    from ..observe.hub import Hub, Sink
    from ..policy import Policy
    from ..system.accounts import Account
    from ..views.trace_folder import TraceFolder
    from .watching import OpenView

__all__ = ["configure", "main", "parser"]

FATAL: Final = 255
"""The exit status of sshd where it cannot go on, and of `-d` when its one connection is over."""

SYSTEM_FILE: Final = "/etc/ssh/sshd_config"
USER_PORT: Final = 2222
MAX_BANNER: Final = 64 * 1024
"""Bytes of a banner that clients take: what our own takes."""
QUIET_SECONDS: Final = 60.0
MAX_WORKERS: Final = 256
MAX_WIDTH: Final = 256


def parser() -> argparse.ArgumentParser:
    """The options of the command; -h is the host key, as in sshd(8)."""
    made = argparse.ArgumentParser(
        prog="glasshell sshd", add_help=False,
        description="Serves SSH: as root every account, as an ordinary user that user (port 2222, with host"
        " keys of its own). Without -D or -d it goes to the background and logs to syslog.",
        epilog="--html, --perfetto, --pcap and a --trace or --record into one FILE are for one connection:"
        " with -d or -i. In normal service --trace and --record take a folder: a file for each connection.",
    )  # fmt: skip
    add = made.add_argument
    add("--help", action="help", help="show this text and exit")
    add("-4", dest="family", action="store_const", const="inet", help="IPv4 only")
    add("-6", dest="family", action="store_const", const="inet6", help="IPv6 only")
    add("-D", dest="foreground", action="store_true", help="stay in the foreground, log to stderr")
    add("-c", dest="certificates", metavar="FILE", action="append", default=[],
        help="a certificate of a host key; may be repeated")
    add("-d", dest="debug", action="count", default=0,
        help="serve one connection in the foreground and tell about it; -dd and -ddd tell more")
    add("-e", dest="stderr", action="store_true", help="log to stderr instead of syslog")
    add("-E", dest="log_file", metavar="FILE", help="append the log to FILE")
    add("-f", dest="config", metavar="FILE", help=f"configuration file (root: {SYSTEM_FILE})")
    add("-g", dest="grace", metavar="SECONDS", help="what a login may take (LoginGraceTime)")
    add("-h", dest="host_keys", metavar="FILE", action="append", default=[],
        help="a host key; may be repeated")
    add("-i", dest="inetd", action="store_true", help="serve the connection on standard input")
    add("-o", dest="options", metavar="KEYWORD=VALUE", action="append", default=[],
        help="an option as in the configuration file")
    add("-p", dest="ports", metavar="PORT", action="append", default=[], help="a port; may be repeated")
    add("--status", metavar="FILE",
        help='the socket that `glasshell top` reads, or "none" (PID.sock in /run/glasshell, or in'
        " $XDG_RUNTIME_DIR/glasshell)")
    add("--workers", metavar="N", type=_count, default=0,
        help="serve with N processes; limits, status socket (FILE.1 and so on) and metrics (PORT+1 and so on)"
        " are each one's own")
    add("-t", dest="test", action="store_true", help="check the configuration and the host keys, and exit")
    add("-T", dest="show", action="store_true", help="check both, show the configuration, and exit")
    add("-G", dest="dump", action="store_true", help="show the configuration, and exit")
    add("-q", dest="quiet", action="store_true", help="log nothing")
    add("-u", dest="width", metavar="LENGTH", type=_width, help="of hosts in utmp(5): of no effect")
    add("-V", dest="version", action="store_true", help="show the version, and exit")
    add("-C", dest="login", metavar="KEY=VALUE,...", action="append", default=[],
        help="with -T and -G: for a login of user=, addr=, host=, laddr=, lport=, or of an invalid-user")
    add_flags(made)
    serving.add_flags(made)
    return made  # fmt: skip


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 0 < int(text) <= MAX_WORKERS):
        raise UsageError(f"--workers {visible(text)}: a number from 1 to {MAX_WORKERS}")
    return int(text)


def _width(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) <= MAX_WIDTH):
        raise UsageError("Invalid utmp length.")
    return int(text)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; its exit status. Raises ConfigError before there is a log to say it in."""
    arguments = parser().parse_args(argv)
    if arguments.version:
        from .. import __version__

        print(f"glasshell {__version__}", file=sys.stderr)
        return 0
    log = None
    if arguments.login and not (arguments.show or arguments.dump):
        raise UsageError("Config test connection parameter (-C) provided without test mode (-T)")
    try:
        _stay_found(arguments)
        config = configure(arguments)
        if arguments.dump:
            return show(arguments, config)
        log = Log(arguments, config.options)
        return _Daemon(arguments, config, log).run()
    except SSHError as error:
        if log is None:
            raise
        from .report import lines

        for line in lines(error):
            log.write(f"{line}\r\n")
        return FATAL


# ---- the configuration


def _stay_found(arguments: argparse.Namespace) -> None:
    """A daemon leaves the folder that it was started in, and reads its files again later."""
    if arguments.config and arguments.config != "none":
        arguments.config = str(Path(arguments.config).absolute())
    if arguments.log_file:
        arguments.log_file = str(Path(arguments.log_file).absolute())
    arguments.host_keys = [str(Path(path).absolute()) for path in arguments.host_keys]
    arguments.certificates = [str(Path(path).absolute()) for path in arguments.certificates]


def configure(arguments: argparse.Namespace) -> ServerConfig:
    """Command line first, then the file: the first value counts. Raises ConfigError."""
    from ..config import sshd_config
    from ..config.options import INTERNAL_SFTP, ServerOptions
    from ..config.parse import COMMAND_LINE, Line, parse_option, read_file
    from ..system.accounts import is_root
    from ..system.files import find_files, read_regular

    def given(name: str, values: Sequence[str]) -> list[Line]:
        return [Line(name.lower(), (value,), COMMAND_LINE, 0, name, value) for value in values]

    lines = [*given("Port", arguments.ports), *map(parse_option, arguments.options)]
    if arguments.family:
        lines += given("AddressFamily", [arguments.family])
    if arguments.grace:
        lines += given("LoginGraceTime", [arguments.grace])
    lines += given("HostKey", arguments.host_keys)
    lines += given("HostCertificate", arguments.certificates)
    path = arguments.config or (SYSTEM_FILE if is_root() else None)
    defaults = ServerOptions()
    if path is None:
        defaults = ServerOptions(ports=(USER_PORT,), subsystems={"sftp": INTERNAL_SFTP})
    elif path not in ("none", os.devnull):
        try:
            read = read_file(path, read_regular, find_files, base=str(Path(SYSTEM_FILE).parent))
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror or error}") from None
        lines += [line for line in read if not (arguments.ports and line.keyword == "port")]
    return sshd_config.load(lines, options=defaults, obey=not (arguments.dump or arguments.show))


def _host_keys(config: ServerConfig, warn: Callable[[str], None]) -> list[PrivateKey]:
    """The host keys that the policy can use. Raises ConfigError where there is none."""
    from ..system.accounts import is_root
    from .hostkeys import SYSTEM_KEYS, load_host_keys, users_host_keys

    paths = config.options.host_keys or (SYSTEM_KEYS if is_root() else users_host_keys())
    wanted = config.policy.host_key_algorithms
    keys = load_host_keys(paths, warn)
    usable = [key for key in keys if set(key.public.algorithms) & set(wanted)]
    if not usable:
        found = ", ".join(key.public.type for key in keys) or "no key at all"
        raise ConfigError(
            f"no hostkeys available -- exiting: found {found}, wanted one for {','.join(wanted)}",
            hint="make some with `glasshell keygen` or `ssh-keygen -A`, and name others with -h",
        )
    return usable


# ---- the program


class _Daemon:
    """One run of the command: what it listens on, how it goes to the background, and how it ends."""

    def __init__(self, arguments: argparse.Namespace, config: ServerConfig, log: Log) -> None:
        self.arguments = arguments
        self.config = config
        self.log = log
        self.hub = self._new_hub()
        self.asked = wanted(arguments.views)
        self.folders: list[TraceFolder] = []
        self._told_of_refusals = 0.0
        self.files = self._files()
        self.shared = open_views(each for each in self.asked if scope(*each) is Scope.ALL)
        tell_of_secrets([*self.files, *self.shared], lambda line: self._note("info", line))
        self.worker = 0
        """Which of several processes this is, from 1; 0: the only one, or the parent of them all."""
        self.beside = serving.Beside(arguments, self._note)
        self.doors = Doors(
            lambda address, port: self.hub.state("listening", address=address, port=port),
            lambda text: self._note("error", text),
        )
        self.host_keys = self._keys_of(config)
        self.certificates = self._certificates()

    def _keys_of(self, config: ServerConfig) -> list[PrivateKey]:
        """The host keys of a configuration, whose warnings are said. Raises ConfigError."""
        for warning in config.warnings:
            self._note("info", warning)
        keys = _host_keys(config, lambda text: self._note("error", text))
        for index, key in enumerate(keys):
            public = key.public
            self.hub.state("host_key_loaded", index=index, type=public.type, fingerprint=public.fingerprint())
        return keys

    def _certificates(self) -> list[AnyKey]:
        from .hostkeys import load_certificates

        paths = self.config.options.host_certificate
        return load_certificates(paths, self.host_keys, lambda text: self._note("error", text))

    def _files(self) -> list[OpenView]:
        """The views that write one connection into one file, open from the start.

        A server of many connections takes a folder in the file's place, where the view knows how.
        """
        asked = [each for each in self.asked if scope(*each) is Scope.ONE]
        # A daemon leaves the folder that it was started in.
        self.each = [
            (flag, value and str(Path(value).absolute()))
            for flag, value in self.asked
            if scope(flag, value) is Scope.EACH
        ]
        check_views(self.each)
        if self.log.debug or self.arguments.inetd:
            return open_views(asked)
        self.folders += [open_folder(flag, value) for flag, value in asked]
        return []

    def _new_hub(self) -> Hub:
        from ..aio.recorder import new_hub

        return new_hub("server", [self.log.view()], lambda: 0.0)

    def _note(self, level: str, text: str) -> None:
        self.hub.state("note", level=level, text=text)

    def run(self) -> int:
        options = self.config.options
        if not (
            options.pubkey or options.use_pam or options.password_authentication
            or options.hostbased_authentication or options.gssapi_authentication
        ):  # fmt: skip
            raise ConfigError("PubkeyAuthentication no leaves no way to log in")
        if self.arguments.show:
            return show(self.arguments, self.config)
        if self.arguments.test:
            return 0
        if self.arguments.workers and (self.arguments.inetd or self.log.debug):
            raise ConfigError("--workers are for normal service: -d and -i serve one connection")
        if self.arguments.inetd:
            return asyncio.run(self._serve_one(inherited()))
        self.doors.open(options, shared=self.arguments.workers > 0)
        sockets = list(self.doors.sockets.values())
        if self.log.debug:
            return asyncio.run(self._serve_first(sockets))
        if not self.arguments.foreground:
            from ..system.daemon import go_to_background

            go_to_background(keep_stderr=self.arguments.stderr)
        if self.arguments.workers:
            return asyncio.run(self._employ(sockets))
        return asyncio.run(self._serve_all(sockets))

    # Serving

    async def _serve_all(self, sockets: Sequence[socket.socket]) -> int:
        server = await self._server()
        for sock in sockets:
            await server.listen("", 0, sock=sock, backlog=BACKLOG)
        ended = asyncio.ensure_future(server.wait_closed())
        self._close_on_signals(server)
        loop, tasks = asyncio.get_running_loop(), set[asyncio.Task[None]]()

        def again() -> None:
            tasks.add(task := loop.create_task(self._renew(server)))
            task.add_done_callback(tasks.discard)

        loop.add_signal_handler(signal.SIGHUP, again)
        with self._announced():
            await ended
        await self._close(server)
        return 0

    @contextmanager
    def _announced(self) -> Iterator[None]:
        """While it serves: the PID file, and what the service manager is told."""
        from ..system.daemon import PidFile, notify

        pid_file = PidFile(self._pid_path())
        try:
            pid_file.write()
        except OSError as error:
            self._note("error", f'Couldn\'t create pid file "{pid_file.path}": {error.strerror}')
        notify("READY=1", f"MAINPID={os.getpid()}")
        yield
        notify("STOPPING=1")
        pid_file.remove()

    def _pid_path(self) -> str | None:
        """PidFile, where the configuration names one: sshd's own may be running beside us."""
        return self.config.options.pid_file if "pid_file" in self.config.values else None

    async def _renew(self, server: Server) -> None:
        """SIGHUP: the files are read again, for connections to come; what is wrong there changes nothing."""
        from ..aio.doorkeeper import limits_of
        from ..system.daemon import notify

        self._note("info", "Received SIGHUP; restarting.")
        notify("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")
        try:
            config = configure(self.arguments)
            keys = self._keys_of(config)
            self.log.renew(config.options)
            self.config, self.host_keys, self.certificates = config, keys, []
            self.certificates = self._certificates()
            server.renew(
                host_keys=keys, certificates=self.certificates, gatekeeper=self._gatekeeper(),
                subsystems=self._subsystems(), policy=self._policy_for_views(),
                limits=limits_of(config.options),
            )  # fmt: skip
            self.hub = self._new_hub()
            for sock in self.doors.renew(config.options, server.shut):
                await server.listen("", 0, sock=sock, backlog=BACKLOG)
        except SSHError as error:
            from .report import lines

            for line in lines(error):
                self._note("error", line)
            self._note("error", "The configuration that was there before holds on.")
        notify("READY=1")

    async def _employ(self, kept: Sequence[socket.socket]) -> int:
        """--workers: this process takes no connection itself."""
        from ..aio.workers import Workers

        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        loop.set_exception_handler(lambda _, context: self._note("error", context["message"]))
        workers = Workers(self.arguments.workers, self._work, kept, backlog=BACKLOG)
        await workers.start()
        self._on_signals(stop.set)
        loop.add_signal_handler(
            signal.SIGHUP, self._note, "error", "SIGHUP: --workers keep their configuration until a restart"
        )
        with self._announced():
            await stop.wait()
        await workers.close()
        return 0

    @asynccontextmanager
    async def _work(self, number: int, sockets: Sequence[socket.socket]) -> AsyncIterator[None]:
        self.worker = number
        self.beside = serving.Beside(self.arguments, self._note, worker=number)
        server = await self._server()
        for sock in sockets:
            await server.listen("", 0, sock=sock, backlog=BACKLOG)
        yield
        await self._close(server)

    async def _serve_first(self, sockets: Sequence[socket.socket]) -> int:
        """-d: the first connection, and no other; the port is free again at once."""
        loop = asyncio.get_running_loop()
        for sock in sockets:
            sock.setblocking(False)
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        self._note("debug1", "Server will not fork when running in debugging mode.")
        accepting = [loop.create_task(loop.sock_accept(sock)) for sock in sockets]
        await asyncio.wait([*accepting, loop.create_task(stop.wait())], return_when=asyncio.FIRST_COMPLETED)
        taken = [task.result()[0] for task in accepting if task.done() and not task.exception()]
        for task in accepting:
            task.cancel()
        for sock in sockets:
            sock.close()
        return await self._serve_one(taken[0]) if taken else FATAL

    async def _serve_one(self, sock: socket.socket) -> int:
        over: asyncio.Future[ServerConnection] = asyncio.get_running_loop().create_future()
        server = await self._server(over.set_result)
        self._close_on_signals(server)
        await server.adopt(sock)
        connection = await over
        await self._close(server)
        return FATAL if self.log.debug or connection.login is None else 0

    async def _server(self, on_close: Callable[[ServerConnection], None] | None = None) -> Server:
        from ..aio.doorkeeper import limits_of
        from ..aio.server import serve
        from ..aio.shellserver import run_program

        server = await serve(
            host_keys=self.host_keys, certificates=self.certificates, gatekeeper=self._gatekeeper(),
            handler=run_program, subsystems=self._subsystems(),
            policy=self._policy_for_views(), sinks=self._sinks,
            limits=limits_of(self.config.options), on_close=on_close, on_refused=self._refused, listen=False,
        )  # fmt: skip
        await self._offer_status(server)
        await self.beside.start(server)
        return server

    def _gatekeeper(self) -> AccountGatekeeper:
        from ..aio.shellgate import AccountGatekeeper

        config = self.config
        match = functools.partial(_match, config) if config.blocks else None
        return AccountGatekeeper(config.options, self._banner(), match=match)

    def _subsystems(self) -> dict[str, Handler]:
        from ..aio.shellserver import run_program

        return dict.fromkeys(self.config.subsystems, run_program)

    def _policy_for_views(self) -> Policy:
        return for_capture(self._policy(), [*self.files, *self.shared])

    def _refused(self, peer: Peer, reason: str) -> None:
        """Who is turned away is told once a minute: a flood must not fill the log."""
        now = time.monotonic()
        level = "verbose" if now < self._told_of_refusals else "info"
        if level == "info":
            self._told_of_refusals = now + QUIET_SECONDS
        ends = f"[{peer.address}]:{peer.port} on [{peer.local_address}]:{peer.local_port}"
        self._note(level, f"drop connection from {ends} {reason}")

    async def _close(self, server: Server) -> None:
        await server.close()
        await self.beside.close()

    async def _offer_status(self, server: Server) -> None:
        """A status socket, unless it is not wanted; a server that cannot have one serves all the same."""
        from ..aio.workers import cleared

        where = self.arguments.status
        if where != "none":
            try:
                place = Path(where) if where else None
                if place and self.worker:
                    place = cleared(place.with_name(f"{place.name}.{self.worker}"))
                path = await server.offer_status(place)
            except ConfigError as error:
                self._note("info", str(error))
            else:
                self._note("debug1", f"Status socket at {path}.")

    def _sinks(self, peer: Peer) -> list[Sink]:
        """What hears a new connection."""
        found: list[Sink] = [without_start(self.log.view(preauth=True)), *self.shared]
        found += self.beside.sinks()
        for folder in self.folders:
            try:
                found.append(folder.open(peer.address, peer.port, time.time()))
            except OSError as error:
                self._note("error", f"--trace {folder.path}: {error.strerror}: this connection is not traced")
        opened = list(self.files)
        for flag, value in self.each:
            try:
                opened += open_views([(flag, value)])
            except ConfigError as error:  # it could be opened when the server began
                self._note("error", f"{flag}: {error}: this connection is not heard")
        return [*found, *map(ClosedAtTheEnd, opened)]

    def _policy(self) -> Policy:
        """The policy of each connection, with the system's moduli where group exchange may want them."""
        from ..system.cpu import has_aes

        policy = self.config.policy.for_processor(aes=has_aes())
        if any("group-exchange" in name for name in policy.kex):
            with suppress(OSError):
                return policy.but(moduli=Path("/etc/ssh/moduli").read_text("ascii", "replace"))
        return policy

    def _banner(self) -> str:
        from ..system.files import read_regular

        path = self.config.options.banner
        if not path:
            return ""
        try:
            return read_regular(path, MAX_BANNER).decode("utf-8", "replace")
        except OSError as error:
            self._note("error", f"Banner {path}: {error.strerror or error}")
            return ""

    def _close_on_signals(self, server: Server) -> None:
        loop = asyncio.get_running_loop()
        closing: list[asyncio.Task[None]] = []
        self._on_signals(lambda: closing.append(loop.create_task(server.close())))

    def _on_signals(self, act: Callable[[], None]) -> None:
        def terminate(number: int) -> None:
            self._note("info", f"Received signal {number}; terminating.")
            act()

        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, terminate, number)


def _match(
    config: ServerConfig, user: str, account: Account | None, peer: Peer
) -> tuple[Policy, ServerOptions]:
    """What the Match blocks say of a login; its host is its address, unless UseDNS is yes."""
    from ..config.match import Login
    from ..system.accounts import group_names

    login = Login(
        user=user, address=peer.address, host=peer.hostname or peer.address,
        local_address=peer.local_address, local_port=peer.local_port,
        groups=group_names(account) if account is not None else (),
        invalid_user=account is None,
    )  # fmt: skip
    return config.at(login)
