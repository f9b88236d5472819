"""The library and the client import where there is no Unix underneath (Windows)."""

from __future__ import annotations

import subprocess
import sys

import pytest

UNIX_ONLY = ("fcntl", "grp", "pty", "pwd", "resource", "spwd", "syslog", "termios", "tty")

MODULES = (
    "glasshell",
    "glasshell.protocol",
    "glasshell.aio.client",
    "glasshell.aio.server",
    "glasshell.cli.main",
    "glasshell.cli.ssh",
    "glasshell.cli.keygen",
    "glasshell.testing.pair",
    "glasshell.views.timeline",
)


@pytest.mark.parametrize("module", MODULES)
def test_it_imports_without_the_modules_of_unix(module: str) -> None:
    blocked = f"import sys; sys.modules.update(dict.fromkeys({UNIX_ONLY!r}))"
    run = subprocess.run(
        [sys.executable, "-c", f"{blocked}; import {module}"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
