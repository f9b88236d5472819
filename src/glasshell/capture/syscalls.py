"""The language of strace(1): one line of its output is one `Syscall`, or half of one.

What is read: any of -f, -t/-tt/-ttt/-r, -T, -x/-xx, -y/-yy, with or without -o; calls that were
interrupted (`<unfinished ...>`, `<... read resumed>`) are put together again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final, NamedTuple

from .problems import Problem, note

__all__ = ["MAX_LINE", "Exit", "Piece", "Syscall", "Syscalls", "argument", "buffers", "descriptor", "unquote"]

MAX_LINE: Final = 16 << 20
"""Bytes of one line: four times what -s 1000000 -xx can make."""

MAX_UNFINISHED: Final = 4_096
"""Calls under way at a time, one a process."""

MAX_BEGUN: Final = 64 << 20
"""Bytes that the beginnings of calls under way take together."""

TAIL: Final = 20_000
"""Bytes at the end of a line in which its result is sought; what -yy says of a path may be long."""

_HEAD: Final = re.compile(
    rb"(?:\[pid +(?P<bracket>\d{1,10})\] +|(?P<pid>\d{1,10}) +(?=[\d.:]+ |[\w<+-]))?"
    rb"(?:(?P<time>\d{1,12}\.\d{1,9}|\d{1,2}:\d\d:\d\d(?:\.\d{1,9})?) +)?"
)
_CALL: Final = re.compile(rb"(\w+)\(")
_RESUMED: Final = re.compile(rb"<\.\.\. (\w+) resumed>\s?")
_EXIT: Final = re.compile(rb"\+\+\+ (?:exited with (\d+)|killed by (\w+))")
# Lines may be anybody's: no pattern here takes more steps than the line has bytes.
_RESULT: Final = re.compile(rb"\) += (0x[0-9a-f]{1,16}|-?\d{1,20}|\?)")
_SPENT: Final = re.compile(rb" <(\d{1,9}\.\d{1,9})>\s*$")
_ERRNO: Final = re.compile(rb" (E[A-Z]+)\b")
_UNFINISHED: Final = b"<unfinished ...>"
_DETACHED: Final = b"<detached ...>"
_STRING: Final = re.compile(rb'"((?:[^"\\]++|\\.)*+)"', re.DOTALL)
_ESCAPE: Final = re.compile(rb"\\(x[0-9a-fA-F]{2}|[0-7]{1,3}|.)", re.DOTALL)
_BUFFER: Final = re.compile(rb'iov_base="((?:[^"\\]++|\\.)*+)"(?:\.\.\.)?, iov_len=(\d{1,20})', re.DOTALL)
_DESCRIPTOR: Final = re.compile(rb"(\d{1,10})(?:<(.*?)>)?(?=, |\)|$|\]| )")

_LETTERS: Final = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"v": b"\v", b"f": b"\f", b"a": b"\a", b"b": b"\b"}


@dataclass(slots=True)
class Syscall:
    """A call that has returned. `line` is that of its beginning, `end_line` that of its result.

    `time` is when it began and `end` when it returned, in seconds as the file has them, or None; `end` is
    `time` where nothing is told. `result` is None where strace had none; `error` is the name of the errno.
    `label` is what -y says of the descriptor that is the result.
    """

    line: int
    end_line: int
    pid: int
    time: float | None
    end: float | None
    name: str
    arguments: bytes
    result: int | None
    error: str
    label: bytes

    @property
    def duration(self) -> float | None:
        """Seconds inside the call; None where the file does not tell."""
        return (
            None if self.time is None or self.end is None or self.end == self.time else self.end - self.time
        )


@dataclass(slots=True)
class Exit:
    """A process has ended."""

    line: int
    pid: int
    time: float | None


class Piece(NamedTuple):
    """A buffer of a call: what is shown of it, and how long it is."""

    data: bytes
    size: int


class _Begun(NamedTuple):
    line: int
    time: float | None
    name: bytes
    arguments: bytes


class Syscalls:
    """Reads the lines of an open file; iterate once. `lines` counts them, `problems` what is not strace's."""

    def __init__(self, file: BinaryIO, problems: dict[str, Problem] | None = None) -> None:
        self.lines = 0
        self.problems: dict[str, Problem] = {} if problems is None else problems
        self._file = file
        self._begun: dict[int, _Begun] = {}
        self._size = 0
        """Bytes in the arguments of `_begun`."""

    def __iter__(self) -> Iterator[Syscall | Exit]:
        while line := self._file.readline(MAX_LINE):
            self.lines += 1
            if len(line) == MAX_LINE and not line.endswith(b"\n"):
                note(self.problems, "a line too long to be read", self.lines)
                while (more := self._file.readline(MAX_LINE)) and not more.endswith(b"\n"):
                    pass
                continue
            found = self._line(line)
            if found is not None:
                yield found

    def _line(self, line: bytes) -> Syscall | Exit | None:
        head = _HEAD.match(line)
        assert head is not None  # every part of it is optional
        pid = int(head["bracket"] or head["pid"] or 0)
        time = _seconds(head["time"])
        start = head.end()
        first = line[start : start + 1]
        if first == b"<":
            return self._resumed(line, start, pid, time)
        if first == b"+" and _EXIT.match(line, start):
            self._resume(pid)
            return Exit(self.lines, pid, time)
        call = _CALL.match(line, start)
        if call is None:
            if first not in (b"-", b"+") and not line.startswith(b"strace: ") and line.strip():
                note(self.problems, "a line that is not strace's", self.lines)
            return None
        bare = line.rstrip()
        if bare.endswith(_UNFINISHED):
            arguments = bare[call.end() : -len(_UNFINISHED)].rstrip() + b" "
            self._begin(pid, _Begun(self.lines, time, call[1], arguments))
            return None
        if bare.endswith(_DETACHED):  # strace was stopped meanwhile
            return None
        return self._finished(line, call.end(), _Begun(self.lines, time, call[1], b""), pid, time)

    def _begin(self, pid: int, begun: _Begun) -> None:
        self._resume(pid)
        self._begun[pid] = begun
        self._size += len(begun.arguments)
        while len(self._begun) > MAX_UNFINISHED or self._size > MAX_BEGUN:
            self._resume(next(iter(self._begun)))
            note(self.problems, "a call under way forgotten, too many at once", self.lines)

    def _resume(self, pid: int) -> _Begun | None:
        begun = self._begun.pop(pid, None)
        self._size -= len(begun.arguments) if begun is not None else 0
        return begun

    def _resumed(self, line: bytes, start: int, pid: int, time: float | None) -> Syscall | None:
        resumed = _RESUMED.match(line, start)
        begun = self._resume(pid)
        if resumed is None or begun is None or begun.name != resumed[1]:
            note(self.problems, "the end of a call without its beginning", self.lines)
            return None
        return self._finished(line, resumed.end(), begun, pid, time)

    def _finished(
        self, line: bytes, start: int, begun: _Begun, pid: int, time: float | None
    ) -> Syscall | None:
        result = _result(line, max(start - 1, len(line) - TAIL))
        if result is None:
            if begun.name.startswith((b"read", b"recv", b"write", b"send")):
                note(self.problems, "a call without its end", self.lines)
            return None
        end = time
        if result.spent is not None and begun.time is not None:
            end = begun.time + float(result.spent)
        return Syscall(
            begun.line, self.lines, pid, begun.time, end, begun.name.decode("ascii", "replace"),
            begun.arguments + line[start : result.start], _number(result.shown),
            result.error.decode(), result.label,
        )  # fmt: skip


