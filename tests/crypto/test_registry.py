"""The table against the issue's lists, OpenSSH's own names, and the code behind the rows."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from glasshell.crypto import signatures
from glasshell.crypto.groups import rfc3526
from glasshell.crypto.registry import (
    ALGORITHMS,
    AUTHORITY_ALGORITHMS,
    Kind,
    Status,
    defaults,
    find,
    make_sealer,
    names,
)
from glasshell.errors import UsageError
from glasshell.wire import Secret

from ..needs import absent

HYBRIDS = ("mlkem768x25519-sha256", "sntrup761x25519-sha512", "sntrup761x25519-sha512@openssh.com")
NIST_HYBRIDS = ("mlkem768nistp256-sha256", "mlkem1024nistp384-sha384")
WEBAUTHN = "webauthn-sk-ecdsa-sha2-nistp256-cert-v01@openssh.com"
CURVE25519 = ("curve25519-sha256", "curve25519-sha256@libssh.org")


def test_each_name_is_one_row() -> None:
    assert len({(row.kind, row.name) for row in ALGORITHMS}) == len(ALGORITHMS)
    assert all(row.clause for row in ALGORITHMS)


def test_defaults_of_a_client() -> None:
    assert defaults(Kind.KEX) == (*HYBRIDS, *CURVE25519, "ecdh-sha2-nistp256", "ecdh-sha2-nistp384")
    assert defaults(Kind.HOST_KEY) == (
        "ssh-ed25519", "rsa-sha2-512", "rsa-sha2-256",
        "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521",
        "sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com",
        "webauthn-sk-ecdsa-sha2-nistp256@openssh.com",
        "ssh-ed25519-cert-v01@openssh.com",
        "rsa-sha2-512-cert-v01@openssh.com", "rsa-sha2-256-cert-v01@openssh.com",
        "ecdsa-sha2-nistp256-cert-v01@openssh.com", "ecdsa-sha2-nistp384-cert-v01@openssh.com",
        "ecdsa-sha2-nistp521-cert-v01@openssh.com",
        "sk-ssh-ed25519-cert-v01@openssh.com", "sk-ecdsa-sha2-nistp256-cert-v01@openssh.com",
        "webauthn-sk-ecdsa-sha2-nistp256-cert-v01@openssh.com",
    )  # fmt: skip


def test_defaults_of_a_server_have_no_nist_curve() -> None:
    assert defaults(Kind.KEX, "server") == (*HYBRIDS, *CURVE25519)
    plain = ("ssh-ed25519", "rsa-sha2-512", "rsa-sha2-256", "sk-ssh-ed25519@openssh.com")
    assert defaults(Kind.HOST_KEY, "server") == (*plain, *map(signatures.certified_name, plain))


@pytest.mark.parametrize("role", ["client", "server"])
def test_defaults_of_both(role: str) -> None:
    assert defaults(Kind.CIPHER, role) == (  # type: ignore[arg-type]
        "aes256-gcm@openssh.com", "aes128-gcm@openssh.com", "chacha20-poly1305@openssh.com",
        "aes256-ctr", "aes128-ctr",
    )  # fmt: skip
    assert defaults(Kind.MAC, role) == (  # type: ignore[arg-type]
        "hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com",
    )  # fmt: skip
    assert defaults(Kind.COMPRESSION, role) == ("none",)  # type: ignore[arg-type]


def test_finite_fields_compression_and_plain_macs_are_on_request_only() -> None:
    assert set(names(Kind.KEX, Status.ON_REQUEST)) == {
        "ecdh-sha2-nistp521", "diffie-hellman-group14-sha256", "diffie-hellman-group16-sha512",
        "diffie-hellman-group18-sha512", "diffie-hellman-group-exchange-sha256", *NIST_HYBRIDS,
    }  # fmt: skip
    assert names(Kind.MAC, Status.ON_REQUEST) == ("hmac-sha2-256", "hmac-sha2-512")
    assert names(Kind.COMPRESSION, Status.ON_REQUEST) == ("zlib@openssh.com",)
    assert find(Kind.COMPRESSION, "zlib@openssh.com").delayed


def test_nothing_broken_is_in_the_table() -> None:
    """But for the rows of the legacy profile, which no list names."""
    for row in ALGORITHMS:
        assert not any(word in row.name for word in ("md5", "dss", "arcfour", "3des", "-96", "group1-"))
        old = any(word in row.name for word in ("sha1", "cbc")) or row.name == "ssh-rsa"
        assert (row.status is Status.LEGACY) is old
        assert (row.name in names(row.kind)) is not old


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="unknown cipher '3des-cbc'") as caught:
        find(Kind.CIPHER, "3des-cbc")
    assert "aes256-ctr" in caught.value.hint
    with pytest.raises(UsageError):
        find(Kind.MAC, "aes256-ctr")


def test_counter_mode_needs_a_mac() -> None:
    row = find(Kind.CIPHER, "aes128-ctr")
    with pytest.raises(UsageError, match="MAC"):
        make_sealer(row, None, Secret(bytes(16)), Secret(bytes(16)), Secret(b""))


def test_the_host_key_rows_are_what_the_signatures_know() -> None:
    plain = signatures.SIGNATURE_ALGORITHMS
    certified = {signatures.certified_name(name) for name in plain if name != signatures.COMPOSITE}
    assert set(names(Kind.HOST_KEY)) == {*plain, *certified}


@pytest.mark.parametrize("kex", names(Kind.KEX))
def test_a_factory_makes_two_sides_that_agree(kex: str) -> None:
    row = find(Kind.KEX, kex)
    client, server = (row.factory(rfc3526(14)) if row.context == "gex" else row.factory() for _ in range(2))
    offer = client.init()
    reply, secret = server.respond(offer)
    assert client.finish(reply) == secret
    assert offer != reply
    size = int.from_bytes(secret.reveal()[:4], "big")
    assert len(secret) == 4 + size


# Which of OpenSSH 9.2's lists a kind is found in; ML-KEM came with 9.9, and a certificate of a key that a
# browser uses has no name there.
QUERIES = {Kind.KEX: "kex", Kind.HOST_KEY: "key-sig", Kind.CIPHER: "cipher", Kind.MAC: "mac"}


@pytest.mark.parametrize("kind", QUERIES)
def test_openssh_knows_every_name(kind: Kind) -> None:
    ssh = shutil.which("ssh")
    if ssh is None:
        absent("OpenSSH's ssh is not installed")
    answer = subprocess.run([ssh, "-Q", QUERIES[kind]], capture_output=True, text=True, check=True)
    assert set(names(kind)) - {HYBRIDS[0], *NIST_HYBRIDS, WEBAUTHN, signatures.COMPOSITE} <= set(
        answer.stdout.split()
    )


def test_authorities_sign_by_what_openssh_lets_them() -> None:
    """ssh_config(5) of OpenSSH 10.6, CASignatureAlgorithms: the default."""
    assert set(AUTHORITY_ALGORITHMS) == {
        "ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521",
        "sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com",
        "webauthn-sk-ecdsa-sha2-nistp256@openssh.com", "rsa-sha2-512", "rsa-sha2-256",
    }  # fmt: skip
