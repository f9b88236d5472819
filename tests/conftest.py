"""What every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from glasshell.aio.memory import PROCESS
from tests.needs import absent

REPOSITORY = Path(__file__).resolve().parent.parent

# readline, which pytest loads, tells every child a width of its own making.
for name in ("COLUMNS", "LINES"):
    os.environ.pop(name, None)

# The suite says the same thing every time it runs; `make fuzz` is where luck is sought.
settings.register_profile("default", derandomize=True, deadline=None)
settings.register_profile(
    "fuzz", max_examples=5_000, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("default")


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """A test is not named after what it is given where that may be a key, made anew in each process: those
    that share the work have to know the tests by the same names."""
    text = val.decode("latin-1") if isinstance(val, bytes) else val
    return argname if isinstance(text, str) and (len(text) > 60 or not text.isprintable()) else None


@pytest.fixture(autouse=True)
def _strangers(monkeypatch: pytest.MonkeyPatch) -> None:
    """To every test all servers are new, and nothing is left in the home of who runs it."""
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    PROCESS.forget()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of published vectors and captures: $GLASSHELL_SHARED, or `shared` beside the checkout."""
    folder = Path(os.environ.get("GLASSHELL_SHARED", REPOSITORY.parent / "shared"))
    if not (folder / "vectors").is_dir():
        absent(f"no test vectors in {folder}: name their folder in GLASSHELL_SHARED")
    return folder
