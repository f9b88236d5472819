"""Connections with OpenSSH, taken off the wire by tcpdump and opened with our key log.

Two ways to the same records that share no byte: what our side told while it ran, and what the reader makes
of the capture. Both directions, both versions, with key re-exchanges, compression and full-size packets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import glasshell
from glasshell.aio.gatekeeper import KnownUsers
from glasshell.aio.session import ServerSession
from glasshell.crypto.signatures import PrivateKey
from glasshell.keys.openssh import load_private_key
from glasshell.keys.public import load_public_key
from glasshell.observe.record import Heard, MessageRecord
from glasshell.policy import Policy
from glasshell.views.keylog import KeyLog
from tests.capture.reading import Read, read
from tests.interop.conftest import Start
from tests.interop.kit import AllAlgorithms, connect, everything, payload, talk
from tests.interop.peers import Client, Keys, Target
from tests.interop.test_strace import sniffing

SHAPES: dict[str, dict[str, tuple[str, ...]]] = {
    "AES-GCM": {"ciphers": ("aes128-gcm@openssh.com",)},
    "chacha20, compressed": {
        "ciphers": ("chacha20-poly1305@openssh.com",), "compression": ("zlib@openssh.com",)
    },
    "CTR, encrypt-then-MAC": {"ciphers": ("aes256-ctr",), "macs": ("hmac-sha2-512-etm@openssh.com",)},
    "CTR": {"ciphers": ("aes192-ctr",), "macs": ("hmac-sha2-256",), "kex": ("ecdh-sha2-nistp384",)},
}  # fmt: skip


class Told:
    """What our own side told of its connection."""

    def __init__(self) -> None:
        self.messages: list[MessageRecord] = []

    def __call__(self, record: Heard) -> None:
        if isinstance(record, MessageRecord):
            self.messages.append(record)


def by_direction(messages: list[Any], sent: bool) -> list[tuple[Any, ...]]:
    return [
        (m.number, m.seq, m.epoch, m.payload, m.packet_length, m.padding_length, m.wire_length)
        for m in messages
        if m.sent is sent
    ]


def agree(told: Told, got: Read, *, client: bool) -> None:
    """The capture has every message that our side told of, field by field; every tag is right."""
    seen = [each.record for each in got.messages]
    for sent in (True, False):
        ours = by_direction(told.messages, sent)
        assert ours
        assert by_direction(seen, sent if client else not sent) == ours
    assert {each.verified for each in got.messages if each.record.epoch} == {True}
    assert not got.troubles.lines


@pytest.mark.parametrize("version", ["9.2", "10.6"])
@pytest.mark.parametrize("shape", SHAPES)
def test_our_client(version: str, shape: str, keys: Keys, tmp_path: Path, start: Start) -> None:
    at, told, log = start(AllAlgorithms(version, keys)), Told(), tmp_path / "keys"
    data = payload(400_000)

    async def work() -> None:
        sinks = [told, KeyLog(log)]
        async with connect(at.target, keys, policy=everything(**SHAPES[shape]), sinks=sinks) as connection:
            assert (await connection.run("cat", input=data, encoding=None)).stdout == data
            connection.rekey()
            assert (await connection.run("cat", input=data, encoding=None)).stdout == data

    with sniffing(tmp_path / "wire.pcap", at.target.port):
        talk(work())
    got = read(tmp_path / "wire.pcap", log)
    agree(told, got, client=True)
    assert {each.record.epoch for each in got.messages} == {0, 1, 2}
    assert [each.verified for each in got.states("host_key")] == [True, True]
    agreed = {facts["compression_c2s"] for facts in got.facts("negotiated")}
    assert agreed == {SHAPES[shape].get("compression", ("none",))[0]}


@pytest.mark.parametrize("version", ["openssh-9.2", "openssh-10.6"])
def test_our_server(version: str, keys: Keys, tmp_path: Path, client: Callable[[str], Client]) -> None:
    told, log = Told(), tmp_path / "keys"
    host, data = keys.host("ed25519"), payload(3_000_000)
    policy = Policy.server(compression=("zlib@openssh.com", "none"), rekey_bytes=1_000_000)

    async def answer(session: ServerSession) -> int:
        session.stdout.write(data)
        await session.stdout.drain()
        return 4

    async def work() -> None:
        users = KnownUsers({"ada": [load_public_key(keys.user("ed25519").public)[0]]})
        async with glasshell.serve(
            "127.0.0.1", 0, host_keys=[load_private_key(host.private.read_bytes())], gatekeeper=users,
            handler=answer, policy=policy, sinks=lambda peer: [told, KeyLog(log)],
        ) as running:  # fmt: skip
            target = Target(running.port, "ada", (host.public,))
            await asyncio.to_thread(watch, target, running.port)

    def watch(target: Target, port: int) -> None:
        with sniffing(tmp_path / "wire.pcap", port):
            done = client(version).run(target, "go", "-C", identity=keys.user("ed25519"))
            assert (done.returncode, done.stdout) == (4, data)

    talk(work())
    got = read(tmp_path / "wire.pcap", log)
    agree(told, got, client=False)
    assert len(got.states("kex_done")) >= 3
    assert {facts["compression_s2c"] for facts in got.facts("negotiated")} == {"zlib@openssh.com"}


@pytest.mark.parametrize("cipher", ["chacha20-poly1305@openssh.com", "aes256-ctr", "aes128-gcm@openssh.com"])
@pytest.mark.parametrize("version", ["9.2", "10.6"])
def test_logins_are_counted_without_keys(
    version: str, cipher: str, keys: Keys, tmp_path: Path, start: Start
) -> None:
    """Two keys that the server does not take, then one that it takes: three attempts, the last succeeds.

    OpenSSH 10.6 sends EXT_INFO in the middle of the login, in one segment with its first failure.
    """
    at = start(AllAlgorithms(version, keys))
    strangers = [PrivateKey.generate("ssh-ed25519"), PrivateKey.generate("ssh-ed25519")]
    known = load_private_key(keys.user("ed25519").private.read_bytes())
    policy = everything(ciphers=(cipher,), macs=("hmac-sha2-256",))

    async def work() -> None:
        async with connect(
            at.target, keys, keys=[*strangers, known], policy=policy, memory=None
        ) as connection:
            await connection.run("exit 0")

    with sniffing(tmp_path / "wire.pcap", at.target.port):
        talk(work())
    got = read(tmp_path / "wire.pcap")
    assert [(facts["what"], facts["attempts"]) for facts in got.facts("inferred")] == [
        ("authentication_failed", 1), ("authentication_failed", 2), ("authenticated", 3)
    ]  # fmt: skip
