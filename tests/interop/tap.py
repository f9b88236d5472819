"""tcpdump on the loopback: what two programs said to each other, as a capture of its own."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from glasshell.capture.source import open_source
from glasshell.capture.streams import Ended
from tests.interop.peers import require_peer

PATIENCE = 20.0


class Tap:
    """Captures the TCP of `port` into `file` until the connections that were made have ended."""

    def __init__(self, port: int, file: Path) -> None:
        require_peer("tcpdump")
        self.file = file
        self._process = subprocess.Popen(
            ["tcpdump", "-i", "lo", "-n", "--immediate-mode", "-B", "131072", "--time-stamp-precision=nano",
             "-U", "-Z", "root", "-w", str(file), f"tcp port {port}"],
            stderr=subprocess.PIPE,
        )  # fmt: skip
        assert self._process.stderr is not None
        while b"listening on" not in self._process.stderr.readline():
            assert self._process.poll() is None, "tcpdump does not run: it needs root"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._wait()
        finally:
            self._process.send_signal(signal.SIGINT)
            self._process.communicate(timeout=PATIENCE)

    def _wait(self) -> None:
        """Until both directions of every connection have ended in the file."""
        deadline = time.monotonic() + PATIENCE
        while not self._all_ended():
            assert time.monotonic() < deadline, "the capture has no end"
            time.sleep(0.02)

    def _all_ended(self) -> bool:
        if self.file.stat().st_size < 64:
            return False
        with open_source(self.file) as source:
            ends = [event.how for event in source if isinstance(event, Ended)]
        return bool(ends) and set(ends) <= {"fin", "rst"}
