"""Algorithms that are only read: connections of AsyncSSH with itself, watched on their way through a proxy.

The truth is AsyncSSH's: the message numbers that each side says it sends.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any

import pytest

asyncssh = pytest.importorskip("asyncssh")

from asyncssh.connection import SSHConnection  # noqa: E402

from glasshell.capture.keylog import KeyLog  # noqa: E402
from glasshell.capture.passive import Passive  # noqa: E402
from glasshell.crypto import readonly  # noqa: E402
from glasshell.crypto.registry import Kind  # noqa: E402
from glasshell.errors import UsageError  # noqa: E402
from glasshell.observe.record import MessageRecord  # noqa: E402
from glasshell.observe.seen import Seen  # noqa: E402
from tests.capture.test_live import OPENED, states  # noqa: E402

HOST_KEY = asyncssh.generate_private_key("ssh-ed25519")
DEADLINE = 20.0


class Tap:
    """What AsyncSSH sends and what it knows, of one connection."""

    def __init__(self) -> None:
        self.sent: dict[bool, list[int]] = defaultdict(list)
        self.keys = KeyLog()
        self.wire: list[tuple[bool, bytes]] = []

    def send_packet(self, connection: Any, number: int) -> None:
        self.sent[connection.is_client()].append(number)

    def newkeys(self, connection: Any, k: bytes) -> None:
        if connection.is_client():
            cookie = connection._client_kexinit[1:17]
            self.keys.add(f"{cookie.hex()} SHARED_SECRET {k[4:].hex()}", "asyncssh")


@pytest.fixture
def tap(monkeypatch: pytest.MonkeyPatch) -> Tap:
    made = Tap()
    send_packet, send_newkeys = SSHConnection.send_packet, SSHConnection.send_newkeys

    def sending(self: Any, number: int, *args: Any, **kwargs: Any) -> None:
        # What waits for a key exchange is sent, and counted, later.
        before = len(self._deferred_packets)
        send_packet(self, number, *args, **kwargs)
        if len(self._deferred_packets) <= before:
            made.send_packet(self, number)

    def newkeys(self: Any, k: bytes, h: bytes) -> None:
        made.newkeys(self, k)
        send_newkeys(self, k, h)

    monkeypatch.setattr(SSHConnection, "send_packet", sending)
    monkeypatch.setattr(SSHConnection, "send_newkeys", newkeys)
    return made


class Server(asyncssh.SSHServer):  # type: ignore[misc]
    def begin_auth(self, username: str) -> bool:
        return True

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return password == "swordfish"


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, client: bool, tap: Tap) -> None:
    while data := await reader.read(65536):
        tap.wire.append((client, data))
        writer.write(data)
    writer.close()


async def _connect(tap: Tap, **algorithms: Any) -> None:
    async def run(process: Any) -> None:
        process.stdout.write((await process.stdin.read()).upper())
        process.exit(7)

    server = await asyncssh.create_server(
        Server, "127.0.0.1", 0, server_host_keys=[HOST_KEY], process_factory=run, **algorithms
    )

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        port = server.sockets[0].getsockname()[1]
        there, back = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(_pump(reader, back, True, tap), _pump(there, writer, False, tap))

    proxy = await asyncio.start_server(relay, "127.0.0.1", 0)
    connection = await asyncssh.connect(
        "127.0.0.1", proxy.sockets[0].getsockname()[1], known_hosts=None, config=None, username="ada",
        client_keys=None, password="swordfish", **algorithms,
    )  # fmt: skip
    result = await connection.run("command", input="hello " * 4000)
    assert result.stdout == "HELLO " * 4000
    connection.close()
    await connection.wait_closed()
    server.close()
    proxy.close()


def watched(tap: Tap, **algorithms: Any) -> list[Seen]:
    asyncio.run(asyncio.wait_for(_connect(tap, **algorithms), DEADLINE))
    seen: list[Seen] = []
    passive = Passive(0, OPENED, seen.append, tap.keys)
    for number, (client, data) in enumerate(tap.wire, 2):
        passive.receive(client, data, 100.0 + number, number)
    passive.finish()
    return seen


def check(tap: Tap, seen: list[Seen], verified: bool | None = True) -> None:
    told = [each for each in seen if isinstance(each.record, MessageRecord)]
    for client in (True, False):
        assert [each.record.number for each in told if each.client is client] == tap.sent[client]
    assert {each.verified for each in told if each.record.epoch} == {verified}
    assert not states(seen, "not_decrypted")
    assert [facts["status"] for facts in states(seen, "exit_status")] == [7]
    (channel,) = states(seen, "channel_closed")
    assert (channel["sent"], channel["received"]) == (24_000, 24_000)


def read_only(kind: Kind, known: list[bytes]) -> list[str]:
    """What is only read and AsyncSSH speaks."""
    return [row.name for row in readonly.READ_ONLY if row.kind is kind and row.name.encode() in known]


KEX = read_only(Kind.KEX, asyncssh.kex.get_kex_algs())
CIPHERS = read_only(Kind.CIPHER, asyncssh.encryption.get_encryption_algs())
MACS = read_only(Kind.MAC, asyncssh.mac.get_mac_algs())


def test_most_of_them_are_tested_here() -> None:
    assert len(KEX) >= 10
    assert len(CIPHERS) >= 6
    assert len(MACS) >= 8


@pytest.mark.parametrize("method", KEX)
def test_key_exchanges(tap: Tap, method: str) -> None:
    check(tap, watched(tap, kex_algs=[method]))


@pytest.mark.parametrize("cipher", CIPHERS)
@pytest.mark.parametrize("mac", ["hmac-sha1", "hmac-sha2-256-etm@openssh.com"])
def test_ciphers(tap: Tap, cipher: str, mac: str) -> None:
    check(tap, watched(tap, encryption_algs=[cipher], mac_algs=[mac]))


@pytest.mark.parametrize("mac", MACS)
def test_macs(tap: Tap, mac: str) -> None:
    seen = watched(tap, encryption_algs=["aes128-ctr"], mac_algs=[mac])
    check(tap, seen, verified=None if mac.startswith("umac") else True)


@pytest.mark.parametrize("compression", ["zlib", "zlib@openssh.com"])
def test_compression(tap: Tap, compression: str) -> None:
    algorithms = {"encryption_algs": ["aes128-cbc"], "mac_algs": ["hmac-md5"]}
    check(tap, watched(tap, compression_algs=[compression], **algorithms))


@pytest.mark.parametrize("cipher", ["aes128-ctr", "aes128-cbc"])
@pytest.mark.parametrize("etm", ["", "-etm@openssh.com"])
def test_a_wrong_mac_is_said_and_reading_goes_on(tap: Tap, cipher: str, etm: str) -> None:
    algorithms = {"encryption_algs": [cipher], "mac_algs": [f"hmac-sha1{etm}"]}
    asyncio.run(asyncio.wait_for(_connect(tap, **algorithms), DEADLINE))
    place = max(i for i, (client, data) in enumerate(tap.wire) if not client and len(data) > 60)
    client, data = tap.wire[place]
    tap.wire[place] = client, data[:-1] + bytes([data[-1] ^ 1])
    seen: list[Seen] = []
    passive = Passive(0, OPENED, seen.append, tap.keys)
    for number, (client, data) in enumerate(tap.wire, 2):
        passive.receive(client, data, 100.0, number)
    told = [each for each in seen if isinstance(each.record, MessageRecord)]
    assert [each.record.number for each in told if not each.client] == tap.sent[False]
    assert [each.verified for each in told].count(False) == 1


def test_nothing_of_this_can_be_offered() -> None:
    from glasshell.crypto import registry

    for row in readonly.READ_ONLY:
        assert row.name not in registry.names(row.kind)
        legacy = {each.name for each in registry.ALGORITHMS if each.status is registry.Status.LEGACY}
        if row.name not in legacy:  # these are spoken on request, by their own rows
            with pytest.raises(UsageError):
                registry.find(row.kind, row.name)
        if row.kind is Kind.CIPHER:
            with pytest.raises(UsageError):
                row.sealer(None, None, None)
        if row.kind is Kind.KEX:
            with pytest.raises(UsageError):
                row.factory()
