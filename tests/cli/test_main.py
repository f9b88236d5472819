"""The dispatcher: what it lists, what it refuses, and what it loads."""

from __future__ import annotations

import subprocess
import sys

import pytest

from glasshell import __version__
from glasshell.cli.main import COMMANDS
from tests.cli.kit import SOURCE, Commands

NAMES = tuple(COMMANDS)


def test_the_version(commands: Commands) -> None:
    done = commands.run("--version")
    assert (done.returncode, done.stdout) == (0, f"glasshell {__version__}\n".encode())


def test_help_lists_the_commands(commands: Commands) -> None:
    done = commands.run("--help")
    assert done.returncode == 0
    assert all(f"  {name} ".encode() in done.stdout for name in NAMES)


@pytest.mark.parametrize("words", [(), ("telnet",)])
def test_no_command_is_a_usage_error(words: tuple[str, ...], commands: Commands) -> None:
    done = commands.run(*words)
    assert (done.returncode, done.stdout) == (255, b"")
    assert b"usage: glasshell COMMAND" in done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_each_command_has_help(name: str, commands: Commands) -> None:
    done = commands.run(name, "--help")
    assert (done.returncode, done.stderr) == (0, b"")
    assert f"usage: glasshell {name}".encode() in done.stdout


@pytest.mark.parametrize(
    ("words", "unwanted"),
    [
        (["--version"], {"asyncio", "argparse", "cryptography", "glasshell.errors"}),
        (["ssh", "--help"], {"asyncio", "argparse", "rich"}),
        (["keygen", "--help"], {"asyncio", "argparse", "rich"}),
    ],
)
def test_what_is_heavy_is_loaded_when_it_is_used(words: list[str], unwanted: set[str]) -> None:
    code = f"""import sys; from glasshell.cli.main import main; main({words})
print(*sys.modules, file=sys.stderr)"""
    environment = {"PYTHONPATH": str(SOURCE)}
    shown = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert unwanted.isdisjoint(shown.stderr.split())
