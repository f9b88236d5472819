"""Private keys: OpenSSH's own files, ssh-keygen both ways, and files that want to do harm."""

from __future__ import annotations

import base64
import contextlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st

from glasshell.crypto.signatures import PrivateKey
from glasshell.errors import KeyFormatError, PassphraseError, UsageError
from glasshell.keys.openssh import dump_private_key, load_private_key
from glasshell.keys.public import load_public_key
from glasshell.wire import Secret, string, uint32

from .conftest import Keygen

OURS = ("ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp")
OPENSSH_PASSPHRASE = Secret("mekmitasdigoat")


def unarmor(data: bytes) -> bytes:
    return base64.b64decode(b"".join(data.split(b"\n")[1:-2]))


def armor(body: bytes) -> bytes:
    text = base64.b64encode(body)
    return b"-----BEGIN OPENSSH PRIVATE KEY-----\n" + text + b"\n-----END OPENSSH PRIVATE KEY-----\n"


# ---- files of others


@pytest.mark.parametrize("name", ["ecdsa_1", "ecdsa_2", "ecdsa_n", "ed25519_1", "ed25519_2", "rsa_2"])
def test_openssh_unit_test_keys(sshkey_data: Path, name: str) -> None:
    key = load_private_key((sshkey_data / name).read_bytes())
    origin = name.replace("_n", "_1")
    assert key.public.fingerprint() == (sshkey_data / f"{origin}.fp").read_text().strip()
    assert key.public == load_public_key((sshkey_data / f"{origin}.pub").read_text())[0]
    algorithm = key.public.algorithms[0]
    assert key.public.verify(algorithm, key.sign(algorithm, b"x"), b"x")


@pytest.mark.parametrize("name", ["ecdsa_1", "ecdsa_n", "ed25519_1"])
def test_openssh_unit_test_keys_with_passphrase(sshkey_data: Path, name: str) -> None:
    data = (sshkey_data / f"{name}_pw").read_bytes()
    key = load_private_key(data, OPENSSH_PASSPHRASE)
    origin = name.replace("_n", "_1")
    assert key.public.fingerprint() == (sshkey_data / f"{origin}.fp").read_text().strip()
    for passphrase, reason in ((None, "needed"), (Secret(""), "needed"), (Secret("wrong"), "wrong")):
        with pytest.raises(PassphraseError) as caught:
            load_private_key(data, passphrase)
        assert caught.value.reason == reason
        assert "mekmit" not in str(caught.value)


@pytest.mark.parametrize("name", ["rsa_1", "rsa_n", "rsa_1_sha512", "rsa_1_pw"])
def test_short_rsa_keys_are_refused(sshkey_data: Path, name: str) -> None:
    with pytest.raises(KeyFormatError, match="1024 bits"):
        load_private_key((sshkey_data / name).read_bytes(), OPENSSH_PASSPHRASE)


@pytest.mark.parametrize("name", ["ecdsa_sk1", "ed25519_sk1", "ed25519_sk1_pw", "mldsa44_ed25519_1"])
def test_types_that_are_not_supported(sshkey_data: Path, name: str) -> None:
    with pytest.raises(KeyFormatError, match="are not supported"):
        load_private_key((sshkey_data / name).read_bytes(), OPENSSH_PASSPHRASE)


def test_cryptography_vectors(shared: Path) -> None:
    folder = shared / "vectors/cryptography-vectors/asymmetric/OpenSSH"
    read = 0
    for path in sorted(folder.glob("*.key")):
        text = path.with_name(path.name + ".pub").read_text()
        if text.startswith(OURS):
            key = load_private_key(path.read_bytes(), Secret("password"))
            assert key.public == load_public_key(text)[0]
            read += 1
        else:
            with pytest.raises(KeyFormatError, match="are not supported"):
                load_private_key(path.read_bytes(), Secret("password"))
    assert read == 7


