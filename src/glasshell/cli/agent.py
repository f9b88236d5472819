"""`glasshell agent`: ssh-agent(1), its flags, and the lines that it tells a shell."""

from __future__ import annotations

import asyncio
import getopt
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from ..config.forms import seconds
from ..errors import ConfigError, UsageError
from ..values import slotted
from ..wire import visible

__all__ = ["main"]

USAGE: Final = """\
usage: glasshell agent [-c | -s] [-DdT] [-a bind_address] [-E fingerprint_hash]
                       [-O option] [-P allowed_providers] [-t life]
       glasshell agent [-T] [-a bind_address] [-E fingerprint_hash] [-O option]
                       [-P allowed_providers] [-t life] command [arg ...]
       glasshell agent [-c | -s] -k
"""

FLAGS: Final[dict[str, tuple[str, str]]] = {
    "a": ("ADDRESS", "the path of the socket"),
    "c": ("", "lines for a C shell"),
    "D": ("", "stay in the foreground"),
    "d": ("", "stay in the foreground, and tell what happens"),
    "E": ("HASH", "hash of fingerprints: sha256 or md5"),
    "k": ("", "end the agent that SSH_AGENT_PID names"),
    "O": ("OPTION", "no-restrict-websafe, or allow-remote-pkcs11"),
    "P": ("PATTERNS", "the libraries that keys of tokens may come from, none by default"),
    "s": ("", "lines for a Bourne shell"),
    "T": ("", "put the socket into the folder of temporary files"),
    "t": ("LIFE", "how long keys stay, where adding them does not say: seconds, or 10m, 1h"),
}

ENDING: Final = frozenset((signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM), signal.SIGINT))
"""What ends an agent; SIGINT in the foreground alone."""

MAX_PATH: Final = 107
"""Longest path of a Unix socket, in bytes (unix(7))."""


@slotted
class Settings:
    """What the command line says."""

    csh: bool | None = None
    kill: bool = False
    foreground: bool = False
    debug: bool = False
    address: str = ""
    lifetime: int = 0
    providers: str | None = None
    remote_providers: bool = False
    websafe: bool = True
    hash: str = "sha256"
    command: Sequence[str] = ()


def main(arguments: Sequence[str]) -> int:
    """Runs `glasshell agent`; returns the exit status."""
    if list(arguments) == ["--help"]:
        print(_help(), end="")
        return 0
    try:
        said = _parse(arguments)
    except (getopt.GetoptError, ConfigError) as error:
        print(visible(str(error)), file=sys.stderr)
        print(USAGE, end="", file=sys.stderr)
        return 1
    if said.csh is None and not said.command:
        said.csh = os.environ.get("SHELL", "").endswith("csh")
    if said.kill:
        return _kill(bool(said.csh))
    if not hasattr(os, "fork"):
        raise UsageError("this system has no Unix domain sockets for an agent", hint="use its own agent")
    return _run(said)


def _help() -> str:
    lines = [f"  {f'-{name} {value}':16} {about}\n" for name, (value, about) in FLAGS.items()]
    return "".join([USAGE, "\n", *lines])


def _parse(arguments: Sequence[str]) -> Settings:
    letters = "".join(name + ":" * bool(value) for name, (value, _) in FLAGS.items())
    pairs, rest = getopt.getopt(list(arguments), letters)
    said = Settings(command=rest)
    for flag, value in pairs:
        match flag:
            case "-c" | "-s":
                if said.csh is not None and said.csh != (flag == "-c"):
                    raise ConfigError("-c and -s exclude each other")
                said.csh = flag == "-c"
            case "-k":
                said.kill = True
            case "-D" | "-d":
                if said.foreground or said.debug:
                    raise ConfigError("-D and -d exclude each other")
                said.foreground, said.debug = flag == "-D", flag == "-d"
            case "-a":
                said.address = value
            case "-E" if value.lower() not in ("md5", "sha256"):
                raise ConfigError(f'Invalid hash algorithm "{value}"')
            case "-E":
                said.hash = value.lower()
            case "-O":
                _option(said, value)
            case "-P":
                if said.providers is not None:
                    raise ConfigError("-P option already specified")
                said.providers = value
            case "-t":
                said.lifetime = seconds(value)
    if rest and (said.csh is not None or said.kill or said.foreground or said.debug):
        raise ConfigError("a command goes with none of -c, -s, -k, -D, -d")
    return said


def _option(said: Settings, value: str) -> None:
    if value == "no-restrict-websafe":
        said.websafe = False
    elif value == "allow-remote-pkcs11":
        said.remote_providers = True
    else:
        raise ConfigError("Unknown -O option")


def _kill(csh: bool) -> int:
    told = os.environ.get("SSH_AGENT_PID")
    if told is None:
        print("SSH_AGENT_PID not set, cannot kill agent", file=sys.stderr)
        return 1
    if not (told.isascii() and told.isdecimal() and 1 < int(told) < 1 << 31):
        print(f'SSH_AGENT_PID="{visible(told)}", which is not a good PID', file=sys.stderr)
        return 1
    try:
        os.kill(int(told), signal.SIGTERM)
    except OSError as error:
        print(f"kill: {error.strerror}", file=sys.stderr)
        return 1
    unset = "unsetenv" if csh else "unset"
    print(f"{unset} SSH_AUTH_SOCK;\n{unset} SSH_AGENT_PID;\necho Agent pid {told} killed;")
    return 0


