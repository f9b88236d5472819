"""`glasshell inspect` as people run it: its forms, its filter, its errors and its exit status."""

from __future__ import annotations

import io
import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from glasshell.cli import inspect
from glasshell.events import ChannelOffered
from glasshell.messages.connection import SessionOpen
from glasshell.observe.hub import Hub
from glasshell.views.fieldtable import FIELDS
from glasshell.views.jsonl import JsonLines, read_jsonl
from glasshell.views.qlog import QlogView
from glasshell.views.timeline import Timeline
from tests.capture.files import ethernet, ipv4, pcap, tcp
from tests.capture.test_live import Log
from tests.cli.kit import SOURCE
from tests.transport.kit import password_pair

SYN, ACK = 0x02, 0x10


class Recorded:
    """A login by password in a capture file, its key log, and its records as the client told them."""

    def __init__(self, folder: Path) -> None:
        log, lines, events = Log(), io.StringIO(), io.StringIO()
        self.timeline = Timeline()
        hub = Hub(log, self.timeline, JsonLines(lines.write), QlogView(events.write))
        made = password_pair(hubs={"client": hub}, answers={ChannelOffered: lambda question: True})
        made.run()
        channel = made.client.mux.open("session", SessionOpen())
        made.run()
        channel.send(b"not for everybody")
        made.run()
        made.client.transport.disconnect(11, "bye", made.now)
        made.run()
        self.capture = folder / "login.pcap"
        self.capture.write_bytes(capture_of(made.sent))
        self.keys = folder / "keys.log"
        self.keys.write_text("\n".join(log.lines) + "\n")
        self.jsonl = folder / "login.jsonl"
        self.jsonl.write_text(lines.getvalue())
        self.sqlog = folder / "login.sqlog"
        self.sqlog.write_text(events.getvalue())


