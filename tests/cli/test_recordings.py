"""`--record`: what asciinema plays is what the terminal showed, with `glasshell ssh` at a real sshd."""

from __future__ import annotations

import re
import shutil
import stat
from pathlib import Path

import pytest

from tests.cli.kit import Commands, Login, Screen
from tests.needs import absent
from tests.views.asciicast import check_v2, check_v3

SAID = re.compile(rb"glasshell: --record[a-z-]*: [^\r\n]*\r\n")


def played(path: Path, commands: Commands) -> bytes:
    """What asciinema writes when it plays the file; it insists on a terminal."""
    program = shutil.which("asciinema")
    if program is None:
        absent("asciinema is not installed")
    out = path.with_suffix(".out")
    line = ["sh", "-c", f"exec {program} cat {path} >{out}"]
    screen = Screen(line, commands.environment, commands.home, 24, 80)
    try:
        assert screen.wait() == 0, screen.seen
    finally:
        screen.close()
    return out.read_bytes()


def session(login: Login, flag: str, cast: Path) -> bytes:
    """Works on a recorded terminal; what it showed, without what is said about the recording."""
    screen = login.shell(flag, str(cast))
    assert len(SAID.findall(screen.seen)) == 1
    screen.type(rb"printf 'h\303'; sleep 0.1; printf '\251llo \033[1mbold\033[0m'" + b"\r")
    screen.type(b"head -c 100000 /dev/zero | tr '\\0' x\r")
    screen.expect(rb"x{300}ready> ")
    screen.resize(33, 101)
    screen.type(b"until stty size | grep '33 101'; do :; done\r")
    screen.expect(rb"\r\n33 101\r\n")
    screen.type(b"stty -echo; echo 'sec''ret?'; read word; stty echo; exit 5\r")
    screen.expect(rb"secret\?\r\n")
    screen.type(b"s3cret\r")
    assert screen.wait() == 5
    shown = re.sub(rb"Connection to [0-9.]+ closed\.\r\r\n", b"", SAID.sub(b"", screen.seen))
    assert "héllo".encode() in shown
    assert b"s3cret" not in shown
    return shown


def test_asciinema_shows_what_the_terminal_showed(login: Login) -> None:
    cast = login.commands.home / "session.cast"
    shown = session(login, "--record", cast)
    assert played(cast, login.commands) == shown
    assert stat.S_IMODE(cast.stat().st_mode) == 0o600
    read = check_v2(cast.read_text("utf-8"))
    assert (read.header["width"], read.header["height"]) == (80, 24)
    assert read.header["env"] == {"TERM": "vt100"}
    assert [data for _, code, data in read.events if code == "r"] == ["101x33"]
    assert read.output.encode() == shown
    assert "s3cret" not in cast.read_text("utf-8")


def test_version_3_has_the_exit_status(login: Login) -> None:
    cast = login.commands.home / "session.v3.cast"
    shown = session(login, "--record", cast)
    read = check_v3(cast.read_text("utf-8"))
    assert read.header["term"] == {"cols": 80, "rows": 24, "type": "vt100"}
    assert read.output.encode() == shown
    assert read.events[-1][1:] == ("x", "5")


def test_what_is_typed_is_recorded_where_that_is_asked_for(login: Login) -> None:
    cast = login.commands.home / "typed.cast"
    session(login, "--record-input", cast)
    read = check_v2(cast.read_text("utf-8"))
    typed = "".join(data for _, code, data in read.events if code == "i")
    assert typed.endswith("s3cret\r")


def test_without_a_terminal_nothing_is_recorded(login: Login) -> None:
    cast = login.commands.home / "none.cast"
    done = login.run("echo hello", flags=["--record", str(cast)])
    assert done.stdout == b"hello\n"
    assert done.stderr.splitlines()[-1] == (
        b"glasshell: --record: nothing was recorded: no session had a terminal (-t asks for one)"
    )
    assert not cast.exists()


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("x.mp4", "cannot tell the form of a recording from 'x.mp4'"),
        ("no/such.cast", "No such file or directory"),
    ],
)
def test_a_file_that_cannot_be(name: str, complaint: str, login: Login) -> None:
    done = login.run("echo hello", flags=["--record", name])
    assert done.returncode == 255
    assert done.stdout == b""
    assert complaint in done.stderr.decode()
    assert b"Traceback" not in done.stderr
