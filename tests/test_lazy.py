"""The public names, and what importing the package costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import glasshell

SOURCE = Path(glasshell.__file__)
CORE = ["wire", "errors", "messages", "crypto", "keys", "policy", "events", "observe", "transport", "auth",
        "connection", "protocol"]  # fmt: skip


def exists(module: str) -> bool:
    path = SOURCE.parent.joinpath(*module.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def modules_loaded_by(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=SOURCE.parent.parent, capture_output=True, text=True, check=True
    )
    return set(shown.stdout.split())


@pytest.mark.parametrize("name", sorted(glasshell._HOMES))
def test_public_name_resolves(name: str) -> None:
    if not exists(glasshell._HOMES[name]):
        pytest.skip(f"the room of {name} is not built yet")
    assert getattr(glasshell, name) is vars(glasshell)[name]


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'telnet'"):
        _ = glasshell.telnet


def test_type_checkers_are_told_what_run_time_does() -> None:
    """The imports under TYPE_CHECKING, `_HOMES` and `__all__` are one list, told three times."""
    tree = ast.parse(SOURCE.read_text(encoding="utf-8"))
    guarded = next(node for node in tree.body if isinstance(node, ast.If))
    told = {
        alias.asname or alias.name: node.module or alias.name
        for node in guarded.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert told == glasshell._HOMES
    assert sorted(told) == sorted(glasshell.__all__)
    assert set(told) <= set(dir(glasshell))


@pytest.mark.parametrize("room", ["", *CORE])
def test_the_core_loads_without_asyncio_or_drawing(room: str) -> None:
    if room and not exists(room):
        pytest.skip(f"{room} is not built yet")
    loaded = modules_loaded_by(f"import glasshell{room and '.' + room}")
    assert "glasshell" in loaded
    assert loaded.isdisjoint({"asyncio", "rich", "socket", "subprocess", "pwd", "pty", "fcntl"})


def test_asking_for_the_version_loads_no_room() -> None:
    loaded = modules_loaded_by("import glasshell; glasshell.__version__")
    assert {name for name in loaded if name.startswith("glasshell")} == {"glasshell"}


def test_a_server_without_pam_loads_nothing_of_it() -> None:
    """Nor does one with it, before somebody has to be asked about."""
    pytest.importorskip("pwd")
    for options in ("", "use_pam=True"):
        loaded = modules_loaded_by(
            "from glasshell.aio.shellgate import AccountGatekeeper, ServerOptions;"
            f"AccountGatekeeper(ServerOptions({options}))"
        )
        assert not loaded & {"ctypes", "glasshell.system.pam", "glasshell.aio.pamprocess"}
