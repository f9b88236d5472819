"""bpftrace as a source of events: which parts of a script this kernel has, and what the script prints.

Only tracepoints are used. They are described in tracefs; where that is not mounted it is mounted for bpftrace
alone, in a mount namespace of its own, so that nothing changes for anybody else.
"""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files
from typing import Final, NamedTuple, Self

from ..errors import ConfigError
from ..wire import visible

__all__ = ["Line", "Part", "Script", "Tracing", "compose", "connections_script", "everything", "parts"]

TRACEFS: Final = "/sys/kernel/tracing"
_MOUNTED: Final = f'mount -t tracefs tracefs {TRACEFS} || exit 97; exec "$@"'
NOT_MOUNTED: Final = 97
START_SECONDS: Final = 30.0
"""Seconds that bpftrace may take to compile and to attach."""
MAX_LINE: Final = 64 * 1024
MAX_COMPLAINTS: Final = 64 * 1024

_PART: Final = re.compile(r"^//@ (\w+): (\w+:\w+)((?: \w+)*)$", re.MULTILINE)
_FIELD: Final = re.compile(r"^\tfield:[^;]*?(\w+)(?:\[[^\]]*\])?;", re.MULTILINE)


class Part(NamedTuple):
    """One part of a script: the tracepoints it needs with their fields, and its text."""

    name: str
    needs: tuple[tuple[str, tuple[str, ...]], ...]
    text: str


class Script(NamedTuple):
    """What can run here: its text, the names of its parts, and in words what is missing."""

    text: str
    parts: tuple[str, ...]
    missing: tuple[str, ...]


class Line(NamedTuple):
    """One line that the script printed: its first word, and the rest."""

    word: str
    rest: str


def parts(text: str) -> list[Part]:
    """The parts of a script, in order; lines `//@` that follow each other are of one part."""
    found: list[Part] = []
    heads = list(_PART.finditer(text))
    for at, head in enumerate(heads):
        end = heads[at + 1].start() if at + 1 < len(heads) else len(text)
        need = head[2], tuple(head[3].split())
        body = text[head.end() : end].strip()
        if found and found[-1].name == head[1]:
            last = found[-1]
            found[-1] = Part(last.name, (*last.needs, need), f"{last.text}\n{body}".strip())
        else:
            found.append(Part(head[1], (need,), body))
    return found


def compose(
    text: str, ports: Iterable[int], formats: Mapping[str, str], *, leave: Collection[str] = ()
) -> Script:
    """The parts that the kernel has the tracepoints for, but for those to `leave` out.

    `formats` are the files of tracefs, by tracepoint.
    """
    kept, missing = [], []
    for part in parts(text):
        if part.name in leave:
            continue
        if reason := _reason(part, formats):
            missing.append(f"no {part.name} from eBPF: {reason}")
        else:
            kept.append(part)
    begin = " ".join(f"@port[{port}] = 1;" for port in sorted(ports))
    whole = "\n\n".join(part.text for part in kept).replace("PORTS", begin)
    return Script(whole, tuple(part.name for part in kept), tuple(missing))


def everything(text: str, ports: Iterable[int]) -> str:
    """The whole script with all of its parts, to be read or run by hand."""
    begin = " ".join(f"@port[{port}] = 1;" for port in sorted(ports))
    return text.replace("\tPORTS\n", f"\t{begin}\n")


def _reason(part: Part, formats: Mapping[str, str]) -> str:
    for tracepoint, fields in part.needs:
        if not formats.get(tracepoint):
            return f"this kernel has no tracepoint {tracepoint}"
        lacking = [name for name in fields if name not in _FIELD.findall(formats[tracepoint])]
        if lacking:
            return f"its tracepoint {tracepoint} has no field {', '.join(lacking)}"
    return ""


def connections_script() -> str:
    """The script that follows SSH connections, as it is shipped."""
    return (files("glasshell.system") / "bpf" / "connections.bt").read_text("utf-8")


@dataclass(slots=True)
class _Way:
    """How bpftrace is run: its program, and what stands before it where tracefs has to be mounted."""

    program: str
    before: tuple[str, ...]

    def line(self, *words: str) -> list[str]:
        return [*self.before, *words]


def _way() -> _Way:
    """Raises ConfigError that says what is missing."""
    if not sys.platform.startswith("linux"):
        raise ConfigError("eBPF is Linux's")
    program = shutil.which("bpftrace")
    if program is None:
        raise ConfigError("bpftrace is not installed", hint="apt-get install bpftrace")
    if os.geteuid() != 0:
        raise ConfigError("eBPF needs root")
    if os.path.isdir(f"{TRACEFS}/events"):  # noqa: PTH112 (no Path for one question)
        return _Way(program, ())
    if shutil.which("unshare") is None:
        raise ConfigError("tracefs is not mounted", hint=f"mount -t tracefs tracefs {TRACEFS}")
    return _Way(program, ("unshare", "--mount", "sh", "-c", _MOUNTED, "sh"))


