"""The algorithms that a configuration file names, as they stand there: those that are not built here too.

For an audit, which judges what a file asks for: every block counts, whoever it is for. What a keyword that is
not in the file means is up to the program that reads it, and so are the lists that `+`, `-`, `^` change.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from ..errors import ConfigError
from ..wire import visible
from .parse import Find, Line, Read, flatten, read_file

__all__ = ["Offers", "offers_in"]

LISTS: Final = {
    "kexalgorithms": "kex", "ciphers": "cipher", "macs": "mac", "hostkeyalgorithms": "host_key",
    "pubkeyacceptedalgorithms": "host_key", "pubkeyacceptedkeytypes": "host_key",
    "hostbasedacceptedalgorithms": "host_key", "hostbasedacceptedkeytypes": "host_key",
    "casignaturealgorithms": "host_key",
}  # fmt: skip
"""Keyword -> the kind of algorithm that it lists."""

SERVER: Final = frozenset({
    "hostkey", "permitrootlogin", "authorizedkeysfile", "subsystem", "allowusers", "denyusers", "usepam",
    "maxstartups", "listenaddress", "acceptenv", "x11forwarding", "permitemptypasswords", "printmotd",
    "logingracetime", "maxauthtries", "strictmodes", "clientaliveinterval",
})  # fmt: skip
CLIENT: Final = frozenset({
    "host", "identityfile", "hostname", "user", "stricthostkeychecking", "userknownhostsfile", "proxyjump",
    "proxycommand", "sendenv", "serveraliveinterval", "forwardagent", "hashknownhosts",
})  # fmt: skip
"""Keywords that only one of the two files has."""


@dataclass
class Offers:
    """What a file names, by kind, and where."""

    role: Literal["client", "server"]
    names: dict[Any, tuple[str, ...]] = field(default_factory=dict)
    where: dict[Any, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def offers_in(path: str, read: Read, find: Find, *, home: str, kind: str | None = None) -> Offers:
    """The lists of `path` and its Includes. `kind` says whose file it is; None: its keywords tell.

    Raises ConfigError for what cannot be parsed or read, or is neither.
    """
    try:
        lines = list(flatten(read_file(path, read, find, base=path.rpartition("/")[0], home=home)))
    except OSError as error:
        raise ConfigError(f"{visible(path)}: {error.strerror or error}") from None
    found = Offers(_role(path, lines, kind))
    for line in lines:
        if listed := LISTS.get(line.keyword):
            _add(found, listed, line)
    if not found.names:
        found.notes.append(f"{path} names no algorithms: the defaults of the program that reads it hold")
    return found


def _add(found: Offers, kind: str, line: Line) -> None:
    value = line.args[0] if line.args else ""
    if value.startswith("-"):
        found.notes.append(f"{line.where}: {line.name} takes names away; the rest is the program's default")
        return
    if value.startswith(("+", "^")):
        found.notes.append(f"{line.where}: {line.name} adds to the program's default, which is not judged")
    names = tuple(name for name in value.lstrip("+^").split(",") if name)
    found.names[kind] = tuple(dict.fromkeys((*found.names.get(kind, ()), *names)))
    before = found.where.get(kind)
    found.where[kind] = f"{before}, {line.where}" if before else line.where


def _role(path: str, lines: Iterable[Line], kind: str | None) -> Literal["client", "server"]:
    if kind is not None:
        return "server" if kind == "server" else "client"
    keywords = {line.keyword for line in lines}
    if keywords & SERVER and not keywords & CLIENT:
        return "server"
    if keywords & CLIENT and not keywords & SERVER:
        return "client"
    name = path.rpartition("/")[2]
    if "sshd" in name:
        return "server"
    if "ssh" in name or name == "config" or keywords & set(LISTS):
        return "client"
    raise ConfigError(f"{visible(path)} is no capture, and neither an ssh_config nor an sshd_config",
                      hint="say which: --config client, --config server")  # fmt: skip