class _Result(NamedTuple):
    """What follows the arguments: where, the number, what -y says of it, the errno, and -T's seconds."""

    start: int
    shown: bytes
    label: bytes
    error: bytes
    spent: bytes | None


def _result(line: bytes, start: int) -> _Result | None:
    """The result of a call: the first `) = number` from `start` on that no string follows."""
    spent = _SPENT.search(line, max(start, len(line) - 40))
    stop = spent.start() if spent else len(line)
    quote, bracket = line.rfind(b'"', start, stop), line.rfind(b">", start, stop)
    for found in _RESULT.finditer(line, start, stop):
        end = found.end()
        labelled = line[end : end + 1] == b"<" and bracket > end
        after = bracket + 1 if labelled else end
        if quote < after:
            error = _ERRNO.match(line, after, stop)
            label = line[end + 1 : bracket] if labelled else b""
            return _Result(found.start(), found[1], label, error[1] if error else b"", spent and spent[1])
    return None


def _number(shown: bytes) -> int | None:
    """A result: decimal, hexadecimal, or octal as umask's."""
    if shown == b"?":
        return None
    octal = shown[:1] == b"0" and shown.isdigit()
    try:
        return int(shown, 8 if octal else 0)
    except ValueError:
        return None


def _seconds(shown: bytes | None) -> float | None:
    """Seconds since 1970, or of the day, whichever the file has."""
    if shown is None:
        return None
    seconds = 0.0
    for part in shown.split(b":"):
        seconds = seconds * 60 + float(part)
    return seconds


def unquote(text: bytes) -> bytes:
    """The bytes of a string as strace writes it, without its quotes."""
    if b"\\" not in text:
        return text
    plain = text.replace(b"\\x", b"")
    if len(plain) * 2 == len(text):  # -xx: nothing but \x12
        try:
            return bytes.fromhex(plain.decode("ascii"))
        except ValueError:
            pass
    return _ESCAPE.sub(_escape, text)


def _escape(found: re.Match[bytes]) -> bytes:
    code = found[1]
    if code[:1] == b"x" and len(code) == 3:
        return bytes([int(code[1:], 16)])
    if code[:1].isdigit() and code[:1] < b"8":
        return bytes([int(code, 8) & 0xFF])
    return _LETTERS.get(code, code)


def descriptor(arguments: bytes, at: int = 0) -> tuple[int, bytes] | None:
    """The descriptor that begins at `at`, and what -y says of it; None where there is none."""
    found = _DESCRIPTOR.match(arguments, at)
    return None if found is None else (int(found[1]), found[2] or b"")


def argument(arguments: bytes, size: int) -> Piece:
    """The first string of a call that moved `size` bytes."""
    found = _STRING.match(arguments, max(arguments.find(b'"'), 0))
    return Piece(unquote(found[1])[:size] if found else b"", size)


def buffers(arguments: bytes, size: int) -> Iterator[Piece]:
    """The buffers of a vectored call that moved `size` bytes, as far as it filled them."""
    left = size
    for text, length in _BUFFER.findall(arguments):
        if left <= 0:
            return
        used = min(int(length), left)
        yield Piece(unquote(text)[:used], used)
        left -= used
    if left > 0:  # buffers that are not shown
        yield Piece(b"", left)
