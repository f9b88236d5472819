"""`glasshell ssh [flags] [user@]host [command]`: the flags of ssh(1), and what becomes of them.

The words are read as getopt(3) reads them, which ssh(1) is used with everywhere: flags may be clustered
and may follow the host, and everything after the command's first word belongs to the command. Each flag
stands for a line of ssh_config(5), in the order given, so that one rule decides: the first value counts.
"""

from __future__ import annotations

import getopt
import os
import stat
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import unquote, urlsplit

from ..config.client_keywords import valid_host
from ..config.parse import Line, parse_option
from ..config.ssh_config import ClientOptions, Facts, option, read
from ..errors import ConfigError, UsageError
from ..values import field, replace, slotted
from ..wire import visible
from .program import shares
from .report import FAILED
from .watching import VIEWS

if TYPE_CHECKING:
    from ..system.accounts import Account
    from .client import Way

__all__ = ["Invocation", "facts", "main", "parse"]


@slotted
class Invocation:
    """What the command line says. `lines` are its flags as lines of ssh_config(5)."""

    host: str = ""
    command: str | None = None
    lines: list[Line] = field(default_factory=list)
    config: str | None = None
    log_file: str | None = None
    stdio_forward: tuple[str, int] | None = None
    views: list[tuple[str, str]] = field(default_factory=list)
    control: str = ""
    """The word of -O."""
    masters: int = 0
    master: bool = False
    """Whether this process is to be a master and nothing else."""
    verbosity: int = 0
    terminal: int = 0
    show: bool = False
    query: str = ""
    """The word of -Q."""
    version: bool = False


Act = Callable[[Invocation, str], None]


class Flag(NamedTuple):
    """One flag: its value's name or "", what it does to an Invocation, and what that means."""

    value: str
    act: Act
    about: str


def _lines(*lines: tuple[str, str]) -> Act:
    return lambda said, _: said.lines.extend(option(name, value) for name, value in lines)


def _value(keyword: str) -> Act:
    return lambda said, value: said.lines.append(option(keyword, value))


def _store(name: str) -> Act:
    return lambda said, value: setattr(said, name, value)


def _store_true(name: str) -> Act:
    return lambda said, _: setattr(said, name, True)


def _watch(flag: str) -> Act:
    return lambda said, value: said.views.append((flag, value))


def _count(name: str) -> Act:
    return lambda said, _: setattr(said, name, getattr(said, name) + 1)


def _identity(said: Invocation, value: str) -> None:
    try:
        Path(value).expanduser().stat()
    except OSError as error:
        print(f"Warning: Identity file {visible(value)} not accessible: {error.strerror}.", file=sys.stderr)
    else:
        said.lines.append(option("IdentityFile", value))


def _stdio_forward(said: Invocation, value: str) -> None:
    host, colon, number = value.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not number.isdecimal() or not 0 < int(number) < 65536:
        raise UsageError(f"Bad stdio forwarding specification '{visible(value)}'", hint="write -W host:port")
    said.stdio_forward = (host, int(number))
    said.lines.append(option("RequestTTY", "no"))


def _master(said: Invocation, value: str) -> None:
    said.lines.insert(0, option("ControlMaster", "ask" if said.masters else "yes"))
    said.masters += 1


def _tunnel(said: Invocation, value: str) -> None:
    raise UsageError("Tunnel device forwarding is not supported.", hint="-D, -L and -R forward connections")


def _protocol_1(said: Invocation, value: str) -> None:
    raise UsageError("SSH protocol v.1 is no longer supported")


def _control(said: Invocation, value: str) -> None:
    from .passenger import COMMANDS

    if said.control:
        raise UsageError("Multiplexing command already specified")
    if value not in COMMANDS:
        raise UsageError("Invalid multiplex command.", hint=f"one of {', '.join(COMMANDS)}")
    said.control = value


