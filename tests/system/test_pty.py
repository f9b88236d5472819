"""Terminals, held against stty(1)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from glasshell.messages.connection import Mode
from glasshell.system.accounts import current_account
from glasshell.system.pty import (
    Terminal,
    apply_modes,
    get_size,
    open_terminal,
    read_modes,
    send_break,
    set_size,
)

pytest.importorskip("termios")


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    opened = open_terminal(current_account())
    yield opened
    opened.close()


def stty(terminal: Terminal, *arguments: str) -> str:
    done = subprocess.run(
        ["stty", *arguments], stdin=terminal.slave, capture_output=True, text=True, check=True
    )
    return done.stdout.replace(";", " ;")


def test_it_belongs_to_the_account(terminal: Terminal) -> None:
    status = Path(terminal.name).stat()
    assert status.st_uid == os.getuid()
    assert status.st_mode & 0o066 in (0o000, 0o020)  # tty(4): others may at most write, through the group


def test_size(terminal: Terminal) -> None:
    set_size(terminal.master, 111, 33, 1110, 660)
    assert stty(terminal, "size").split() == ["33", "111"]
    assert get_size(terminal.slave) == (111, 33, 1110, 660)


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        ("ECHO", 0, "-echo"), ("ECHO", 1, "echo"), ("ICANON", 0, "-icanon"), ("ISIG", 0, "-isig"),
        ("ICRNL", 0, "-icrnl"), ("IXON", 0, "-ixon"), ("IUTF8", 1, "iutf8"), ("IUTF8", 0, "-iutf8"),
        ("ONLCR", 0, "-onlcr"), ("OPOST", 0, "-opost"),
        ("VINTR", 1, "intr = ^A"), ("VERASE", 8, "erase = ^H"), ("VQUIT", 255, "quit = <undef>"),
        ("TTY_OP_OSPEED", 9600, "9600"),
    ],
)  # fmt: skip
def test_a_mode(terminal: Terminal, name: str, value: int, word: str) -> None:
    apply_modes(terminal.slave, {name: value})
    assert f" {word} " in f" {' '.join(stty(terminal, '-a').split())} "
    assert read_modes(terminal.slave)[name] == value


def test_seven_bits_are_no_reason_to_forget_the_rest(terminal: Terminal) -> None:
    apply_modes(terminal.slave, {"CS7": 1, "PARENB": 1, "ECHO": 0})
    assert "-echo" in stty(terminal, "-a").split()


def test_what_this_system_lacks_is_passed_over(terminal: Terminal) -> None:
    before = stty(terminal, "-g")
    apply_modes(
        terminal.slave,
        {"VSTATUS": 20, "VDSUSP": 25, "NO_SUCH": 1, "TTY_OP_ISPEED": 12345, "TTY_OP_OSPEED": 0},
    )
    assert stty(terminal, "-g") == before


def test_every_name_of_the_rfc_is_safe(terminal: Terminal) -> None:
    for value in (0, 1, 255, 0xFFFFFFFF):
        apply_modes(terminal.slave, {mode.name: value for mode in Mode})


def test_modes_read_are_names_of_the_rfc(terminal: Terminal) -> None:
    assert set(read_modes(terminal.slave)) <= {mode.name for mode in Mode}


def test_break_and_close(terminal: Terminal) -> None:
    send_break(terminal.master)
    terminal.close()
    with pytest.raises(OSError):
        set_size(terminal.master, 1, 1)
