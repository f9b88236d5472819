"""Other users of the machine: what they say, how they call their files and programs (docs/attacks.md, C)."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glasshell.cli.columns import COLUMNS, as_json
from glasshell.cli.top_rows import TOP_COLUMNS, Rates
from glasshell.errors import ConfigError
from glasshell.system import connections, status
from glasshell.system.connections import Survey, join
from glasshell.system.processes import Held, Holders, Process
from glasshell.system.sockets import Place, Socket, Sockets
from glasshell.system.status import Status, sane
from tests.system.test_status import HEADER, answering

HOSTILE = "\x1b]0;owned\x07\x9b31m\u202e\u200b\r\n"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from([10**400, -(10**400), 1e308, HOSTILE, "x" * 10_000]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
NAMES = ("age", "user", "id", "sent", "received", "rekeys", "channels", "algorithms", "state", "method")


def connection_told(told: Any) -> connections.Connection:
    """A connection of a process that says `told` of it."""
    sock = Socket(Place("127.0.0.1", 2222), Place("127.0.0.1", 5000), "ESTABLISHED", 0, 1)
    held = Held(Process(7, 1, "python", "mallory", "x", 1.0), 3)
    ends = {"local": ["127.0.0.1", 2222], "peer": ["127.0.0.1", 5000]}
    said = Status(Path("/s"), 7, {}, (sane({**told, **ends}),), 0.0)
    (found,) = join(Sockets((sock,), ()), Holders({1: [held]}), [said], frozenset({22}), 1000.0)
    assert found.server is not None
    return found


def is_clean(text: str) -> bool:
    return all(each.isprintable() for each in text.split("\n"))


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(NAMES, JSON)))
def test_c4_a_status_socket_that_lies(told: dict[str, Any]) -> None:
    """Whatever it says is drawn, sorted and written, and no control character of it reaches a terminal."""
    found = connection_told(told)
    rows = Rates().rows(Survey((found,), (), (), 1.0))
    texts = [column.text(found) for column in COLUMNS] + [column.text(rows[0]) for column in TOP_COLUMNS]
    assert all(map(is_clean, texts))
    assert is_clean(json.dumps(as_json(found), ensure_ascii=False, allow_nan=False))


def test_c4_what_it_says_is_bounded(tmp_path: Path) -> None:
    line = json.dumps({"type": "connection", "channels": [["x" * 99] * 3] * 2000, "age": 10**400})
    with answering(tmp_path / "s", HEADER, line.encode(), b'\n{"type":"end","time":1.5}\n'):
        (told,) = status.read_status(tmp_path / "s").connections
    assert len(told["channels"]) == status.MAX_ITEMS
    assert told["age"] is None
    with (
        answering(tmp_path / "t", b'{"format":"' + HOSTILE.encode() + b'"}\n', b'{"text":"\\u001b"}\n'),
        pytest.raises(ConfigError) as caught,
    ):
        status.read_status(tmp_path / "t")
    assert is_clean(str(caught.value))


def test_c4_names_of_sockets_and_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root looks into the folder for temporary files, where anybody may make any name."""
    monkeypatch.setattr(status, "is_root", lambda: True)
    monkeypatch.setattr(status, "ROOT_FOLDER", tmp_path / "none")
    monkeypatch.setattr(status.tempfile, "gettempdir", lambda: str(tmp_path))
    made = []
    for folder, name in (("glasshell-1000", "7.sock"), ("glasshell-1000", "7\x1b[2J.sock"),
                         ("glasshell-1\x1b]0;x\x07", "8.sock"), ("glasshell-1000", "evil.sock")):  # fmt: skip
        (tmp_path / folder).mkdir(exist_ok=True)
        made.append(socket.socket(socket.AF_UNIX))
        made[-1].bind(str(tmp_path / folder / name))
    found = status.places()
    for sock in made:
        sock.close()
    assert tmp_path / "glasshell-1000" / "7.sock" in found
    assert all(is_clean(str(path)) and path.stem.isdigit() for path in found)
    with pytest.raises(ConfigError) as caught:
        status.read_status(tmp_path / "glasshell-1\x1b]0;x\x07" / "8.sock")
    assert is_clean(str(caught.value))


def test_c4_sockets_that_never_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is waited for, and all of them together no longer than that."""
    asked = []
    now = [0.0]

    def silent(path: Path, patience: float) -> Status:
        asked.append(path)
        now[0] += patience
        raise ConfigError(f"{path}: it does not answer in time")

    monkeypatch.setattr(connections.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(connections, "places", lambda: [tmp_path / f"{n}.sock" for n in range(1000)])
    monkeypatch.setattr(connections, "read_status", silent)
    monkeypatch.setattr(connections, "tcp_sockets", lambda: Sockets((), ()))
    monkeypatch.setattr(connections, "holders", lambda inodes: Holders())
    found = connections.survey()
    assert len(asked) < 10
    assert "was not asked" in found.notes[-1]