FLAGS: Final[dict[str, Flag]] = {
    "1": Flag("", _protocol_1, "refused: SSH 1"),
    "2": Flag("", lambda said, value: None, "SSH 2: there is no other"),
    "4": Flag("", _lines(("AddressFamily", "inet")), "IPv4 only"),
    "6": Flag("", _lines(("AddressFamily", "inet6")), "IPv6 only"),
    "A": Flag("", _lines(("ForwardAgent", "yes")), "programs on the server may use the agent"),
    "a": Flag("", _lines(("ForwardAgent", "no")), "they may not"),
    "b": Flag("ADDRESS", _value("BindAddress"), "connect from this address"),
    "B": Flag("INTERFACE", _value("BindInterface"), "connect from this interface"),
    "C": Flag("", _lines(("Compression", "yes")), "compress"),
    "c": Flag("CIPHERS", _value("Ciphers"), "ciphers, in order"),
    "D": Flag("FORWARD", _value("DynamicForward"), "[bind:]port, a SOCKS proxy through the server"),
    "E": Flag("FILE", _store("log_file"), "append the log to FILE"),
    "e": Flag("CHAR", _value("EscapeChar"), "escape character, or none"),
    "F": Flag("FILE", _store("config"), "configuration file, or none"),
    "f": Flag("", _lines(("ForkAfterAuthentication", "yes"), ("StdinNull", "yes")),
              "go to the background once logged in"),
    "G": Flag("", _store_true("show"), "show the configuration for the host, and exit"),
    "g": Flag("", _lines(("GatewayPorts", "yes")), "others may connect to forwarded ports"),
    "I": Flag("PKCS11", _value("PKCS11Provider"), "a PKCS#11 library: give it to the agent"),
    "i": Flag("FILE", _identity, "private key"),
    "J": Flag("HOPS", _value("ProxyJump"), "by these hosts: [user@]host[:port], with commas between"),
    "K": Flag("", _lines(("GSSAPIAuthentication", "yes"), ("GSSAPIDelegateCredentials", "yes")),
              "log in by GSSAPI, and forward its credentials"),
    "k": Flag("", _lines(("GSSAPIDelegateCredentials", "no")), "no forwarding of GSSAPI credentials"),
    "L": Flag("FORWARD", _value("LocalForward"), "[bind:]port:host:hostport, listened to here (or paths)"),
    "l": Flag("USER", _value("User"), "user on the server"),
    "m": Flag("MACS", _value("MACs"), "MACs, in order"),
    "M": Flag("", _master, "share the connection with programs to come; -MM asks about each"),
    "N": Flag("", _lines(("SessionType", "none"), ("RequestTTY", "no")), "no command: forward only"),
    "n": Flag("", _lines(("StdinNull", "yes")), "standard input is /dev/null"),
    "O": Flag("COMMAND", _control, "tell the master: check, forward, cancel, stop or exit"),
    "o": Flag("KEYWORD=VALUE", lambda said, value: said.lines.append(parse_option(value)),
              "an option of ssh_config(5)"),
    "P": Flag("TAG", _value("Tag"), "the tag that Match tagged asks for"),
    "p": Flag("PORT", _value("Port"), "port"),
    "Q": Flag("QUERY", _store("query"), "list the algorithms of a kind, and exit; help lists the kinds"),
    "q": Flag("", _lines(("LogLevel", "QUIET")), "say nothing, not even errors"),
    "R": Flag("FORWARD", _value("RemoteForward"), "as -L, listened to there; [bind:]port alone for SOCKS"),
    "S": Flag("PATH", _value("ControlPath"), "the socket by which a connection is shared, or none"),
    "s": Flag("", _lines(("SessionType", "subsystem")), "the command is the name of a subsystem"),
    "T": Flag("", _lines(("RequestTTY", "no")), "no terminal"),
    "t": Flag("", _count("terminal"), "a terminal; -tt even where there is none here"),
    "V": Flag("", _store_true("version"), "tell the version, and exit"),
    "v": Flag("", _count("verbosity"), "tell what happens; -vv and -vvv tell more"),
    "W": Flag("HOST:PORT", _stdio_forward, "connect standard input and output to HOST, through the server"),
    "w": Flag("TUNNEL", _tunnel, "refused: there are no tunnel devices"),
    "X": Flag("", _lines(("ForwardX11", "yes")), "forward X11 (there is none)"),
    "x": Flag("", _lines(("ForwardX11", "no")), "no forwarding of X11"),
    "Y": Flag("", _lines(("ForwardX11", "yes"), ("ForwardX11Trusted", "yes")), "forward X11, trusted"),
    **{view.flag: Flag(view.value, _watch(view.flag), view.about) for view in VIEWS},
}  # fmt: skip
"""The letters of ssh(1), and what is our own."""

_SHORT: Final = "".join(name + ":" * bool(flag.value) for name, flag in FLAGS.items() if len(name) == 1)
_LONG: Final = [name[2:] + "=" * bool(flag.value) for name, flag in FLAGS.items() if len(name) > 1]

EXEC_SECONDS: Final = 30
"""How long a command of Match exec may take; somebody waits for it."""

USAGE: Final = "usage: glasshell ssh [flags] [user@]host[ command]\n"


