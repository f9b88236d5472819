"""The processor: its name, and which of its instructions speed cryptography up."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

__all__ = ["WANTED", "cpu", "has_aes"]

WANTED: Final = (
    "aes", "vaes", "pclmulqdq", "vpclmulqdq", "avx", "avx2", "avx512f", "sha_ni", "bmi2", "adx",
    "pmull", "sha1", "sha2", "sha512", "asimd", "sve",
)  # fmt: skip
"""What OpenSSL looks for, by the names of /proc/cpuinfo: x86 first, then Arm."""


def cpu(path: str = "/proc/cpuinfo") -> tuple[str, tuple[str, ...]]:
    """The processor's name, "" where it has none, and its features among `WANTED`; ("", ()) off Linux."""
    try:
        text = Path(path).read_text("utf-8", "replace")
    except OSError:
        return "", ()
    facts: dict[str, str] = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            facts.setdefault(name.strip().lower(), value.strip())
    flags = set((facts.get("flags") or facts.get("features") or "").split())
    return facts.get("model name", ""), tuple(name for name in WANTED if name in flags)


@cache
def has_aes(path: str = "/proc/cpuinfo") -> bool:
    """Whether the processor has instructions for AES; where nothing can be known it has, as nearly all do.

    Only the first processor is looked at: the file is long where there are many.
    """
    try:
        with Path(path).open("rb") as file:
            text = file.read(8192).decode("utf-8", "replace").lower()
    except OSError:
        return True
    lines = (line.partition(":") for line in text.splitlines())
    flags = next((value.split() for name, _, value in lines if name.strip() in ("flags", "features")), None)
    return flags is None or "aes" in flags