def capture_of(packets: object) -> bytes:
    """What was sent as TCP in IP on Ethernet, a frame a packet."""
    frames = []
    at = {True: 1000, False: 9000}

    def frame(client: bool, flags: int, data: bytes = b"") -> None:
        ends = (50000, 2222) if client else (2222, 50000)
        addresses = ("192.0.2.1", "192.0.2.2") if client else ("192.0.2.2", "192.0.2.1")
        segment = tcp(data, ports=ends, seq=at[client], flags=flags)
        frames.append(ethernet(ipv4(segment, source=addresses[0], destination=addresses[1])))
        at[client] += len(data) + (1 if flags & SYN else 0)

    frame(True, SYN)
    frame(False, SYN | ACK)
    frame(True, ACK)
    for packet in packets:  # type: ignore[attr-defined]
        frame(packet.sender == "client", ACK, packet.wire)
    return pcap(frames)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    return Recorded(tmp_path_factory.mktemp("capture"))


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Status, output and errors."""
    from glasshell.cli.main import main

    status = main(["inspect", *map(str, words)])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def test_a_timeline_is_drawn_for_each_connection(
    recorded: Recorded, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = run(capsys, recorded.capture, "--keylog", recorded.keys)
    assert (status, err) == (0, "")
    assert out.startswith("stream 0: 192.0.2.1:50000 → 192.0.2.2:2222")
    assert "login       " in out
    for name in (
        "SSH_MSG_KEXINIT",
        "SSH_MSG_USERAUTH_REQUEST",
        "SSH_MSG_CHANNEL_DATA",
        "EVERYTHING ENCRYPTED",
    ):
        assert name in out
    assert "swordfish" not in out


def test_without_keys_the_encrypted_stretches_and_the_unseen_phases_are_named(
    recorded: Recorded, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = run(capsys, recorded.capture)
    assert (status, err) == (0, "")
    assert "sealed      no keys given" in out
    assert " encrypted" in out
    assert "SSH_MSG_USERAUTH_REQUEST" not in out


def test_text_has_each_field_with_its_bytes(recorded: Recorded, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = 'ssh.userauth_method_name == "password"'
    status, out, _ = run(capsys, recorded.capture, "--keylog", recorded.keys, "-T", "text", "-Y", wanted)
    assert status == 0
    assert out.count("SSH_MSG_USERAUTH_REQUEST (50)") == 1
    assert "RFC 4252 5" in out
    assert "MAC good" in out
    assert "password = <redacted> (string)" in out
    user = next(line for line in out.splitlines() if "user_name = " in line)
    name = user.partition(" = ")[2].removesuffix(" (string)")
    assert user.split()[0] == f"[1:{1 + 4 + len(name)}]"


@pytest.mark.parametrize("form", ["text", "json", "jsonl", "fields"])
def test_a_secret_is_shown_to_whoever_asks_for_it_alone(
    recorded: Recorded, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    words = [recorded.capture, "--keylog", recorded.keys, "-T", form]
    words += ["-e", "ssh.userauth_password"] if form == "fields" else []
    hidden = run(capsys, *words)[1]
    assert "<redacted>" in hidden
    assert "swordfish" not in hidden
    assert b"swordfish".hex() not in hidden
    shown = run(capsys, *words, "--show-secrets")[1]
    if form in ("text", "fields"):
        assert "swordfish" in shown


def test_json_is_an_array_of_the_records(recorded: Recorded, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, recorded.capture, "--keylog", recorded.keys, "-T", "json")
    assert status == 0
    objects = json.loads(out)
    messages = [each for each in objects if each["type"] == "message"]
    assert [each["name"] for each in messages[:2]] == ["SSH_MSG_KEXINIT", "SSH_MSG_KEXINIT"]
    assert {each["verified"] for each in messages if each["epoch"]} == {True}
    assert all(len(each["frames"]) == 2 and each["stream"] == 0 for each in messages)


def test_json_of_nothing_is_an_empty_array(recorded: Recorded, capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(run(capsys, recorded.capture, "-T", "json", "--stream", 7)[1]) == []


def test_jsonl_is_a_trace_as_ssh_writes_it(recorded: Recorded, capsys: pytest.CaptureFixture[str]) -> None:
    """The messages of the capture are those that the client told, seen from its seat."""
    out = run(capsys, recorded.capture, "--keylog", recorded.keys, "-T", "jsonl")[1]

    def messages(text: str) -> list[tuple[object, ...]]:
        return [
            (each["direction"], each["name"], each["seq"], each["fields"])
            for each in read_jsonl(text.splitlines())
            if each["type"] == "message"
        ]

    ours, told = messages(out), messages(recorded.jsonl.read_text())
    assert sorted(map(repr, ours)) == sorted(map(repr, told))
    assert len(ours) > 15


@pytest.mark.parametrize("form", ["jsonl", "sqlog"])
def test_a_trace_is_drawn_as_its_connection_was(
    recorded: Recorded, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    drawn = io.StringIO()
    recorded.timeline.render(None, False, drawn)
    status, out, err = run(capsys, getattr(recorded, form))
    assert (status, err) == (0, "")
    wanted = [line for line in drawn.getvalue().splitlines() if "SSH_MSG_" in line]
    assert [line for line in out.splitlines() if "SSH_MSG_" in line] == wanted
    assert wanted


def test_the_page_has_every_connection(
    recorded: Recorded, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    assert run(capsys, recorded.capture, "--keylog", recorded.keys, "--html", page) == (0, "", "")
    text = page.read_text("utf-8")
    assert "SSH_MSG_USERAUTH_REQUEST" in text
    assert "swordfish" not in text
    assert b"swordfish".hex() not in text
    assert page.stat().st_mode & 0o777 == 0o600
    assert run(capsys, recorded.capture, "--html", tmp_path / "no" / "page.html")[0] == 255


def test_a_trace_has_fields_and_a_page_too(
    recorded: Recorded, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["-e", "ssh.message_code", "-e", "ssh.userauth_method_name", "-e", "ssh.userauth_password"]
    rows = [line.split("\t") for line in run(capsys, recorded.jsonl, *words)[1].splitlines()]
    assert ["50", "password", "<redacted>"] in rows
    assert [row[0] for row in rows if row[0] == "20"] == ["20", "20"]
    assert run(capsys, recorded.sqlog, "--html", tmp_path / "page.html")[0] == 0
    assert "SSH_MSG_KEXINIT" in (tmp_path / "page.html").read_text("utf-8")


def test_fields_are_written_as_tshark_writes_them(
    recorded: Recorded, capsys: pytest.CaptureFixture[str]
) -> None:
    fields = ["-e", "frame.number", "-e", "ssh.kex.algorithms", "-e", "ssh.message_code"]
    head = ["-E", "header=y", "-E", "separator=;", "-E", "quote=d", "-E", "occurrence=f"]
    status, out, _ = run(capsys, recorded.capture, *fields, *head, "-Y", "ssh.message_code == 20")
    assert status == 0
    first, *rows = out.splitlines()
    assert first == "frame.number;ssh.kex.algorithms;ssh.message_code"
    assert len(rows) == 2
    assert all(row.endswith(';"20"') and row.count(";") == 2 for row in rows)


def test_the_fields_are_listed_and_each_is_taken(
    recorded: Recorded, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, _ = run(capsys, "-G", "fields")
    names = [line.split("\t")[0] for line in out.splitlines()]
    assert status == 0
    assert {"ssh.message_code", "ssh.kex.algorithms", "sftp.path", "frame.number"} <= {*names}
    words = [word for name in names for word in ("-e", name)]
    assert run(capsys, recorded.capture, "--keylog", recorded.keys, *words)[0] == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-e", "ssh.mesage_code"], "there is no field 'ssh.mesage_code' (near it: ssh.message_code"),
        (["-Y", "ssh.message_code = 1"], "at character 18"),
        (["-Y", "ssh.nothing"], "there is no field 'ssh.nothing'"),
        (["-e", "ssh.protocol", "-E", "colour=y"], "-E colour=y: there are header="),
        (["-T", "fields"], "-T fields needs -e"),
        (["-T", "text", "-e", "ssh.protocol"], "-e goes with -T fields"),
        (["-T", "pdml"], "invalid choice"),
        (["--timeline", "-T", "json"], "two ways"),
    ],
)
def test_wrong_usage_is_one_sentence_and_status_2(
    recorded: Recorded, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    try:
        status = inspect.main([str(recorded.capture), *words])
    except SystemExit as error:
        status = int(str(error.code))
    out, err = capsys.readouterr()
    assert (status, out) == (2, "")
    assert said in err


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "is empty"), (b"GIF89a" * 20, "neither pcap nor pcapng"), (None, "No such file")],
)
def test_what_is_no_capture_is_said_with_status_255(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, said: str
) -> None:
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content)
    status, out, err = run(capsys, path)
    assert (status, out) == (255, "")
    assert str(path) in err
    assert said in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), ""),
        (("--stream", "0"), ""),
        (("--stream", "9"), "no SSH connection in stream 9\n"),
        (("-Y", "ssh.message_code == 192"), "no SSH connection that the filter holds for\n"),
    ],
)
def test_nothing_to_show_is_said(
    recorded: Recorded, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    status, out, err = run(capsys, recorded.capture, *words)
    assert (status, err) == (0, "")
    assert (out == said) if said else out.startswith("stream 0:")


def test_a_name_list_that_is_empty_is_no_name(recorded: Recorded, capsys: pytest.CaptureFixture[str]) -> None:
    """RFC 4251 5: a list of no names has length 0; compression's `none` is a name on the wire."""
    _, out, _ = run(capsys, recorded.capture, "-T", "text", "-Y", "ssh.message_code == 20")
    assert "languages_client_to_server is empty (name-list)" in out
    assert "compression_algorithms_client_to_server = none (name-list)" in out
    assert not re.search(r"\d\]\w", out)


