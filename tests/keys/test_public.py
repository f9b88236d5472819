"""Public keys as text, fingerprints and pictures, against OpenSSH's files and ssh-keygen."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glasshell.crypto.signatures import PrivateKey, PublicKey
from glasshell.errors import KeyFormatError, UsageError
from glasshell.keys.fingerprint import describe, randomart
from glasshell.keys.public import dump_public_key, load_public_key

from .conftest import Keygen

OURS = ("ssh-ed25519 ", "ssh-rsa ", "ecdsa-sha2-nistp")
LINE = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIK9ks7jkua5YWIwByRnnnc6UPJQWI75O0e/UJdPYU1JI"


def test_fingerprints_of_openssh(sshkey_data: Path) -> None:
    read = 0
    for path in sorted(sshkey_data.glob("*.pub")):
        text = path.read_text()
        try:
            key, _ = load_public_key(text)
        except KeyFormatError:
            # certificates, ML-DSA, and RSA keys of 1,024 bits
            assert "-cert" in path.name or not text.startswith(OURS) or path.name.startswith("rsa_1")
            continue
        if (fingerprint := path.with_suffix(".fp")).exists():
            assert key.fingerprint() == fingerprint.read_text().strip()
            read += 1
    assert read == 9


def test_lines_and_pictures_of_ssh_keygen(
    private_key: PrivateKey, ssh_keygen: Keygen, tmp_path: Path
) -> None:
    path = tmp_path / "key.pub"
    path.write_text(dump_public_key(private_key.public, "some comment"))
    for hash in ("sha256", "md5"):
        said = ssh_keygen("-l", "-v", "-E", hash, "-f", path).rstrip("\n")
        ours = describe(private_key.public, "some comment", hash) + "\n" + randomart(private_key.public, hash)
        assert ours == said


def test_pictures_of_many_keys(ssh_keygen: Keygen, tmp_path: Path) -> None:
    keys = [PrivateKey.generate("ssh-ed25519").public for _ in range(40)]
    path = tmp_path / "keys.pub"
    path.write_text("".join(map(dump_public_key, keys)))
    said = ssh_keygen("-l", "-v", "-f", path).rstrip("\n")
    assert "\n".join(describe(key) + "\n" + randomart(key) for key in keys) == said


def test_a_line_is_read_and_written(private_key: PrivateKey) -> None:
    for comment in ("", "me@host", "two words"):
        assert load_public_key(dump_public_key(private_key.public, comment)) == (private_key.public, comment)


@pytest.mark.parametrize(
    "text",
    ["\n# c\n\n" + LINE + "\n", LINE + "\r\n", "\t " + LINE.replace(" ", "\t ") + " \n", LINE + "\nrest"],
)
def test_blanks_and_comments(text: str) -> None:
    assert load_public_key(text)[0].type == "ssh-ed25519"
    assert load_public_key(text.encode())[1] == ""


@pytest.mark.parametrize(
    "text",
    ["", "# only\n", "ssh-ed25519", "ssh-ed25519 ", LINE[:-1], LINE[:-4], LINE + "=", LINE + "-",
     LINE.replace("ssh-ed25519", "ssh-rsa"), LINE.replace("ssh-ed25519", "ssh-dss"), LINE[:-1] + "J",
     LINE.replace(" ", "\u00a0"), "\x00", "-----BEGIN OPENSSH PRIVATE KEY-----", LINE + " c" * 600_000,
     "ssh-ed25519 ÄÄÄÄ", b"\xff\xfe"],
    ids=range(17),
)  # fmt: skip
def test_lines_that_are_no_key(text: str | bytes) -> None:
    with pytest.raises(KeyFormatError):
        load_public_key(text)


@given(st.text(max_size=100), st.integers(0, len(LINE)))
def test_any_text_is_a_key_or_a_key_format_error(text: str, at: int) -> None:
    for whole in (text, LINE[:at] + text, LINE[:at] + text + LINE[at:]):
        with contextlib.suppress(KeyFormatError):
            assert isinstance(load_public_key(whole)[0], PublicKey)


def test_misuse_is_named(private_key: PrivateKey) -> None:
    with pytest.raises(KeyFormatError):
        dump_public_key(private_key.public, "two\nlines")
    with pytest.raises(UsageError):
        randomart(private_key.public, "sha3")
    assert "\\033" in describe(private_key.public, "\x1b[2J")
