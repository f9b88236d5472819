"""The processes of sessions: started as the account they belong to, on pipes or on a terminal.

A child leads its own session (setsid), so that its process group is its pid. As root the child has
dropped every right of the server before the program is executed; an ordinary user's server can start
processes of that user only.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias

from .accounts import Account, is_root
from .pty import Terminal

__all__ = [
    "SIGNALS", "Child", "Exit", "Process", "Streams", "base_environment", "close_all", "login_arguments",
    "open_pipes", "signal_name", "spawn", "start",
]  # fmt: skip

SIGNALS: Final = (
    "ABRT", "ALRM", "FPE", "HUP", "ILL", "INT", "KILL", "PIPE", "QUIT", "SEGV", "TERM", "USR1", "USR2",
)  # fmt: skip
"""The signals of RFC 4254 §6.10."""

_PATH: Final = "/usr/local/bin:/usr/bin:/bin:/usr/games"
_ROOT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MAIL: Final = "/var/mail"


Streams: TypeAlias = tuple[int, int, int]
"""Descriptors of input, output and errors."""


@dataclass(frozen=True, slots=True)
class Exit:
    """How a child ended: with `status`, or by `signal` (a name of RFC 4254 §6.10)."""

    status: int | None
    signal: str = ""
    core_dumped: bool = False


def signal_name(number: int) -> str:
    """A signal's name as `exit-signal` carries it; OpenSSH's own for those that the RFC lacks."""
    try:
        name = signal.Signals(number).name.removeprefix("SIG")
    except ValueError:
        name = ""
    return name if name in SIGNALS else "SIG@openssh.com"


def base_environment(account: Account) -> dict[str, str]:
    """What every program of `account` finds in its environment, whatever the client asks for."""
    environment = {
        "USER": account.name,
        "LOGNAME": account.name,
        "HOME": account.home,
        "PATH": _PATH if account.uid else _ROOT_PATH,
        "SHELL": account.shell,
    }
    if Path(_MAIL).is_dir():
        environment["MAIL"] = f"{_MAIL}/{account.name}"
    if "TZ" in os.environ:
        environment["TZ"] = os.environ["TZ"]
    return environment


def login_arguments(account: Account, command: str | None) -> list[str]:
    """The arguments of the account's shell: a login shell's argv[0] has a dash, a command goes to -c."""
    name = Path(account.shell).name
    return [f"-{name}"] if command is None else [name, "-c", command]


class Process(Protocol):
    """What a Child asks of the process behind it: a Popen of this process's, or somebody else's child."""

    pid: int
    returncode: int | Any

    def wait(self) -> int: ...


class Child:
    """A running process. `stdin`, `stdout`, `stderr` are our ends, non-blocking; on a terminal the
    first two are the terminal's and `stderr` is -1."""

    def __init__(
        self, process: Process, stdin: int, stdout: int, stderr: int,
        terminal: Terminal | None,
    ) -> None:  # fmt: skip
        self._process = process
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr
        self.terminal = terminal
        for descriptor in {stdin, stdout, stderr} - {-1}:
            os.set_blocking(descriptor, False)

    @property
    def pid(self) -> int:
        """Process id, and process group."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process has not been waited for."""
        return self._process.returncode is None

    def send_signal(self, name: str) -> bool:
        """Delivers a signal of `SIGNALS` to the process group; False where that cannot be."""
        if name not in SIGNALS or not self.running:
            return False
        try:
            os.killpg(self.pid, getattr(signal, f"SIG{name}"))
        except OSError:
            return False
        return True

    def wait(self) -> Exit:
        """Waits for the end; returns at once where the process has ended."""
        core = False
        with suppress(ChildProcessError, AttributeError):  # no waitid: nobody knows about the core
            # Popen forgets about core dumps, so the status is looked at before it is taken.
            seen = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
            core = seen is not None and seen.si_code == os.CLD_DUMPED
        code = self._process.wait()
        return Exit(code) if code >= 0 else Exit(None, signal_name(-code), core)

    def close_stdin(self) -> None:
        """Ends the program's input. A terminal has no such end: its program goes on."""
        if self.terminal is None and self.stdin >= 0:
            os.close(self.stdin)
            self.stdin = -1

    def close(self) -> None:
        """Closes our ends: programs on a terminal are hung up, those on pipes get no more input."""
        if self.terminal is not None:
            self.terminal.close()
        else:
            for descriptor in {self.stdin, self.stdout, self.stderr} - {-1}:
                os.close(descriptor)
        self.stdin = self.stdout = self.stderr = -1


def start(
    account: Account, arguments: Sequence[str], environment: Mapping[str, str],
    terminal: Terminal | None = None,
) -> Child:  # fmt: skip
    """Starts the account's shell with `arguments` (argv[0] first). Raises OSError where that fails.

    With a terminal it is the controlling terminal of the new session, and the child takes it over.
    """
    if terminal is None:
        return _start_on_pipes(account, arguments, environment)
    slave = terminal.slave
    process = spawn(account, arguments, environment, (slave, slave, slave), terminal=True)
    terminal.close_slave()
    return Child(process, terminal.master, terminal.master, -1, terminal)


def _start_on_pipes(account: Account, arguments: Sequence[str], environment: Mapping[str, str]) -> Child:
    theirs, ours = open_pipes()
    try:
        process = spawn(account, arguments, environment, theirs)
    except OSError:
        close_all(ours)
        raise
    finally:
        close_all(theirs)
    return Child(process, *ours, None)


def open_pipes() -> tuple[Streams, Streams]:
    """The ends of three pipes, the program's and ours: input, output, errors. Raises OSError."""
    descriptors: list[int] = []
    try:
        for _ in range(3):
            descriptors += os.pipe()
    except OSError:
        close_all(descriptors)
        raise
    in_read, in_write, out_read, out_write, err_read, err_write = descriptors
    return (in_read, out_write, err_write), (in_write, out_read, err_read)


def close_all(descriptors: Iterable[int]) -> None:
    """Closes them."""
    for descriptor in descriptors:
        os.close(descriptor)


def spawn(
    account: Account, arguments: Sequence[str], environment: Mapping[str, str],
    streams: Streams, *, terminal: bool = False,
) -> subprocess.Popen[bytes]:  # fmt: skip
    """Starts the account's shell on `streams`; `terminal`: they are the terminal that becomes its own."""

    import fcntl  # here, as the user may be unable to read where Python's modules are
    import termios

    def in_child() -> None:
        # Runs after the rights were dropped: root's view of a home on the network is another.
        if terminal:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        _go_home(account.home)

    root = is_root()
    try:
        return subprocess.Popen(
            [_raw(argument) for argument in arguments], executable=account.shell,
            env={_raw(name): _raw(value) for name, value in environment.items()},
            stdin=streams[0], stdout=streams[1], stderr=streams[2],
            user=account.uid if root else None, group=account.gid if root else None,
            extra_groups=account.groups if root else None,
            start_new_session=True, umask=0o022, preexec_fn=in_child,
        )  # fmt: skip
    except (subprocess.SubprocessError, ValueError) as error:
        raise OSError(None, f"cannot start {account.shell}: {error}") from None


def _raw(text: str) -> bytes:
    """The bytes that came from the peer, whatever the locale of this process is."""
    return text.encode("utf-8", "surrogateescape")


def _go_home(home: str) -> None:
    try:
        os.chdir(home)
    except OSError as error:
        text = f"Could not chdir to home directory {home}: {error.strerror}\n"
        os.write(2, text.encode("utf-8", "surrogateescape"))
        os.chdir("/")
