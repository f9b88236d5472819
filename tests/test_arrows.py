"""Who may import whom: the arrows of docs/design.md, held over the syntax tree of every module.

Each import of each module counts, wherever it stands (in a function, under TYPE_CHECKING); only the
search for circles looks at what runs while a module is being imported.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "src" / "glasshell"

BOTTOM = ("errors", "wire", "values")
"""Open to all."""

ARROWS: dict[str, tuple[str, ...]] = {
    "errors": (),
    "wire": (),
    "values": (),
    "messages": (),
    "crypto": (),
    "keys": ("messages.declare", "messages.blobs", "crypto"),
    "policy": ("crypto", "keys"),
    "events": ("crypto", "keys"),
    "observe": ("messages",),
    "transport": ("messages", "crypto", "keys", "policy", "events", "observe.hub"),
    "auth": (
        "messages",
        "crypto",
        "keys",
        "policy",
        "events",
        "observe.hub",
        "transport.port",
        "transport.rules",
    ),
    "connection": (
        "messages",
        "crypto",
        "keys",
        "policy",
        "events",
        "observe.hub",
        "transport.port",
        "transport.rules",
    ),
    "protocol": ("transport", "auth", "connection"),
    "sftp": ("messages.declare", "events", "observe.hub"),
    "agent": ("messages", "crypto", "keys"),
    "capture": (
        "messages",
        "transport.ident",
        "transport.packets",
        "transport.negotiate",
        "transport.exchange",
        "transport.rules",
        "crypto",
        "keys",
        "events",
        "observe",
        "sftp.messages",
    ),
    "explain": ("messages", "crypto", "observe", "policy", "keys"),
    "views": ("observe", "explain"),
    "config": ("policy", "keys", "crypto.registry", "crypto.kinds"),
    "system": ("keys", "agent.held"),
    "aio": ("protocol", "sftp", "agent", "config", "system", "views"),
    "blocking": ("aio",),
    "testing": ("aio",),
    "cli": ("*",),
    "__init__": ("*",),
    "__main__": ("cli",),
}
"""Room -> what it may import: a room, or one module of a room. A room is always open to itself."""

SEES_THROUGH = {"protocol", "views", "aio", "blocking", "testing"}
"""The joining rooms. What a room beneath them speaks in (events, records, a policy) they speak in too,
so their arrows reach on: they may import whatever the rooms they may import may import."""

NO_IO = {"asyncio", "concurrent", "multiprocessing", "sched", "select", "selectors", "socket", "socketserver",
         "ssl", "subprocess", "_thread", "threading", "time"}  # fmt: skip
SYSTEM_ROOMS = {"aio", "testing", "cli", "system", "blocking"}
STANDARD: dict[str, set[str]] = dict.fromkeys(NO_IO, SYSTEM_ROOMS) | {
    "asyncio": {"aio", "testing", "cli"},
    "logging": {"views"},
    "rich": {"views", "cli"},
    "dns": {"aio"},
    "dpkt": {"capture"},
    "pyroute2": {"system"},
    "psutil": {"system"},
    "fido2": {"system"},
    "textual": {"cli"},
    "prometheus_client": {"views"},
    "opentelemetry": {"views"},
}
"""Module from outside -> the only rooms that may import it."""

NOT_EVERYWHERE = {"pwd", "grp", "spwd", "crypt", "pty", "tty", "termios", "fcntl", "resource", "syslog"}
"""Modules Windows lacks: imported in a function, or not at all, so that import works everywhere."""


@dataclass(frozen=True)
class Import:
    """One imported module: absolute dotted name, line, and whether it runs at import time."""

    target: str
    line: int
    at_import: bool


def reach(room: str) -> set[str]:
    """What `room` may import, arrows that see through followed."""
    allowed = {room, *BOTTOM}
    for arrow in ARROWS[room]:
        allowed.add(arrow)
        if room in SEES_THROUGH:
            beneath = arrow.partition(".")[0]
            allowed |= reach(beneath) if beneath in SEES_THROUGH else {*ARROWS[beneath]}
    return allowed


def imports_of(source: str, module: str, modules: frozenset[str]) -> Iterator[Import]:
    """The imports of `source`, which is `module` ("glasshell.a.b", a package as "glasshell.a.__init__")."""
    tree = ast.parse(source)
    deferred = set(_deferred(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = _from_names(node, module, modules)
        else:
            continue
        yield from (Import(name, node.lineno, node not in deferred) for name in names)


def _deferred(tree: ast.Module) -> Iterator[ast.AST]:
    """Every node that does not run while the module is imported: function bodies, `if TYPE_CHECKING`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from ast.walk(node)
        elif isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for child in node.body:
                yield from ast.walk(child)