def test_fuzz_harness_and_old_samples(shared: Path) -> None:
    folder = shared / "vectors/openssh"
    names = ["misc/fuzz-harness/testdata/id_ecdsa", "misc/fuzz-harness/testdata/id_ed25519",
             "misc/fuzz-harness/testdata/id_rsa", "ecdsa256_openssh.prv", "ecdsa384_openssh.prv",
             "ecdsa521_openssh.prv", "ed25519_openssh.prv"]  # fmt: skip
    for name in names:
        public = folder / (name.removesuffix(".prv") + ".pub")
        assert load_private_key((folder / name).read_bytes()).public == load_public_key(public.read_text())[0]
    with pytest.raises(KeyFormatError, match=r"SSH\.COM") as caught:
        load_private_key((folder / "rsa_ssh2.prv").read_bytes())
    assert "ssh-keygen -i" in caught.value.hint


# ---- ssh-keygen both ways


def test_ssh_keygen_reads_ours(private_key: PrivateKey, ssh_keygen: Keygen, tmp_path: Path) -> None:
    for passphrase in (None, Secret("päss")):
        path = tmp_path / f"key{bool(passphrase)}"
        path.touch(0o600)
        path.write_bytes(dump_private_key(private_key, passphrase, rounds=2))
        secret = passphrase.text() if passphrase else ""
        public, comment = load_public_key(ssh_keygen("-y", "-P", secret, "-f", path))
        assert public == private_key.public
        assert comment == private_key.comment
        assert private_key.public.fingerprint() in ssh_keygen("-l", "-f", path)


def test_ssh_keygen_writes_the_same_bytes(ssh_keygen: Keygen, tmp_path: Path) -> None:
    """Read and written again with the same check number, a file of ssh-keygen's is the same file."""
    for kind in ("ed25519", "ecdsa", "rsa"):
        path = tmp_path / kind
        ssh_keygen("-q", "-t", kind, "-N", "", "-C", "a comment", "-f", path)
        data = path.read_bytes()
        key = load_private_key(data)
        assert key.comment == "a comment"
        body = unarmor(data)
        start = body.rindex(string(key.public.type.encode())) - 8
        check = body[start : start + 4]
        assert dump_private_key(key, random=lambda count, check=check: check[:count]) == data


@pytest.mark.parametrize(
    "cipher",
    ["aes256-ctr", "aes192-ctr", "aes128-ctr", "aes256-cbc", "aes192-cbc", "aes128-cbc",
     "aes256-gcm@openssh.com", "aes128-gcm@openssh.com", "chacha20-poly1305@openssh.com", "3des-cbc"],
)  # fmt: skip
def test_ciphers_of_ssh_keygen(cipher: str, ssh_keygen: Keygen, tmp_path: Path) -> None:
    path = tmp_path / "key"
    ssh_keygen("-q", "-t", "ed25519", "-Z", cipher, "-a", "1", "-N", "secret", "-C", "c", "-f", path)
    key = load_private_key(path.read_bytes(), Secret("secret"))
    assert key.public == load_public_key((tmp_path / "key.pub").read_text())[0]
    for passphrase, reason in ((None, "needed"), (Secret("wrong"), "wrong")):
        with pytest.raises(PassphraseError) as caught:
            load_private_key(path.read_bytes(), passphrase)
        assert caught.value.reason == reason


@pytest.mark.parametrize("form", ["PEM", "PKCS8"])
@pytest.mark.parametrize("secret", ["", "secret"])
@pytest.mark.parametrize("kind", ["rsa", "ecdsa"])
def test_pem_of_ssh_keygen(form: str, secret: str, kind: str, ssh_keygen: Keygen, tmp_path: Path) -> None:
    path = tmp_path / "key"
    ssh_keygen("-q", "-t", kind, "-m", form, "-N", secret, "-f", path)
    data = path.read_bytes()
    passphrase = Secret(secret) if secret else None
    assert load_private_key(data, passphrase).public == load_public_key((tmp_path / "key.pub").read_text())[0]
    if secret:
        for given_, reason in ((None, "needed"), (Secret("wrong"), "wrong")):
            with pytest.raises(PassphraseError) as caught:
                load_private_key(data, given_)
            assert caught.value.reason == reason


