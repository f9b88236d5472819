"""`glasshell top`, driven by keys, over real connections of OpenSSH to our own server and to its own."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from glasshell.cli.columns import COLUMNS, age, fitting, milliseconds, size
from glasshell.cli.top_rows import TOP_COLUMNS, Rates, Row, arrange
from glasshell.errors import ConfigError
from glasshell.system.connections import Connection, Survey, survey
from glasshell.system.sockets import Place, Socket
from tests.cli.kit import Commands, Screen
from tests.interop.glass import GlassServer
from tests.interop.peers import Client, Keys, OpenSSHClient, Server
from tests.interop.test_ps import session

pytest.importorskip("textual")

if not os.path.exists("/proc/net/tcp"):  # noqa: PTH110
    pytest.skip("sockets are looked up in Linux's ways", allow_module_level=True)

PATIENCE = 20.0


@pytest.fixture(scope="module")
def openssh() -> Iterator[Client]:
    with OpenSSHClient("9.2") as client:
        yield client


# -- figures


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0, "0"), (999, "999"), (1000, "1.0K"), (1536, "1.5K"), (102_400, "100K"),
     (999 * 1024, "999K"), (1023 * 1024, "1.0M"), (5 * 1024**3, "5.0G"), (2**60, "1.0E")],
)  # fmt: skip
def test_bytes(value: int | None, text: str) -> None:
    assert size(value) == text


def test_times() -> None:
    assert [age(each) for each in (None, 0.9, 59, 61, 3661, 90_000)] == [
        "-",
        "0s",
        "59s",
        "1m01",
        "1h01",
        "1d01h",
    ]
    assert [milliseconds(each) for each in (None, 0.004, 1.25, 150.2, 20_000)] == [
        "-", "4us", "1.2ms", "150ms", "20s",
    ]  # fmt: skip


def test_the_least_important_columns_go_first() -> None:
    heads, keep = [each.name for each in COLUMNS], [each.keep for each in COLUMNS]
    rows = [["x" * 8] * len(heads)]
    assert len(fitting(heads, keep, rows, 1000)) == len(heads)
    at_80 = [heads[at] for at in fitting(heads, keep, rows, 80)]
    assert "PEER" in at_80
    assert "CWND" not in at_80
    assert [heads[at] for at in fitting(heads, keep, rows, 5)] == ["PEER"]


# -- rows


def made(port: int, sent: int, received: int) -> Connection:
    sock = Socket(Place("10.0.0.1", 22), Place("10.0.0.2", port), "ESTABLISHED", 0, port)
    told = {"id": 1, "sent": sent, "received": received, "rekeys": 2, "channels": [{"id": 0}]}
    return Connection(sock, "ssh", "in", server=told)


def test_rates_are_differences() -> None:
    rates = Rates()
    first = rates.rows(Survey((made(1, 1000, 50),), (), (), 10.0))
    assert (first[0].sending, first[0].receiving) == (None, None)
    later = rates.rows(Survey((made(1, 5000, 50), made(2, 7, 7)), (), (), 12.0))
    assert [(row.sending, row.receiving) for row in later] == [(2000.0, 0.0), (None, None)]


def test_order_and_filter() -> None:
    column = next(each for each in TOP_COLUMNS if each.name == "OUT/s")
    rows = [Row(made(1, 0, 0), 5.0), Row(made(22, 0, 0), None), Row(made(3, 0, 0), 50.0)]
    found = [row.connection.socket.peer.port for row in arrange(rows, "", column, True)]
    assert found == [3, 1, 22]  # what is not known comes last, either way
    assert [row.connection.socket.peer.port for row in arrange(rows, "", column, False)] == [1, 3, 22]
    assert [row.connection.socket.peer.port for row in arrange(rows, "10.0.0.2:2", column, True)] == [22]


# -- the screen


def shown(app: Any, table: str = "#connections") -> list[list[str]]:
    found = app.screen.query_one(table)
    return [[cell.plain for cell in found.get_row_at(at)] for at in range(found.row_count)]


async def eventually(pilot: Any, holds: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not holds():
            await pilot.pause(0.02)


def one_server(port: int) -> Survey:
    """Only what belongs to the test: other tests have connections too."""
    found = survey()
    kept = tuple(
        each for each in found.connections if port in (each.socket.local.port, each.socket.peer.port)
    )
    return Survey(kept, found.servers, (), found.clock)


def test_down_to_the_messages(openssh: Client, keys: Keys) -> None:
    from glasshell.cli.top_app import Top

    async def work(server: Server, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        app = Top(lambda: one_server(server.target.port), 0.1)
        async with app.run_test(size=(80, 24)) as pilot:
            await eventually(pilot, lambda: len(shown(app)) == 2)
            await pilot.press("slash", *"glasshell-sshd", "enter")
            await eventually(pilot, lambda: len(shown(app)) == 1)
            row = dict(zip([head.rstrip("*") for head in app.query_one("#connections").heads],  # type: ignore[attr-defined]
                           shown(app)[0], strict=True))  # fmt: skip
            assert (row["PROGRAM"], row["CHAN"]) == ("glasshell-sshd", "1")
            await pilot.press("enter")
            await eventually(pilot, lambda: shown(app, "#channels"))
            assert shown(app, "#channels")[0][:3] == ["0", "session", "open"]

            def messages() -> list[str]:
                return [cells[2] for cells in shown(app, "#messages")]

            while "CHANNEL_DATA" not in messages():  # the server has begun to tell when the first one comes
                process.stdin.write(b"x")
                process.stdin.flush()
                await pilot.pause(0.05)
            await pilot.press("p", "g", "enter")
            await eventually(pilot, lambda: type(app.screen).__name__ == "Detail")
            text = app.screen.query_one("Static").render().plain  # type: ignore[attr-defined]
            assert "SSH_MSG_CHANNEL_DATA is made of (RFC 4254 5.2)" in text
            assert re.search(r"string +data", text)
            await pilot.press("q", "p")
            server.__exit__()
            await eventually(pilot, lambda: any(
                word in app.screen.query_one("#name").render().plain  # type: ignore[attr-defined]
                for word in ("THE SERVER IS GONE", "THE CONNECTION IS OVER")
            ))  # fmt: skip
            await pilot.press("q")
            await eventually(pilot, lambda: not shown(app))
            await pilot.press("q")

    with GlassServer(keys) as server, session(openssh, server, keys) as process:
        asyncio.run(work(server, process))


def test_sorting_pausing_and_help(openssh: Client, server: Callable[[str], Server], keys: Keys) -> None:
    from glasshell.cli.top_app import Top

    async def work() -> None:
        port = running.target.port
        app = Top(lambda: one_server(port), 0.1)
        async with app.run_test(size=(200, 40)) as pilot:
            await eventually(pilot, lambda: len(shown(app)) == 2)
            assert len(app.query_one("#connections").heads) == len(TOP_COLUMNS)  # type: ignore[attr-defined]
            await pilot.press("S", "S", "S", "S", "S", "S", "S")
            assert "PROGRAM*" in app.query_one("#connections").heads  # type: ignore[attr-defined]
            assert [row[1] for row in shown(app)] == ["ssh", "sshd"]
            await pilot.press("r")
            assert [row[1] for row in shown(app)] == ["sshd", "ssh"]
            await pilot.press("question_mark")
            assert type(app.screen).__name__ == "Help"
            await pilot.press("q", "p")
            title = app.query_one("#title").render().plain  # type: ignore[attr-defined]
            assert title.endswith("PAUSED")
            await pilot.press("enter")  # not a server of ours: what TCP knows, and why no more
            facts = app.screen.query_one("#facts").render().plain  # type: ignore[attr-defined]
            assert "only our own servers tell what is inside" in facts
            assert re.search(r"tcp +rtt [\d.]+(us|ms) \(min ", facts)
            await pilot.press("escape", "t")
            assert app.theme == "textual-light"

    running = server("openssh-9.2")
    with session(openssh, running, keys):
        asyncio.run(work())


def test_trouble_is_said_and_survived() -> None:
    from glasshell.cli.top_app import Top

    answers: list[Survey | ConfigError] = [
        ConfigError("no sockets\x1b today"),
        Survey((made(1, 0, 0),), (), (), 1.0),
    ]

    def look() -> Survey:
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(found, ConfigError):
            raise found
        return found

    async def work() -> None:
        app = Top(look, 0.3)
        async with app.run_test(size=(80, 24)) as pilot:
            await eventually(
                pilot,
                lambda: "no sockets\\033 today" in app.query_one("#state").render().plain,  # type: ignore[attr-defined]
            )
            await eventually(pilot, lambda: len(shown(app)) == 1)

    asyncio.run(work())


# -- the command


def test_on_a_real_terminal(commands: Commands) -> None:
    screen = commands.on_terminal("top", "--interval", "0.2", rows=24, columns=80)
    screen.expect(rb"connections?  ")
    screen.expect(rb"q quit  enter open")
    screen.type(b"q")
    assert screen.wait() == 0
    assert screen.as_before


def test_without_a_terminal(commands: Commands) -> None:
    done = commands.run("top")
    assert done.returncode == 255
    assert done.stderr == (
        b"glasshell top: top needs a terminal\n  hint: `glasshell ps` and `glasshell ps --json` do not\n"
    )


@pytest.mark.parametrize(
    ("command", "module", "extra"), [("ps", "psutil", b"ps"), ("top", "textual", b"top")]
)
def test_without_the_extra(
    commands: Commands, tmp_path: Path, command: str, module: str, extra: bytes
) -> None:
    """One sentence and what to install, and no traceback."""
    code = (
        f"import sys; sys.modules[{module!r}] = None; from glasshell.cli.main import main;"
        f" sys.exit(main([{command!r}]))"
    )
    line = [sys.executable, "-c", code]
    if command == "top":
        screen = Screen(line, commands.environment, tmp_path, 24, 80)
        assert screen.wait() == 255
        said = screen.seen
        screen.close()
    else:
        done = subprocess.run(line, capture_output=True, env=commands.environment, check=False)
        assert done.returncode == 255
        said = done.stderr
    assert b"pip install 'glasshell[" + extra + b"]'" in said
    assert b"Traceback" not in said
