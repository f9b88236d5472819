"""Sockets of the file system are opened with the rights of their user."""

from __future__ import annotations

import os
import pwd
import socket
import stat
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from glasshell.system.accounts import Account, current_account, is_root
from glasshell.system.asuser import bind_path, connect_path
from glasshell.system.files import as_account
from glasshell.values import replace
from tests.needs import absent


@pytest.fixture
def nobody() -> Account:
    if os.geteuid():
        absent("only root may become another user")
    entry = pwd.getpwnam("nobody")
    return Account("nobody", entry.pw_uid, entry.pw_gid, (entry.pw_gid,), "/", "/bin/sh")


def folder(path: Path, owner: int, mode: int = 0o755) -> Path:
    path.mkdir()
    path.chmod(mode)
    os.chown(path, owner, -1)
    return path


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that everybody may pass through, as pytest's own is not."""
    with tempfile.TemporaryDirectory(prefix="glasshell-") as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


def test_a_socket_is_the_users_and_nobody_elses(place: Path, nobody: Account) -> None:
    path = folder(place / "mine", nobody.uid) / "socket"
    with bind_path(nobody, str(path)) as bound:
        status = path.stat()
        assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (nobody.uid, 0o600)
        bound.listen()
        with connect_path(nobody, str(path)) as there, bound.accept()[0] as here:
            there.send(b"hello")
            assert here.recv(10) == b"hello"


def test_what_the_user_may_not_do_root_does_not_do_for_him(place: Path, nobody: Account) -> None:
    locked = folder(place / "roots", 0, 0o700)
    with pytest.raises(PermissionError):
        bind_path(nobody, str(locked / "mine"))
    with socket.socket(socket.AF_UNIX) as theirs:
        theirs.bind(str(locked / "secret"))
        theirs.listen()
        with pytest.raises(PermissionError):
            connect_path(nobody, str(locked / "secret"))
    assert [each.name for each in locked.iterdir()] == ["secret"]


def test_cve_2025_14282_what_another_thread_borrows_is_not_taken_for_ones_own(
    place: Path, nobody: Account
) -> None:
    """While a file of one user's is read, all threads have that user's rights: one that opens a socket for
    another at that moment must neither use them, nor root's, which come back in between."""
    path = folder(place / "mine", nobody.uid) / "socket"
    somebody = replace(nobody, name="daemon", uid=1, gid=1, groups=(1,))
    with ThreadPoolExecutor(1) as pool:
        with as_account(somebody):
            assert is_root()
            opening = pool.submit(bind_path, nobody, str(path))
            wait([opening], 0.2)
            assert not opening.done()
        with opening.result(10):
            assert path.stat().st_uid == nobody.uid
    assert os.geteuid() == 0


def test_a_path_that_is_there(place: Path, nobody: Account) -> None:
    path = folder(place / "mine", nobody.uid) / "socket"
    bind_path(nobody, str(path)).close()
    with pytest.raises(OSError, match="Address already in use"):
        bind_path(nobody, str(path))
    with bind_path(nobody, str(path), mask=0o117, unlink=True):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660


@pytest.mark.parametrize("path", ["", "x" * 200])
def test_a_path_that_is_none(path: str, nobody: Account) -> None:
    with pytest.raises(OSError):
        connect_path(nobody, path)


def test_ones_own_sockets_need_nobody(tmp_path: Path) -> None:
    account = current_account()
    path = tmp_path / "socket"
    with bind_path(account, str(path)) as bound:
        bound.listen()
        connect_path(account, str(path)).close()
    with pytest.raises(FileNotFoundError):
        connect_path(account, str(tmp_path / "missing"))
