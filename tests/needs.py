"""What a test needs from outside: named when it is absent."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def absent(what: str) -> NoReturn:
    """Skip the running test, naming `what` is absent; with CI set that is a failure."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} (CI must have it)", pytrace=False)
    pytest.skip(what)
