"""Files that others may have prepared: FIFOs, giants, loose modes; the words are OpenSSH's."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from glasshell.crypto.signatures import PrivateKey
from glasshell.keys.public import dump_public_key
from glasshell.system.accounts import Account, current_account, find_account, is_root
from glasshell.system.files import as_account, authorized_paths, mode_objection, read_authorized, read_regular

pytest.importorskip("pwd")


@pytest.fixture
def me(tmp_path: Path) -> Account:
    """This account, at home in the test's folder."""
    tmp_path.chmod(0o700)
    (tmp_path / ".ssh").mkdir(mode=0o700)
    return replace(current_account(), home=str(tmp_path))


def keys_file(me: Account) -> Path:
    path = Path(me.home) / ".ssh" / "authorized_keys"
    path.write_text(dump_public_key(PrivateKey.generate("ssh-ed25519").public) + "\n")
    path.chmod(0o600)
    return path


def test_a_fifo_stops_nobody(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with pytest.raises(OSError, match="not a regular file"):
        read_regular(str(fifo))


def test_a_folder_a_device_and_a_giant_are_not_read(tmp_path: Path) -> None:
    giant = tmp_path / "giant"
    giant.write_bytes(b"x" * 11)
    for path in (str(tmp_path), "/dev/zero", str(giant)):
        with pytest.raises(OSError, match=r"regular|larger|directory"):
            read_regular(path, 10)


def test_tokens_of_authorized_keys_file(me: Account) -> None:
    account = replace(me, name="%h", uid=7, home="/home/ada")
    patterns = (".ssh/authorized_keys", "/keys/%u", "%h/k", "/k/%U%%u")
    assert authorized_paths(patterns, account) == (
        "/home/ada/.ssh/authorized_keys", "/keys/%h", "/home/ada/k", "/k/7%u",
    )  # fmt: skip
    assert authorized_paths(("none",), account) == ()


def test_keys_are_read(me: Account) -> None:
    path = keys_file(me)
    found = read_authorized(str(path), me, strict=True)
    assert (len(found.keys.entries), found.objection) == (1, "")


def test_no_file_is_nothing_to_be_alarmed_about(me: Account) -> None:
    found = read_authorized(f"{me.home}/.ssh/authorized_keys2", me, strict=True)
    assert found.missing
    assert found.objection.endswith("No such file or directory")


@pytest.mark.parametrize(
    ("what", "kind"), [("authorized_keys", "file"), (".ssh", "directory"), ("home", "directory")]
)
@pytest.mark.parametrize("mode", [0o020, 0o002])
def test_strict_modes(me: Account, what: str, kind: str, mode: int) -> None:
    path = keys_file(me)
    loose = {"authorized_keys": path, ".ssh": path.parent, "home": Path(me.home)}[what]
    loose.chmod(loose.stat().st_mode | mode)
    found = read_authorized(str(path), me, strict=True)
    assert found.objection == f"Authentication refused: bad ownership or modes for {kind} {loose}"
    assert found.keys.entries == ()
    assert len(read_authorized(str(path), me, strict=False).keys.entries) == 1


def test_what_is_above_the_home_does_not_matter(me: Account) -> None:
    above = Path(me.home).parent
    mode = above.stat().st_mode
    above.chmod(mode | 0o002)
    try:
        assert mode_objection(str(keys_file(me)), me) == ""
    finally:
        above.chmod(mode)


def test_a_link_is_judged_where_it_leads(me: Account, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    elsewhere.chmod(0o777)
    real = elsewhere / "keys"
    keys_file(me).rename(real)
    link = Path(me.home) / ".ssh" / "authorized_keys"
    link.symlink_to(real)
    assert mode_objection(str(link), me) == f"bad ownership or modes for directory {elsewhere}"


@pytest.mark.skipif(not is_root(), reason="only root becomes somebody else")
def test_root_reads_with_the_rights_of_the_account(tmp_path: Path) -> None:
    nobody = find_account("nobody")
    assert nobody is not None
    secret = tmp_path / "secret"
    secret.write_text("x")
    secret.chmod(0o600)
    with as_account(nobody):
        assert (os.geteuid(), os.getegid(), os.getgroups()) == (nobody.uid, nobody.gid, [nobody.gid])
        with pytest.raises(PermissionError):
            read_regular(str(secret))
    assert os.geteuid() == 0
    assert read_regular(str(secret)) == b"x"


@pytest.mark.skipif(not is_root(), reason="only root has files of others")
def test_a_file_of_somebody_else_is_refused(me: Account) -> None:
    path = keys_file(me)
    os.chown(path, 12345, -1)
    other = replace(me, uid=54321, gid=54321, groups=(54321,))
    os.chown(me.home, 54321, -1)
    os.chown(path.parent, 54321, -1)
    assert mode_objection(str(path), other) == f"bad ownership or modes for file {path}"
    os.chown(path, 54321, -1)
    assert mode_objection(str(path), other) == ""