def _formats(way: _Way, wanted: Sequence[str]) -> dict[str, str]:
    """What tracefs says of each tracepoint; "" where there is none. Raises ConfigError."""
    paths = [f"{TRACEFS}/events/{name.replace(':', '/')}/format" for name in wanted]
    script = 'for path; do echo "= $path"; cat "$path" 2>/dev/null; done'
    done = subprocess.run(
        way.line("sh", "-c", script, "sh", *paths), capture_output=True, text=True, check=False,
        stdin=subprocess.DEVNULL, timeout=START_SECONDS,
    )  # fmt: skip
    if done.returncode == NOT_MOUNTED or not done.stdout:
        why = visible(done.stderr.strip().splitlines()[-1]) if done.stderr.strip() else "no reason was given"
        raise ConfigError(f"tracefs is not mounted, and cannot be: {why}")
    told = dict(zip(wanted, ("",) * len(wanted), strict=True))
    for block in done.stdout.split("= ")[1:]:
        path, _, text = block.partition("\n")
        told[":".join(path.split("/")[-3:-1])] = text
    return told


class Tracing:
    """A script that runs; iterate with `read`. Raises ConfigError where it cannot run, in words why."""

    def __init__(self, text: str, ports: Iterable[int], *, leave: Collection[str] = ()) -> None:
        way = _way()
        needs = {name for part in parts(text) for name, _ in part.needs}
        self.script = compose(text, ports, _formats(way, sorted(needs)), leave=leave)
        if not self.script.parts or self.script.parts[0] != parts(text)[0].name:
            raise ConfigError("; ".join(self.script.missing))
        self._process = subprocess.Popen(
            way.line(way.program, "-f", "json", "-e", self.script.text), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._out, self._err = bytearray(), bytearray()
        streams = self._process.stdout, self._process.stderr
        self._outputs = {streams[0].fileno(): self._out, streams[1].fileno(): self._err}
        for descriptor in self._outputs:
            os.set_blocking(descriptor, False)
        self.lost = 0
        """Events that came faster than they were read, as bpftrace says."""
        self._ahead: list[Line] = []
        try:
            self._wait_attached()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends bpftrace."""
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()

    def read(self, seconds: float) -> list[Line]:
        """What was printed, waiting at most `seconds` for something. Raises ConfigError once it has ended."""
        if not self._ahead:
            self._ahead += self._lines(seconds)
        lines, self._ahead = self._ahead, []
        return lines

    def _wait_attached(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            lines = self._lines(0.5)
            self._ahead += lines
            if any(line.word == "begin" for line in lines):
                return
        raise ConfigError(f"bpftrace has not attached its probes within {START_SECONDS:.0f} seconds")

    def _lines(self, seconds: float) -> list[Line]:
        ready, _, _ = select.select(list(self._outputs), [], [], seconds)
        ended = False
        for descriptor in ready:
            with suppress(BlockingIOError):
                data = os.read(descriptor, MAX_LINE)
                ended = ended or not data
                self._outputs[descriptor] += data
        del self._err[:-MAX_COMPLAINTS]
        whole, newline, rest = self._out.rpartition(b"\n")
        if newline:
            self._out[:] = rest
        lines = list(self._parsed(bytes(whole).splitlines()))
        if ended and not lines:
            raise ConfigError(f"bpftrace has ended: {self._complaint()}")
        return lines

    def _parsed(self, lines: Iterable[bytes]) -> Iterator[Line]:
        for raw in lines:
            try:
                shown = json.loads(raw)
                kind, data = shown["type"], shown["data"]
            except (ValueError, KeyError, TypeError, RecursionError):
                continue  # not one of its own: nothing here depends on it
            if kind == "lost_events":
                self.lost += int(data.get("events", 0)) if isinstance(data, dict) else 0
            elif kind == "printf" and isinstance(data, str):
                for text in data.splitlines():
                    word, _, rest = text.partition(" ")
                    yield Line(word, rest)

    def _complaint(self) -> str:
        """The line of its errors that says why; that about RLIMIT_MEMLOCK it always says in a container."""
        self._process.wait(5)
        text = self._err.decode("utf-8", "replace")
        said = [line for line in text.splitlines() if line.strip() and "RLIMIT_MEMLOCK" not in line]
        errors = [line for line in said if "ERROR" in line]
        return visible((errors or said or [f"status {self._process.returncode}"])[0])