@pytest.mark.parametrize("form", ["jsonl", "sqlog"])
@pytest.mark.parametrize("damage", ["{", '{"type":"header"}\n', '\x1e{"file_schema":1}\n\x1e{"time":"x"}\n'])
def test_a_damaged_trace_is_one_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str, damage: str
) -> None:
    path = tmp_path / f"damaged.{form}"
    path.write_text(damage if damage.startswith("\x1e") == (form == "sqlog") else ("\x1e" + damage), "utf-8")
    status, _, err = run(capsys, path)
    assert status == 255
    assert str(path) in err
    assert err.count("\n") <= 2


def test_what_is_cut_off_is_named_and_the_rest_is_shown(
    recorded: Recorded, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = recorded.capture.read_bytes()
    cut = tmp_path / "cut.pcap"
    for size in range(24, len(whole), 97):
        cut.write_bytes(whole[:size])
        status, out, err = run(capsys, cut, "--keylog", recorded.keys)
        assert status in (0, 1)
        assert (status == 1) == bool(err)
    assert status == 1
    assert "SSH_MSG_KEXINIT" in out
    assert str(cut) in err


def test_a_bad_tag_is_named(recorded: Recorded, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = bytearray(recorded.capture.read_bytes())
    raw[-20] ^= 1
    path = tmp_path / "altered.pcap"
    path.write_bytes(raw)
    status, _, err = run(capsys, path, "--keylog", recorded.keys)
    assert status == 1
    assert "does not verify" in err


FORMS = (
    [],
    ["-T", "text"],
    ["-T", "json"],
    ["-T", "jsonl", "--show-secrets"],
    ["-Y", "ssh.message_code > 1"],
)


def test_damaged_captures_are_shown_as_far_as_they_go(
    recorded: Recorded, shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bytes changed, taken out and put in, by a generator that is the same each time."""
    chance = random.Random(7)
    whole = [recorded.capture, *sorted((shared / "captures").glob("*.pcap"))]
    path = tmp_path / "damaged.pcap"
    fields = [word for name in FIELDS for word in ("-e", name)]
    for _ in range(150):
        raw = bytearray(chance.choice(whole).read_bytes())
        for _ in range(chance.choice((1, 5, 50))):
            at = chance.randrange(24, len(raw))
            raw[at : at + chance.randrange(3)] = chance.randbytes(chance.randrange(3))
        path.write_bytes(raw)
        words = chance.choice([*FORMS, fields])
        assert inspect.main([str(path), "--keylog", str(recorded.keys), *words]) in (0, 1)
        capsys.readouterr()


def test_a_capture_comes_through_a_pipe(recorded: Recorded) -> None:
    done = inspect_process("-", "-e", "ssh.message_code", stdin=recorded.capture.read_bytes())
    assert done.returncode == 0
    assert b"20" in done.stdout.split()


def test_a_reader_that_has_seen_enough_ends_it_quietly(shared: Path) -> None:
    capture = shared / "captures" / "OISF__icmp_and_ssh.pcap"
    line = f"{sys.executable} -m glasshell inspect {capture} -T text | head -n 1"
    done = subprocess.run(["sh", "-c", line], capture_output=True, env=environment(), timeout=30, check=False)
    assert done.stdout.count(b"\n") == 1
    assert done.stderr == b""


def test_a_key_log_that_is_not_there_is_one_error(
    recorded: Recorded, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, err = run(capsys, recorded.capture, "--keylog", recorded.keys.with_name("none"))
    assert status == 255
    assert "cannot read the key log" in err


def test_sshkeylogfile_is_pointed_at_and_not_used(
    recorded: Recorded, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSHKEYLOGFILE", str(recorded.keys))
    status, out, err = run(capsys, recorded.capture)
    assert status == 0
    assert "SSH_MSG_USERAUTH_REQUEST" not in out
    assert "SSHKEYLOGFILE is set and was not used" in err


def environment() -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCE), "LC_ALL": "C.UTF-8"}


def inspect_process(*words: str, stdin: bytes) -> subprocess.CompletedProcess[bytes]:
    line = [sys.executable, "-m", "glasshell", "inspect", *words]
    return subprocess.run(line, input=stdin, capture_output=True, env=environment(), timeout=30, check=False)
