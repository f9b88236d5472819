"""`glasshell sshd` with every algorithm that ssh 9.2 and 10.6 share with it, each asked for alone."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from glasshell.crypto.registry import Kind, find, names
from glasshell.crypto.signatures import COMPOSITE, SIGNING_ALGORITHMS
from tests.interop.glass import GlassServer
from tests.interop.kit import USER_KEYS, shared
from tests.interop.peers import Client, Keys, Server, fingerprint

Clients = Callable[[str], Client]

VERSIONS = ("openssh-9.2", "openssh-10.6")
AEAD, PLAIN = (
    [name for name in names(Kind.CIPHER) if find(Kind.CIPHER, name).aead is aead] for aead in (True, False)
)
CIPHERS = [(cipher, "") for cipher in AEAD] + [(cipher, mac) for cipher in PLAIN for mac in names(Kind.MAC)]
KEYS = {
    "ssh-ed25519": "ed25519", "rsa-sha2-512": "rsa", "rsa-sha2-256": "rsa", "ecdsa-sha2-nistp256": "ecdsa",
    "ecdsa-sha2-nistp384": "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521": "ecdsa-sha2-nistp521",
}  # fmt: skip


def all_user_keys(keys: Keys) -> str:
    return "".join(f"{keys.user(kind).public}\n" for kind in USER_KEYS)


@pytest.fixture(scope="module")
def glass(keys: Keys) -> Iterator[Server]:
    """A server with every row of the table, that exchanges keys anew each 128 KiB."""
    lists = {"KexAlgorithms": Kind.KEX, "Ciphers": Kind.CIPHER, "MACs": Kind.MAC,
             "HostKeyAlgorithms": Kind.HOST_KEY, "PubkeyAcceptedAlgorithms": Kind.HOST_KEY}  # fmt: skip
    lines = [f"{keyword} {','.join(names(kind))}" for keyword, kind in lists.items()]
    lines += [f"HostKey {keys.host(kind).private}" for kind in USER_KEYS if kind not in ("ed25519", "rsa")]
    lines += ["Compression yes", "RekeyLimit 128K", "LogLevel VERBOSE"]
    with GlassServer(keys, "\n".join(lines), authorized=all_user_keys) as server:
        shown = tuple(keys.host(kind).public for kind in USER_KEYS)
        server.target = replace(server.target, host_keys=shown)
        yield server


def both_ways(client: Client, server: Server, keys: Keys, size: int, *options: str) -> str:
    """`size` bytes there and back; what the client said about the connection."""
    data = os.urandom(size)
    done = client.run(server.target, "cat", "-v", *options, identity=keys.user(), stdin=data)
    said = done.stderr.decode("utf-8", "replace")
    assert done.returncode == 0, said
    assert done.stdout == data
    return said


def test_the_table_is_whole(glass: Server, client: Clients, keys: Keys) -> None:
    """What the server offers is what its table has: no row is passed over in silence."""
    said = client("openssh-9.2").run(glass.target, "true", "-vv", identity=keys.user()).stderr.decode()
    peer = said[said.index("peer server KEXINIT proposal") :]
    for label, kind in (("KEX algorithms", Kind.KEX), ("host key algorithms", Kind.HOST_KEY),
                        ("ciphers ctos", Kind.CIPHER), ("MACs stoc", Kind.MAC)):  # fmt: skip
        found = re.search(rf"{label}: (\S+)", peer)
        assert found is not None
        # What it has keys for: 9.2 could make none of the composite type.
        rows = set(SIGNING_ALGORITHMS) - {COMPOSITE} if kind is Kind.HOST_KEY else set(names(kind))
        assert rows <= set(found[1].split(",")), label


@pytest.mark.parametrize(
    ("version", "kex"), [(version, kex) for version in VERSIONS for kex in shared(Kind.KEX, version)]
)
def test_every_key_exchange(version: str, kex: str, glass: Server, client: Clients, keys: Keys) -> None:
    said = both_ways(client(version), glass, keys, 150_000, "-o", f"KexAlgorithms={kex}")
    assert said.count(f"kex: algorithm: {kex}") >= 2


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("cipher", "mac"), CIPHERS)
def test_every_cipher_with_every_mac(
    version: str, cipher: str, mac: str, glass: Server, client: Clients, keys: Keys
) -> None:
    options = ["-o", f"Ciphers={cipher}", *(["-o", f"MACs={mac}"] if mac else [])]
    said = both_ways(client(version), glass, keys, 300_000, *options)
    for direction in ("server->client", "client->server"):
        line = f"kex: {direction} cipher: {cipher} MAC: {mac or '<implicit>'} compression: none"
        assert said.count(line) >= 2, said


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("cipher", ["aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com", "aes256-ctr"])
def test_compression_lives_through_new_keys(
    version: str, cipher: str, glass: Server, client: Clients, keys: Keys
) -> None:
    said = both_ways(client(version), glass, keys, 300_000, "-C", "-o", f"Ciphers={cipher}")
    assert said.count("compression: zlib@openssh.com") >= 4


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("algorithm", KEYS)
def test_every_host_key_algorithm(
    version: str, algorithm: str, glass: Server, client: Clients, keys: Keys
) -> None:
    said = both_ways(client(version), glass, keys, 1000, "-o", f"HostKeyAlgorithms={algorithm}")
    assert f"kex: host key algorithm: {algorithm}" in said
    assert f"Server host key: {keys.host(KEYS[algorithm]).public.split()[0]}" in said
    assert fingerprint(keys.host(KEYS[algorithm]).public) in said


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("algorithm", KEYS)
def test_every_user_key_algorithm(
    version: str, algorithm: str, glass: Server, client: Clients, keys: Keys
) -> None:
    pair = keys.user(KEYS[algorithm])
    options = ("-o", f"PubkeyAcceptedAlgorithms={algorithm}", "-v")
    done = client(version).run(glass.target, "echo ok", *options, identity=pair)
    assert done.stdout == b"ok\n", done.stderr
    accepted = [line for line in glass.log.splitlines() if "Accepted publickey" in line]
    assert accepted[-1].endswith(fingerprint(pair.public))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("option", "what"),
    [("KexAlgorithms=diffie-hellman-group14-sha256", "key exchange method"),
     ("Ciphers=aes192-ctr", "cipher"), ("HostKeyAlgorithms=ecdsa-sha2-nistp256", "host key type")],
)  # fmt: skip
def test_nothing_in_common_with_the_defaults(
    version: str, option: str, what: str, default_glass: Server, client: Clients, keys: Keys
) -> None:
    """The client is told what the server has, and the server's log what the client offered."""
    done = client(version).run(default_glass.target, "true", "-o", option, identity=keys.user())
    assert done.returncode == 255
    said = done.stderr.decode()
    assert f"no matching {what} found. Their offer: " in said
    # The client may be gone first; by the next greeting the server has taken what it said.
    with socket.create_connection((default_glass.target.host, default_glass.target.port), 20) as next_one:
        assert next_one.recv(4) == b"SSH-"
    logged = [line for line in default_glass.log.splitlines() if "Unable to negotiate" in line][-1]
    assert f"no matching {what} found. Their offer: {option.split('=')[1]}" in logged


def test_mlkem768x25519_is_agreed_by_default(default_glass: Server, client: Clients, keys: Keys) -> None:
    said = both_ways(client("openssh-10.6"), default_glass, keys, 1000)
    assert "kex: algorithm: mlkem768x25519-sha256" in said
    assert "WARNING" not in said


@pytest.fixture(scope="module")
def default_glass(keys: Keys) -> Iterator[Server]:
    with GlassServer(keys) as server:
        yield server
