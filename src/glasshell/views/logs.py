"""Structured logs through the module `logging`, for programs that use `connect` and `serve`.

    serving = glasshell.serve(..., sinks=lambda peer: [Logs()])

Every state of a connection is one entry of the logger `glasshell.connection`. Its attributes, besides what
`logging` has: `connection` (the id that every view uses), `role`, `state` (the record's name), `seconds`
since the connection began, and `facts`, safe for JSON. Packets are entries of the level DEBUG where asked
for.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from ..messages import message_name
from ..observe.dissect import facts as facts_of
from ..observe.record import MessageRecord, Record, StateRecord
from .jsonl import plain
from .lines import text_of, words

__all__ = ["LEVELS", "Logs"]

LEVELS: Final = {
    "error": logging.ERROR, "connect_failed": logging.WARNING, "sink_dropped": logging.WARNING,
    "accepted": logging.INFO, "connected": logging.INFO, "authenticated": logging.INFO,
    "auth_exhausted": logging.INFO, "session_started": logging.INFO, "session_ended": logging.INFO,
    "exit_status": logging.INFO, "forward": logging.INFO, "forward_request": logging.INFO,
    "disconnect": logging.INFO, "closed": logging.INFO,
}  # fmt: skip
"""The level of a state; of every other it is DEBUG."""

NOTES: Final = {"error": logging.WARNING, "info": logging.INFO, "verbose": logging.INFO}
"""The level of a note, by OpenSSH's level."""

LOGGER: Final = "glasshell.connection"


class Logs:
    """A sink that writes one connection's records to `logger`; with `packets` its messages too."""

    def __init__(self, logger: logging.Logger | None = None, *, packets: bool = False) -> None:
        self._logger = logger if logger is not None else logging.getLogger(LOGGER)
        self._packets = packets
        self._about: dict[str, Any] = {"connection": "", "role": ""}

    def __call__(self, record: Record) -> None:
        """Takes one record."""
        if isinstance(record, StateRecord):
            self._state(record)
        elif self._packets and isinstance(record, MessageRecord) and self._logger.isEnabledFor(logging.DEBUG):
            name = message_name(record.number, record.context)
            verb, shown = "sent" if record.sent else "received", facts_of(record.payload, record.context)
            facts = {
                "sent": record.sent,
                "seq": record.seq,
                "wire_length": record.wire_length,
                "shown": shown,
            }
            self._log(logging.DEBUG, name, words(verb, name, shown), record.time, facts)

    def _state(self, record: StateRecord) -> None:
        facts = {name: plain(value) for name, value in record.facts.items()}
        if record.name == "started":
            self._about = {"connection": facts.get("id", ""), "role": facts.get("role", "")}
        level = LEVELS.get(record.name, logging.DEBUG)
        if record.name == "note":
            level = NOTES.get(str(facts.get("level")), logging.DEBUG)
            text = text_of(facts.get("text", ""))
        elif self._logger.isEnabledFor(level):
            text = words(record.name, *(f"{name}={text_of(value)}" for name, value in facts.items() if value))
        else:
            return
        self._log(level, record.name, text, record.time, facts)

    def _log(self, level: int, name: str, text: str, time: float, facts: dict[str, Any]) -> None:
        about = {**self._about, "state": name, "seconds": round(time, 6), "facts": facts}
        self._logger.log(level, "%s %s", self._about["connection"], text, extra=about)
