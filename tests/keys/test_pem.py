"""Keys in PEM: what ssh-keygen and OpenSSL write, ours read by them, and files that ask for too much work."""

from __future__ import annotations

import base64
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glasshell.crypto.signatures import PrivateKey
from glasshell.errors import KeyFormatError, PassphraseError
from glasshell.keys.openssh import load_private_key
from glasshell.keys.pem import MAX_ITERATIONS, dump_pem
from glasshell.wire import Secret
from tests.needs import absent

from .conftest import Keygen

PASSPHRASE = Secret("correct horse")


def openssl(*arguments: str, given: bytes) -> bytes:
    if shutil.which("openssl") is None:
        absent("openssl is not installed")
    return subprocess.run(["openssl", *arguments], input=given, capture_output=True, check=True).stdout


@pytest.mark.parametrize("form", ["PEM", "PKCS8"])
@pytest.mark.parametrize("passphrase", [None, PASSPHRASE])
def test_what_is_written_is_read_by_openssl_and_ssh_keygen(
    form: str, passphrase: Secret | None, private_key: PrivateKey, ssh_keygen: Keygen, tmp_path: Path
) -> None:
    data = dump_pem(private_key, form, passphrase)
    secret = passphrase.text() if passphrase else ""
    public = openssl("pkey", "-passin", f"pass:{secret}", "-pubout", given=data)
    assert public == openssl("pkey", "-pubout", given=dump_pem(private_key, "PKCS8"))
    assert load_private_key(data, passphrase).public == private_key.public
    if private_key.public.type == "ssh-ed25519":
        return  # OpenSSH 9.2 cannot read it in PEM
    path = tmp_path / "key"
    path.touch(0o600)
    path.write_bytes(data)
    said = ssh_keygen("-y", "-P", secret, "-f", path)
    assert said.split()[1] == base64.b64encode(private_key.public.blob).decode()


@pytest.mark.parametrize(
    "flags",
    [
        ("-v1", "PBE-SHA1-3DES"),
        ("-v2", "aes-256-cbc"),
        ("-v2", "aes-128-cbc", "-iter", "100000"),
        ("-v2", "aes-256-cbc", "-v2prf", "hmacWithSHA512"),
        ("-scrypt",),
        ("-scrypt", "-scrypt_N", "32768", "-scrypt_r", "4", "-scrypt_p", "2"),
    ],
    ids=" ".join,
)
def test_encryptions_of_openssl(flags: tuple[str, ...], ed25519: PrivateKey) -> None:
    plain = dump_pem(ed25519, "PKCS8")
    data = openssl("pkcs8", "-topk8", "-passout", "pass:correct horse", *flags, given=plain)
    for ending in (data, data.replace(b"\n", b"\r\n")):
        assert load_private_key(ending, PASSPHRASE).public == ed25519.public
    for wrong in (None, Secret("battery")):
        with pytest.raises(PassphraseError):
            load_private_key(data, wrong)


@pytest.fixture(scope="module")
def ed25519() -> PrivateKey:
    return PrivateKey.generate("ssh-ed25519")


# ---- G1: bombs


def der(tag: int, body: bytes) -> bytes:
    size = len(body)
    long = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag]) + (bytes([size]) if size < 128 else bytes([0x80 + len(long)]) + long) + body


def number(value: int) -> bytes:
    return der(2, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def oid(text: str) -> bytes:
    return der(6, bytes.fromhex(text))


AES = der(0x30, oid("60864801650304012a") + der(4, bytes(16)))


def encrypted(scheme: str, parameters: bytes) -> bytes:
    """An encrypted PKCS#8 file whose passphrase goes through `scheme` with `parameters`."""
    derivation = der(0x30, oid(scheme) + der(0x30, parameters))
    algorithm = der(0x30, oid("2a864886f70d01050d") + der(0x30, derivation + AES))
    return armored(der(0x30, algorithm + der(4, bytes(64))))


def armored(body: bytes) -> bytes:
    label = b"ENCRYPTED PRIVATE KEY-----\n"
    return b"-----BEGIN " + label + base64.encodebytes(body) + b"-----END " + label


PBKDF2, SCRYPT = "2a864886f70d01050c", "2b06010401da47040b"
SALT = der(4, bytes(8))


@pytest.mark.parametrize(
    "data",
    [
        encrypted(PBKDF2, SALT + number(2**31 - 1)),
        encrypted(PBKDF2, SALT + number(MAX_ITERATIONS + 1)),
        encrypted(PBKDF2, SALT + number(2**4000)),
        encrypted(PBKDF2, SALT + number(0)),
        encrypted(PBKDF2, SALT),
        encrypted(SCRYPT, SALT + number(2**30) + number(8) + number(1)),
        encrypted(SCRYPT, SALT + number(2**14) + number(2**20) + number(1)),
        encrypted(SCRYPT, SALT + number(2**14) + number(8) + number(2**30)),
        encrypted("2a03", SALT + number(1)),
        armored(der(0x30, der(0x30, oid("2a864886f70d010c0103") + der(0x30, SALT + number(2**31 - 1))))),
        armored(b"\x30\x84\xff\xff\xff\xff"),
        armored(b"\x30\xff" + b"\xff" * 200),
        armored(b""),
    ],
)
def test_g1_a_file_that_asks_for_too_much_work_is_refused_at_once(data: bytes) -> None:
    with pytest.raises(KeyFormatError) as caught:
        load_private_key(data, PASSPHRASE)
    assert not isinstance(caught.value, PassphraseError)  # nothing was tried


def test_a_count_within_the_bound_is_tried() -> None:
    with pytest.raises(PassphraseError, match="wrong"):
        load_private_key(encrypted(PBKDF2, SALT + number(1000)), PASSPHRASE)


def test_g1_a_second_block_is_not_what_is_read(ed25519: PrivateKey) -> None:
    bomb = encrypted(PBKDF2, SALT + number(2**31 - 1))
    harmless = encrypted(PBKDF2, SALT + number(1)).replace(b"-----END ENC", b"-----END XNC")
    with pytest.raises(KeyFormatError):
        load_private_key(harmless + bomb, PASSPHRASE)
    assert load_private_key(dump_pem(ed25519, "PKCS8") + bomb, PASSPHRASE).public == ed25519.public


def test_g1_huge_primes_are_not_computed_with() -> None:
    p, q = (1 << 2_000_000) | 1, (1 << 1_999_999) | 1
    body = der(0x30, b"".join(map(number, (0, p * q, 65537, p, p, q, p, q, 1))))
    label = b"RSA PRIVATE KEY-----\n"
    with pytest.raises(KeyFormatError):
        load_private_key(
            b"-----BEGIN " + label + base64.encodebytes(body)[: 900 * 1024] + b"-----END " + label
        )
    small = der(0x30, b"".join(map(number, (0, p, 65537, p, p, q, p, q, 1))))
    with pytest.raises(KeyFormatError):
        load_private_key(b"-----BEGIN " + label + base64.encodebytes(small) + b"-----END " + label)


@given(st.binary(max_size=300))
def test_whatever_is_armored_nothing_but_a_key_format_error(body: bytes) -> None:
    for data in (armored(body), armored(der(0x30, body)), armored(der(0x30, der(0x30, body)))):
        with pytest.raises(KeyFormatError):
            load_private_key(data, PASSPHRASE)
