"""What a server offers and writes beside its connections (docs/attacks.md, part C)."""

from __future__ import annotations

import asyncio
import gc
import os
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from glasshell.errors import ConfigError
from glasshell.messages.transport import KexInit
from glasshell.observe.record import KeyRecord, StateRecord
from glasshell.views.auditlog import AuditLog
from glasshell.views.files import open_descriptor
from glasshell.views.keylog import KeyLog
from glasshell.views.pcapng import Pcapng
from glasshell.wire import Secret
from tests.aio.kit import run, serving
from tests.capture.test_hostile import packet

FACTS = {"role": "server", "wall_time": 0.0, "id": "ab" * 8}


@given(st.text(st.characters(max_codepoint=255), max_size=60))
@example("application/openmetrics-text; version=zzz")
@example("text/plain; version=1.0.0=3")
def test_c5_whatever_a_scraper_accepts(accept: str) -> None:
    prometheus = pytest.importorskip("glasshell.views.prometheus")
    content_type, page = prometheus.Metrics().page(accept)
    assert content_type
    assert b"glasshell_connections" in page


def test_c5_connections_that_are_over_leave_nothing() -> None:
    """A stranger's longest KEXINIT was kept until the collector looked for circles, 2 MB each."""
    names = tuple(f"a{number:07}" for number in range(3500))
    kexinit = packet(KexInit(bytes(16), *([names] * 6), (), ()).encode())

    async def stranger(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"SSH-2.0-x\r\n" + kexinit)
        try:
            while await reader.read(65536):
                pass
        except ConnectionError:
            pass
        writer.close()

    async def main() -> int:
        async with serving() as server:
            await stranger(server.port)
            gc.collect()
            gc.disable()
            tracemalloc.start()
            try:
                before = tracemalloc.get_traced_memory()[0]
                for _ in range(10):
                    await stranger(server.port)
                return tracemalloc.get_traced_memory()[0] - before
            finally:
                tracemalloc.stop()
                gc.enable()

    assert run(main()) < 10 * 600_000


# ---- files


@pytest.mark.parametrize("make", [
    lambda path: open_descriptor(path, "trace"), KeyLog, lambda path: Pcapng(path, secrets=True),
])  # fmt: skip
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away")
def test_c6_a_file_that_is_another_users(make: Callable[[Path], object], tmp_path: Path) -> None:
    """Made beforehand under the name that root is about to write to; or a link to it."""
    path = tmp_path / "made.pcapng"
    path.write_bytes(b"before")
    os.chown(path, 12345, 12345)
    (tmp_path / "link").symlink_to(path)
    for name in (path, tmp_path / "link"):
        with pytest.raises(ConfigError, match="the file is another user's, who could read it"):
            make(name)
    assert path.read_bytes() == b"before"


def test_c6_a_pipe_that_nobody_reads_stops_nobody(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    told: list[str] = []
    with pytest.raises(ConfigError, match="cannot write the audit log"):
        AuditLog(path, told.append)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    log = AuditLog(path, told.append)
    trail = log.sink()
    trail(StateRecord(0.0, "started", FACTS))
    for number in range(2000):
        trail(StateRecord(1.0, "accepted", {"address": "192.0.2.1", "port": number}))
    assert 1 <= len(told) < 5
    while True:
        try:
            os.read(reader, 1 << 20)
        except BlockingIOError:
            break
    trail(StateRecord(2.0, "accepted", {"address": "192.0.2.1", "port": 1}))
    assert b'"event":"lost"' in os.read(reader, 1 << 20)
    os.close(reader)
    log.close()


def test_c6_a_key_log_into_a_pipe_that_nobody_reads(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    log = KeyLog(path)

    def tell() -> None:
        for _ in range(2000):
            log(KeyRecord(0.0, bytes(16), "SHARED_SECRET", Secret(struct.pack(">Q", 7) * 8)))

    with pytest.raises(OSError, match="temporarily unavailable"):
        tell()
    log.close()
    os.close(reader)
