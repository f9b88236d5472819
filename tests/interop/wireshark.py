"""Wireshark's own reader of captures, both generations, as the judge of ours."""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from pathlib import Path

from tests.interop.peers import require_peer

PATIENCE = 60.0

COMPLAINTS = "_ws.malformed || _ws.expert.severity == 8388608 || tcp.analysis.flags || _ws.short"
"""What no capture of ours may have: malformed packets, expert errors, what TCP would have to mend."""


class Tshark:
    """`generation` is "4.0" (this system's) or "4.6" (the newest). `port` is where SSH is spoken."""

    def __init__(self, generation: str, port: int) -> None:
        self.place = require_peer("tshark" if generation == "4.0" else "tshark-newest")
        self.generation = generation
        self.port = port

    def read(self, capture: Path, *words: str, key_log: Path | None = None) -> str:
        """What tshark prints of a capture; its complaints are failures."""
        folder = self.place.scratch()
        try:
            files = [shutil.copy(path, folder) for path in (capture, key_log) if path]
            inside = [self.place.inside(Path(file)) for file in files]
            line = ["-r", inside[0], "-n", "-d", f"tcp.port=={self.port},ssh", *words]
            if key_log:
                line += ["-o", f"ssh.keylog_file:{inside[1]}"]
            command = self.place.command("tshark", *line)
            done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
            assert done.returncode == 0, done.stderr
            assert "cut short" not in done.stderr
            return done.stdout
        finally:
            shutil.rmtree(folder)

    def fields(self, capture: Path, *names: str, key_log: Path | None = None) -> list[list[str]]:
        """The fields of each packet, those that it has several times joined by commas."""
        words = [word for name in names for word in ("-e", name)]
        text = self.read(capture, "-T", "fields", *words, key_log=key_log)
        return [line.split("\t") for line in text.splitlines()]

    def messages(self, capture: Path, *, key_log: Path | None = None) -> Counter[int]:
        """How often it sees each message number."""
        rows = self.fields(capture, "ssh.message_code", key_log=key_log)
        return Counter(int(code) for row in rows for code in row[0].split(",") if code)

    def complaints(self, capture: Path, *, key_log: Path | None = None) -> str:
        """The packets that it finds fault with."""
        return self.read(capture, "-Y", COMPLAINTS, key_log=key_log)
