"""Captures read for the tests: everything that the reader tells, with its troubles."""

from __future__ import annotations

import csv
import io
import lzma
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from glasshell.capture.keylog import KeyLog
from glasshell.capture.reader import Troubles, read_source
from glasshell.capture.source import open_source
from glasshell.observe.record import MessageRecord, StateRecord, SubsystemRecord
from glasshell.observe.seen import Frame, Seen

NEVER_LOGGED = frozenset({93, 94, 95, 192, 193})
"""Numbers that OpenSSH's debug log leaves out."""


@dataclass
class Read:
    """All of one capture."""

    items: list[Frame | Seen]
    troubles: Troubles

    @property
    def seen(self) -> list[Seen]:
        return [item for item in self.items if isinstance(item, Seen)]

    @property
    def messages(self) -> list[Seen]:
        return [seen for seen in self.seen if isinstance(seen.record, MessageRecord)]

    @property
    def subsystem(self) -> list[SubsystemRecord]:
        return [seen.record for seen in self.seen if isinstance(seen.record, SubsystemRecord)]

    def states(self, name: str, stream: int | None = None) -> list[Seen]:
        return [
            seen
            for seen in self.seen
            if isinstance(seen.record, StateRecord) and seen.record.name == name
            if stream is None or seen.stream == stream
        ]

    def facts(self, name: str, stream: int | None = None) -> list[dict[str, Any]]:
        return [dict(seen.record.facts) for seen in self.states(name, stream)]

    def numbers(self, *, client: bool) -> list[int]:
        """The message numbers of one direction, as OpenSSH's log has them."""
        return [
            seen.record.number
            for seen in self.messages
            if seen.client is client and seen.record.number not in NEVER_LOGGED
        ]


def read(path: Path, *logs: Path, keys: KeyLog | None = None, show_secrets: bool = False) -> Read:
    keys = keys or KeyLog()
    for log in logs:
        keys.add(log.read_bytes(), log.name)
    with open_source(path) as source:
        reading = read_source(source, keys=keys, show_secrets=show_secrets)
        items = list(reading)
    return Read(items, reading.troubles)


def table(path: Path) -> Iterator[dict[str, str]]:
    """The rows of one of tshark's tables."""
    text = lzma.decompress(path.read_bytes()).decode()
    return csv.DictReader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE)


@pytest.fixture
def captures(shared: Path) -> Path:
    """The folder of captures."""
    return shared / "captures"