def _from_names(node: ast.ImportFrom, module: str, modules: frozenset[str]) -> list[str]:
    base = node.module or ""
    if node.level:
        package = module.split(".")[: -node.level]
        base = ".".join([*package, base] if base else package)
    # `from a import b` imports the module a.b if there is one, else a name of the module a.
    return [deep if (deep := f"{base}.{alias.name}") in modules else base for alias in node.names]


def complaints(source: str, module: str, modules: frozenset[str] = frozenset()) -> list[str]:
    """What `module` imports against the rules, one sentence each."""
    room = module.split(".")[1]
    if room not in ARROWS:
        return [f"{module}: the room {room} stands in no row of ARROWS"]
    found = []
    for item in imports_of(source, module, modules):
        if not _may_import(room, item, reach(room)):
            found.append(f"{module}:{item.line}: {room} may not import {item.target}")
        elif item.at_import and item.target in NOT_EVERYWHERE:
            found.append(f"{module}:{item.line}: not every system has {item.target}; import it late")
    return found


def _may_import(room: str, item: Import, allowed: set[str]) -> bool:
    outside, _, inside = item.target.partition(".")
    if outside != "glasshell":
        return room in STANDARD.get(outside, {room})
    if room == "__init__" and item.at_import:
        return False  # lazy: importing the package loads no room
    if not inside:  # only its own facts, such as __version__
        return True
    return "*" in allowed or any(inside == arrow or inside.startswith(arrow + ".") for arrow in allowed)


def circle(sources: Mapping[str, str]) -> list[str]:
    """The first circle among modules that import each other while being imported, or []."""
    known = frozenset(name.removesuffix(".__init__") for name in sources)
    graph: dict[str, set[str]] = {}
    for module, source in sources.items():
        name = module.removesuffix(".__init__")
        targets = {item.target for item in imports_of(source, module, known) if item.at_import}
        # A submodule finds its own package half made; that alone is how every package is built.
        graph[name] = {target for target in targets & known if not name.startswith(target + ".")}
        graph[name].discard(name)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def sources() -> dict[str, str]:
    """Every module of the package: dotted name -> source text."""
    return {
        ".".join(["glasshell", *path.relative_to(PACKAGE).with_suffix("").parts]): path.read_text("utf-8")
        for path in sorted(PACKAGE.rglob("*.py"))
    }


def names(all_sources: Iterable[str]) -> frozenset[str]:
    return frozenset(name.removesuffix(".__init__") for name in all_sources)


# -- the house as it stands ----------------------------------------------------------------------


@pytest.mark.parametrize("module", sorted(sources()))
def test_arrows(module: str) -> None:
    everything = sources()
    assert complaints(everything[module], module, names(everything)) == []


def test_no_circles_at_import_time() -> None:
    assert circle(sources()) == []


def test_every_arrow_leads_to_a_room() -> None:
    assert {arrow.partition(".")[0] for row in ARROWS.values() for arrow in row} <= {*ARROWS, "*"}


def test_the_table_itself_has_no_circle() -> None:
    rows = {room: {arrow.partition(".")[0] for arrow in row} - {"*"} for room, row in ARROWS.items()}
    TopologicalSorter(rows).prepare()


