"""Readers of the published known-answer files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def records(path: Path) -> Iterator[dict[str, str]]:
    """The records of a file of `NAME = value` lines, each begun by COUNT; its heading is its "section"."""
    section, record = "", dict[str, str]()
    for line in path.read_text("utf-8").splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif "=" in line and not line.startswith("#"):
            name, value = (part.strip() for part in line.split("=", 1))
            if name == "COUNT":
                if len(record) > 2:
                    yield record
                record = {"section": section}
            record[name] = value
    if len(record) > 2:
        yield record


def wycheproof(path: Path) -> list[dict[str, Any]]:
    """The tests of one Wycheproof file; the values of their group are mixed in."""
    groups = json.loads(path.read_bytes())["testGroups"]
    return [{**group, **test} for group in groups for test in group["tests"]]
