"""Files that several programs write: nobody's line is lost, and nobody sees half a file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from glasshell.system.replacing import append_line, replace_file

WRITER = """
import sys
from pathlib import Path
from glasshell.system.replacing import append_line, replace_file
file, name = Path(sys.argv[1]), sys.argv[2]
for i in range(40):
    if i % 2:
        append_line(file, f"{name}-{i}\\n")
    else:
        replace_file(file, lambda data: data + f"{name}-{i}\\n".encode(), old=Path(f"{file}.old"))
"""


def test_no_line_of_several_writers_is_lost(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_text("first\n")
    names = ("a", "b", "c")
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(file), name]) for name in names]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    lines = file.read_text().splitlines()
    assert lines[0] == "first"
    assert sorted(lines[1:]) == sorted(f"{name}-{i}" for name in names for i in range(40))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["known_hosts", "known_hosts.old"]


def test_a_line_that_somebody_else_appends_meanwhile_stays(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_text("one\ntwo\n")
    seen = []

    def change(data: bytes) -> bytes:
        seen.append(data)
        if len(seen) == 1:  # ssh(1) appends, and asks for no lock
            with file.open("a") as out:
                out.write("three\n")
        return data.replace(b"one\n", b"")

    assert replace_file(file, change) is True
    assert file.read_text() == "two\nthree\n"
    assert len(seen) == 2


def test_a_file_that_somebody_else_replaces_meanwhile_is_the_one_that_counts(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_text("one\n")
    calls = []

    def change(data: bytes) -> bytes:
        calls.append(data)
        if len(calls) == 1:
            other = tmp_path / "other"
            other.write_text("theirs\n")
            other.replace(file)
        return data + b"ours\n"

    assert replace_file(file, change) is True
    assert file.read_text() == "theirs\nours\n"


def test_what_changes_nothing_writes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_text("one\n")
    before = file.stat()
    assert replace_file(file, lambda data: data, old=tmp_path / "old") is False
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert list(tmp_path.iterdir()) == [file]


def test_an_error_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_text("one\n")

    def change(data: bytes) -> bytes:
        raise MemoryError

    with pytest.raises(MemoryError):
        replace_file(file, change)
    with pytest.raises(FileNotFoundError):
        replace_file(tmp_path / "none", lambda data: b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["known_hosts"]
    assert file.read_text() == "one\n"


def test_a_line_begins_a_line(tmp_path: Path) -> None:
    file = tmp_path / "new" / "known_hosts"
    append_line(file, "one")
    append_line(file, "two\n")
    assert file.read_text() == "one\ntwo\n"
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
