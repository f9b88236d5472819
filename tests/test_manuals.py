"""The manual pages are those of the parsers as they stand, and programs that show such pages take them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from glasshell.cli.main import COMMANDS

from .needs import absent

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "docs" / "man"


def test_the_pages_are_current() -> None:
    script = ROOT / "scripts" / "generate_manuals.py"
    done = subprocess.run(
        [sys.executable, str(script), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_command_has_a_page() -> None:
    there = {path.stem for path in PAGES.iterdir()}
    assert {"glasshell", "glasshell_ssh_config", "glasshell_sshd_config"} <= there
    assert {f"glasshell-{name}" for name in COMMANDS} <= there


def test_mandoc_finds_nothing_wrong_in_them() -> None:
    if shutil.which("mandoc") is None:
        absent("mandoc")
    pages = sorted(PAGES.iterdir())
    done = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "warning", *map(str, pages)],
        capture_output=True,
        text=True,
        check=False,
    )
    # What it says of pages of other programs depends on what is installed.
    found = [line for line in done.stdout.splitlines() if "WARNING" in line or "ERROR" in line]
    assert found == []


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("glasshell-ssh.1", ["-J HOPS", "--timeline", "[user@]host"]),
        ("glasshell-sshd.8", ["-C KEY=VALUE,...", "--workers N"]),
        ("glasshell_ssh_config.5", ["ServerAliveInterval", "Default: \N{LEFT SINGLE QUOTATION MARK}22"]),
    ],
)
def test_man_shows_a_page(page: str, words: list[str]) -> None:
    if shutil.which("man") is None or not Path("/usr/bin/groff").exists():
        absent("man (man-db)")
    done = subprocess.run(
        ["man", "-l", str(PAGES / page)], capture_output=True, check=False,
        env={"PATH": "/usr/bin:/bin", "MANPAGER": "cat", "MANWIDTH": "100", "LC_ALL": "C.UTF-8",
             "MANROFFOPT": "-c", "GROFF_NO_SGR": "1"},
    )  # fmt: skip
    shown = subprocess.run(["col", "-b"], input=done.stdout, capture_output=True, check=True).stdout.decode()
    shown = " ".join(shown.split())
    assert done.returncode == 0
    assert done.stderr == b""
    for each in words:
        assert each in shown