# ---- the socket, and the process behind it


class Place:
    """The agent's socket: its path, 0600, in a folder of its own, 0700, where no path was given."""

    def __init__(self, address: str) -> None:
        self._folder = "" if address else tempfile.mkdtemp(prefix="ssh-")
        self.path = address or f"{self._folder}/agent.{os.getpid()}"
        try:
            self.sock = _listen(self.path)
        except BaseException:
            self._remove_folder()
            raise

    def remove(self) -> None:
        """Removes socket and folder."""
        with suppress(OSError):
            Path(self.path).unlink()
        self._remove_folder()

    def _remove_folder(self) -> None:
        if self._folder:
            with suppress(OSError):
                Path(self._folder).rmdir()


def _listen(path: str) -> socket.socket:
    if len(os.fsencode(path)) > MAX_PATH:
        raise ConfigError(f"the path of the socket is longer than {MAX_PATH} bytes: {visible(path)}")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        sock.bind(path)
        sock.listen(128)
    except (OSError, ValueError) as error:
        sock.close()
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(f"cannot listen at {visible(path)}: {why}") from None
    finally:
        os.umask(before)
    return sock


def _run(said: Settings) -> int:
    place = Place(said.address)
    if said.foreground or said.debug:
        _print_socket(place.path, bool(said.csh))
        print(f"echo Agent pid {os.getpid()};", flush=True)
        return _serve(place, said, parent=0)
    parent = os.getpid()
    # Whoever ends the agent at once shall find it able to clean up.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        child = os.fork()
    except OSError as error:
        place.remove()
        raise UsageError(f"fork: {error.strerror}") from None
    if child == 0:
        status = 1
        try:
            _leave_terminal()
            status = _serve(place, said, parent=parent if said.command else 0)
        finally:
            os._exit(status)  # what the parent had buffered is the parent's to write
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    place.sock.close()
    if not said.command:
        try:
            _print_socket(place.path, bool(said.csh))
            _print_variable("SSH_AGENT_PID", str(child), bool(said.csh))
            print(f"echo Agent pid {child};", flush=True)
        except OSError:
            os.kill(child, signal.SIGTERM)  # nobody would ever find it
            raise
        return 0
    os.environ |= {"SSH_AUTH_SOCK": place.path, "SSH_AGENT_PID": str(child)}
    try:
        os.execvp(said.command[0], list(said.command))
    except OSError as error:
        print(f"{visible(said.command[0])}: {error.strerror}", file=sys.stderr)
        os.kill(child, signal.SIGTERM)
        return 1


def _print_socket(path: str, csh: bool) -> None:
    _print_variable("SSH_AUTH_SOCK", path, csh)


def _print_variable(name: str, value: str, csh: bool) -> None:
    print(f"setenv {name} {value};" if csh else f"{name}={value}; export {name};")


def _leave_terminal() -> None:
    os.setsid()
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    if null > 2:
        os.close(null)


def _serve(place: Place, said: Settings, *, parent: int) -> int:
    from ..system.hardening import hide_memory

    hide_memory()
    try:
        return asyncio.run(_agent(place.sock, said, parent))
    finally:
        place.remove()


async def _agent(sock: socket.socket, said: Settings, parent: int) -> int:
    from ..agent.keyring import ALLOWED_PROVIDERS, Keyring
    from ..aio.agentserver import AgentServer
    from ..aio.askpass import Notice, confirm
    from ..system.fido import sign

    tell = _log(said)
    keyring = Keyring(
        lifetime=said.lifetime, providers=said.providers or ALLOWED_PROVIDERS,
        remote_providers=said.remote_providers, websafe=said.websafe, hash=said.hash,
        random=os.urandom, tell=tell,
    )  # fmt: skip
    server = AgentServer(keyring, confirm=confirm, notice=Notice, sign=sign, tell=tell)
    over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    _end_with(over, parent, interrupted=said.foreground or said.debug)
    await server.serve(sock)
    try:
        await over
    finally:
        await server.close()
    return 2  # as ssh-agent: nobody asks for the status of an agent that was told to end


def _log(said: Settings) -> Callable[[str, str], None]:
    """In the foreground on standard error; in the background nobody hears."""
    if not (said.foreground or said.debug):
        return lambda level, text: None

    def tell(level: str, text: str) -> None:
        if said.debug or not level.startswith("debug"):
            print(f"{level}: {text}" if level.startswith("debug") else text, file=sys.stderr, flush=True)

    return tell


def _end_with(over: asyncio.Future[None], parent: int, *, interrupted: bool) -> None:
    """Ends the agent at SIGTERM and SIGHUP, at SIGINT in the foreground, and with the command it is for."""
    loop = asyncio.get_running_loop()

    def end() -> None:
        if not over.done():
            over.set_result(None)

    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, end)
    if interrupted:
        loop.add_signal_handler(signal.SIGINT, end)
    else:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
    if parent:
        _watch(parent, end)


def _watch(parent: int, end: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    try:
        descriptor = os.pidfd_open(parent)
    except ProcessLookupError:
        end()
    except (AttributeError, OSError):  # no such call in this system

        def look() -> None:
            if os.getppid() != parent:
                end()
            else:
                loop.call_later(10, look)

        look()
    else:
        loop.add_reader(descriptor, end)
