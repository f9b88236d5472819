"""sntrup761 against published keys and ciphertexts, and against itself."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glasshell.crypto import sntrup761
from glasshell.crypto.key_exchange import SNTRUP761, X25519, Hybrid
from glasshell.crypto.sntrup761 import (
    CIPHERTEXT_SIZE,
    PUBLIC_SIZE,
    SECRET_SIZE,
    P,
    PrivateKey,
    Q,
    encapsulate,
)
from glasshell.errors import ProtocolViolation
from glasshell.wire import Secret, string

SMALL = 191


def tinyssh(shared: Path, name: str) -> dict[str, bytes]:
    """The arrays of one of its files: the secret key `xsk`, the ciphertext `xc`, the shared secret `xk1`."""
    text = (shared / f"vectors/tinyssh/{name}.data").read_text()
    found = re.findall(r"(\w+)\[\] = \{(.*?)\}", text, re.DOTALL)
    return {name: bytes(int(byte, 16) for byte in re.findall(r"0x(\w\w)", body)) for name, body in found}


def attacker(shared: Path) -> list[dict[str, bytes]]:
    """SSH-Attacker's exchanges, each from the private keys to the encoded secret."""
    text = (shared / "vectors/ssh-attacker/sntrup761x25519-TestVectors.txt").read_text()
    blocks = [re.findall(r"^([\w ]+) = ([0-9A-Fa-f]{10,})$", part, re.MULTILINE)
              for part in text.split("Count = ")[1:]]  # fmt: skip
    assert len(blocks) == 3
    return [{name: bytes.fromhex(value) for name, value in block} for block in blocks]


def test_tinyssh_decapsulation(shared: Path) -> None:
    known = tinyssh(shared, "crypto_kem_sntrup761test")
    assert len(known["xsk"]) == SECRET_SIZE
    assert PrivateKey.from_bytes(known["xsk"]).decapsulate(known["xc"]) == known["xk1"]


def test_tinyssh_hybrid(shared: Path) -> None:
    """Its secret key is sntrup761's and X25519's, its ciphertext likewise; the secret is SHA-512 of both."""
    known = tinyssh(shared, "crypto_kem_sntrup761x25519test")
    client = Hybrid(X25519(known["xsk"][SECRET_SIZE:]), kem=SNTRUP761, hash_name="sha512")
    client._decapsulate = PrivateKey.from_bytes(known["xsk"]).decapsulate
    assert client.finish(known["xc"]) == Secret(string(known["xk1"]))


def test_ssh_attacker(shared: Path) -> None:
    for known in attacker(shared):
        key = PrivateKey.from_bytes(known["PrivKey Encpasulation"])
        assert key.public == known["PubKey Encapsulation"]
        ciphertext = known["Ciphertext Encapsulation"]
        assert key.decapsulate(ciphertext) == known["SharedSecret Encapsulation"]
        client = Hybrid(X25519(known["PrivKey Agreement"]), kem=SNTRUP761, hash_name="sha512")
        client._decapsulate = key.decapsulate
        secret = client.finish(ciphertext + known["RemoteKey Agreement"])
        assert secret == Secret(string(known["Encoded Shared Secret"]))


def test_published_keys_are_made_of_their_parts(shared: Path) -> None:
    """Key generation is h = g/(3f): from f and 1/g of a published private key comes its public one."""
    private = [known["PrivKey Encpasulation"] for known in attacker(shared)]
    private += [tinyssh(shared, "crypto_kem_sntrup761test")["xsk"]]
    for data in private:
        f, g_inverse = (sntrup761._decode_small(data[at : at + SMALL]) for at in (0, SMALL))
        g = sntrup761.invert_modulo_3(g_inverse)
        assert g is not None
        h = sntrup761._product(sntrup761._lanes(sntrup761.invert_3f(f)), sntrup761._signed(g))
        public = sntrup761._encode([(x + Q // 2) % Q for x in h], Q)
        assert public == data[2 * SMALL :][:PUBLIC_SIZE]


@given(st.binary(min_size=64, max_size=64))
@settings(max_examples=15, deadline=None)
def test_both_sides_have_one_secret(seed: bytes) -> None:
    public, decapsulate = SNTRUP761.generate(seed)
    secret, ciphertext = SNTRUP761.encapsulate(public)
    assert (len(public), len(ciphertext), len(secret)) == (PUBLIC_SIZE, CIPHERTEXT_SIZE, 32)
    assert decapsulate(ciphertext) == secret


@pytest.mark.parametrize("at", [0, 500, 1006, 1007, CIPHERTEXT_SIZE - 1])
def test_b12_an_altered_ciphertext_gives_another_secret(at: int) -> None:
    """Implicit rejection: nothing is raised, and the answer is the same each time, and nobody else's."""
    key = PrivateKey.generate()
    ciphertext, secret = encapsulate(key.public)
    altered = bytearray(ciphertext)
    altered[at] ^= 1
    answer = key.decapsulate(bytes(altered))
    assert answer != secret
    assert answer == key.decapsulate(bytes(altered))
    assert key.decapsulate(ciphertext) == secret


@given(st.binary(min_size=PUBLIC_SIZE, max_size=PUBLIC_SIZE), st.binary(max_size=CIPHERTEXT_SIZE))
@settings(max_examples=20, deadline=None)
def test_noise_is_a_key_and_a_ciphertext(public: bytes, ciphertext: bytes) -> None:
    """Bytes that nothing encodes to are taken for what they are modulo q, as everybody does."""
    _, secret = encapsulate(public)
    assert len(secret) == 32
    assert len(PRIVATE.decapsulate(ciphertext.ljust(CIPHERTEXT_SIZE, b"\xff"))) == 32


PRIVATE = PrivateKey.generate()


@pytest.mark.parametrize("length", [0, PUBLIC_SIZE + 31, PUBLIC_SIZE + 33])
def test_b12_other_lengths_are_refused_before_anything_is_computed(length: int) -> None:
    side = Hybrid(kem=SNTRUP761, hash_name="sha512")
    side.init()
    for take in (side.respond, side.finish):
        with pytest.raises(ProtocolViolation):
            take(bytes(length))


def test_low_order_points_are_refused_before_the_kem_costs_anything() -> None:
    side = Hybrid(kem=SNTRUP761, hash_name="sha512")
    with pytest.raises(ProtocolViolation, match="low order"):
        side.respond(bytes(PUBLIC_SIZE + 32))


def test_a_g_that_has_no_inverse_is_drawn_again() -> None:
    """Zero has none: words that make it are followed by others."""
    zero = ((1 << 29) - 1).to_bytes(4, "little") * P
    assert sntrup761.invert_modulo_3([0] * P) is None
    seen = []

    def draw(size: int) -> bytes:
        data = zero if not seen else stream.read(size)
        seen.append(size)
        return data

    stream = io.BytesIO(bytes(range(256)) * 64)
    key = PrivateKey.generate(draw)
    assert seen == [4 * P] * 3 + [SMALL]
    ciphertext, secret = encapsulate(key.public)
    assert key.decapsulate(ciphertext) == secret


def test_every_key_is_fresh() -> None:
    assert len({PrivateKey.generate().public for _ in range(5)}) == 5
    made = [encapsulate(PRIVATE.public) for _ in range(5)]
    assert len({ciphertext for ciphertext, _ in made}) == len({secret for _, secret in made}) == 5
