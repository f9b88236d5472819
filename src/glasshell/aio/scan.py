"""What a server offers, seen without logging in: its KEXINIT, its host keys, its smallest group.

Polite: one connection at a time, one for each type of host key and one for the group; each is ended with
SSH_MSG_DISCONNECT before any login.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
from collections.abc import Callable
from typing import Any, Final

from ..crypto.registry import Kind, names
from ..crypto.signatures import plain_algorithm
from ..errors import HostKeyRefused, MalformedMessage, SSHError, UsageError
from ..events import HostKeyOffered
from ..explain.audit import HostKey, Offer, offer_of
from ..explain.story import Story
from ..messages import decode
from ..messages.kex import KexDhGexGroup, KexDhGexRequest
from ..messages.transport import KexInit
from ..observe.hub import Sink
from ..observe.record import MessageRecord, Record
from ..policy import Policy
from ..protocol import ClientProtocol
from ..transport.packets import Inbound, Outbound
from ..wire import Reader
from .dial import dial
from .recorder import new_hub
from .tasks import deadline

__all__ = ["Looking", "scan"]

SMALL: Final = (1024, 1024, 8192)
"""The group that is asked for: the smallest there is, 1024 bits or more (RFC 4419 §3)."""

TYPES: Final = {"rsa-sha2-512": "ssh-rsa", "rsa-sha2-256": "ssh-rsa"}
"""Signature algorithms whose key is of another name."""

KEX_REPLY: Final = frozenset({31, 33})


async def scan(
    host: str, port: int, *, seconds: float = 10.0, family: int = 0, told: Callable[[str], None]
) -> Offer:
    """Everything that `host` offers. `told` hears what could not be seen. Raises SSHError."""
    looking = Looking(host, port, seconds, family)
    story, shown = await looking.key_exchange()
    first = _host_key(shown)
    server = story.opening.server_kex
    if server is None:
        raise looking.failure or UsageError(f"{host} port {port} sent no KEXINIT")
    keys = [first] if first else []
    for algorithm in _others(server, first):
        try:
            key = _host_key((await looking.key_exchange(algorithm))[1])
        except SSHError as error:
            told(f"the host key for {algorithm}: {error}")
        else:
            keys += [key] if key else []
            if key is None:
                told(f"the host key for {algorithm} was not shown: {looking.failure or 'no reason given'}")
    unbuilt = [n for n in server.server_host_key_algorithms
               if n not in names(Kind.HOST_KEY) and "-cert-" not in n]  # fmt: skip
    if unbuilt:
        told(f"not asked for, as it is not built here: the host key for {', '.join(unbuilt[:8])}")
    group = await _group(looking, server, told)
    return offer_of(server, "server", story.opening.server.partition("-")[2].partition("-")[2], keys=keys,
                    group=group)  # fmt: skip


def _others(server: KexInit, first: HostKey | None) -> list[str]:
    """One algorithm for each type of key that has not been shown yet."""
    seen = {first.type} if first else set()
    found = []
    for name in server.server_host_key_algorithms:
        kind = TYPES.get(name, name)
        if name in names(Kind.HOST_KEY) and kind not in seen and plain_algorithm(name) == name:
            seen.add(kind)
            found.append(name)
    return found


class Looking:
    """Connections to one server, each as far as its host key. `failure` is what the last one ended with."""

    def __init__(self, host: str, port: int, seconds: float, family: int) -> None:
        self._host, self._port, self._seconds, self._family = host, port, seconds, family
        self.failure: SSHError | None = None

    async def open(self, state: Callable[..., None]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection, its streams."""
        sock = await dial(self._host, self._port, family=self._family, state=state)
        return await asyncio.open_connection(sock=sock)

    async def key_exchange(self, *algorithms: str) -> tuple[Story, bytes]:
        """One key exchange up to the host key, by one of the `algorithms` or by the server's choice: what was
        said, and the blob of the key, empty where there was none, of whatever size it is. Raises SSHError."""
        story, clock = Story(), asyncio.get_running_loop().time
        shown: list[bytes] = []
        sinks: tuple[Sink, ...] = (story, lambda record: _note(record, shown))
        hub = new_hub("client", sinks, clock)
        policy = _policy(algorithms)
        async with deadline(self._seconds, f"looking at {self._host} port {self._port}"):
            reader, writer = await self.open(hub.state)
            try:
                core = ClientProtocol(policy, user="audit", now=clock(), hub=hub)
                core.start(clock())
                await self._talk(core, reader, writer)
            finally:
                writer.close()
        return story, shown[0] if shown else b""

    async def _talk(
        self, core: ClientProtocol, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            for event in core.events():
                if isinstance(event, HostKeyOffered):
                    core.answer(event, HostKeyRefused("seen enough"), clock())
                elif (error := getattr(event, "error", None)) is not None:
                    self.failure = error
            writer.write(bytes(core.data_to_send(clock())))
            if core.closed:
                return
            try:
                data = await reader.read(65536)
            except OSError:
                data = b""
            if data:
                core.receive_data(data, clock())
            else:
                core.receive_eof(clock())


def _policy(algorithms: tuple[str, ...]) -> Policy:
    """A client that takes everything that is built here."""
    return Policy.client(
        kex=names(Kind.KEX), host_key_algorithms=algorithms or names(Kind.HOST_KEY),
        ciphers=names(Kind.CIPHER), macs=names(Kind.MAC), compression=("none", "zlib@openssh.com"),
        allow_terrapin=True, login_grace=0,
    )  # fmt: skip


def _note(record: Record, shown: list[bytes]) -> None:
    """Takes down the key in a server's reply."""
    if not isinstance(record, MessageRecord) or record.sent or record.number not in KEX_REPLY or shown:
        return
    try:
        message: Any = decode(record.payload, record.context)
        shown.append(bytes(message.host_key))
    except (MalformedMessage, AttributeError):
        return


def _host_key(blob: bytes) -> HostKey | None:
    """What a key is, whatever its kind and size: keys too short to be used are the news."""
    try:
        reader = Reader(blob)
        kind = reader.name()
        bits = _bits(kind, reader)
    except MalformedMessage:
        return None
    digest = base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
    return HostKey(kind, bits, f"SHA256:{digest}")


def _bits(kind: str, reader: Reader) -> int:
    """The size of a key: of its modulus (RFC 4253 §6.6), of its curve."""
    if kind == "ssh-rsa":
        reader.string()
        return int.from_bytes(reader.string(), "big").bit_length()
    if kind == "ssh-dss":
        return int.from_bytes(reader.string(), "big").bit_length()
    curve = kind.rpartition("nistp")[2]
    return int(curve) if curve.isdecimal() else 256 if "ed25519" in kind else 0


async def _group(looking: Looking, server: KexInit, told: Callable[[str], None]) -> int:
    """The smallest group of a server that exchanges groups, in bits; 0 where it does not, or none came."""
    offered = [n for n in server.kex_algorithms if n.startswith("diffie-hellman-group-exchange-")]
    if not offered:
        return 0
    try:
        async with deadline(looking._seconds, "the group exchange"):
            reader, writer = await looking.open(lambda name, **facts: None)
            try:
                return await _ask_group(reader, writer, server, offered[0])
            finally:
                writer.close()
    except (SSHError, OSError, EOFError) as error:
        told(f"the smallest group was not shown: {error}")
        return 0


async def _ask_group(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: KexInit, kex: str
) -> int:
    """Plays the client as far as SSH_MSG_KEX_DH_GEX_GROUP, asking for what no login would take."""
    outbound, inbound = Outbound(os.urandom), Inbound()
    ours = KexInit(
        cookie=os.urandom(16), kex_algorithms=(kex,),
        server_host_key_algorithms=server.server_host_key_algorithms,
        **{name: getattr(server, name) for name in (
            "encryption_algorithms_client_to_server", "encryption_algorithms_server_to_client",
            "mac_algorithms_client_to_server", "mac_algorithms_server_to_client",
            "compression_algorithms_client_to_server", "compression_algorithms_server_to_client",
        )},
    )  # fmt: skip
    outbound.seal(ours.encode(), b"")
    writer.write(b"SSH-2.0-glasshell_audit\r\n" + bytes(outbound.take()))
    while not (await reader.readuntil(b"\n")).startswith(b"SSH-"):
        pass
    await _payload(reader, inbound, KexInit.NUMBER)
    outbound.seal(KexDhGexRequest(*SMALL).encode(), b"")
    writer.write(bytes(outbound.take()))
    payload = await _payload(reader, inbound, KexDhGexGroup.NUMBER)
    return KexDhGexGroup.decode(payload).p.bit_length()


async def _payload(reader: asyncio.StreamReader, inbound: Inbound, number: int) -> bytes:
    """The next packet of that number; IGNORE and DEBUG before it are passed over."""
    while True:
        payload = inbound.next()
        if payload is None:
            data = await reader.read(65536)
            if not data:
                raise EOFError("the server closed the connection")
            inbound.feed(data)
        elif payload[0] == number:
            return bytes(payload)
        elif payload[0] not in (2, 4):
            raise EOFError(f"the server answered with message {payload[0]}")
