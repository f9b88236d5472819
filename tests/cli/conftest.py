"""What the tests of the commands share: a home of their own, real servers, and the commands themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.kit import Commands, Login
from tests.interop.conftest import keys, server, start
from tests.interop.peers import Keys, Server

__all__ = ["keys", "server", "start"]


@pytest.fixture
def commands(tmp_path: Path) -> Iterator[Commands]:
    """`glasshell` in a home of its own."""
    with Commands(tmp_path) as made:
        yield made


@pytest.fixture
def login(commands: Commands, server: Callable[[str], Server], keys: Keys) -> Login:
    """`glasshell ssh` with what it needs to log in at sshd 9.2."""
    return Login(commands, server("openssh-9.2").target, keys.user().copy_to(commands.home))
