"""Processes of sessions: their rights, environment, terminal, and how they end."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from glasshell.system.accounts import Account, current_account, find_account, is_root
from glasshell.system.children import (
    SIGNALS,
    Child,
    Exit,
    base_environment,
    login_arguments,
    signal_name,
    start,
)
from glasshell.system.pty import open_terminal

pytest.importorskip("pwd")


@pytest.fixture
def me(tmp_path: Path) -> Account:
    return replace(current_account(), home=str(tmp_path), shell="/bin/sh")


def read_all(descriptor: int) -> bytes:
    os.set_blocking(descriptor, True)
    out = b""
    try:
        while data := os.read(descriptor, 65536):
            out += data
    except OSError:
        pass  # EIO: nobody has the terminal open
    return out


def run(account: Account, command: str, **environment: str) -> tuple[bytes, bytes, Exit]:
    child = start(account, login_arguments(account, command), base_environment(account) | environment)
    child.close_stdin()
    try:
        return read_all(child.stdout), read_all(child.stderr), child.wait()
    finally:
        child.close()


def test_output_errors_and_status(me: Account) -> None:
    assert run(me, "echo out; echo err >&2; exit 7") == (b"out\n", b"err\n", Exit(7))


def test_input_and_its_end(me: Account) -> None:
    child = start(me, login_arguments(me, "cat"), base_environment(me))
    os.write(child.stdin, b"hello")
    child.close_stdin()
    assert read_all(child.stdout) == b"hello"
    assert child.wait() == Exit(0)
    child.close()


def test_bytes_that_are_no_text_arrive(me: Account) -> None:
    command = b"printf %s '\xff\xfe'; printf %s \"$X\"".decode("utf-8", "surrogateescape")
    assert run(me, command, X="é\udcff")[0] == b"\xff\xfe\xc3\xa9\xff"


@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_ends_it_under_the_name_of_the_rfc(me: Account, name: str) -> None:
    end = run(me, f"ulimit -c 0; kill -{name} $$")[2]
    assert end == Exit(None, name)


def test_names_that_the_rfc_lacks() -> None:
    assert signal_name(5) == "SIG@openssh.com"  # SIGTRAP
    assert signal_name(999) == "SIG@openssh.com"


def test_the_environment_is_the_accounts_own(me: Account) -> None:
    out = run(me, "env", LANG="C.UTF-8")[0].decode()
    found = dict(line.split("=", 1) for line in out.splitlines())
    assert {
        "USER": me.name,
        "LOGNAME": me.name,
        "HOME": me.home,
        "SHELL": "/bin/sh",
        "LANG": "C.UTF-8",
    }.items() <= (found.items())
    assert "/usr/bin" in found["PATH"].split(":")
    assert set(found) <= {
        "USER",
        "LOGNAME",
        "HOME",
        "SHELL",
        "PATH",
        "MAIL",
        "LANG",
        "PWD",
        "TZ",
        "OLDPWD",
        "_",
    }


def test_it_begins_at_home_or_says_why_not(me: Account) -> None:
    assert run(me, "pwd -P")[0].decode().strip() == str(Path(me.home).resolve())
    out, err, _ = run(replace(me, home="/no/home"), "pwd -P")
    assert out == b"/\n"
    assert err == b"Could not chdir to home directory /no/home: No such file or directory\n"


def test_no_descriptor_is_left_open_in_it(me: Account) -> None:
    kept = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(kept, True)
    try:
        out = run(me, "ls /proc/self/fd")[0]
    finally:
        os.close(kept)
    assert set(out.split()) <= {b"0", b"1", b"2", b"3"}  # 3 is the folder that ls reads


def test_login_shells_have_a_dash(me: Account) -> None:
    assert login_arguments(me, None) == ["-sh"]
    assert login_arguments(replace(me, shell="/usr/bin/zsh"), "a b") == ["zsh", "-c", "a b"]


def test_on_a_terminal(me: Account) -> None:
    terminal = open_terminal(me)
    child = start(me, login_arguments(me, "tty; cat < /dev/tty; exit 3"), base_environment(me), terminal)
    os.write(child.stdin, b"typed\n\x04")
    out = read_all(child.stdout)
    assert terminal.name.encode() + b"\r\n" in out
    assert out.count(b"typed\r\n") == 2  # the echo, and what cat has read
    assert child.wait() == Exit(3)
    child.close()


def test_a_terminal_that_is_closed_hangs_up(me: Account) -> None:
    child = start(me, login_arguments(me, "sleep 60"), base_environment(me), open_terminal(me))
    child.close()
    assert child.wait() == Exit(None, "HUP")


def test_it_leads_a_session_and_signals_reach_the_group(me: Account) -> None:
    child = start(me, login_arguments(me, "sleep 60 & echo started; wait"), base_environment(me))
    os.set_blocking(child.stdout, True)
    assert os.read(child.stdout, 100) == b"started\n"
    assert os.getsid(child.pid) == os.getpgid(child.pid) == child.pid
    assert child.send_signal("TERM")
    assert child.wait() == Exit(None, "TERM")
    assert read_all(child.stdout) == b""  # the sleep has gone as well: nobody holds the pipe
    child.close()


@pytest.mark.parametrize("name", ["STOP", "WINCH", "TERM@evil", "", "9", "SIGTERM"])
def test_other_signals_are_not_delivered(me: Account, name: str) -> None:
    child = start(me, login_arguments(me, "cat"), base_environment(me))
    assert not child.send_signal(name)
    child.close()
    child.wait()
    assert not child.send_signal("TERM")  # its number may be somebody else's now


def test_a_shell_that_cannot_be_started(me: Account) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(OSError):
        start(replace(me, shell="/no/shell"), ["x"], {})
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.skipif(not is_root(), reason="only root becomes somebody else")
def test_roots_rights_are_dropped() -> None:
    nobody = find_account("nobody")
    assert nobody is not None
    account = replace(nobody, shell="/bin/sh", home="/")
    out = run(account, "grep -E '^(Uid|Gid|Groups|CapEff|CapPrm):' /proc/self/status; umask")[0].decode()
    uid, gid, zero = str(nobody.uid), str(nobody.gid), "0000000000000000"
    assert [line.split()[1:] for line in out.splitlines()[:-1]] == [
        [uid] * 4,
        [gid] * 4,
        [gid],
        [zero],
        [zero],
    ]
    assert out.splitlines()[-1] == "0022"
    told = subprocess.run(["id", "-G", "nobody"], capture_output=True, text=True, check=True).stdout
    assert {str(group) for group in nobody.groups} == set(told.split())


@pytest.mark.skipif(not is_root(), reason="only root becomes somebody else")
def test_the_terminal_belongs_to_the_account() -> None:
    nobody = find_account("nobody")
    assert nobody is not None
    account = replace(nobody, shell="/bin/sh", home="/")
    terminal = open_terminal(account)
    child: Child = start(
        account, login_arguments(account, "cat /dev/tty"), base_environment(account), terminal
    )
    os.write(child.stdin, b"mine\n\x04")
    assert b"mine\r\nmine" in read_all(child.stdout)
    assert child.wait() == Exit(0)
    child.close()
