"""Our client with every algorithm that OpenSSH 9.2 and 10.6 share with it, each alone on the table."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from glasshell.crypto.registry import Kind, find, names
from glasshell.errors import NegotiationFailed
from glasshell.observe.record import Record
from glasshell.policy import KIB
from tests.interop.kit import (
    LACKS,
    USER_KEYS,
    AllAlgorithms,
    Exchanges,
    connect,
    digest,
    everything,
    facts,
    known,
    payload,
    shared,
    talk,
)
from tests.interop.peers import Keys, Server, fingerprint, require_peer

VERSIONS = ("openssh-9.2", "openssh-10.6")
SSHD = Callable[[str], AllAlgorithms]
Servers = Callable[[str], Server]

AEAD, PLAIN = (
    [name for name in names(Kind.CIPHER) if find(Kind.CIPHER, name).aead is aead] for aead in (True, False)
)
CIPHERS = [(cipher, "") for cipher in AEAD] + [(cipher, mac) for cipher in PLAIN for mac in names(Kind.MAC)]
HOST_KEYS = {
    "ssh-ed25519": "ed25519", "rsa-sha2-512": "rsa", "rsa-sha2-256": "rsa", "ecdsa-sha2-nistp256": "ecdsa",
    "ecdsa-sha2-nistp384": "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521": "ecdsa-sha2-nistp521",
}  # fmt: skip
QUERIES = {Kind.KEX: "kex", Kind.CIPHER: "cipher", Kind.MAC: "mac", Kind.HOST_KEY: "key-sig",
           Kind.COMPRESSION: "compression"}  # fmt: skip


@pytest.fixture(scope="module")
def sshd(keys: Keys) -> Iterator[SSHD]:
    """sshd("openssh-9.2"): it with all algorithms, started once."""
    running: dict[str, AllAlgorithms] = {}
    with ExitStack() as stack:

        def get(name: str) -> AllAlgorithms:
            if name not in running:
                running[name] = stack.enter_context(AllAlgorithms(name.removeprefix("openssh-"), keys))
            return running[name]

        yield get


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", QUERIES, ids=lambda kind: kind.name)
def test_what_both_have_is_what_is_tested(version: str, kind: Kind) -> None:
    line = require_peer(version).command("ssh", "-Q", QUERIES[kind])
    theirs = subprocess.run(line, capture_output=True, text=True, check=True, timeout=30).stdout.split()
    assert set(names(kind)) - set(theirs) == LACKS[version] & set(names(kind))


def cases(kind: Kind) -> list[tuple[str, str]]:
    return [(version, name) for version in VERSIONS for name in shared(kind, version)]


@pytest.mark.parametrize(("version", "kex"), cases(Kind.KEX))
def test_every_key_exchange(version: str, kex: str, sshd: SSHD, keys: Keys) -> None:
    """The first and a second one, whose hash carries the session identifier of the first."""
    exchanges = Exchanges()
    policy = everything(kex=(kex,), rekey_bytes=64 * KIB)

    async def check() -> None:
        async with connect(sshd(version).target, keys, policy=policy, sinks=[exchanges]) as connection:
            data = payload(100_000)
            assert (await connection.run("sha256sum", input=data)).stdout == digest(data)
            assert connection.negotiated.kex == kex
            assert exchanges.by["us"] >= 1

    talk(check())


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("outcome", ["right", "wrong"])
def test_a_guessed_first_packet(version: str, outcome: str, sshd: SSHD, keys: Keys) -> None:
    """Right where the server prefers the same methods, else thrown away (RFC 4253 §7.1)."""
    first = shared(Kind.KEX, version)[0] if outcome == "right" else "ecdh-sha2-nistp521"
    policy = everything(guess=True, kex=(first, "ecdh-sha2-nistp384"))
    records: list[Record] = []

    async def check() -> None:
        async with connect(sshd(version).target, keys, policy=policy, sinks=[records.append]) as connection:
            assert (await connection.run("echo ok")).stdout == "ok\n"
        told = facts(records, "negotiated")
        assert (told["guess"], told["kex"]) == (outcome, first)

    talk(check())


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("cipher", "mac"), CIPHERS)
def test_every_cipher_with_every_mac(version: str, cipher: str, mac: str, sshd: SSHD, keys: Keys) -> None:
    """Both ways, under several keys in turn."""
    exchanges = Exchanges()
    policy = everything(ciphers=(cipher,), macs=(mac,) if mac else names(Kind.MAC), rekey_bytes=128 * KIB)

    async def check() -> None:
        async with connect(sshd(version).target, keys, policy=policy, sinks=[exchanges]) as connection:
            data = payload(300_000)
            assert (await connection.run("cat", input=data, encoding=None)).stdout == data
            chosen = connection.negotiated
            assert (chosen.cipher_c2s, chosen.cipher_s2c) == (cipher, cipher)
            if mac:
                assert (chosen.mac_c2s, chosen.mac_s2c) == (mac, mac)
            assert exchanges.by["us"] >= 2

    talk(check())


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("cipher", ["aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com", "aes256-ctr"])
def test_compression_lives_through_new_keys(version: str, cipher: str, sshd: SSHD, keys: Keys) -> None:
    exchanges = Exchanges()
    policy = everything(compression=("zlib@openssh.com",), ciphers=(cipher,), rekey_bytes=128 * KIB)
    data = payload(200_000) + bytes(800_000) + b"again and again " * 50_000

    async def check() -> None:
        async with connect(sshd(version).target, keys, policy=policy, sinks=[exchanges]) as connection:
            assert (await connection.run("cat", input=data, encoding=None)).stdout == data
            chosen = connection.negotiated
            assert {chosen.compression_c2s, chosen.compression_s2c} == {"zlib@openssh.com"}
            assert exchanges.by["us"] >= 1

    talk(check())


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("algorithm", HOST_KEYS)
def test_every_host_key_algorithm(version: str, algorithm: str, sshd: SSHD, keys: Keys) -> None:
    server = sshd(version)
    policy = everything(host_key_algorithms=(algorithm,))
    (key,) = [shown for shown in server.target.host_keys if shown == keys.host(HOST_KEYS[algorithm]).public]
    line = f"[{server.target.host}]:{server.target.port} {key}\n"

    async def check() -> None:
        async with connect(server.target, keys, policy=policy, known_hosts=known(line)) as connection:
            assert connection.negotiated.host_key == algorithm
            assert (await connection.run("echo ok")).stdout == "ok\n"

    talk(check())


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", USER_KEYS)
def test_a_host_known_by_one_key_shows_that_one(version: str, kind: str, sshd: SSHD, keys: Keys) -> None:
    """Without any order asked for: what is known decides, or the host would look changed."""
    target = sshd(version).target
    line = f"[{target.host}]:{target.port} {keys.host(kind).public}\n"

    async def check() -> None:
        async with connect(target, keys, known_hosts=known(line)) as connection:
            assert HOST_KEYS[connection.negotiated.host_key] == kind

    talk(check())


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("algorithm", HOST_KEYS)
def test_every_user_key_algorithm(version: str, algorithm: str, sshd: SSHD, keys: Keys) -> None:
    server, pair = sshd(version), keys.user(HOST_KEYS[algorithm])
    policy = everything(pubkey_algorithms=(algorithm,))

    async def check() -> None:
        async with connect(server.target, keys, keys=[pair.private], policy=policy) as connection:
            assert (await connection.run("echo ok")).stdout == "ok\n"

    talk(check())
    accepted = [line for line in server.log.splitlines() if "Accepted publickey" in line]
    assert accepted[-1].endswith(fingerprint(pair.public))


def test_mlkem768x25519_is_agreed_by_default(server: Servers, keys: Keys) -> None:
    async def check() -> None:
        async with connect(server("openssh-10.6").target, keys) as connection:
            assert connection.negotiated.kex == "mlkem768x25519-sha256"
            assert connection.negotiated.strict

    talk(check())


@pytest.mark.parametrize("kex", ["mlkem768nistp256-sha256", "mlkem1024nistp384-sha384"])
def test_asyncssh_has_the_hybrids_with_nist_curves(kex: str, server: Servers, keys: Keys) -> None:
    async def check() -> None:
        async with connect(server("asyncssh").target, keys, policy=everything(kex=(kex,))) as connection:
            assert (await connection.run("echo ok")).stdout == "ok\n"
            assert connection.negotiated.kex == kex

    talk(check())


def test_sntrup761x25519_is_agreed_by_default_with_an_older_one(server: Servers, keys: Keys) -> None:
    async def check() -> None:
        async with connect(server("openssh-9.2").target, keys) as connection:
            assert connection.negotiated.kex == "sntrup761x25519-sha512"

    talk(check())


@pytest.mark.parametrize(
    ("name", "what", "ours", "theirs", "offer"),
    [
        ("openssh-9.2", "key exchange method", "mlkem768x25519-sha256", "curve25519-sha256", "kex"),
        ("openssh-10.6", "host key type", "ecdsa-sha2-nistp521", "rsa-sha2-512", "host_key_algorithms"),
        ("tinysshd-newest", "cipher", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com", "ciphers"),
        ("dropbear", "MAC", "hmac-sha2-512-etm@openssh.com", "hmac-sha2-256", "macs"),
    ],
)
def test_nothing_in_common_is_told_with_both_lists(
    name: str, what: str, ours: str, theirs: str, offer: str, server: Servers, keys: Keys
) -> None:
    """Peers at their defaults, and one algorithm that they have not."""
    policy = everything(**{"ciphers": ("aes128-ctr",), offer: (ours,)})

    async def check() -> None:
        with pytest.raises(NegotiationFailed) as caught:
            await connect(server(name).target, keys, policy=policy)
        assert (caught.value.what, caught.value.ours) == (what, (ours,))
        assert theirs in caught.value.theirs
        for word in (f"no matching {what} found", theirs):
            assert word in str(caught.value)

    talk(check())
