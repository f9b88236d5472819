"""SSH made of glass: a complete SSH stack in which every layer can be seen while it works.

    async with glasshell.connect("host") as connection:
        result = await connection.run("uname -a")

The names below are loaded when first asked for (PEP 562): importing the package, or a room of the
sans-I/O core such as `glasshell.protocol`, loads neither asyncio nor anything that draws.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from . import errors as errors
    from .aio.agent import Agent as Agent
    from .aio.app import App as App
    from .aio.client import Connection as Connection
    from .aio.connecting import connect as connect
    from .aio.doorkeeper import Limits as Limits
    from .aio.gatekeeper import Gatekeeper as Gatekeeper
    from .aio.gatekeeper import KnownUsers as KnownUsers
    from .aio.hostchecks import HostChecks as HostChecks
    from .aio.process import Terminal as Terminal
    from .aio.server import Server as Server
    from .aio.server import serve as serve
    from .crypto.signatures import PrivateKey as PrivateKey
    from .crypto.signatures import PublicKey as PublicKey
    from .errors import SSHError as SSHError
    from .keys.certificate import Certificate as Certificate
    from .policy import Policy as Policy

# Public name -> the module it lives in; a module's own name stands for the module itself.
_HOMES = {
    "Agent": "aio.agent",
    "App": "aio.app",
    "Certificate": "keys.certificate",
    "Connection": "aio.client",
    "Gatekeeper": "aio.gatekeeper",
    "HostChecks": "aio.hostchecks",
    "KnownUsers": "aio.gatekeeper",
    "Limits": "aio.doorkeeper",
    "Policy": "policy",
    "PrivateKey": "crypto.signatures",
    "PublicKey": "crypto.signatures",
    "SSHError": "errors",
    "Server": "aio.server",
    "Terminal": "aio.process",
    "connect": "aio.connecting",
    "errors": "errors",
    "serve": "aio.server",
}

__all__ = [  # noqa: F822, RUF100
    "Agent",
    "App",
    "Certificate",
    "Connection",
    "Gatekeeper",
    "HostChecks",
    "KnownUsers",
    "Limits",
    "Policy",
    "PrivateKey",
    "PublicKey",
    "SSHError",
    "Server",
    "Terminal",
    "connect",
    "errors",
    "serve",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"{__name__}.{home}")
    value = module if name == home else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
