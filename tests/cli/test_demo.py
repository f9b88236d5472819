"""`glasshell demo`: a server, a client, and what was seen of them."""

from __future__ import annotations

import json

from tests.cli.kit import Commands


def test_the_demonstration(commands: Commands) -> None:
    done = commands.run("demo", "--svg", "line.svg", "--trace", "demo.jsonl")
    assert (done.returncode, done.stderr) == (0, b"")
    shown = done.stdout.decode()
    assert "a second channel at the same time" in shown
    for name in ("SSH_MSG_KEXINIT", "SSH_MSG_USERAUTH_SUCCESS", "pty-req", "6 teardown", "mlkem768x25519"):
        assert name in shown
    assert (commands.home / "line.svg").read_text().startswith("<svg")
    records = [json.loads(line) for line in (commands.home / "demo.jsonl").read_text().splitlines()]
    assert len(records) > 40
    assert not (commands.home / ".ssh").exists()
