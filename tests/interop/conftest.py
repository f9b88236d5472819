"""Fixtures of the interop tests: peers started once per test process, and `start` for one's own."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol, TypeVar

import pytest

from tests.interop.peers import (
    LIVE,
    Client,
    DropbearClient,
    DropbearServer,
    Keys,
    OpenSSHClient,
    OpenSSHServer,
    PlinkClient,
    PythonServer,
    Server,
    TinysshServer,
    require_peer,
)

HERE = Path(__file__).parent
AnyServer = TypeVar("AnyServer", bound=Server)


class Start(Protocol):
    """The type of the fixture `start`."""

    def __call__(self, server: AnyServer, /) -> AnyServer: ...


SERVERS: dict[str, Callable[[Keys], Server]] = {
    "openssh-9.2": lambda keys: OpenSSHServer("9.2", keys),
    "openssh-10.6": lambda keys: OpenSSHServer("10.6", keys),
    "dropbear": DropbearServer,
    "dropbear-newest": lambda keys: DropbearServer(keys, newest=True),
    "tinysshd": TinysshServer,
    "tinysshd-newest": lambda keys: TinysshServer(keys, newest=True),
    "asyncssh": lambda keys: PythonServer("asyncssh", keys),
    "paramiko": lambda keys: PythonServer("paramiko", keys),
}
CLIENTS: dict[str, Callable[[], Client]] = {
    "openssh-9.2": lambda: OpenSSHClient("9.2"),
    "openssh-10.6": lambda: OpenSSHClient("10.6"),
    "dbclient": DropbearClient,
    "dbclient-newest": lambda: DropbearClient(newest=True),
    "plink": PlinkClient,
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.interop)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        report.sections += [(f"log of {server.name}", server.log[-20_000:]) for server in LIVE]
    return report


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    """Throwaway keys; the servers of `server` and `start` accept `keys.user(kind)`."""
    require_peer("openssh-9.2")  # for ssh-keygen
    return Keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="session")
def server(keys: Keys) -> Iterator[Callable[[str], Server]]:
    """server("openssh-9.2"): that server with its defaults, started once (names: SERVERS)."""
    running: dict[str, Server] = {}
    with ExitStack() as stack:

        def get(name: str) -> Server:
            if name not in running:
                running[name] = stack.enter_context(SERVERS[name](keys))
            return running[name]

        yield get


@pytest.fixture(scope="session")
def client() -> Iterator[Callable[[str], Client]]:
    """client("plink"): that client (names: CLIENTS)."""
    made: dict[str, Client] = {}
    with ExitStack() as stack:

        def get(name: str) -> Client:
            if name not in made:
                made[name] = stack.enter_context(CLIENTS[name]())
            return made[name]

        yield get


@pytest.fixture
def start() -> Iterator[Start]:
    """start(OpenSSHServer("10.6", keys, extra_config=...)): a server for this test alone."""
    with ExitStack() as stack:

        def begin(server: AnyServer, /) -> AnyServer:
            stack.enter_context(server)
            return server

        yield begin
