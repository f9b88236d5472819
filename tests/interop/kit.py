"""What the interop tests of our own client share: how it is pointed at a peer, and what it is asked to do."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import glasshell
from glasshell.aio.connecting import Connecting
from glasshell.crypto.registry import Kind, names
from glasshell.keys.known_hosts import KnownHosts
from glasshell.observe.record import Record, StateRecord
from glasshell.policy import Policy
from tests.interop.peers import LOOPBACK, Keys, OpenSSHServer, Server, Target

T = TypeVar("T")

TEN_MB = 10_000_000
PATIENCE = 20.0
"""Seconds a test's talk may take; reached only where something hangs."""

USER_KEYS = ("ed25519", "rsa", "ecdsa", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521")
"""Kinds of key, as `ssh-keygen -t` names them, that log in at `AllAlgorithms`, and that it shows itself."""

LACKS = {
    "openssh-9.2": {
        "mlkem768x25519-sha256", "mlkem768nistp256-sha256", "mlkem1024nistp384-sha384",
        "webauthn-sk-ecdsa-sha2-nistp256-cert-v01@openssh.com", "ssh-mldsa44-ed25519",
    },
    "openssh-10.6": {"mlkem1024nistp384-sha384"},
}  # fmt: skip
"""What of our table a version of OpenSSH does not have."""


def talk(work: Coroutine[Any, Any, T]) -> T:
    """Runs `work` to its end, or fails after PATIENCE."""

    async def patiently() -> T:
        async with asyncio.timeout(PATIENCE):
            return await work

    return asyncio.run(patiently())


def connect(target: Target, ring: Keys, /, **changes: Any) -> Connecting:
    """Our client on its way to `target`, with a key that is accepted and host keys that are known."""
    settings: dict[str, Any] = {
        "user": target.user,
        "keys": [ring.user().private],
        "agent": None,
        "known_hosts": known(target.known_hosts()),
        "strict": "yes",
        "deadline": 30.0,
        **changes,
    }
    return glasshell.connect(target.host, target.port, **settings)


def shared(kind: Kind, version: str) -> list[str]:
    """What both glasshell and OpenSSH `version` ("openssh-9.2") have."""
    return [name for name in names(kind) if name not in LACKS[version]]


def everything(**changes: Any) -> Policy:
    """A client that offers every row of the table."""
    rows = {
        "kex": names(Kind.KEX), "host_key_algorithms": names(Kind.HOST_KEY), "ciphers": names(Kind.CIPHER),
        "macs": names(Kind.MAC), "pubkey_algorithms": names(Kind.HOST_KEY),
    }  # fmt: skip
    return Policy.client(**{**rows, "login_grace": 0.0, **changes})


class AllAlgorithms(OpenSSHServer):
    """sshd with every algorithm that it shares with us, a host key and a user key of every kind."""

    KINDS = USER_KEYS

    def __init__(self, version: str, keys: Keys) -> None:
        name = f"openssh-{version}"
        lists = {
            "KexAlgorithms": Kind.KEX, "Ciphers": Kind.CIPHER, "MACs": Kind.MAC,
            "HostKeyAlgorithms": Kind.HOST_KEY, "PubkeyAcceptedAlgorithms": Kind.HOST_KEY,
        }  # fmt: skip
        lines = [f"{keyword} {','.join(shared(kind, name))}" for keyword, kind in lists.items()]
        super().__init__(version, keys, extra_config="\n".join([*lines, "Compression yes"]))

    def _config(self, port: int) -> str:
        config = super()._config(port)
        self._file("authorized_keys", "".join(f"{self.keys.user(kind).public}\n" for kind in USER_KEYS))
        return config


def digest(data: bytes) -> str:
    """As sha256sum(1) prints it for its standard input."""
    return f"{hashlib.sha256(data).hexdigest()}  -\n"


def payload(size: int = TEN_MB) -> bytes:
    """Bytes that no compression shortens and no misplaced block leaves the same."""
    return os.urandom(size)


def file_with(server: Server, data: bytes) -> str:
    """A file that the server's programs can read; its path as they see it."""
    path = server.folder / "payload"
    path.write_bytes(data)
    return server.place.inside(path)


def known(text: str) -> KnownHosts:
    """The lines of a known_hosts file."""
    return KnownHosts.parse(text.encode(), "known_hosts")


class Exchanges:
    """A sink that counts the key exchanges after the first, by who began them."""

    def __init__(self) -> None:
        self.by: Counter[str] = Counter()

    def __call__(self, record: Record) -> None:
        if isinstance(record, StateRecord) and record.name == "kex_started" and not record.facts["first"]:
            self.by[record.facts["by"]] += 1


def facts(records: list[Record], name: str) -> dict[str, Any]:
    """What the one record `name` says."""
    (found,) = [record for record in records if isinstance(record, StateRecord) and record.name == name]
    return dict(found.facts)


@asynccontextmanager
async def echo() -> AsyncIterator[int]:
    """A server that sends back what it has got once it has all; its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read())
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, LOOPBACK, 0) as server:
        yield server.sockets[0].getsockname()[1]


async def there_and_back(port: int, data: bytes) -> bytes:
    """What comes back from `port` after the end of `data`: each direction must end by itself."""
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    writer.write(data)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer
