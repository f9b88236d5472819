"""Running the commands: with pipes, and on a terminal of their own."""

from __future__ import annotations

import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.interop.peers import Target

SOURCE = Path(__file__).resolve().parents[2] / "src"
PATIENCE = 20.0
"""Seconds until something that has to happen must have happened."""

PROMPT = b"ready> "


class Commands:
    """`glasshell COMMAND` as a process whose home is `home`; what still runs at the end is killed."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environment = {
            "PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(SOURCE), "LC_ALL": "C.UTF-8",
            "TERM": "vt100", "PYTHONWARNINGS": "error",
        }  # fmt: skip
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def line(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "glasshell", *words]

    def run(
        self, *words: str, stdin: Any = b"", environment: Mapping[str, str] | None = None, **more: Any
    ) -> subprocess.CompletedProcess[bytes]:
        """Runs it to its end without a terminal: nobody can be asked. `stdin` is bytes, a file, DEVNULL."""
        source = {"input": stdin} if isinstance(stdin, bytes) else {"stdin": stdin}
        return subprocess.run(
            self.line(*words), **{**source, "capture_output": True, **more}, cwd=self.home,
            env={**self.environment, **(environment or {})}, timeout=PATIENCE, check=False,
            start_new_session=True,
        )  # fmt: skip

    def start(self, *words: str, **more: Any) -> subprocess.Popen[bytes]:
        """Starts it without a terminal."""
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(
            self.line(*words), **{**pipes, **more}, cwd=self.home, env=self.environment,
            start_new_session=True,
        )  # fmt: skip
        self._stack.enter_context(process)
        self._stack.callback(process.kill)
        return process

    def on_terminal(self, *words: str, rows: int = 24, columns: int = 80) -> Screen:
        """Starts it on a pseudo-terminal, which is its controlling terminal."""
        screen = Screen(self.line(*words), self.environment, self.home, rows, columns)
        self._stack.callback(screen.close)
        return screen


@dataclass(frozen=True)
class Login:
    """The words that log `glasshell ssh` in at a server."""

    commands: Commands
    target: Target
    identity: Path

    def words(self, *flags: str, options: Sequence[str] = ()) -> list[str]:
        """Everything but the command; `options` come before the usual ones."""
        known = self.commands.home / "known_hosts"
        if not known.exists():
            known.write_text(self.target.known_hosts())
        usual = (f"UserKnownHostsFile={known}", "GlobalKnownHostsFile=none", "IdentitiesOnly=yes")
        settings = (*options, *usual)
        words = [word for setting in settings for word in ("-o", setting)]
        where = ["-p", str(self.target.port), f"{self.target.user}@{self.target.host}"]
        return ["ssh", "-F", "none", *flags, *words, "-i", str(self.identity), *where]

    def run(
        self, *command: str, flags: Sequence[str] = (), options: Sequence[str] = (), **more: Any
    ) -> subprocess.CompletedProcess[bytes]:
        """Runs a command on the server."""
        return self.commands.run(*self.words(*flags, options=options), *command, **more)

    def start(self, *command: str, flags: Sequence[str] = (), **more: Any) -> subprocess.Popen[bytes]:
        """Starts a command on the server."""
        return self.commands.start(*self.words(*flags), *command, **more)

    def shell(self, *flags: str, options: Sequence[str] = (), **size: int) -> Screen:
        """A shell on the server, on a terminal here, at its prompt."""
        command = f"exec env PS1='{PROMPT.decode()}' sh"
        words = self.words("-tt", *flags, options=options)
        screen = self.commands.on_terminal(*words, command, **size)
        screen.expect(re.escape(PROMPT))
        return screen


class Screen:
    """A program on a pseudo-terminal: what it wrote, and a keyboard."""

    def __init__(
        self, line: list[str], environment: Mapping[str, str], cwd: Path, rows: int, columns: int
    ) -> None:
        self.master, self.slave = os.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(self.slave)
        self.seen = b""
        self._rest = b""
        self.process = subprocess.Popen(
            line, stdin=self.slave, stdout=self.slave, stderr=self.slave, cwd=cwd, env=environment,
            start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip

    def type(self, text: bytes) -> None:
        """Presses keys, reading meanwhile: a terminal that is full takes none."""
        view = memoryview(text)
        while view:
            readable, writable, _ = select.select([self.master], [self.master], [], PATIENCE)
            if readable:
                self._take()
            if writable:
                view = view[os.write(self.master, view[:512]) :]

    def expect(self, pattern: bytes) -> re.Match[bytes]:
        """Waits until `pattern` shows up in what was not yet matched."""
        deadline = time.monotonic() + PATIENCE
        while True:
            found = re.search(pattern, self._rest)
            if found:
                self._rest = self._rest[found.end() :]
                return found
            left = deadline - time.monotonic()
            if left < 0 or not select.select([self.master], [], [], left)[0] or not self._take():
                raise AssertionError(f"{pattern!r} did not show up in {self.seen[-2000:]!r}")

    def _take(self) -> bool:
        try:
            data = os.read(self.master, 65536)
        except OSError:
            data = b""
        self.seen += data
        self._rest += data
        return bool(data)

    def resize(self, rows: int, columns: int) -> None:
        """The window has a new size."""
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def until(self, holds: Callable[[], object]) -> None:
        """Reads until `holds()`."""
        deadline = time.monotonic() + PATIENCE
        while not holds():
            if time.monotonic() > deadline:
                raise AssertionError(f"it goes on; it said {self.seen[-2000:]!r}")
            if select.select([self.master], [], [], 0.02)[0]:
                self._take()

    def wait(self) -> int:
        """The exit status; everything written until then is in `seen`."""
        self.until(lambda: self.process.poll() is not None)
        while select.select([self.master], [], [], 0)[0] and self._take():
            pass
        return int(self.process.returncode)

    @property
    def as_before(self) -> bool:
        """Whether the terminal's modes are what they were."""
        return termios.tcgetattr(self.slave) == self.before

    def close(self) -> None:
        """Ends it all."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)
