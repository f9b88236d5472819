"""The folder of traces that a server keeps: names, limits, and what it does when the disk is full."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from glasshell.errors import ConfigError
from glasshell.observe.hub import Hub
from glasshell.observe.record import StateRecord
from glasshell.views.trace_folder import TraceFolder

NOW = 1_795_000_000.0
STARTED = StateRecord(0.0, "started", {"role": "server", "wall_time": NOW})
CLOSED = StateRecord(1.0, "closed", {})


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def connection(traces: TraceFolder, port: int, notes: int = 0) -> None:
    """One connection from its beginning to its end."""
    sink = traces.open("203.0.113.5", port, NOW + port)
    sink(STARTED)
    for _ in range(notes):
        sink(StateRecord(0.5, "note", {"level": "info", "text": "x" * 100}))
    sink(CLOSED)


def test_a_file_for_each_connection(tmp_path: Path) -> None:
    folder = tmp_path / "traces"
    traces = TraceFolder(folder)
    connection(traces, 7)
    traces.open("fe80::1%eth0", 8, NOW)(STARTED)
    assert names(folder) == [
        "20261118T110640Z-fe80__1_eth0-8-000002.jsonl", "20261118T110647Z-203.0.113.5-7-000001.jsonl"
    ]  # fmt: skip
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    header, started, closed = lines(folder / names(folder)[1])
    assert (header["role"], started["name"], closed["name"]) == ("server", "started", "closed")


def test_the_oldest_make_room(tmp_path: Path) -> None:
    traces = TraceFolder(tmp_path / "t", max_files=3)
    for port in range(1, 6):
        connection(traces, port)
    assert [name.split("-")[2] for name in names(tmp_path / "t")] == ["3", "4", "5"]


def test_all_of_them_have_a_limit(tmp_path: Path) -> None:
    traces = TraceFolder(tmp_path / "t", max_total=10_000)
    for port in range(1, 9):
        connection(traces, port, notes=20)
    sizes = [path.stat().st_size for path in (tmp_path / "t").iterdir()]
    assert sum(sizes) - max(sizes) < 10_000
    assert len(sizes) >= 2


def test_what_another_run_left_counts(tmp_path: Path) -> None:
    for port in (1, 2):
        connection(TraceFolder(tmp_path / "t", max_files=2), port)
    (tmp_path / "t" / "mine.txt").write_text("no trace")
    connection(TraceFolder(tmp_path / "t", max_files=2), 3)
    assert names(tmp_path / "t") == [
        "20261118T110642Z-203.0.113.5-2-000002.jsonl", "20261118T110643Z-203.0.113.5-3-000003.jsonl",
        "mine.txt",
    ]  # fmt: skip


def test_an_open_one_is_not_removed(tmp_path: Path) -> None:
    traces = TraceFolder(tmp_path / "t", max_files=2)
    long_one = traces.open("a", 1, NOW)
    connection(traces, 2)
    connection(traces, 3)
    second = traces.open("a", 4, NOW)
    with pytest.raises(OSError, match="the folder is full of the traces of open connections"):
        traces.open("a", 5, NOW)
    for sink in (long_one, second):
        sink(CLOSED)
    assert [name.split("-")[2] for name in names(tmp_path / "t")] == ["1", "4"]
    connection(traces, 6)


def test_a_file_has_a_limit_and_says_so(tmp_path: Path) -> None:
    connection(TraceFolder(tmp_path, max_file=4000), 1, notes=100)
    (path,) = tmp_path.iterdir()
    assert 3000 < path.stat().st_size <= 4000
    *_, last = lines(path)
    assert last["name"] == "sink_dropped"
    assert last["facts"] == {"sink": "ConnectionTrace", "error": "the file has reached 4000 bytes"}


def test_a_full_disk_drops_the_trace_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    traces = TraceFolder(tmp_path)
    heard: list[object] = []
    hub = Hub(traces.open("a", 1, NOW), heard.append)
    hub.state("started", role="server", wall_time=NOW)
    room = [100]
    real = os.write

    def full(descriptor: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        took = real(descriptor, data[: room[0]])
        room[0] -= took
        return took

    monkeypatch.setattr(os, "write", full)
    for _ in range(5):
        hub.state("note", level="info", text="x" * 50)
    monkeypatch.undo()
    hub.state("closed")
    dropped = [r.facts for r in heard if isinstance(r, StateRecord) and r.name == "sink_dropped"]
    assert [facts["sink"] for facts in dropped] == ["ConnectionTrace"]
    assert "No space left on device" in dropped[0]["error"]
    (path,) = tmp_path.iterdir()
    assert lines(path)[0]["type"] == "header", "what is there are whole lines"
    assert path.read_text().endswith("\n")


def test_a_folder_that_others_may_look_into(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with pytest.raises(ConfigError, match="is not this user's alone") as caught:
        TraceFolder(tmp_path)
    assert "chmod 700" in caught.value.hint


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "no" / "such", tmp_path / "file"):
        with pytest.raises(ConfigError, match="cannot make the folder of traces"):
            TraceFolder(path)


def test_nothing_that_is_there_is_overwritten_or_followed(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    (tmp_path / "20261118T110641Z-a-1-000001.jsonl").symlink_to(tmp_path / "elsewhere")
    traces = TraceFolder(tmp_path)
    traces._serial = 0  # as if the name had appeared since
    with pytest.raises(FileExistsError):
        traces.open("a", 1, NOW + 1)
    assert not (tmp_path / "elsewhere").exists()
