"""Reads asciicast files by their specifications (docs.asciinema.org, asciicast v2 and v3), and nothing else.

Whatever the specification does not allow is an AssertionError.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

SIZE = re.compile(r"[1-9]\d*x[1-9]\d*\Z")
V2_HEADER = {"version", "width", "height", "timestamp", "duration", "idle_time_limit", "command", "title",
             "env", "theme"}  # fmt: skip
V3_HEADER = {"version", "term", "timestamp", "idle_time_limit", "command", "title", "env", "tags"}
V3_TERM = {"cols", "rows", "type", "version", "theme"}


@dataclass(frozen=True)
class Read:
    """A file: its header, and its events with the seconds from the start."""

    header: dict[str, Any]
    events: list[tuple[float, str, str]]

    @property
    def output(self) -> str:
        return "".join(data for _, code, data in self.events if code == "o")


def check_v2(text: str) -> Read:
    """Seconds count from the start and never go back."""
    first, *lines = text.split("\n")
    assert lines.pop() == "", "the last line has no end"
    header = json.loads(first)
    assert header["version"] == 2
    assert set(header) <= V2_HEADER
    assert all(type(header[name]) is int and header[name] > 0 for name in ("width", "height"))
    _common(header)
    events = [_event(line, "oimr") for line in lines]
    times = [time for time, _, _ in events]
    assert times == sorted(times)
    return Read(header, events)


def check_v3(text: str) -> Read:
    """Seconds count from the event before; `#` begins a comment, but not on the first line."""
    first, *lines = text.split("\n")
    assert lines.pop() == "", "the last line has no end"
    header = json.loads(first)
    assert header["version"] == 3
    assert set(header) <= V3_HEADER
    term = header["term"]
    assert set(term) <= V3_TERM
    assert all(type(term[name]) is int and term[name] > 0 for name in ("cols", "rows"))
    _common(header)
    now = 0.0
    events = []
    for line in lines:
        if not line.startswith("#"):
            interval, code, data = _event(line, "oimrx")
            now += interval
            events.append((now, code, data))
    assert all(code != "x" for _, code, _ in events[:-1]), "the exit status is the last event"
    return Read(header, events)


def _common(header: dict[str, Any]) -> None:
    assert type(header.get("timestamp", 0)) is int
    assert all(isinstance(header.get(name, ""), str) for name in ("command", "title"))
    assert all(isinstance(word, str) for pair in header.get("env", {}).items() for word in pair)


def _event(line: str, codes: str) -> tuple[float, str, str]:
    time, code, data = json.loads(line)
    assert type(time) in (int, float)
    assert time >= 0
    assert code in codes
    assert isinstance(data, str)
    if code == "r":
        assert SIZE.match(data)
    if code == "x":
        assert data.isdecimal()
    return float(time), code, data
