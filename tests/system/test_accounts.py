"""Accounts, held against id(1) and getent(1)."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from glasshell.system import accounts
from glasshell.system.accounts import Account, account_objection, current_account, find_account, group_names

pytest.importorskip("pwd")


def told(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()


def test_this_account_is_who_id_says() -> None:
    me = current_account()
    assert (me.name, str(me.uid), str(me.gid)) == (told("id", "-un"), told("id", "-u"), told("id", "-g"))
    assert {str(gid) for gid in me.groups} == set(told("id", "-G", me.name).split())
    assert set(group_names(me)) == set(told("id", "-Gn", me.name).split())
    assert find_account(me.name) == me


def test_home_and_shell_are_those_of_the_database() -> None:
    *_, home, shell = told("getent", "passwd", "nobody").split(":")
    nobody = find_account("nobody")
    assert nobody is not None
    assert (nobody.home, nobody.shell) == (home, shell)


@pytest.mark.parametrize(
    "name", ["no-such-user", "", "ro\0ot", "../root", "root\n", "\udcff", "x" * 100_000, "-x", "%n"]
)
def test_nobody_by_that_name(name: str) -> None:
    assert find_account(name) is None


ADA = Account("ada", 1000, 1000, (1000,), "/home/ada", "/bin/sh")


def objection(monkeypatch: pytest.MonkeyPatch, shadow: tuple[str, int | None], *, lock: bool = True) -> str:
    monkeypatch.setattr(accounts, "_shadow", lambda name: shadow)
    return account_objection(ADA, today=20_000, check_lock=lock)


def test_an_account_that_may_log_in(monkeypatch: pytest.MonkeyPatch) -> None:
    assert objection(monkeypatch, ("*", None)) == ""
    assert objection(monkeypatch, ("$6$x", 20_000)) == ""


def test_a_locked_account(monkeypatch: pytest.MonkeyPatch) -> None:
    assert objection(monkeypatch, ("!", None)) == "account is locked"
    assert objection(monkeypatch, ("!", None), lock=False) == ""


def test_an_account_whose_days_are_over(monkeypatch: pytest.MonkeyPatch) -> None:
    assert objection(monkeypatch, ("*", 19_999)) == "account has expired"


def test_a_shell_that_is_none(tmp_path: Path) -> None:
    plain = tmp_path / "shell"
    for shell, end in ((plain, "does not exist"), (tmp_path, "is not executable")):
        ada = replace(ADA, shell=str(shell))
        assert account_objection(ada, today=0, check_lock=True) == f"shell {shell} {end}"
    plain.write_text("")
    assert account_objection(replace(ADA, shell=str(plain)), today=0, check_lock=True).endswith(
        "not executable"
    )
