"""What keeps the memory of a process from others of the same user, and from the disk."""

from __future__ import annotations

import contextlib
import sys
from typing import Final

__all__ = ["hide_memory"]

_PR_SET_DUMPABLE: Final = 4


def hide_memory() -> None:
    """No core dump, and no debugger but root's: for a process that holds other people's keys (prctl(2)).

    Does what the system can do, and raises nothing.
    """
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        import ctypes

        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