def test_pkcs8_of_ed25519() -> None:
    key = PrivateKey.generate("ssh-ed25519")
    form = serialization.PrivateFormat.PKCS8
    pem = key.reveal().private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    assert load_private_key(pem).public == key.public
    assert load_private_key(pem, Secret("not needed")).public == key.public
    assert load_private_key(pem.replace(b"\n", b"\r\n")).public == key.public


# ---- files that cannot be read


def test_cut_at_every_byte(private_key: PrivateKey) -> None:
    data = dump_private_key(private_key)
    for length in range(len(data) - 2):
        with pytest.raises(KeyFormatError):
            load_private_key(data[:length])
    body = unarmor(data)
    for length in range(len(body)):
        with pytest.raises(KeyFormatError):
            load_private_key(armor(body[:length]))
    with pytest.raises(KeyFormatError):
        load_private_key(armor(body + b"\0"))


def test_pem_cut_at_every_byte(sshkey_data: Path) -> None:
    for name in ("ecdsa_1", "rsa_2", "ecdsa_1_pw"):
        data = (sshkey_data / name).read_bytes().rstrip()
        for length in range(len(data)):
            with pytest.raises(KeyFormatError):
                load_private_key(data[:length], OPENSSH_PASSPHRASE)


ED25519 = PrivateKey.generate("ssh-ed25519", comment="c")
BODY = unarmor(dump_private_key(ED25519))


@given(st.integers(0, len(BODY) - 1), st.integers(1, 255))
def test_a_flipped_byte_is_the_same_key_or_an_error(position: int, flip: int) -> None:
    damaged = bytearray(BODY)
    damaged[position] ^= flip
    with contextlib.suppress(KeyFormatError):
        assert load_private_key(armor(bytes(damaged))).public == ED25519.public


@given(st.binary(max_size=400))
def test_any_bytes_are_a_key_format_error(tail: bytes) -> None:
    for data in (tail, armor(tail), armor(b"openssh-key-v1\0" + tail),
                 b"-----BEGIN PRIVATE KEY-----\n" + base64.b64encode(tail) + b"\n-----END PRIVATE KEY-----\n",
                 b"-----BEGIN EC PRIVATE KEY-----\n" + tail):  # fmt: skip
        with pytest.raises(KeyFormatError):
            load_private_key(data, Secret("x"))


def file_of(*, cipher: bytes = b"none", kdf: bytes = b"none", options: bytes = b"", count: int = 1,
            private: bytes | None = None, tail: bytes = b"") -> bytes:  # fmt: skip
    """A file of ED25519 with one thing changed."""
    if private is None:
        private = BODY[BODY.rindex(string(b"ssh-ed25519")) - 8 :]
    head = b"openssh-key-v1\0" + string(cipher) + string(kdf) + string(options) + uint32(count)
    return armor(head + string(ED25519.public.blob) + string(private) + tail)


def private_of(*, check: tuple[int, int] = (7, 7), point: bytes | None = None, secret: bytes | None = None,
               padding: bytes = b"\1\2\3") -> bytes:  # fmt: skip
    raw = ED25519.public.blob[-32:]
    seed = ED25519.reveal().private_bytes_raw()
    fields = string(b"ssh-ed25519") + string(point or raw) + string(secret or seed + raw) + string(b"")
    return uint32(check[0]) + uint32(check[1]) + fields + padding


def test_the_file_builder_builds_good_files() -> None:
    assert load_private_key(file_of()).public == ED25519.public
    padding = bytes(range(1, -len(private_of(padding=b"")) % 8 + 1))
    assert load_private_key(file_of(private=private_of(padding=padding))).public == ED25519.public


