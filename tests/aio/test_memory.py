"""What is remembered of servers: bounded, in a file that may say anything, be locked, or be another's."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glasshell.aio.memory import MAX_FILE, MAX_HOSTS, MAX_LOGINS, Memory, Remembered, default_file, today
from glasshell.values import specs

HOST = "[host.example]:2222"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "glasshell" / "servers.json"


def test_what_was_noted_is_recalled_by_another_process(path: Path) -> None:
    Memory(path).note(HOST, "ada", login="SHA256:x", kex="x25519", host_key="ssh-ed25519", channel=0)
    known = Memory(path).recall(HOST)
    assert (known.kex, known.host_key, known.channel, known.day) == ("x25519", "ssh-ed25519", 0, today())
    assert dict(known.logins) == {"ada": "SHA256:x"}
    Memory(path).note(HOST, "bob", login="SHA256:y")
    Memory(path).note(HOST, "ada", login="")
    assert dict(Memory(path).recall(HOST).logins) == {"bob": "SHA256:y"}
    assert Memory(path).recall("host.example") == Remembered()


def test_the_file_is_its_owners_and_names_no_host(path: Path) -> None:
    Memory(path).note(HOST, software="OpenSSH_9.2p1")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert "example" not in path.read_text()
    assert [each.name for each in path.parent.iterdir() if each.suffix == ".json"] == ["servers.json"]


def test_nothing_new_is_not_written(path: Path) -> None:
    Memory(path).note(HOST, kex="x")
    before = path.stat()
    Memory(path).note(HOST, kex="x")
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_without_a_file_it_lasts_as_long_as_the_process() -> None:
    memory = Memory()
    memory.note(HOST, kex="x")
    assert memory.recall(HOST).kex == "x"
    memory.forget()
    assert memory.recall(HOST) == Remembered()


def test_it_does_not_grow_without_end(path: Path) -> None:
    memory = Memory()
    for number in range(MAX_HOSTS + 50):
        memory.note(f"host{number}", kex="x")
    assert memory._book is not None
    assert len(memory._book.hosts) == MAX_HOSTS
    for number in range(MAX_LOGINS + 5):
        memory.note(HOST, f"user{number}", login="SHA256:x")
    assert len(memory.recall(HOST).logins) == MAX_LOGINS
    memory.note(HOST, software="x" * 100_000)
    assert memory.recall(HOST).software == ""


@pytest.mark.skipif(os.name != "posix", reason="owners and modes are POSIX's")
def test_a_file_that_others_can_write_says_nothing(path: Path) -> None:
    Memory(path).note(HOST, kex="x")
    path.chmod(0o622)
    assert Memory(path).recall(HOST) == Remembered()


def test_whoever_holds_the_lock_is_not_waited_for(path: Path) -> None:
    import fcntl

    memory = Memory(path)
    memory.note(HOST, kex="old")
    with path.with_name(".servers.json.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        memory.note(HOST, kex="new")
        assert memory.recall(HOST).kex == "new"  # in mind, if not in the file
        assert Memory(path).recall(HOST).kex == "old"


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "glasshell").write_text("a file")
    memory = Memory(tmp_path / "glasshell" / "servers.json")
    memory.note(HOST, kex="x")
    assert memory.recall(HOST).kex == "x"


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
FIELDS = st.dictionaries(
    st.sampled_from([*(spec.name for spec in specs(Remembered)), "other"]),
    ANYTHING | st.sampled_from(["", 0, -1, None, 1 << 40, {"ada": "SHA256:x"}]), max_size=9,
)  # fmt: skip


@given(told=st.dictionaries(st.text(max_size=40), FIELDS | ANYTHING, max_size=3), salt=st.text(max_size=40))
def test_a_file_may_say_anything(tmp_path_factory: pytest.TempPathFactory, told: Any, salt: str) -> None:
    path = tmp_path_factory.getbasetemp() / "anything.json"
    for text in (
        json.dumps(told), json.dumps({"version": 1, "salt": salt, "hosts": told}),
        json.dumps({"version": 1, "salt": "00" * 16, "hosts": told}),
    ):  # fmt: skip
        path.write_text(text)
        path.chmod(0o600)
        memory = Memory(path)
        assert memory.recall(HOST) == Remembered()
        for known in (memory._book.hosts if memory._book else {}).values():
            assert isinstance(known.kex, str)
            assert isinstance(known.in_turns, int)
            assert known.channel is None or -1 <= known.channel < 1 << 32


@given(junk=st.binary(max_size=200))
def test_a_file_may_be_anything(tmp_path_factory: pytest.TempPathFactory, junk: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "junk.json"
    path.write_bytes(junk)
    path.chmod(0o600)
    assert Memory(path).recall(HOST) == Remembered()


@pytest.mark.parametrize("text", [
    "[" * 100_000, " " * (MAX_FILE + 1), '{"version": 1, "salt": 5, "hosts": {}}',
])  # fmt: skip
def test_a_file_may_be_hostile(path: Path, text: str) -> None:
    path.parent.mkdir()
    path.write_text(text)
    path.chmod(0o600)
    assert Memory(path).recall(HOST) == Remembered()
    Memory(path).note(HOST, kex="x")
    assert Memory(path).recall(HOST).kex == "x"


def test_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_file() == tmp_path / ".local" / "state" / "glasshell" / "servers.json"
    monkeypatch.setenv("XDG_STATE_HOME", "/elsewhere")
    assert default_file() == Path("/elsewhere/glasshell/servers.json")
