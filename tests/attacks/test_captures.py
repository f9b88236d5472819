"""Captures that somebody else made: what they can make their reader spend (docs/attacks.md, part C)."""

from __future__ import annotations

import io
import time

import pytest

from glasshell.capture import syscalls
from glasshell.capture.strace import StraceSource
from glasshell.capture.syscalls import Exit, Syscalls

SECONDS = 2.0
"""Of processor time: ten times what is needed, and a tenth of what these files took once."""

SOCKET = "1 1.0 socket(AF_INET, SOCK_STREAM, 0) = 3\n"


def spent(text: str) -> tuple[float, StraceSource]:
    source = StraceSource(io.BytesIO(text.encode()))
    begun = time.process_time()
    assert not list(source)
    return time.process_time() - begun, source


@pytest.mark.parametrize("line", [
    '1 1.0 read(3, "' + ") = 1<>" * 2800 + '"',
    '1 1.0 read(3, "' + ") = 1<" + ">" * 19_000 + '"',
    '1 1.0 read(3, "' + ") = 1 " * 3300 + '"',
    "1 1.0 connect(3, " + "sa_family=AF_INET, sin_port=htons(1), " * 20_000 + ") = 0",
    "1 1.0 connect(3, " + 'sa_family=AF_INET, sin_port=htons(1), "' + "\\a" * 400_000 + ") = 0",
    "1 1.0 pipe(" + "[1<" * 50_000 + ") = 0",
    "1 1.0 pipe(" + "[1<>" * 20_000 + ") = 0",
    '1 1.0 read(3, "' + '\\"' * 20_000 + ", 5) = 5",
    '1 1.0 readv(3, [{iov_base="' + "\\" * 100_000 + ", iov_len=5}], 1) = 5",
    "\n".join(["1 " + "--- SIGCHLD {" * 4900] * 40),
])  # fmt: skip
def test_c1_a_line_costs_no_more_than_it_is_long(line: str) -> None:
    seconds, _ = spent(SOCKET + line + "\n")
    assert seconds < SECONDS


def test_c1_what_a_result_is_takes_no_string_for_one() -> None:
    def only(line: str) -> syscalls.Syscall:
        (call,) = Syscalls(io.BytesIO(line.encode()))
        assert not isinstance(call, Exit)
        return call

    assert only('7 read(3, ") = 5 <0.1>", 8) = 9').result == 9
    named = only('7 1.0 openat(AT_FDCWD, "x", 0) = 3</tmp/a) = 5> <0.250000>')
    assert (named.result, named.label, named.duration) == (3, b"/tmp/a) = 5", 0.25)
    assert only("7 close(3</a>) = -1 EBADF (Bad file descriptor) <0.000005>").error == "EBADF"


def test_c1_sockets_that_never_say_what_they_are() -> None:
    lines = [f"1 1.0 socket(AF_INET, SOCK_STREAM, 0) = {fd}\n" for fd in range(3, 900)]
    lines += [f'1 1.0 read({fd}, "{"a" * 16_000}", 9) = 9\n' for fd in range(3, 900) for _ in range(3)]
    _, source = spent("".join(lines))
    assert "sockets too many at once that show not what they speak" in source.problems
    assert source._kept <= 16 << 20


def test_c1_reads_that_show_nothing() -> None:
    _, source = spent(SOCKET + '1 1.0 read(3, "", 5) = 5\n' * 5000)
    assert not source._undecided


def test_c1_calls_that_never_return(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syscalls, "MAX_BEGUN", 100_000)
    calls = Syscalls(io.BytesIO(b"".join(
        b'%d 1.0 write(3, "%b" <unfinished ...>\n' % (pid, b"a" * 1000) for pid in range(1, 1000)
    )))  # fmt: skip
    assert not list(calls)
    assert sum(len(each.arguments) for each in calls._begun.values()) <= 100_000
    assert "a call under way forgotten, too many at once" in calls.problems
