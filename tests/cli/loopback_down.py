"""In a network namespace of its own: a session under which the loopback interface goes down for a while.

Prints the server's port and how often ss(8) says that the client's segments were sent again.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.interop.peers import Keys, OpenSSHClient, OpenSSHServer

PATIENCE = 20.0


def main(folder: Path) -> None:
    loopback("up")
    keys = Keys(folder)
    with OpenSSHServer("9.2", keys) as server, OpenSSHClient("9.2") as client:
        line = [*client.argv(server.target, identity=keys.user()), "cat"]
        with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as session:
            assert session.stdin
            assert session.stdout
            port = server.target.port
            session.stdin.write(b"one\n")
            session.stdin.flush()
            assert session.stdout.readline() == b"one\n"
            loopback("down")
            session.stdin.write(b"two\n")
            session.stdin.flush()
            deadline = time.monotonic() + PATIENCE
            while not retransmits(port) and time.monotonic() < deadline:
                pass
            loopback("up")
            assert session.stdout.readline() == b"two\n"
            counted = retransmits(port)
            session.stdin.close()
            session.wait(PATIENCE)
    print(port, counted)  # noqa: T201


def loopback(state: str) -> None:
    subprocess.run(["ip", "link", "set", "lo", state], check=True)


def retransmits(port: int) -> int:
    """Of the client's socket, over its life: the second figure of `retrans:`."""
    line = ["ss", "-tin", "state", "connected", f"dport = :{port}"]
    found = re.search(
        r"retrans:\d+/(\d+)", subprocess.run(line, check=True, capture_output=True, text=True).stdout
    )
    return int(found[1]) if found else 0


if __name__ == "__main__":
    main(Path(sys.argv[1]))
