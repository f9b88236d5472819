"""The audit log of a server: who logged in, what was run, what was forwarded; one JSON object a line.

The fields are those of docs/guide/telemetry.md and stay what they are. Each line is written whole by one
call to a file opened for appending, so that several connections, and several servers, may share it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from ..errors import ConfigError
from ..messages.transport import DisconnectReason
from ..observe.record import Record, StateRecord
from .files import private_descriptor
from .jsonl import compact, plain
from .qlog import rfc3339

__all__ = ["AuditLog", "AuditTrail"]

BY_APPLICATION: Final = DisconnectReason.BY_APPLICATION.value
MAX_SESSIONS: Final = 1024
"""Most sessions of one connection whose end is waited for."""


class AuditLog:
    """The file. `sink()` hears one connection; `trouble` is told of what could not be written.

    The file is opened again where it was renamed or removed; that is looked at whenever a connection
    begins, so rotation needs no signal. Raises ConfigError where it cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str], trouble: Callable[[str], object]) -> None:
        self._path = Path(path).absolute()  # a daemon changes its folder
        self._trouble = trouble
        self._lost = 0
        try:
            self._file = self._opened()
        except OSError as error:
            raise ConfigError(f"cannot write the audit log {path}: {error.strerror}") from error

    def sink(self) -> AuditTrail:
        """A sink for one connection."""
        self._reopen()
        return AuditTrail(self.write)

    def write(self, event: Mapping[str, Any]) -> None:
        """Appends one line. What cannot be written is counted, and told with the next line that can."""
        if self._lost and self._append({"time": event["time"], "event": "lost", "lines": self._lost}):
            self._lost = 0
        if self._lost or not self._append(event):
            self._lost += 1

    def close(self) -> None:
        """Closes the file."""
        os.close(self._file)

    def _append(self, event: Mapping[str, Any]) -> bool:
        line = (compact(event) + "\n").encode("utf-8", "replace")
        try:
            written = os.write(self._file, line)
            if written < len(line):  # the disk is full: what is there of the line ends here
                os.write(self._file, b"\n")
        except OSError as error:
            self._complain(error)
            return False
        return written == len(line)

    def _opened(self) -> int:
        # Whoever reads a pipe slowly, or not at all, must not stop the server: such lines are lost, and told.
        return private_descriptor(self._path, append=True, wait=False)

    def _reopen(self) -> None:
        ours = os.fstat(self._file)
        try:
            there = self._path.stat()
            if (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino):
                return
        except OSError:
            pass  # it is gone
        try:
            fresh = self._opened()
        except OSError as error:
            self._complain(error)  # the old one is still open
            return
        os.close(self._file)
        self._file = fresh

    def _complain(self, error: OSError) -> None:
        if not self._lost:
            self._trouble(f"audit log {self._path}: {error.strerror}")


class AuditTrail:
    """A sink that writes the audit events of one connection."""

    hears = frozenset({"states"})

    def __init__(self, write: Callable[[Mapping[str, Any]], object]) -> None:
        self._write = write
        self._wall_time = 0.0
        self._began = 0.0
        self._about: dict[str, Any] = {"connection": ""}
        self._sessions: dict[int, Mapping[str, Any]] = {}
        self._end: dict[str, Any] = {"by": None, "reason": None, "description": "", "error": ""}

    def __call__(self, record: Record) -> None:
        """Takes one record."""
        if isinstance(record, StateRecord) and (act := self._ACTS.get(record.name)):
            act(self, record.facts, record.time)

    def _event(self, event: str, time: float, **facts: Any) -> None:
        stamp = rfc3339(self._wall_time + time)
        told = {name: plain(value) for name, value in facts.items()}
        self._write({"time": stamp, "event": event, **self._about, **told})

    def _started(self, facts: Mapping[str, Any], time: float) -> None:
        self._wall_time = float(facts.get("wall_time") or 0.0)
        self._about["connection"] = plain(facts.get("id", ""))

    def _accepted(self, facts: Mapping[str, Any], time: float) -> None:
        self._began = time
        self._about |= {"peer_address": plain(facts.get("address")), "peer_port": facts.get("port")}
        self._event("connect", time, **{name: facts.get(name) for name in ("local_address", "local_port")})

    def _auth_verdict(self, facts: Mapping[str, Any], time: float) -> None:
        if facts.get("method") == "none" and not facts.get("accepted"):
            return  # how a client asks what there is
        result = "partial" if facts.get("partial") else "success" if facts.get("accepted") else "failure"
        self._event(
            "login", time, result=result, user=facts.get("user"), method=facts.get("method"),
            key_type=facts.get("key_type"), fingerprint=facts.get("fingerprint"),
            known_user=facts.get("valid"), **{c: facts[c] for c in ("certificate",) if facts.get(c)},
        )  # fmt: skip

    def _authenticated(self, facts: Mapping[str, Any], time: float) -> None:
        self._about["user"] = plain(facts.get("user"))

    def _session_started(self, facts: Mapping[str, Any], time: float) -> None:
        told = {name: facts.get(name) for name in ("channel", "kind", "command", "tty")}
        if len(self._sessions) < MAX_SESSIONS:
            self._sessions[facts["channel"]] = told
        self._event("session_start", time, **told)

    def _session_ended(self, facts: Mapping[str, Any], time: float) -> None:
        told = self._sessions.pop(facts.get("channel", -1), {"channel": facts.get("channel")})
        self._session_end(told, time, facts.get("status"), facts.get("signal", ""))

    def _session_end(self, told: Mapping[str, Any], time: float, status: Any, signal: Any) -> None:
        named = {name: told.get(name) for name in ("channel", "kind", "command")}
        self._event("session_end", time, **named, status=status, signal=signal)

    def _forward_request(self, facts: Mapping[str, Any], time: float) -> None:
        self._event("forward", time, **facts)

    def _disconnect(self, facts: Mapping[str, Any], time: float) -> None:
        by = "server" if facts.get("sent") else "client"
        self._end |= {"by": by, "reason": facts.get("reason"), "description": facts.get("description")}

    def _error(self, facts: Mapping[str, Any], time: float) -> None:
        if self._end["reason"] != BY_APPLICATION:  # that is how a client says that it is done
            self._end["error"] = facts.get("text")

    def _closed(self, facts: Mapping[str, Any], time: float) -> None:
        for told in self._sessions.values():  # their programs were hung up, their status is nobody's to know
            self._session_end(told, time, None, "")
        self._sessions.clear()
        sizes = {name: facts.get(name) for name in ("sent_bytes", "received_bytes")}
        self._event("disconnect", time, **self._end, seconds=round(time - self._began, 3), **sizes)

    _ACTS: Final = {
        "started": _started, "accepted": _accepted, "auth_verdict": _auth_verdict,
        "authenticated": _authenticated, "session_started": _session_started,
        "session_ended": _session_ended, "forward_request": _forward_request, "disconnect": _disconnect,
        "error": _error, "closed": _closed,
    }  # fmt: skip
