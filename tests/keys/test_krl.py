"""Revocation lists: OpenSSH's read by us, ours by OpenSSH, and whatever else may stand in such a file."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glasshell.crypto.signatures import PrivateKey, PublicKey
from glasshell.errors import KeyFormatError
from glasshell.keys.certificate import Certificate, sign_certificate
from glasshell.keys.krl import MAGIC, MAX_RANGES, MAX_SERIAL, Krl
from glasshell.keys.public import dump_public_key, load_key, load_public_key
from glasshell.keys.revoked import Revoked
from glasshell.wire import mpint, string, uint32, uint64

from .conftest import Keygen

HEAD = MAGIC + uint32(1) + uint64(7) + uint64(0) + uint64(0) + string(b"") + string(b"a comment")
PRIVATE = [PrivateKey.generate("ssh-ed25519") for _ in range(4)]
KEYS = [private.public for private in PRIVATE]
CA = KEYS[0]


def section(number: int, data: bytes) -> bytes:
    return bytes([number]) + string(data)


def issued(*sections: bytes, authority: bytes = CA.blob) -> bytes:
    return HEAD + section(1, string(authority) + string(b"") + b"".join(sections))


def certificate(
    serial: int = 0, key_id: str = "", authority: PrivateKey = PRIVATE[0], key: PublicKey = KEYS[1]
) -> Certificate:
    return sign_certificate(key, authority, kind="user", key_id=key_id, principals=("a",), serial=serial)


# ---- by the letter of PROTOCOL.krl


def test_the_header() -> None:
    krl = Krl.parse(HEAD)
    assert (krl.version, krl.comment) == (7, "a comment")
    assert not krl.revokes(KEYS[1])


@pytest.mark.parametrize(
    ("number", "value"),
    [
        (2, KEYS[1].blob),
        (3, hashlib.sha1(KEYS[1].blob).digest()),
        (5, hashlib.sha256(KEYS[1].blob).digest()),
    ],
    ids=["explicit", "SHA1", "SHA256"],
)
def test_a_key_is_revoked_alone_under_a_certificate_and_as_an_authority(number: int, value: bytes) -> None:
    krl = Krl.parse(HEAD + section(number, string(value)))
    assert krl.revokes(KEYS[1])
    assert krl.revokes(certificate(key=KEYS[1]))
    assert krl.revokes(certificate(key=KEYS[2], authority=PRIVATE[1]))
    assert not krl.revokes(KEYS[2])
    assert not krl.revokes(certificate(key=KEYS[2]))


@pytest.mark.parametrize(
    ("inside", "revoked", "left"),
    [
        (section(0x20, uint64(5) + uint64(9)), {5, 9}, {0, 1, 4, 6, 8, 10}),
        (section(0x21, uint64(5) + uint64(8)), {5, 6, 8}, {0, 4, 9}),
        (section(0x22, uint64(100) + mpint(0b1011)), {100, 101, 103}, {0, 99, 102, 104}),
        (section(0x21, uint64(1) + uint64(MAX_SERIAL)), {1, MAX_SERIAL}, {0}),
    ],
    ids=["list", "range", "bitmap", "all"],
)
def test_serials_are_revoked_for_their_authority(inside: bytes, revoked: set[int], left: set[int]) -> None:
    own, anybody = Krl.parse(issued(inside)), Krl.parse(issued(inside, authority=b""))
    for serial in revoked:
        assert own.revokes(certificate(serial))
        assert not own.revokes(certificate(serial, authority=PRIVATE[3]))
        assert anybody.revokes(certificate(serial, authority=PRIVATE[3]))
    for serial in left:
        assert not own.revokes(certificate(serial))


def test_key_ids() -> None:
    krl = Krl.parse(issued(section(0x23, string(b"alice") + string("märz".encode()))))
    assert "alice" in krl.revokes(certificate(key_id="alice"))
    assert krl.revokes(certificate(3, key_id="märz"))
    assert not krl.revokes(certificate(key_id="alic"))
    assert not krl.revokes(certificate(key_id="alice", authority=PRIVATE[3]))


def extension(critical: int) -> bytes:
    return string(b"x@example.org") + bytes([critical]) + string(b"data")


def test_extensions_are_refused_where_they_are_critical() -> None:
    assert not Krl.parse(HEAD + section(255, extension(0))).keys
    assert Krl.parse(issued(section(0x39, extension(0)), section(0x20, uint64(2)))).revokes(certificate(2))
    for data in (HEAD + section(255, extension(1)), issued(section(0x39, extension(1)))):
        with pytest.raises(KeyFormatError, match="x@example"):
            Krl.parse(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        MAGIC + uint32(2) + HEAD[12:],
        HEAD + b"\x06" + string(b""),
        HEAD + section(3, string(bytes(32))),
        HEAD + section(5, string(bytes(20))),
        HEAD + b"\x04" + string(CA.blob) + string(b"signature"),
        HEAD + b"\x02" + uint32(2**32 - 1) + b"x",
        HEAD + section(255, extension(0) + b"x"),
        issued(section(0x24, b"")),
        issued(section(0x20, uint64(0))),
        issued(section(0x20, uint64(1) + b"x")),
        issued(section(0x21, uint64(9) + uint64(8))),
        issued(section(0x21, uint64(0) + uint64(8))),
        issued(section(0x21, uint64(1) + uint64(8) + b"x")),
        issued(section(0x22, uint64(MAX_SERIAL) + mpint(3))),
        issued(section(0x22, uint64(0) + mpint(1))),
        issued(section(0x22, uint64(1) + mpint(-1))),
        issued(section(0x22, uint64(1) + string(b"\x00" + bytes([255]) * 2049))),
    ],
)
def test_what_is_not_understood_is_refused(data: bytes) -> None:
    with pytest.raises(KeyFormatError):
        Krl.parse(data)


def test_bitmaps_do_not_grow_without_bound() -> None:
    bitmap = section(0x22, uint64(1) + mpint(int("01" * 8000, 2)))
    with pytest.raises(KeyFormatError, match=str(MAX_RANGES)):
        Krl.parse(issued(bitmap * (MAX_RANGES // 8000 + 1)))
    assert Krl.parse(issued(bitmap * 10)).revokes(certificate(1))


def test_cut_at_every_byte_it_is_refused_or_whole() -> None:
    data = issued(section(0x20, uint64(5)), section(0x23, string(b"id"))) + section(2, string(KEYS[1].blob))
    whole = {len(HEAD), len(data) - 5 - 4 - len(KEYS[1].blob)}
    for size in range(len(data)):
        if size in whole:
            Krl.parse(data[:size])
            continue
        with pytest.raises(KeyFormatError):
            Krl.parse(data[:size])


@given(st.binary(max_size=200), st.integers(0, 3))
def test_whatever_it_holds_nothing_but_a_key_format_error(tail: bytes, part: int) -> None:
    data = (b"", HEAD, issued(), HEAD + section(1, string(CA.blob) + string(b"") + tail))[part] + tail
    with contextlib.suppress(KeyFormatError):
        Krl.parse(data)


@given(st.lists(st.tuples(st.integers(1, 40000), st.integers(0, 600)), max_size=60), st.integers(0, 2**63))
def test_what_is_written_says_the_same_when_it_is_read(spans: list[tuple[int, int]], offset: int) -> None:
    krl = Krl()
    serials: set[int] = set()
    for low, more in spans:
        krl.issued_by(CA).add(offset + low, offset + low + more)
        serials.update(range(low, low + more + 1))
    again = Krl.parse(krl.dump(0))
    held = [r for issued in again.issued.values() for r in issued.ranges()]
    assert {n - offset for low, high in held for n in range(low, high + 1)} == serials
    assert all(b[0] > a[1] + 1 for a, b in itertools.pairwise(held))


# ---- RevokedKeys


def test_a_list_in_text() -> None:
    text = "# lost\n\n" + dump_public_key(KEYS[1], "of bob") + "  " + dump_public_key(KEYS[2])
    revoked = Revoked.load(text.encode(), "/etc/ssh/revoked")
    assert revoked.revokes(KEYS[1])
    assert revoked.revokes(KEYS[2])
    assert revoked.revokes(certificate(key=KEYS[3], authority=PRIVATE[1]))
    assert revoked.revokes(certificate(key=KEYS[1]))
    assert not revoked.revokes(KEYS[3])


def test_a_list_of_keys_is_read_in_full_or_refused() -> None:
    for bad in ("nonsense", "ssh-ed25519 AAAA", 'command="x" ' + dump_public_key(KEYS[2])):
        with pytest.raises(KeyFormatError, match="/etc/ssh/revoked:2: "):
            Revoked.load((dump_public_key(KEYS[1]) + bad).encode(), "/etc/ssh/revoked")
    with pytest.raises(KeyFormatError, match="/etc/ssh/revoked: "):
        Revoked.load(HEAD[:-1], "/etc/ssh/revoked")


# ---- OpenSSH's lists, and ours read by OpenSSH


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory, ssh_keygen: Keygen) -> Path:
    """A CA and certificates of it with the serials 1 to 6; `key-N-cert.pub`."""
    folder = tmp_path_factory.mktemp("signed")
    for name in ("ca", "key"):
        ssh_keygen("-q", "-t", "ed25519", "-N", "", "-C", name, "-f", folder / name)
    for serial in range(7):
        ssh_keygen("-q", "-s", folder / "ca", "-I", f"id {serial}", "-z", serial, folder / "key.pub")
        (folder / "key-cert.pub").rename(folder / f"key-{serial}-cert.pub")
    return folder


def query(ssh_keygen: Keygen, krl: Path, *keys: Path) -> list[str]:
    said = ssh_keygen("-Q", "-f", krl, *keys, ok=False)
    return [line.rpartition(": ")[2] for line in said.splitlines()]


def test_a_list_of_ssh_keygen_says_the_same_to_us(tmp_path: Path, signed: Path, ssh_keygen: Keygen) -> None:
    ca = load_public_key((signed / "ca.pub").read_text())[0]
    spec, krl = tmp_path / "spec", tmp_path / "krl"
    spec.write_text("serial: 2\nserial: 4-5\nserial: 1000-2000\nserial: 2002\nserial: 2004\nid: id 0\n")
    ssh_keygen("-k", "-f", krl, "-s", signed / "ca.pub", "-z", "12", spec)
    ours = Krl.parse(krl.read_bytes())
    theirs = query(ssh_keygen, krl, *(signed / f"key-{n}-cert.pub" for n in range(7)))
    shown = [load_key((signed / f"key-{n}-cert.pub").read_text())[0] for n in range(7)]
    said = [ours.revokes(each) for each in shown]
    assert theirs == ["REVOKED", "ok", "REVOKED", "ok", "REVOKED", "REVOKED", "ok"]
    assert ["REVOKED" if reason else "ok" for reason in said] == theirs
    assert ours.version == 12
    assert list(ours.issued[ca.blob].ranges()) == [(2, 2), (4, 5), (1000, 2000), (2002, 2002), (2004, 2004)]


def test_a_list_of_ours_says_the_same_to_ssh_keygen(tmp_path: Path, signed: Path, ssh_keygen: Keygen) -> None:
    krl = Krl()
    held = krl.issued_by(load_public_key((signed / "ca.pub").read_text())[0])
    for serial in (2, 4, 5, *range(100, 140, 3)):
        held.add(serial, serial)
    held.add(10**6, 10**7)
    held.key_ids.add("id 0")
    for kind, name in (("ssh-ed25519", "plain"), ("ssh-ed25519", "sha256"), ("ecdsa-sha2-nistp256", "sha1")):
        key = PrivateKey.generate(kind).public
        (tmp_path / name).write_text(dump_public_key(key))
        if name == "plain":
            krl.revoke(key)
        else:
            getattr(krl, name).add(hashlib.new(name, key.blob).digest())
    (tmp_path / "krl").write_bytes(krl.dump(1_700_000_000))
    files = [signed / f"key-{n}-cert.pub" for n in range(7)]
    files += [tmp_path / name for name in ("plain", "sha256", "sha1")]
    said = query(ssh_keygen, tmp_path / "krl", *files, signed / "key.pub", signed / "ca.pub")
    revoked, ok = "REVOKED", "ok"
    assert said == [revoked, ok, revoked, ok, revoked, revoked, ok, revoked, revoked, revoked, ok, ok]
    shown = ssh_keygen("-Q", "-l", "-f", tmp_path / "krl")
    assert "serial: 1000000-10000000\n" in shown
    assert "serial: 139\n" in shown
