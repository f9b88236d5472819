"""The table of verdicts: what published texts say of the algorithms, and that no row hides another."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glasshell.crypto.registry import ALGORITHMS, Kind, Status
from glasshell.explain.verdicts import GRADES, ROWS, is_marker, key_size_verdict, verdict

KINDS = {Kind.KEX: "kex", Kind.HOST_KEY: "host_key", Kind.CIPHER: "cipher", Kind.MAC: "mac",
         Kind.COMPRESSION: "compression"}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "name", "grades"),
    [
        # RFC 9142, table 12: MUST NOT and SHOULD NOT.
        ("kex", "diffie-hellman-group1-sha1", ("broken",)), ("kex", "rsa1024-sha1", ("broken",)),
        ("kex", "diffie-hellman-group-exchange-sha1", ("weak", "broken")),
        ("kex", "gss-gex-sha1-x", ("weak", "broken")), ("kex", "gss-group1-sha1-x", ("broken",)),
        # RFC 8758: MUST NOT.
        ("cipher", "arcfour", ("broken",)), ("cipher", "arcfour128", ("broken",)),
        ("cipher", "arcfour256", ("broken",)),
        # RFC 8332 1, RFC 6151, CVE-2016-2183, CVE-2008-5161
        ("host_key", "ssh-rsa", ("broken",)), ("host_key", "rsa-sha2-512", ("good",)),
        ("mac", "hmac-md5-96-etm@openssh.com", ("broken",)), ("cipher", "3des-cbc", ("broken",)),
        ("cipher", "aes128-cbc", ("weak",)), ("host_key", "ssh-dss", ("broken",)),
        ("cipher", "none", ("broken",)), ("mac", "none", ("broken",)),
        ("mac", "hmac-sha1", ("weak",)), ("mac", "hmac-sha2-512-etm@openssh.com", ("good",)),
        ("cipher", "aes256-gcm@openssh.com", ("good",)), ("kex", "mlkem768x25519-sha256", ("good",)),
        ("kex", "something-new@example.org", ("unknown",)),
    ],
)  # fmt: skip
def test_what_is_published(kind: str, name: str, grades: tuple[str, ...]) -> None:
    assert verdict(kind, name).grade in grades  # type: ignore[arg-type]


def test_what_we_offer_ourselves_is_judged_and_good() -> None:
    grades = {Status.ON_REQUEST: ("good", "weak"), Status.LEGACY: ("weak", "broken")}
    for row in ALGORITHMS:
        judged = verdict(KINDS[row.kind], row.name)  # type: ignore[arg-type]
        assert judged.grade in grades.get(row.status, ("good",)), row.name
        assert judged.reason
        assert judged.source


def test_only_hybrids_are_post_quantum() -> None:
    found = {name for row in ROWS if row.kind == "kex" and row.post_quantum for name in row.names.split()}
    assert all(any(word in name for word in ("mlkem", "sntrup", "kyber")) for name in found)
    assert not verdict("kex", "curve25519-sha256").post_quantum


def test_every_row_is_reached() -> None:
    """Each row is the first for at least one of its own names: none stands in another's shadow."""
    for row in ROWS:
        names = [name.replace("*", "x") for name in row.names.split()]
        firsts = [next(r for r in ROWS if r.kind == row.kind and r.fits(name)) for name in names]
        assert row in firsts, row.names


@pytest.mark.parametrize(
    ("key_type", "bits", "grade"),
    [("ssh-rsa", 1024, "broken"), ("ssh-rsa", 2048, "weak"), ("ssh-rsa", 3072, "good"),
     ("ssh-dss", 1024, "broken"), ("ssh-ed25519", 256, "good"), ("ecdsa-sha2-nistp256", 256, "good")],
)  # fmt: skip
def test_key_sizes(key_type: str, bits: int, grade: str) -> None:
    assert key_size_verdict(key_type, bits)[0] == grade


def test_markers_are_no_algorithms() -> None:
    assert is_marker("kex-strict-s-v00@openssh.com")
    assert is_marker("ext-info-c")
    assert not is_marker("curve25519-sha256")


@given(st.sampled_from(["kex", "host_key", "cipher", "mac", "compression"]), st.text())
def test_any_name_has_a_verdict(kind: str, name: str) -> None:
    assert verdict(kind, name).grade in GRADES  # type: ignore[arg-type]