PADDING = bytes(range(1, -len(private_of(padding=b"")) % 8 + 1))
OTHER = PrivateKey.generate("ssh-ed25519")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (file_of(count=0), "0 private keys"),
        (file_of(count=2), "2 private keys"),
        (file_of(count=2**32 - 1), "private keys"),
        (file_of(cipher=b"blowfish-cbc", kdf=b"bcrypt"), "unknown cipher"),
        (file_of(cipher=b"aes256-ctr", private=bytes(32)), "kdf"),
        (file_of(kdf=b"bcrypt"), "kdf"),
        (file_of(cipher=b"aes256-ctr", kdf=b"scrypt", private=bytes(32)), "kdf"),
        (file_of(cipher=b"aes256-ctr", kdf=b"bcrypt", options=string(bytes(16)) + uint32(2**32 - 1),
                 private=bytes(32)), "rounds"),
        (file_of(cipher=b"aes256-ctr", kdf=b"bcrypt", options=string(bytes(16)) + uint32(2049),
                 private=bytes(32)), "rounds"),
        (file_of(cipher=b"aes256-ctr", kdf=b"bcrypt", options=string(bytes(16)) + uint32(0),
                 private=bytes(32)), "rounds"),
        (file_of(cipher=b"aes256-ctr", kdf=b"bcrypt", options=string(b"") + uint32(1),
                 private=bytes(32)), "salt"),
        (file_of(cipher=b"aes256-ctr", kdf=b"bcrypt", private=bytes(32)), "cut short"),
        (file_of(cipher=b"aes256-ctr", kdf=b"bcrypt", private=bytes(31)), "whole blocks"),
        (file_of(private=b""), "whole blocks"),
        (file_of(tail=b"x"), "too many"),
        (file_of(private=private_of(check=(7, 8), padding=PADDING)), "check numbers"),
        (file_of(private=private_of(padding=PADDING[:-1] + b"\0")), "padding"),
        (file_of(private=private_of(padding=PADDING + bytes(8))), "padding"),
        (file_of(private=private_of(point=OTHER.public.blob[-32:], padding=PADDING)), "not its own"),
        (file_of(private=private_of(secret=ED25519.reveal().private_bytes_raw() + OTHER.public.blob[-32:],
                                    padding=PADDING)), "not its own"),
        (file_of(private=private_of(point=OTHER.public.blob[-32:], padding=PADDING,
                                    secret=OTHER.reveal().private_bytes_raw() + OTHER.public.blob[-32:])),
         "does not belong"),
    ],
    ids=range(21),
)  # fmt: skip
def test_what_is_wrong_is_named(data: bytes, words: str) -> None:
    with pytest.raises(KeyFormatError, match=words):
        load_private_key(data, Secret("x"))


def test_rsa_numbers_have_to_belong_together() -> None:
    key = PrivateKey.generate("ssh-rsa", 2048)
    body = unarmor(dump_private_key(key))
    private = body.rindex(string(b"ssh-rsa"))
    for back in (30, 170, 300, 420, 500, 700):  # inside q, p, iqmp, d, ...
        damaged = bytearray(body)
        damaged[-back] ^= 4
        assert len(body) - back > private
        with pytest.raises(KeyFormatError):
            load_private_key(armor(bytes(damaged)))


def test_large_and_foreign_files() -> None:
    for data, words in (
        (b"-----BEGIN RSA PRIVATE KEY-----\n" + b"A" * (1 << 20), "bytes"),
        (b"PuTTY-User-Key-File-1: ssh-ed25519\n", "PuTTY"),
        (b"ssh-ed25519 AAAA\n", "public key"),
        (b"-----BEGIN DSA PRIVATE KEY-----\n-----END DSA PRIVATE KEY-----\n", "DSA"),
        (b"\x00\xff\xfe", "not a private key"),
        (b"", "not a private key"),
    ):
        with pytest.raises(KeyFormatError, match=words):
            load_private_key(data)


def test_rounds_are_bounded_when_writing() -> None:
    for rounds in (0, 2049):
        with pytest.raises(UsageError):
            dump_private_key(ED25519, Secret("x"), rounds=rounds)