def main(arguments: Sequence[str]) -> int:
    """Runs `glasshell ssh`; returns the exit status: the remote program's, or 255."""
    if list(arguments) in (["--help"], []):
        print(_help(), end="", file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else FAILED
    from .stdio import open_missing

    open_missing()
    said = parse(arguments)
    if said.version or said.query:
        return _tell(said)
    reading = read(
        said.host, facts(), command_line=said.lines, file=said.config, command=said.command or "",
        obey=not said.show,
    )  # fmt: skip
    options = reading.options()
    _check(said, options)
    if said.show:
        return _show(options)
    if options.session_type == "subsystem" and said.command is None and options.remote_command is None:
        raise ConfigError("Missing subsystem name: -s takes it where a command stands")
    if options.control_path is not None or said.control:
        from .passenger import join

        status = join(said, options)
        if status is None and options.control_persist is not None and shares(options):
            status = _beside_a_master(said, options)
        if status is not None:
            return status
    if options.fork:
        return _in_background(lambda ready: _run(said, options, ready))
    return _run(said, options, lambda: None)


def _beside_a_master(said: Invocation, options: ClientOptions) -> int | None:
    """ControlPersist: a master in the background, which stays, and this session by it."""
    from .passenger import join

    said.master = True
    failed = _in_background(lambda ready: _run(said, options, ready))
    said.master = False
    return failed or join(said, replace(options, control_master="auto"))


def _tell(said: Invocation) -> int:
    """-V and -Q, for which no host is needed."""
    if said.version:
        import platform

        from .. import __version__

        print(f"glasshell_{__version__}, Python {platform.python_version()}", file=sys.stderr)
        return 0
    from .query import answer

    for line in answer(said.query):
        print(line)
    return 0


def _show(options: ClientOptions) -> int:
    """-G: what holds for the host, as OpenSSH prints it."""
    from ..config.show import show_client

    for line in show_client(options):
        print(line)
    return 0


def _run(said: Invocation, options: ClientOptions, ready: Callable[[], None]) -> int:
    import asyncio

    from .dialing import Dialing, load

    async def work() -> int:
        if said.views:  # the times that they show are to be the network's, not those of our loading
            await load()
        by_others = bool(options.proxy_jump or options.proxy_command)
        dialing = _by_others(said, options) if by_others else Dialing(options)
        try:
            await load()
            from .client import run

            return await run(said, options, ready, dialing)
        finally:
            await dialing.close()

    return asyncio.run(work())


def _by_others(said: Invocation, options: ClientOptions) -> Way:
    from .jumps import Jumping, Piping

    return Jumping(said, options) if options.proxy_jump else Piping(options)


def _help() -> str:
    lines = []
    for name, flag in FLAGS.items():
        left = f"{name if len(name) > 1 else '-' + name} {flag.value}"
        lines.append(f"  {left:18} {flag.about}\n")
    return "".join([USAGE, "\nThe flags, each as in ssh(1):\n\n", *lines])


# ---- the command line


def parse(arguments: Sequence[str]) -> Invocation:
    """Reads the command line. Raises UsageError, ConfigError."""
    said = Invocation()
    rest = _flags(said, arguments)
    if said.version or said.query:
        return said
    if not rest:
        raise UsageError("a host is needed", hint=USAGE.strip())
    said.host = _destination(said, rest[0])
    rest = _flags(said, rest[1:])
    if rest:
        said.command = " ".join(rest)
    if said.stdio_forward:  # unless another flag says otherwise, before or behind it
        said.lines += [option("ExitOnForwardFailure", "yes"), option("ClearAllForwardings", "yes")]
    if said.terminal:
        said.lines.insert(0, option("RequestTTY", "force" if said.terminal > 1 else "yes"))
    if said.verbosity:
        said.lines.insert(0, option("LogLevel", f"DEBUG{min(said.verbosity, 3)}"))
    return said


def _flags(said: Invocation, words: Sequence[str]) -> list[str]:
    """Takes the flags at the front; returns what follows them."""
    try:
        pairs, rest = getopt.getopt(list(words), _SHORT, _LONG)
    except getopt.GetoptError as error:
        raise UsageError(error.msg, hint="glasshell ssh --help lists the flags") from None
    for name, value in pairs:
        FLAGS[name if name.startswith("--") else name[1:]].act(said, value)
    return rest


def _destination(said: Invocation, text: str) -> str:
    """The host in `[user@]host` or `ssh://[user@]host[:port]`; the rest becomes lines."""
    user, at, host = text.rpartition("@")
    number = ""
    if text.startswith("ssh://"):
        try:
            parts = urlsplit(text)
            user, at, host = unquote(parts.username or ""), parts.username or "", parts.hostname or ""
            number = str(parts.port or "")
        except ValueError:
            host = ""
        if not host or parts.path.strip("/") or parts.query:
            raise UsageError(f"'{visible(text)}' is no ssh://[user@]host[:port]")
    if at:
        said.lines.append(option("User", user))
    if number:
        said.lines.append(option("Port", number))
    if not host or host.startswith("-") or not host.isprintable() or " " in host or (at and not user):
        raise UsageError(f"'{visible(text)}' names no host")
    if not valid_host(host):  # CVE-2023-51385: it may end in a ProxyCommand
        raise UsageError(f"'{visible(text)}': hostname contains invalid characters")
    return host


def _check(said: Invocation, options: ClientOptions) -> None:
    """What ssh(1) refuses before it connects."""
    has_command = said.command is not None or options.remote_command is not None
    if said.command is not None and options.remote_command is not None:
        raise ConfigError("Cannot execute command-line and remote command.")
    waits = options.session_type == "none" or said.stdio_forward is not None
    if options.fork and not has_command and not waits:
        raise ConfigError("Cannot fork into background without a command to execute.")


# ---- what the system knows


def facts() -> Facts:
    """Who runs this, and where."""
    import socket

    from ..system.files import find_files

    account = _account()
    home = str(Path.home()) if os.environ.get("HOME") or account is None else account.home
    if account is None:
        import getpass

        name, uid = getpass.getuser(), 0
    else:
        name, uid = account.name, account.uid
    return Facts(
        home=home, user=name, uid=uid, local_host=socket.gethostname(), environment=os.environ,
        read=lambda path: _read(path, private=False), read_own=lambda path: _read(path, private=True),
        find=find_files, execute=_execute, addresses=_addresses, resolve=_resolve,
    )  # fmt: skip


def _execute(command: str) -> bool:
    """Match exec: whether a command of the user's own configuration ends with status 0."""
    import subprocess

    shell = os.environ.get("SHELL") or "/bin/sh"
    try:
        done = subprocess.run(
            [shell, "-c", command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            timeout=EXEC_SECONDS, check=False,
        )  # fmt: skip
    except OSError as error:
        raise ConfigError(f'Match exec: shell "{visible(shell)}": {error.strerror}') from None
    except subprocess.TimeoutExpired:
        raise ConfigError(f"Match exec: the command did not end within {EXEC_SECONDS} seconds") from None
    if done.returncode < 0:
        raise ConfigError(f"Match exec: the command was ended by signal {-done.returncode}")
    return done.returncode == 0


def _addresses() -> list[str]:
    """The addresses of this machine's interfaces that are up, for Match localnetwork."""
    from ..system.interfaces import local_addresses

    return local_addresses()


def _resolve(name: str) -> str | None:
    """The canonical name of a host, or "" where it has none of its own; None: there is no such host."""
    import socket

    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM, flags=socket.AI_CANONNAME)
    except (OSError, UnicodeError):
        return None
    return next((info[3] for info in found if info[3]), "")


def _account() -> Account | None:
    from ..system.accounts import current_account

    try:
        return current_account()
    except (ImportError, KeyError):
        return None


def _read(path: str, *, private: bool) -> bytes:
    """A configuration file; the user's own must be writable by nobody else, as it says whom to trust."""
    from ..config.parse import MAX_FILE

    if path == os.devnull:
        return b""
    if path.startswith("/dev/fd/"):  # what a shell made for us alone: -F <(...)
        with Path(path).open("rb") as given:
            return given.read(MAX_FILE + 1)
    # A FIFO that nobody writes to would otherwise be waited for.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"{visible(path)} is not a regular file")
        others = private and os.name == "posix"
        if others and (status.st_uid not in (0, os.getuid()) or status.st_mode & 0o022):
            name = visible(path)
            raise ConfigError(f"Bad owner or permissions on {name}", hint=f"chmod 600 {name}")
        return file.read(MAX_FILE + 1)


# ---- -f


def _in_background(work: Callable[[Callable[[], None]], int]) -> int:
    """Does `work` in a child; the parent ends when the child says it is ready, or has ended.

    The child is there before any loop is, so nothing of asyncio has to survive a fork; until it is
    ready it asks its questions on the terminal that both have.
    """
    if not hasattr(os, "fork"):
        raise UsageError("this system cannot send a program to the background: leave -f away")
    waiting, telling = os.pipe()
    child = os.fork()
    if child:
        os.close(telling)
        if os.read(waiting, 1):
            return 0
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return status if status >= 0 else FAILED
    os.close(waiting)

    def ready() -> None:
        os.setsid()
        os.write(telling, b"+")
        os.close(telling)

    return work(ready)
