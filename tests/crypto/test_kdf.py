"""RFC 4253 §7.2 against the SSH vectors of NIST's CAVP."""

from __future__ import annotations

from pathlib import Path

from glasshell.crypto.kdf import derive
from glasshell.wire import Secret

from .kat import records

KEYS = {
    b"A": "Initial IV (client to server)",
    b"B": "Initial IV (server to client)",
    b"C": "Encryption key (client to server)",
    b"D": "Encryption key (server to client)",
    b"E": "Integrity key (client to server)",
    b"F": "Integrity key (server to client)",
}


def test_cavp(shared: Path) -> None:
    checked = 0
    section = ""
    path = shared / "vectors/ssh-attacker/SSH_Key_Derivation_Test.txt"
    text = path.read_text()
    for record in records(path):
        h = bytes.fromhex(record["H"])
        section = {20: "sha1", 28: "sha224", 32: "sha256", 48: "sha384", 64: "sha512"}[len(h)]
        for letter, name in KEYS.items():
            expected = bytes.fromhex(record[name])
            k, session_id = Secret(bytes.fromhex(record["K"])), bytes.fromhex(record["session_id"])
            assert derive(section, k, h, letter, session_id, len(expected)).reveal() == expected
            checked += 1
    assert checked == 6 * text.count("COUNT = ") == 600


def test_a_long_key_begins_with_the_short_one() -> None:
    # RFC 4253 §7.2: K2 = HASH(K || H || K1) is appended; chacha20-poly1305 needs 64 bytes of SHA-256.
    k, h = Secret(b"\0\0\0\1\1"), bytes(32)
    long = derive("sha256", k, h, b"C", h, 64).reveal()
    assert len(long) == 64
    assert long.startswith(derive("sha256", k, h, b"C", h, 32).reveal())
    assert derive("sha256", k, h, b"C", h, 0).reveal() == b""
