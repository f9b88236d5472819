"""Where output goes: terminals without a size or colours, encodings of few signs, readers that leave, full
disks. It is the same for every command."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.cli.kit import Commands, Login
from tests.cli.test_inspect import Recorded
from tests.needs import absent

FULL = "/dev/full"
ESCAPE = b"\x1b"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    return Recorded(tmp_path_factory.mktemp("recorded"))


@pytest.fixture(autouse=True)
def _there() -> None:
    if not Path(FULL).exists():
        absent(FULL)


def test_a_terminal_without_a_size_is_drawn_on(commands: Commands, recorded: Recorded) -> None:
    screen = commands.on_terminal("inspect", str(recorded.capture), rows=0, columns=0)
    assert screen.wait() == 0
    assert b"SSH_MSG_KEXINIT" in screen.seen
    lines = re.sub(rb"\x1b\[[0-9;]*m", b"", screen.seen).decode().splitlines()
    assert max(len(line) for line in lines if line.startswith("──")) == 100


@pytest.mark.parametrize("variable", [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {}])
@pytest.mark.parametrize("words", [("inspect",), ("audit",)])
def test_colours_can_be_declined(
    words: tuple[str, ...], variable: dict[str, str], commands: Commands, recorded: Recorded
) -> None:
    commands.environment |= {"TERM": "xterm", **variable}
    screen = commands.on_terminal(*words, str(recorded.capture))
    screen.wait()
    assert (ESCAPE in screen.seen) == (not variable)


def test_columns_of_the_environment_count(commands: Commands, recorded: Recorded) -> None:
    done = commands.run("inspect", str(recorded.capture), environment={"COLUMNS": "60"})
    assert max(len(line) for line in done.stdout.decode().splitlines() if line.startswith("──")) == 60


@pytest.mark.parametrize("words", [(), ("-T", "text"), ("-T", "json"), ("-T", "jsonl")])
def test_an_encoding_without_arrows(words: tuple[str, ...], commands: Commands, recorded: Recorded) -> None:
    poor = {"PYTHONIOENCODING": "ascii"}
    done = commands.run("inspect", str(recorded.capture), *words, environment=poor)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"SSH_MSG_KEXINIT" in done.stdout
    assert done.stdout.isascii()


@pytest.mark.parametrize("words", [("inspect",), ("audit", "--all")])
def test_a_reader_who_leaves_ends_it_quietly(
    words: tuple[str, ...], commands: Commands, recorded: Recorded
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = commands.run(*words, str(recorded.capture), capture_output=False, stdout=writing, stderr=-1)
    os.close(writing)
    assert (done.returncode, done.stderr) == (255, b"")


@pytest.mark.parametrize("words", [("inspect",), ("audit",), ("inspect", "-T", "text")])
def test_output_on_a_full_disk(words: tuple[str, ...], commands: Commands, recorded: Recorded) -> None:
    with Path(FULL).open("wb") as full:
        done = commands.run(*words, str(recorded.capture), capture_output=False, stdout=full, stderr=-1)
    said = f"glasshell {words[0]}: cannot write the output: No space left on device\n".encode()
    assert (done.returncode, done.stderr) == (255, said)


def test_a_page_on_a_full_disk(commands: Commands, recorded: Recorded) -> None:
    done = commands.run("inspect", "--html", FULL, str(recorded.capture))
    assert done.returncode == 255
    assert done.stderr == b"glasshell inspect: cannot write the page /dev/full: No space left on device\n"


@pytest.mark.parametrize("stream", ["", "2"])
@pytest.mark.parametrize(
    "words",
    [("sshd", "-T", "-f", "/dev/null"), ("ssh", "-F", "none", "-G", "host"),
     ("keygen", "-Y", "sign", "-f", "key", "-n", "file", "key.pub"), ("keygen", "-F", "host", "-f", "known")],
)  # fmt: skip
def test_a_stream_that_is_closed_is_written_to_by_nobody(
    stream: str, words: tuple[str, ...], commands: Commands
) -> None:
    assert commands.run("keygen", "-q", "-t", "ed25519", "-N", "", "-f", "key").returncode == 0
    key = (commands.home / "key.pub").read_text()
    (commands.home / "known").write_text(f"host {key}")
    line = ["sh", "-c", f'exec "$@" {stream}>&-', "sh", *commands.line(*words)]
    done = subprocess.run(
        line, cwd=commands.home, env=commands.environment, capture_output=True, timeout=30, check=False
    )
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr


def test_a_picture_that_has_no_place(commands: Commands) -> None:
    done = commands.run("demo", "--svg", "/nowhere/demo.svg")
    assert done.returncode == 255
    assert done.stderr == (
        b"glasshell demo: cannot write the picture /nowhere/demo.svg: No such file or directory\n"
    )


def test_a_view_on_a_full_disk_leaves_the_command_its_status(login: Login) -> None:
    done = login.run("exit 7", flags=("--html", FULL, "--perfetto", FULL, "--keylog", FULL))
    assert done.returncode == 7
    said = done.stderr.decode()
    assert "glasshell: Waterfall: No space left on device: its file is not whole" in said
    assert "Traceback" not in said


def test_a_capture_on_a_full_disk_is_refused_before_anything_connects(login: Login) -> None:
    done = login.run("exit 7", flags=("--pcap", FULL))
    assert done.returncode == 255
    assert done.stderr == b"glasshell ssh: cannot write the capture /dev/full: No space left on device\n"


def test_recording_into_a_folder_is_said(login: Login, tmp_path: Path) -> None:
    folder = tmp_path / "casts"
    folder.mkdir()
    done = login.run("exit 3", flags=("--record", str(folder)))
    assert done.returncode == 3
    assert f"--record: what sessions on a terminal show is recorded to {folder}".encode() in done.stderr
