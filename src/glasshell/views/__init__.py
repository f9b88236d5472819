"""What people look at, one file per view; each is a sink of the stream of records (`glasshell.observe`)."""

from __future__ import annotations

from typing import Literal, TypeAlias

Role: TypeAlias = Literal["client", "server"]
"""Whose records these are."""
