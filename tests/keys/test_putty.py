"""PuTTY's private keys: puttygen's own, damaged ones, and files that ask for too much work."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glasshell.crypto.signatures import PrivateKey
from glasshell.errors import KeyFormatError, PassphraseError
from glasshell.keys.openssh import dump_private_key, load_private_key
from glasshell.keys.putty import load_ppk
from glasshell.wire import Secret
from tests.needs import absent


def puttygen(
    key: PrivateKey, folder: Path, version: int, passphrase: str = "", kdf: str = "argon2id"
) -> bytes:
    """`key` as puttygen writes it."""
    if shutil.which("puttygen") is None:
        absent("puttygen (putty-tools) is not installed")
    files = {"old": folder / "old", "new": folder / "new"}
    files["old"].write_text("")
    files["new"].write_text(passphrase)
    source = folder / "key"
    source.write_bytes(dump_private_key(key))
    parameters = f"version={version},kdf={kdf},passes=2,memory=64"
    line = ["puttygen", source, "-O", "private", "-o", folder / "ppk", "--old-passphrase", files["old"],
            "--new-passphrase", files["new"], "--ppk-param", parameters, "-C", key.comment]  # fmt: skip
    subprocess.run(line, check=True, capture_output=True)
    return (folder / "ppk").read_bytes()


@pytest.mark.parametrize("version", [2, 3])
def test_every_kind_of_key(version: int, private_key: PrivateKey, tmp_path: Path) -> None:
    for passphrase in ("", "secret"):
        data = puttygen(private_key, tmp_path, version, passphrase)
        key = load_private_key(data, Secret(passphrase) if passphrase else None)
        assert key.public == private_key.public
        assert key.comment == private_key.comment
        if passphrase:
            for wrong, reason in ((None, "needed"), (Secret("wrong"), "wrong")):
                with pytest.raises(PassphraseError) as caught:
                    load_ppk(data, wrong)
                assert caught.value.reason == reason


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    key = PrivateKey.generate("ssh-ed25519", comment="c")
    return puttygen(key, tmp_path_factory.mktemp("putty"), 3, "secret")


@pytest.mark.parametrize("kdf", ["argon2i", "argon2d"])
def test_the_other_argon2s(kdf: str, tmp_path: Path) -> None:
    key = PrivateKey.generate("ssh-ed25519", comment="c")
    assert load_ppk(puttygen(key, tmp_path, 3, "secret", kdf), Secret("secret")).public == key.public


def test_g1_cut_at_every_byte(made: bytes) -> None:
    for size in range(0, len(made) - 2, 3):
        with pytest.raises(KeyFormatError):
            load_ppk(made[:size], Secret("secret"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"Argon2-Memory", b"4294967295"), (b"Argon2-Memory", b"0"), (b"Argon2-Memory", b"x"),
        (b"Argon2-Passes", b"4294967295"), (b"Argon2-Passes", b"0"), (b"Argon2-Parallelism", b"65536"),
        (b"Argon2-Salt", b""), (b"Argon2-Salt", b"zz"), (b"Key-Derivation", b"Argon3"),
        (b"Encryption", b"rot13"), (b"Public-Lines", b"99999"), (b"Private-Lines", b"-1"),
    ],
)  # fmt: skip
def test_g1_what_asks_for_too_much_or_makes_no_sense(name: bytes, value: bytes, made: bytes) -> None:
    lines = [name + b": " + value if x.startswith(name + b":") else x for x in made.splitlines()]
    with pytest.raises(KeyFormatError) as caught:
        load_ppk(b"\n".join(lines), Secret("secret"))
    assert not isinstance(caught.value, PassphraseError)


@given(data=st.data())
def test_whatever_it_holds_nothing_but_a_key_format_error(data: st.DataObject, made: bytes) -> None:
    at = data.draw(st.integers(0, len(made) - 1))
    flipped = made[:at] + bytes([data.draw(st.integers(0, 255))]) + made[at + 1 :]
    text = data.draw(st.text(max_size=80)).encode()
    for content in (b"PuTTY-User-Key-File-3: ssh-rsa\n" + text, made[:at] + text + made[at:]):
        with contextlib.suppress(KeyFormatError):
            load_ppk(content, Secret("secret"))
    with contextlib.suppress(KeyFormatError):
        load_ppk(flipped, None)
