"""Connecting while the program loads: when it is done, and what is told of it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from glasshell.aio.recorder import Recorder
from glasshell.cli.dialing import Dialing
from glasshell.config.ssh_config import ClientOptions
from glasshell.errors import CannotConnect

HOOK = """
import sys
def told(event, facts):
    if event == "glasshell.connect":
        print("loaded:", bool({"glasshell.aio.client", "cryptography"} & set(sys.modules)))
sys.addaudithook(told)
from glasshell.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def run(*words: str) -> str:
    line = [sys.executable, "-c", HOOK, "ssh", "-F", "none", "-p", "1", *words, "127.0.0.1", "true"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 255
    assert "connect to host 127.0.0.1 port 1: Connection refused" in done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def test_the_connection_is_on_its_way_before_what_speaks_ssh_is_loaded() -> None:
    assert run() == "loaded: False\n"


def test_who_is_timed_loads_first() -> None:
    assert run("--timeline").startswith("loaded: True\n")


def test_what_was_told_before_there_was_a_recorder_keeps_its_time(tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    run("--trace", str(trace))
    lines = [json.loads(line) for line in trace.read_text("utf-8").splitlines()]
    names = [line.get("name") for line in lines]
    times = [line["time"] for line in lines if "time" in line]
    assert names.index("resolving") < names.index("connecting") < names.index("connect_failed")
    assert times == sorted(times)


def options(port: int) -> ClientOptions:
    return ClientOptions(host="127.0.0.1", hostname="127.0.0.1", port=port, user="ada")


def test_the_first_socket_is_the_one_that_was_begun_and_the_next_another() -> None:
    async def work() -> None:
        server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
        heard: list[str] = []
        async with server:
            dialing = Dialing(options(server.sockets[0].getsockname()[1]))
            await asyncio.sleep(0)  # its first step, which nobody hears yet
            clock = asyncio.get_running_loop().time
            sink = lambda record: heard.append(getattr(record, "name", ""))  # noqa: E731
            dialing.heard_by(Recorder("client", [sink], clock, since=dialing.since))
            for count in (1, 2):
                sock = await dialing.connected()
                assert heard.count("connecting") == heard.count("connected") == count
                sock.close()
            await dialing.close()

    asyncio.run(work())


def test_a_socket_that_nobody_takes_is_closed() -> None:
    async def work() -> None:
        ends: asyncio.Queue[bytes] = asyncio.Queue()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            ends.put_nowait(b"accepted")
            ends.put_nowait(await reader.read())
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server, asyncio.timeout(30):
            dialing = Dialing(options(server.sockets[0].getsockname()[1]))
            assert await ends.get() == b"accepted"
            await dialing.close()
            assert await ends.get() == b""

    asyncio.run(work())


def test_a_failure_is_told_when_the_socket_is_asked_for() -> None:
    async def work() -> None:
        dialing = Dialing(options(1))
        with pytest.raises(CannotConnect, match="Connection refused"):
            await dialing.connected()
        await dialing.close()

    asyncio.run(work())
