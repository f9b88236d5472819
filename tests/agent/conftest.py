"""Keys, and the program that knows how they are written."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from glasshell.crypto.signatures import COMPOSITE, SIGNING_TYPES, PrivateKey
from tests.needs import absent

Keygen: TypeAlias = Callable[..., str]


@pytest.fixture(scope="session")
def ssh_keygen() -> Keygen:
    """`ssh-keygen` as a function of its arguments that gives its output."""
    program = shutil.which("ssh-keygen")
    if program is None:
        absent("ssh-keygen is not installed")

    def run(*arguments: str | Path, ok: bool = True) -> str:
        done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, input="")
        assert not ok or done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="session", params=[name for name in SIGNING_TYPES if name != COMPOSITE])
def private_key(request: pytest.FixtureRequest) -> PrivateKey:
    """A new key of each type."""
    bits = 2048 if request.param == "ssh-rsa" else None
    return PrivateKey.generate(request.param, bits, comment="märz@example.org")


@pytest.fixture(scope="session")
def sshkey_data(shared: Path) -> Path:
    """OpenSSH's own unit test keys."""
    return shared / "vectors/openssh/unittests/sshkey/testdata"
