"""The audit log and the entries of `logging`, by the records alone."""

from __future__ import annotations

import json
import logging
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from glasshell.errors import ConfigError
from glasshell.views.auditlog import AuditLog
from glasshell.views.logs import Logs
from tests.views.tape import Tape

WALL = 1_795_345_200.5


def story() -> Tape:
    tape = Tape()
    tape.state("started", role="server", wall_time=WALL, software="", version="", id="c0ffee")
    tape.state("accepted", address="192.0.2.1", port=40000, local_address="192.0.2.7", local_port=22)
    tape.wait(0.25)
    verdict = {"user": "ada", "partial": False, "valid": True}
    tape.state("auth_verdict", method="none", accepted=False, key_type="", fingerprint="", **verdict)
    tape.state(
        "auth_verdict", method="publickey", accepted=False, key_type="RSA", fingerprint="SHA256:a", **verdict
    )
    tape.state(
        "auth_verdict", method="publickey", accepted=True, key_type="RSA", fingerprint="SHA256:b", **verdict
    )
    tape.state("authenticated", user="ada", method="publickey")
    tape.state("session_started", channel=0, kind="exec", command="rm -rf \x1b[2J\n/", user="ada", tty="")
    tape.state("session_started", channel=1, kind="subsystem", command="sftp", user="ada", tty="")
    tape.state("session_ended", channel=0, user="ada", status=0, signal="")
    facts = {"kind": "direct-tcpip", "channel": 2, "host": "db", "port": 5432}
    tape.state("forward_request", **facts, allowed=False, reason="not allowed")
    tape.wait(1.0)
    tape.state("disconnect", sent=False, reason=2, description="protocol error")
    tape.state("error", type="Disconnected", text="the peer disconnected", hint="", clause="")
    tape.state("closed", sent_bytes=10, received_bytes=20)
    return tape


def written(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_what_is_written(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    story().play(AuditLog(path, print).sink())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    about = {"connection": "c0ffee", "peer_address": "192.0.2.1", "peer_port": 40000}
    login = {"user": "ada", "method": "publickey", "key_type": "RSA", "known_user": True}
    ran = {"channel": 0, "kind": "exec", "command": r"rm -rf \033[2J\012/"}
    sftp = {"channel": 1, "kind": "subsystem", "command": "sftp"}
    late, end = "2026-11-22T11:00:00.750Z", "2026-11-22T11:00:01.750Z"
    known = {**about, "user": "ada"}
    assert written(path) == [
        {"time": "2026-11-22T11:00:00.500Z", "event": "connect", **about,
         "local_address": "192.0.2.7", "local_port": 22},
        {"time": late, "event": "login", **about, "result": "failure", "fingerprint": "SHA256:a", **login},
        {"time": late, "event": "login", **about, "result": "success", "fingerprint": "SHA256:b", **login},
        {"time": late, "event": "session_start", **known, **ran, "tty": ""},
        {"time": late, "event": "session_start", **known, **sftp, "tty": ""},
        {"time": late, "event": "session_end", **known, **ran, "status": 0, "signal": ""},
        {"time": late, "event": "forward", **known, "kind": "direct-tcpip", "channel": 2, "host": "db",
         "port": 5432, "allowed": False, "reason": "not allowed"},
        {"time": end, "event": "session_end", **known, **sftp, "status": None, "signal": ""},
        {"time": end, "event": "disconnect", **known, "by": "client", "reason": 2,
         "description": "protocol error", "error": "the peer disconnected", "seconds": 1.25,
         "sent_bytes": 10, "received_bytes": 20},
    ]  # fmt: skip


def test_several_may_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    logs = [AuditLog(path, print), AuditLog(path, print)]
    sinks = [log.sink() for log in logs for _ in range(3)]
    for record in story().records:
        for sink in sinks:
            sink(record)
    assert len(written(path)) == 6 * 9


def test_what_could_not_be_written_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, said = tmp_path / "audit.log", list[str]()
    log = AuditLog(path, said.append)
    write = os.write

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    log.write({"time": "1", "event": "a"})
    monkeypatch.setattr(os, "write", full)
    log.write({"time": "2", "event": "b"})
    log.write({"time": "3", "event": "c"})
    monkeypatch.setattr(os, "write", write)
    log.write({"time": "4", "event": "d"})
    assert [(line["event"], line.get("lines")) for line in written(path)] == [
        ("a", None),
        ("lost", 2),
        ("d", None),
    ]
    assert said == [f"audit log {path}: No space left on device"]


def test_a_file_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot write the audit log"):
        AuditLog(tmp_path / "no" / "such", print)


# -- logging


class Heard(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.entries: list[Any] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.entries.append(record)


def logged(level: int, tape: Tape, **more: Any) -> list[Any]:
    logger = logging.Logger("test", level)
    handler = Heard()
    logger.addHandler(handler)
    tape.play(Logs(logger, **more))
    return handler.entries


def test_states_are_entries_with_fields() -> None:
    entries = logged(logging.DEBUG, story())
    assert len(entries) == len(story().records)
    levels = {entry.state: entry.levelname for entry in entries}
    assert levels["error"] == "ERROR"
    assert levels["authenticated"] == levels["closed"] == "INFO"
    assert levels["auth_verdict"] == "DEBUG"
    for entry in entries:
        assert (entry.connection, entry.role) == ("c0ffee", "server")
        json.dumps(entry.facts)
        assert "\x1b" not in entry.getMessage()
        assert "\n" not in entry.getMessage()
    (refused,) = [entry for entry in entries if entry.state == "forward_request"]
    assert refused.facts["host"] == "db"
    assert refused.getMessage().startswith("c0ffee forward_request kind=direct-tcpip")


def test_what_nobody_wants_is_not_made() -> None:
    assert {entry.levelname for entry in logged(logging.ERROR, story())} == {"ERROR"}


def test_notes_keep_their_level() -> None:
    tape = Tape()
    for level in ("error", "info", "debug1"):
        tape.state("note", level=level, text="x")
    assert [entry.levelname for entry in logged(logging.DEBUG, tape)] == ["WARNING", "INFO", "DEBUG"]


def test_packets_where_they_are_asked_for() -> None:
    from tests.views.connection import SECRETS, client_connection

    tape = client_connection(data=3)
    entries = logged(logging.DEBUG, tape, packets=True)
    assert len(entries) == len(tape.records)
    text = "\n".join(f"{entry.getMessage()} {entry.facts}" for entry in entries)
    assert "sent SSH_MSG_USERAUTH_REQUEST tester password" in text
    assert not any(secret.decode() in text for secret in SECRETS)
