"""Python's audit events of both ends, heard by a hook in a process of its own: none can be taken back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import sys
from tests.aio.kit import connecting, run, serving

seen = []
def hear(name, args):
    if name.startswith("glasshell."):
        seen.append((name, *args))
sys.addaudithook(hear)

async def main():
    async with serving() as server, connecting(server.port) as connection:
        await connection.run("exit 0")
        print(server.port)

run(main())
for event in seen:
    print(*event)
"""


def test_both_ends_tell() -> None:
    path = os.pathsep.join([str(ROOT), str(ROOT / "src")])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, env={**os.environ, "PYTHONPATH": path},
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    port, connect, accept, *rest = done.stdout.splitlines()
    assert connect == f"glasshell.connect 127.0.0.1 {port}"
    assert accept.startswith("glasshell.accept 127.0.0.1 ")
    assert sorted(rest) == [
        "glasshell.login client ada publickey",
        "glasshell.login server ada publickey",
        "glasshell.session exec exit 0 ada",
    ]
