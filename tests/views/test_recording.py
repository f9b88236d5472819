"""Recordings by the records alone: what begins one, what is in it, and what no peer can do with it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glasshell.errors import ConfigError
from glasshell.messages import connection as c
from glasshell.messages.declare import Message
from glasshell.observe.record import MessageRecord
from glasshell.views.recording import MAX_SESSIONS, Recording, open_recording
from tests.views.asciicast import check_v2, check_v3
from tests.views.tape import Tape

WALL = 1_795_345_200.5


class Files:
    """Collects what is written into each file, past its closing."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def open(self, session: object, number: int) -> Any:
        at = len(self.texts)
        self.texts.append("")
        texts = self.texts

        class File(io.StringIO):
            def close(self) -> None:
                texts[at] = self.getvalue()
                super().close()

        return File()


def tape(role: str = "client") -> Tape:
    made = Tape(step=0.25)
    made.state("started", role=role, wall_time=WALL, software="", version="", id="c0ffee")
    made.state("connected", address="192.0.2.7", port=22, local_address="192.0.2.1", local_port=40000)
    made.state("authenticated", user="ada", method="publickey")
    return made


def pty(columns: int = 80, rows: int = 24) -> c.PtyReq:
    return c.PtyReq("xterm", columns, rows, 0, 0, b"\0")


def asked(channel: int, name: str, body: Any) -> c.ChannelRequest:
    return c.ChannelRequest(channel, name, True, body)


def session(made: Tape, *output: bytes, ours: int = 0, peers: int = 7) -> None:
    """A shell on a terminal of 80 by 24, seen by the client."""
    made.received(c.ChannelOpenConfirmation(ours, peers, 1000, 1000))
    made.sent(asked(peers, "pty-req", pty()), asked(peers, "shell", c.Shell()))
    made.received(c.ChannelSuccess(ours), c.ChannelSuccess(ours))
    made.received(*(c.ChannelData(ours, data) for data in output))


def recorded(made: Tape, **more: Any) -> list[str]:
    files = Files()
    recording = Recording(files.open, **more)
    made.play(recording)
    recording.close()
    return files.texts


def test_times_are_those_of_the_packets() -> None:
    made = tape()
    session(made, b"one", b"two")
    shell = made.records[5]
    first = made.records[8]
    assert isinstance(shell, MessageRecord)
    assert isinstance(first, MessageRecord)
    (text,) = recorded(made)
    read = check_v2(text)
    assert read.header["timestamp"] == int(WALL + shell.time)
    assert [time for time, _, _ in read.events] == [first.time - shell.time, first.time - shell.time + 0.25]
    (text,) = recorded(made, version=3)
    assert [time for time, _, _ in check_v3(text).events] == [0.75, 1.0]
    assert "# connection c0ffee, channel 0\n" in text


@pytest.mark.parametrize("version", [2, 3])
def test_a_terminal_without_a_size(version: Any) -> None:
    """RFC 4254 6.2: dimensions of zero are to be ignored; players draw nothing on a screen of no columns."""
    made = tape()
    made.received(c.ChannelOpenConfirmation(0, 7, 1000, 1000))
    made.sent(asked(7, "pty-req", pty(0, 0)), asked(7, "shell", c.Shell()))
    made.received(c.ChannelSuccess(0), c.ChannelSuccess(0), c.ChannelData(0, b"out"))
    made.sent(asked(7, "window-change", c.WindowChange(0, 0, 0, 0)))
    (text,) = recorded(made, version=version)
    read = check_v2(text) if version == 2 else check_v3(text)
    of_v3 = {"term": {"cols": 80, "rows": 24, "type": "xterm"}}
    assert read.header.items() >= ({"width": 80, "height": 24} if version == 2 else of_v3).items()
    assert [code for _, code, _ in read.events] == ["o"]


def test_both_ends_record_the_same() -> None:
    made, mirror = tape(), tape("server")
    session(made, b"out")
    made.sent(c.ChannelData(7, b"in"), asked(7, "window-change", c.WindowChange(100, 30, 0, 0)))
    for record in made.records[3:]:
        assert isinstance(record, MessageRecord)
        record = MessageRecord(*(getattr(record, name) for name in record.__slots__))
        record.sent = not record.sent
        mirror.records.append(record)
    for made_by in (made, mirror):
        (text,) = recorded(made_by, input=True)
        assert [event[1:] for event in check_v2(text).events] == [("o", "out"), ("i", "in"), ("r", "100x30")]


def test_input_is_not_recorded_unless_asked_for() -> None:
    made = tape()
    session(made, b"out")
    made.sent(c.ChannelData(7, b"s3cret"))
    assert all("s3cret" not in text for text in recorded(made))


def test_output_after_the_exit_status_is_recorded() -> None:
    made = tape()
    session(made, b"one")
    made.received(c.ChannelRequest(0, "exit-status", False, c.ExitStatus(3)), c.ChannelData(0, b"two"))
    made.received(c.ChannelClose(0))
    (text,) = recorded(made, version=3)
    assert [event[1:] for event in check_v3(text).events] == [("o", "one"), ("o", "two"), ("x", "3")]


