"""Times as OpenSSH's files and flags write them: YYYYMMDD[HHMM[SS]][Z]."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from ..errors import KeyFormatError
from ..wire import visible

__all__ = ["parse_time", "show_time"]

_TIME: Final = re.compile(r"([0-9]{8})(?:([0-9]{4})([0-9]{2})?)?(Z|UTC)?", re.ASCII | re.IGNORECASE)


def parse_time(value: str) -> int:
    """Epoch seconds of YYYYMMDD[HHMM[SS]], in the machine's time zone unless a Z or UTC follows.

    Raises KeyFormatError.
    """
    match = _TIME.fullmatch(value)
    if match is None:
        raise KeyFormatError(f'"{visible(value)}" is not a time YYYYMMDD[HHMM[SS]][Z]')
    digits = match[1] + (match[2] or "0000") + (match[3] or "00")
    try:
        moment = datetime.strptime(digits, "%Y%m%d%H%M%S")
        return int((moment.replace(tzinfo=UTC) if match[4] else moment).timestamp())
    except (ValueError, OverflowError, OSError):
        raise KeyFormatError(f'"{visible(value)}" is not a time') from None


def show_time(moment: float) -> str:
    """Epoch seconds as OpenSSH says them to people, in the machine's time zone."""
    try:
        return datetime.fromtimestamp(moment).strftime("%Y-%m-%dT%H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return "UNKNOWN-TIME"
