"""`glasshell strace -- ssh host`: runs strace(1) with what must be seen, then shows the connections in it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from ..capture.source import open_source
from ..capture.strace import FLAGS
from ..errors import ConfigError, UsageError

__all__ = ["main"]

USAGE: Final = "usage: glasshell strace [-o FILE] [--as FORM] [--keylog FILE] [strace flags] -- COMMAND ...\n"

ABOUT: Final = """
Runs COMMAND under strace, then shows the SSH connections that it made, as glasshell inspect does.

  -o FILE        keep what strace writes: glasshell inspect FILE shows it again
  --as FORM      timeline (the default), text, json or jsonl: inspect's -T
  --keylog FILE  secrets of key exchanges for inspect (may be given several times)
  -p PID         strace's: watch a process that runs already, until Ctrl-C; then there is no COMMAND

Other words before -- are strace's. Exit status: the command's, 255 where it could not be run.
"""

ADDED: Final = ("-q", "-T", "-yy")
"""For people: no word of attaching; durations; and which descriptor is which connection, for certain."""

FORMS: Final = ("timeline", "text", "json", "jsonl")

YAMA: Final = Path("/proc/sys/kernel/yama/ptrace_scope")


class Asked(NamedTuple):
    """The command line, taken apart."""

    keep: str
    form: str
    keylogs: list[str]
    flags: list[str]
    command: list[str]


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns its exit status."""
    if list(arguments) in (["--help"], ["-h"], []):
        print(USAGE + ABOUT, end="", file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 255
    asked = parse(arguments)
    if shutil.which("strace") is None:
        raise ConfigError("strace is not installed", hint="apt-get install strace, or your system's way")
    if asked.command and shutil.which(asked.command[0]) is None:
        raise ConfigError(f"there is no program {asked.command[0]}")
    from .inspect import main as inspect

    with _trace(asked.keep) as path:
        status = _run(["strace", *FLAGS, *ADDED, *asked.flags, "-o", path, *_separated(asked.command)])
        if status == 1 and Path(path).stat().st_size == 0:
            raise ConfigError(
                f"strace could not trace (status {status}); it says why above", hint=_forbidden()
            )
        sys.stdout.flush()
        if _any(path):
            options = [] if asked.form == "timeline" else ["-T", asked.form]
            inspect([*options, *(word for name in asked.keylogs for word in ("--keylog", name)), path])
        else:
            print("glasshell strace: no SSH connection was made or used", file=sys.stderr)
        if asked.keep:
            print(
                f"glasshell strace: {path} holds all that was read and written, passwords too",
                file=sys.stderr,
            )
    return status


def parse(arguments: Sequence[str]) -> Asked:
    """Takes the command line apart. Raises UsageError."""
    words = list(arguments)
    command: list[str] = []
    if "--" in words:
        at = words.index("--")
        words, command = words[:at], words[at + 1 :]
    values: dict[str, list[str]] = {"-o": [], "--as": [], "--keylog": []}
    flags = []
    rest = iter(words)
    for word in rest:
        if word not in values:
            flags.append(word)
            continue
        value = next(rest, None)
        if value is None:
            raise UsageError(f"{word} needs a value", hint=USAGE.strip())
        values[word].append(value)
    form = (values["--as"] or ["timeline"])[-1]
    if form not in FORMS:
        raise UsageError(f"--as {form}: there are {', '.join(FORMS)}")
    attaches = any(flag.startswith(("-p", "--attach")) for flag in flags)
    if bool(command) == attaches:
        raise UsageError("a COMMAND behind --, or -p PID, one of the two", hint=USAGE.strip())
    return Asked((values["-o"] or [""])[-1], form, values["--keylog"], flags, command)


def _separated(command: list[str]) -> list[str]:
    return ["--", *command] if command else []


@contextmanager
def _trace(keep: str) -> Iterator[str]:
    """A file for strace that only we may read: it will hold what was typed."""
    if not keep:
        with tempfile.TemporaryDirectory(prefix="glasshell-") as folder:
            path = Path(folder) / "trace.strace"
            path.touch(mode=0o600)
            yield str(path)
        return
    try:
        os.close(os.open(keep, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
    except OSError as error:
        raise ConfigError(f"cannot write {keep}: {error.strerror}") from None
    yield keep


def _run(line: list[str]) -> int:
    """Runs it; Ctrl-C is for strace and what it runs, we have a file to show afterwards."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        # The child gets back what it would have had without us.
        process = subprocess.Popen(line, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
        status = process.wait()
    finally:
        signal.signal(signal.SIGINT, before)
    return status if status >= 0 else 128 - status


def _any(path: str) -> bool:
    """Whether there is an SSH connection in it."""
    if Path(path).stat().st_size == 0:
        return False
    with open_source(path) as source:
        return next(iter(source), None) is not None


def _forbidden() -> str:
    """What may keep strace from tracing."""
    try:
        scope = YAMA.read_text().strip()
    except OSError:
        scope = "0"
    if scope != "0" and os.geteuid() != 0:
        return f"{YAMA} is {scope}: only root may trace a process that is not its own child"
    return "where ptrace is not permitted, a container needs --cap-add SYS_PTRACE"