@pytest.mark.parametrize(("signal", "status"), [("KILL", "137"), ("TERM", "143"), ("odd@example.org", None)])
def test_a_program_that_a_signal_ended(signal: str, status: str | None) -> None:
    made = tape()
    session(made, b"one")
    made.received(c.ChannelRequest(0, "exit-signal", False, c.ExitSignal(signal, False)), c.ChannelClose(0))
    (text,) = recorded(made, version=3)
    assert [data for _, code, data in check_v3(text).events if code == "x"] == ([status] if status else [])


@pytest.mark.parametrize("refused", ["pty-req", "shell"])
def test_a_request_that_is_refused_begins_nothing(refused: str) -> None:
    made = tape()
    made.received(c.ChannelOpenConfirmation(0, 7, 1000, 1000))
    made.sent(asked(7, "pty-req", pty()), asked(7, "shell", c.Shell()))
    for name in ("pty-req", "shell"):
        made.received(c.ChannelFailure(0) if name == refused else c.ChannelSuccess(0))
    made.received(c.ChannelData(0, b"out"))
    assert recorded(made) == []


def test_without_a_terminal_there_is_no_file() -> None:
    made = tape()
    made.received(c.ChannelOpenConfirmation(0, 7, 1000, 1000))
    made.sent(asked(7, "exec", c.Exec("true")))
    made.received(c.ChannelSuccess(0), c.ChannelData(0, b"out"))
    assert recorded(made) == []


def test_sessions_at_the_same_time_have_files_of_their_own() -> None:
    made = tape()
    session(made, ours=0, peers=1)
    session(made, ours=1, peers=0)
    made.received(c.ChannelData(0, b"first"), c.ChannelData(1, b"second"))
    made.sent(c.ChannelClose(1))
    made.received(c.ChannelClose(0))
    session(made, b"third", ours=0, peers=1)
    assert [check_v2(text).output for text in recorded(made)] == ["first", "second", "third"]


def test_what_is_followed_is_bounded() -> None:
    made = tape()
    for number in range(MAX_SESSIONS + 5):
        session(made, b"x", ours=number, peers=number)
    assert len(recorded(made)) == MAX_SESSIONS


@given(st.text(), st.data(), st.sampled_from([2, 3]))
def test_characters_survive_however_packets_cut_them(text: str, data: st.DataObject, version: Any) -> None:
    whole = text.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    made = tape()
    session(made, *(whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)))
    (cast,) = recorded(made, version=version)
    assert (check_v2 if version == 2 else check_v3)(cast).output == text


@given(st.lists(st.binary(max_size=20), max_size=8))
def test_bytes_that_are_no_text(output: list[bytes]) -> None:
    made = tape()
    session(made, *output)
    (cast,) = recorded(made)
    assert check_v2(cast).output == b"".join(output).decode("utf-8", "replace")


@given(st.lists(st.tuples(st.booleans(), st.integers(91, 100), st.binary(max_size=60)), max_size=20))
def test_whatever_a_peer_sends(packets: list[tuple[bool, int, bytes]]) -> None:
    made = tape()
    session(made, b"x")
    for sent, number, rest in packets:
        payload = bytes([number]) + rest
        made.records.append(MessageRecord(9.0, sent, 0, 1, "", number, payload, 0, 0, 0))
    for text in recorded(made, input=True):
        check_v2(text)


def test_one_file(tmp_path: Path) -> None:
    made = tape()
    session(made, b"one")
    session(made, b"two", ours=1, peers=8)
    made.state("closed", sent_bytes=0, received_bytes=0)
    recording = open_recording(tmp_path / "a.v3.cast")
    made.play(recording)
    recording.close()
    assert check_v3((tmp_path / "a.v3.cast").read_text("utf-8")).output == "one"
    assert check_v3((tmp_path / "a-2.v3.cast").read_text("utf-8")).output == "two"


def test_a_folder_takes_no_name_from_a_peer(tmp_path: Path) -> None:
    made = tape("server")
    made.state("authenticated", user="../../etc/pass wd\x1b", method="publickey")
    made.sent(c.ChannelOpenConfirmation(7, 0, 1000, 1000))
    made.received(asked(0, "pty-req", pty()), asked(0, "shell", c.Shell()))
    made.sent(c.ChannelSuccess(7), c.ChannelSuccess(7), c.ChannelData(7, b"out"))
    recording = open_recording(tmp_path)
    made.play(recording)
    recording.close()
    (file,) = tmp_path.iterdir()
    assert file.name == "20261122T110001Z-....etcpasswd-c0ffee-0.cast"
    assert check_v2(file.read_text("utf-8")).output == "out"


@pytest.mark.parametrize("name", ["x.txt", "cast", "no/such/x.cast"])
def test_a_file_that_cannot_be(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        open_recording(tmp_path / name)


def test_terminal_codes_of_a_peer_stay_in_the_data() -> None:
    made = tape()
    made.received(c.ChannelOpenConfirmation(0, 7, 1000, 1000))
    wild: list[Message] = [asked(7, "pty-req", c.PtyReq("x\x1b]0;y\x07\n", 1, 1, 0, 0, b"\0")),
                           asked(7, "exec", c.Exec("a\nb\x1b[2J"))]  # fmt: skip
    made.sent(*wild)
    made.received(c.ChannelSuccess(0), c.ChannelSuccess(0))
    (text,) = recorded(made)
    assert "\x1b" not in text
    assert check_v2(text).header["command"] == r"a\012b\033[2J"