# -- the test can fail ---------------------------------------------------------------------------

KNOWN = frozenset(
    f"glasshell.{module}"
    for module in ("aio.client", "messages", "messages.declare", "observe", "observe.hub")
)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("wire", "from .crypto import registry"),
        ("wire", "import glasshell.messages"),
        ("crypto.registry", "from ..wire import Reader\nfrom ..keys import private"),
        ("keys.private", "from ..messages import transport"),
        ("auth.client", "from ..transport import packets"),
        ("auth.client", "if TYPE_CHECKING:\n    from ..transport import Transport"),
        ("auth.client", "def late():\n    from ..connection.mux import Mux"),
        ("connection.mux", "from ..observe import Record"),
        ("sftp.core", "from ..policy import Policy"),
        ("transport.packets", "import asyncio.streams"),
        ("transport.packets", "from time import monotonic"),
        ("protocol", "import socket"),
        ("observe.hub", "import logging"),
        ("crypto.kex", "import threading"),
        ("system.account", "import asyncio"),
        ("blocking", "import asyncio"),
        ("messages.declare", "from rich.text import Text"),
        ("aio.client", "from ..cli import main"),
        ("system.account", "import pwd"),
        ("cli.ssh", "import termios"),
        ("__init__", "from . import policy"),
        ("attic.old", ""),
    ],
)
def test_a_forbidden_import_is_found(module: str, source: str) -> None:
    assert len(complaints(source, f"glasshell.{module}", KNOWN)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("wire", "import struct\nfrom .errors import MalformedMessage"),
        ("keys.private", "from ..messages import declare\nfrom ..messages.declare import message"),
        ("connection.mux", "from ..observe import hub\nfrom . import window"),
        ("protocol", "from .events import Event\nfrom .transport.transport import Transport"),
        ("testing.pair", "import asyncio\nfrom ..protocol import Client\nfrom ..policy import Policy"),
        ("views.timeline", "import logging\nfrom ..observe import Record\nfrom ..messages import catalogue"),
        ("blocking", "import threading\nfrom .aio import client"),
        ("system.account", "def late():\n    import pwd"),
        ("cli.main", "import asyncio\nfrom .. import __version__\nfrom ..explain import why"),
        ("__init__", "if TYPE_CHECKING:\n    from .aio.client import connect"),
    ],
)
def test_a_permitted_import_is_left_alone(module: str, source: str) -> None:
    assert complaints(source, f"glasshell.{module}", KNOWN) == []


def test_a_circle_is_found_and_a_late_import_is_none() -> None:
    one, two = "from . import two", "from .one import x"
    package = {"glasshell.keys.__init__": "from .one import x", "glasshell.keys.one": one}
    assert set(circle(package | {"glasshell.keys.two": two})) == {"glasshell.keys.one", "glasshell.keys.two"}
    assert circle(package | {"glasshell.keys.two": f"def late():\n    {two}"}) == []


def test_the_page_of_the_design_says_the_same() -> None:
    page = (PACKAGE.parent.parent / "docs/design.md").read_text("utf-8")
    table = page.partition("| room | may import |")[2].partition("\n\n")[0]
    said: dict[str, set[str]] = {}
    for line in table.splitlines()[2:]:
        rooms, targets = (cell.strip() for cell in line.strip("| ").split("|"))
        named = {"*"} if targets == "everything" else set(targets.replace("–", "").split(", ")) - {""}
        said |= dict.fromkeys(rooms.split(", "), named)
    here = {path.stem for path in PACKAGE.glob("*.py")}
    here |= {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    built = here - {"errors", "wire", "values", "__init__", "__main__"}
    unbuilt = set(ARROWS) - built
    held = {
        room: {target for target in targets if target not in unbuilt}
        for room, targets in ARROWS.items()
        if room in built
    }
    assert said == held
