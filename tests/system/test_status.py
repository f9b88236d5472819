"""Where status sockets are, whose they are, and readers whom a server lies to."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glasshell.errors import ConfigError
from glasshell.system import status
from tests.needs import absent

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux's rules about sockets and files")

HEADER = b'{"type":"header","format":"glasshell-status","schema":1}\n'


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder, for a user who is not root."""
    monkeypatch.setattr(status, "is_root", lambda: False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path / "glasshell"


def test_the_folder(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    assert status.folder() == home
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert status.folder().name == f"glasshell-{os.geteuid()}"
    monkeypatch.setattr(status, "is_root", lambda: True)
    assert status.folder() == Path("/run/glasshell")


def test_nobody_else_gets_in_at_any_moment(home: Path) -> None:
    before = os.umask(0)
    try:
        sock, path = status.bind()
    finally:
        os.umask(before)
    with sock:
        assert (stat.S_IMODE(home.stat().st_mode), stat.S_IMODE(path.stat().st_mode)) == (0o700, 0o600)
        assert path == home / f"{os.getpid()}.sock"
        assert status.places() == [path]
        second, other = status.bind()
        with second:
            assert other.name == f"{os.getpid()}-2.sock"


@pytest.mark.parametrize("trap", ["open to all", "a link", "a file"])
def test_a_folder_that_may_be_a_trap(home: Path, trap: str) -> None:
    if trap == "a link":
        home.symlink_to("/tmp", target_is_directory=True)
    elif trap == "a file":
        home.touch(mode=0o600)
    else:
        home.mkdir()
        home.chmod(0o777)
    with pytest.raises(ConfigError, match="is not a folder that only this user can use"):
        status.bind()


def test_what_a_dead_server_left_is_removed(home: Path) -> None:
    home.mkdir(mode=0o700)
    line = "import socket,sys,os; s=socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]+f'/{os.getpid()}.sock')"
    subprocess.run([sys.executable, "-c", line, str(home)], check=True)
    [stale] = home.iterdir()
    alive = home / "1.sock"  # nobody listens there, and yet init lives
    file = home / "99999999.sock"
    file.touch()
    with socket.socket(socket.AF_UNIX) as held:
        held.bind(str(alive))
        sock, path = status.bind()
    with sock:
        assert not stale.exists()
        assert alive.exists()
        assert file.exists()  # it is no socket
        assert path.exists()


def test_another_user_cannot_connect(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        absent("needs root to become somebody else")
    if not os.access("/usr/bin/python3", os.X_OK):
        absent("/usr/bin/python3, which everybody may run, is not installed")
    tmp_path.chmod(0o755)
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = Path(folder, "s")
        sock, _ = status.bind(path)
        code = "import socket,sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
        line = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/usr/bin/python3", "-c", code]
        with sock:
            done = subprocess.run([*line, str(path)], capture_output=True, text=True, check=False)
    assert "PermissionError" in done.stderr


# -- servers that lie


@contextmanager
def answering(path: Path, *pieces: bytes, hang: bool = False) -> Iterator[None]:
    """A status socket that says what it is told to."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)
        over = threading.Event()

        def serve() -> None:
            with suppress(OSError):
                end, _ = listener.accept()
                with end, suppress(OSError):
                    end.recv(100)  # the request: unread, it would turn our end into a reset
                    for piece in pieces:
                        end.sendall(piece)
                    if hang:
                        over.wait(20)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            over.set()
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        (b"", "no status socket of glasshell"),
        (b"[1]\n", "a line that is no object"),
        (b"nonsense\n", "Expecting value"),
        (b'{"type":"error","text":"8 readers are here already"}\n', "8 readers are here already"),
        (b'{"format":"glasshell-status","schema":2}\n', "status of schema 2; this version reads up to 1"),
        (HEADER + b'{"type":"connection"}\n', "it stopped in the middle of its answer"),
        (b"[" * 100_000 + b"\n", "maximum recursion"),
    ],
)
def test_an_answer_that_is_none(tmp_path: Path, said: bytes, complaint: str) -> None:
    path = tmp_path / "s"
    with answering(path, said), pytest.raises(ConfigError, match=complaint):
        status.read_status(path)


def test_an_answer_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "MAX_LINE", 10_000)
    with (
        answering(tmp_path / "s", *[b"x" * 4096] * 100),
        pytest.raises(ConfigError, match="more than there can be to say"),
    ):
        status.read_status(tmp_path / "s")


def test_no_answer_in_time(tmp_path: Path) -> None:
    with (
        answering(tmp_path / "s", HEADER, hang=True),
        pytest.raises(ConfigError, match=r"timed out|does not answer in time"),
    ):
        status.read_status(tmp_path / "s", 0.05)


@settings(max_examples=40)
@given(st.binary(max_size=400))
def test_whatever_it_says(said: bytes) -> None:
    """An answer or a ConfigError, and nothing else."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "s")
        with answering(path, HEADER, said, b'\n{"type":"end","time":1.5}\n'), suppress(ConfigError):
            assert status.read_status(path).clock == 1.5


def test_a_server_that_is_killed_leaves_none_that_counts(home: Path) -> None:
    """SIGKILL cannot be heard: the file stays, and a reader is told that nobody is there."""
    code = (
        "import sys,time; sys.path[:0]=[sys.argv[1]]; from glasshell.system import status;"
        "status.is_root=lambda: False; s,p=status.bind(); print(p,flush=True); time.sleep(60)"
    )
    source = Path(status.__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", code, source], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        path = Path(process.stdout.readline().strip())
        process.send_signal(signal.SIGKILL)
    assert path.exists()
    with pytest.raises(ConfigError, match="Connection refused"):
        status.read_status(path)
    sock, _ = status.bind()
    sock.close()
    assert not path.exists()
