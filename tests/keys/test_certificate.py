"""OpenSSH PROTOCOL.certkeys: certificates read, made and judged, beside ssh-keygen's own."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glasshell.crypto.signatures import CERTIFIED, COMPOSITE, SIGNING_TYPES, PrivateKey, certified_name
from glasshell.errors import KeyFormatError, UsageError
from glasshell.keys.certificate import (
    ALWAYS,
    MAX_OPTIONS,
    MAX_PRINCIPALS,
    Certificate,
    draft_certificate,
    finish_certificate,
    sign_certificate,
)
from glasshell.keys.openssh import dump_private_key
from glasshell.keys.public import dump_public_key, load_key, read_key
from tests.fido import ECDSA, ED25519, Token

Keygen = Callable[..., str]

CA = PrivateKey.generate("ssh-ed25519", comment="authority")
USER = PrivateKey.generate("ssh-ed25519")
NOW = 1_700_000_000
PERMITS = dict.fromkeys(
    ("permit-X11-forwarding", "permit-agent-forwarding", "permit-port-forwarding", "permit-pty",
     "permit-user-rc"), ""
)  # fmt: skip


def string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def certificate(**changes: Any) -> Certificate:
    """A user's certificate for bob, with some things changed."""
    told: dict[str, Any] = {"kind": "user", "key_id": "id", "principals": ["bob"], "extensions": PERMITS}
    return sign_certificate(USER.public, changes.pop("authority", CA), **{**told, **changes})


def built(
    *, kind: int = 1, key_id: bytes = b"id", principals: bytes = string(b"bob"), after: int = 0,
    before: int = ALWAYS, critical: bytes = b"", extensions: bytes = b"", reserved: bytes = b"",
    authority: bytes = b"", signer: PrivateKey = CA, key: PrivateKey = USER, tail: bytes = b"",
    algorithm: str = "",
) -> bytes:  # fmt: skip
    """The blob of a certificate put together by hand, whatever it says, with a good signature."""
    name = key.public.type.encode()
    body = string(certified_name(key.public.type).encode()) + string(b"nonce")
    body += key.public.blob[len(string(name)) :]
    body += struct.pack(">QI", 7, kind) + string(key_id) + string(principals)
    body += struct.pack(">QQ", after, before) + string(critical) + string(extensions) + string(reserved)
    body += string(authority or signer.public.blob)
    return body + string(signer.sign(algorithm or signer.public.algorithms[0], body)) + tail


def option(name: bytes, value: bytes | None = None) -> bytes:
    return string(name) + string(b"" if value is None else string(value))


# ---- the same as ssh-keygen's


@pytest.fixture(scope="module", params=[name for name in SIGNING_TYPES if name != COMPOSITE])
def key(request: pytest.FixtureRequest) -> PrivateKey:
    """A key of each type that is made here."""
    return PrivateKey.generate(request.param, 2048 if request.param == "ssh-rsa" else None)


def written(folder: Path, private: PrivateKey, name: str) -> Path:
    path = folder / name
    path.write_bytes(dump_private_key(private))
    path.chmod(0o600)
    path.with_name(f"{name}.pub").write_text(dump_public_key(private.public, name))
    return path


def test_ssh_keygen_signs_and_we_read(key: PrivateKey, ssh_keygen: Keygen, tmp_path: Path) -> None:
    authority, user = written(tmp_path, CA, "ca"), written(tmp_path, key, "user")
    ssh_keygen(
        "-s", authority, "-I", "märz 1", "-n", "bob,alice", "-z", "18446744073709551615",
        "-V", "20200101000000Z:20300101000000Z", "-O", "force-command=ls -l", "-O", "no-pty",
        "-O", "source-address=192.0.2.0/24,::1/128", "-O", "verify-required", "-O", "extension:x@y=v",
        f"{user}.pub",
    )  # fmt: skip
    read, _ = load_key(user.with_name("user-cert.pub").read_bytes())
    assert isinstance(read, Certificate)
    assert (read.key, read.authority, read.signature_algorithm) == (key.public, CA.public, "ssh-ed25519")
    assert (read.kind, read.key_id, read.serial) == ("user", "märz 1", (1 << 64) - 1)
    assert read.principals == ("bob", "alice")
    assert (read.valid_after, read.valid_before) == (1577836800, 1893456000)
    assert (read.force_command, read.verify_required) == ("ls -l", True)
    assert read.source_addresses == ("192.0.2.0/24", "::1/128")
    assert read.permits("X11-forwarding")
    assert read.permits("user-rc")
    assert not read.permits("pty")
    assert read.extensions["x@y"] == string(b"v")
    assert read.label == f"{key.public.label}-CERT"
    assert f"{read.fingerprint()} " in ssh_keygen("-l", "-f", user.with_name("user-cert.pub"))


def test_we_sign_and_ssh_keygen_reads(key: PrivateKey, ssh_keygen: Keygen, tmp_path: Path) -> None:
    made = sign_certificate(
        key.public, CA, kind="host", key_id="host of ours", principals=["*.example.org", "h"], serial=42,
        valid_after=1577836800, valid_before=1893456000,
    )  # fmt: skip
    path = tmp_path / "host-cert.pub"
    path.write_text(dump_public_key(made))
    said = ssh_keygen("-L", "-f", path)
    for words in (
        f"Type: {made.type} host certificate", f"Public key: {made.label} {key.public.fingerprint()}",
        f"Signing CA: ED25519 {CA.public.fingerprint()} (using ssh-ed25519)", 'Key ID: "host of ours"',
        "Serial: 42", "*.example.org\n", "Critical Options: (none)", "Extensions: (none)",
    ):  # fmt: skip
        assert words in said, said


def test_we_sign_as_ssh_keygen_does(ssh_keygen: Keygen, tmp_path: Path) -> None:
    """Byte for byte, but for the nonce: the order of options too."""
    authority, user = written(tmp_path, CA, "ca"), written(tmp_path, USER, "user")
    ssh_keygen("-s", authority, "-I", "i", "-n", "bob", "-O", "force-command=x", "-O",
               "source-address=::1/128", f"{user}.pub")  # fmt: skip
    theirs, _ = load_key(user.with_name("user-cert.pub").read_bytes())
    nonce = theirs.blob[len(string(theirs.type.encode())) :][4:36]
    ours = certificate(
        key_id="i", nonce=nonce, critical={"source-address": "::1/128", "force-command": "x"},
        extensions=dict(reversed(PERMITS.items())),
    )  # fmt: skip
    assert ours == theirs


@pytest.mark.parametrize("algorithm", ["rsa-sha2-512", "rsa-sha2-256"])
def test_authority_of_rsa(algorithm: str, ssh_keygen: Keygen, tmp_path: Path) -> None:
    rsa = PrivateKey.generate("ssh-rsa", 2048)
    made = certificate(authority=rsa, algorithm=algorithm)
    assert made.signature_algorithm == algorithm
    (tmp_path / "c.pub").write_text(dump_public_key(made))
    assert f"(using {algorithm})" in ssh_keygen("-L", "-f", tmp_path / "c.pub")


@pytest.mark.parametrize("kind", [ED25519, ECDSA])
def test_keys_and_authorities_in_hardware(kind: str, ssh_keygen: Keygen, tmp_path: Path) -> None:
    token = Token(kind)
    draft = draft_certificate(token.public, token.public, kind="user", key_id="t", principals=["bob"])
    made = finish_certificate(draft, token.sign(draft, flags=0))
    assert made.type == certified_name(kind)
    assert (made.key, made.authority, made.application) == (token.public, token.public, "ssh:")
    (tmp_path / "c.pub").write_text(dump_public_key(made))
    assert token.public.fingerprint() in ssh_keygen("-L", "-f", tmp_path / "c.pub")
    name = made.algorithms[0]
    assert made.verify(name, token.sign(b"x"), b"x")
    assert not made.verify(name, token.sign(b"x", flags=0), b"x")
    assert not made.verify(kind, token.sign(b"x"), b"x")


def test_openssh_samples(shared: Path) -> None:
    """OpenSSH's own test data; of each what its unit test expects (authopt/tests.c)."""
    folder = shared / "vectors/openssh/unittests/authopt/testdata"
    read = {path.stem: load_key(path.read_bytes())[0] for path in sorted(folder.glob("*.cert"))}
    certs = {name: cert for name, cert in read.items() if isinstance(cert, Certificate)}
    assert len(certs) == len(read) == 17
    objections = {
        name: cert.objection("user", "user", cert.valid_after, address="127.0.0.1")
        for name, cert in certs.items()
    }
    assert {name for name, objection in objections.items() if objection} == {
        "bad_sourceaddr", "host", "unknown_critical",
    }  # fmt: skip
    assert certs["force_command"].force_command == "foo"
    assert certs["sourceaddr"].source_addresses == ("127.0.0.1/32", "::1/128")
    assert certs["sourceaddr"].objection("user", "user", certs["host"].valid_after, address="127.0.0.2")
    for name, what in (("x11fwd", "X11-forwarding"), ("agentfwd", "agent-forwarding"), ("pty", "pty"),
                       ("portfwd", "port-forwarding"), ("user_rc", "user-rc")):  # fmt: skip
        permitted = {c for c, cert in certs.items() if c.startswith(("only", "no_")) and cert.permits(what)}
        assert permitted == {f"only_{name}"} | {
            c for c in certs if c.startswith("no_") and c not in (f"no_{name}", "no_permit")
        }


def test_cryptography_samples(shared: Path) -> None:
    folder = shared / "vectors/cryptography-vectors/asymmetric/OpenSSH/certs"
    refused = {
        "p256-p256-broken-signature-key-type.pub", "p256-p256-duplicate-crit-opts.pub",
        "p256-p256-duplicate-extension.pub", "p256-p256-invalid-cert-type.pub",
        "p256-p256-non-lexical-crit-opts.pub", "p256-p256-non-lexical-extensions.pub", "p256-dsa-ca.pub",
        "dsa-p256.pub", "p256-dsa.pub", "p256-rsa-sha1.pub",
    }  # fmt: skip
    names = set()
    for path in sorted(folder.glob("*.pub")):
        names.add(path.name)
        try:
            assert isinstance(load_key(path.read_bytes())[0], Certificate)
        except KeyFormatError:
            assert path.name in refused
        else:
            assert path.name not in refused, path.name
    assert len(names) > 10


# ---- what is no certificate


def test_cut_at_every_byte_and_lengthened(key: PrivateKey) -> None:
    blob = sign_certificate(
        key.public, CA, kind="user", key_id="id", principals=["bob"], critical={"force-command": "x"},
        extensions={"permit-pty": ""},
    ).blob  # fmt: skip
    assert Certificate.from_blob(blob).key == key.public
    for length in range(len(blob)):
        with pytest.raises(KeyFormatError):
            read_key(blob[:length])
    with pytest.raises(KeyFormatError):
        Certificate.from_blob(blob + b"\0")


def test_every_byte_changed() -> None:
    blob = certificate(critical={"force-command": "x"}).blob
    for at in range(len(blob)):
        changed = bytearray(blob)
        changed[at] ^= 1
        with pytest.raises(KeyFormatError):
            Certificate.from_blob(bytes(changed))


@pytest.mark.parametrize(
    ("blob", "words"),
    [
        (built(kind=0), "kind 0"),
        (built(kind=3), "kind 3"),
        (built(key_id=b"a\0b"), "NUL"),
        (built(principals=string(b"bob\0root")), "NUL"),
        (built(principals=string(b"bob") + b"\0\0\0\x09x"), "cannot be read"),
        (built(principals=string(b"") * (MAX_PRINCIPALS + 1)), "more than 256"),
        (built(extensions=b"".join(option(b"%04d" % i) for i in range(MAX_OPTIONS + 1))), "more than 256"),
        (built(critical=option(b"b") + option(b"a")), "out of order"),
        (built(critical=option(b"a") + option(b"a")), "twice"),
        (built(extensions=option(b"b") + option(b"a")), "out of order"),
        (built(extensions=string(b"a")), "cannot be read"),
        (built(critical=option(b"a\0")), "NUL"),
        (built(authority=string(b"ssh-dss") + string(b"x") * 4), "authority cannot be used"),
        (built(authority=PrivateKey.generate("ssh-ed25519").public.blob), "does not verify"),
        (built(tail=b"\0"), "cannot be read"),
    ],
    ids=range(15),  # the blobs hold fresh keys, and two processes must collect the same names
)
def test_refused(blob: bytes, words: str) -> None:
    with pytest.raises(KeyFormatError, match=words):
        Certificate.from_blob(blob)


def test_go_90f76b8_a_certificate_is_no_authority() -> None:
    """However deep: the one inside is never looked into."""
    inner = certificate().blob
    for _ in range(200):
        inner = built(authority=inner)
    with pytest.raises(KeyFormatError, match="authority cannot be used"):
        Certificate.from_blob(inner)


def test_what_is_reserved_and_not_known_is_passed_over() -> None:
    read = Certificate.from_blob(built(reserved=b"whatever", extensions=option(b"later@example.org", b"x")))
    assert read.objection("user", "bob", NOW) == ""


def test_sha1_of_an_authority() -> None:
    rsa = PrivateKey.generate("ssh-rsa", 2048)
    good = certificate(authority=rsa).blob
    for name in (b"ssh-rsa", b"rsa-sha2-256"):  # the name is bound to what is verified
        signature = string(string(b"rsa-sha2-512") + string(bytes(256)))
        start = len(good) - len(signature)
        inner = good[start + 4 + len(string(b"rsa-sha2-512")) :]
        with pytest.raises(KeyFormatError, match=r"not supported|does not verify"):
            Certificate.from_blob(good[:start] + string(string(name) + inner))


@given(st.sampled_from([*CERTIFIED, "x-cert-v01@openssh.com"]), st.binary(max_size=300))
def test_any_blob_is_a_certificate_or_a_key_format_error(name: str, rest: bytes) -> None:
    with contextlib.suppress(KeyFormatError):
        read_key(string(name.encode()) + rest)


@given(st.data())
def test_any_field_is_read_or_a_key_format_error(data: st.DataObject) -> None:
    """Well signed, so that nothing but the fields themselves is in the way."""
    names = ("key_id", "principals", "critical", "extensions")
    fields = {name: data.draw(st.binary(max_size=40)) for name in names}
    blob = built(kind=data.draw(st.integers(0, 3)), **fields)  # type: ignore[arg-type]
    with contextlib.suppress(KeyFormatError):
        read = Certificate.from_blob(blob)
        assert read.blob == blob
        read.objection("user", "bob", NOW, address="::1")


# ---- judged


def test_times_are_those_of_openssh() -> None:
    made = certificate(valid_after=100, valid_before=200)
    told = [made.objection("user", "bob", now).rpartition(": ")[2] for now in (99, 100, 199, 199.9, 200)]
    assert told == ["not yet valid", "", "", "", "expired"]
    assert certificate().objection("user", "bob", 1 << 63) == ""


@pytest.mark.parametrize("kind", ["user", "host"])
def test_openssh_cve_2024_7594_nobody_named_is_nobody(kind: Any) -> None:
    """Whoever compares the names by a list of their own too; as OpenSSH 10.3 has it."""
    made = certificate(kind=kind, principals=[])
    for name in ("bob", "", None):
        assert made.objection(kind, name, NOW) == "Certificate lacks principal list"


def test_address_is_never_forgotten() -> None:
    made = certificate(critical={"source-address": "192.0.2.0/24"})
    assert made.objection("user", "bob", NOW)
    assert made.objection("user", "bob", NOW, address="192.0.3.1")
    assert made.objection("user", "bob", NOW, address="UNKNOWN")
    assert made.objection("user", "bob", NOW, address="192.0.2.7") == ""
    assert made.objection("user", "bob", NOW, address="::ffff:192.0.2.7") == ""


def test_algorithms_of_the_authority() -> None:
    made = certificate()
    assert made.objection("user", "bob", NOW, algorithms=("rsa-sha2-512",)).endswith("ssh-ed25519")
    assert made.objection("user", "bob", NOW, algorithms=("ssh-ed25519",)) == ""


def test_names_of_hosts_may_be_patterns() -> None:
    made = sign_certificate(USER.public, CA, kind="host", key_id="", principals=["*.example.org"])
    assert made.objection("host", "a.example.org", NOW) == ""
    assert made.objection("host", "example.org", NOW)
    assert made.objection("user", "a.example.org", NOW)
    assert certificate(principals=["*"]).objection("user", "bob", NOW)
    assert certificate(principals=["*"]).objection("user", "*", NOW) == ""


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "both"}, {"principals": ["x"] * 257}, {"principals": [""]}, {"principals": ["a\0b"]},
        {"key_id": "a\0b"}, {"valid_after": 5, "valid_before": 5}, {"valid_before": 1 << 64},
        {"valid_after": -1}, {"critical": {"a\0": ""}},
    ],
    ids=range(9),
)  # fmt: skip
def test_not_signed(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        certificate(**wrong)


def test_a_type_without_certificates() -> None:
    with pytest.raises(UsageError, match="no certificates of keys of type ssh-mldsa44-ed25519"):
        sign_certificate(
            PrivateKey.generate("ssh-mldsa44-ed25519").public, CA, kind="user", key_id="", principals=["bob"]
        )


def test_the_signature_is_checked_before_it_is_handed_out() -> None:
    draft = draft_certificate(USER.public, CA.public, kind="user", key_id="", principals=["bob"])
    with pytest.raises(KeyFormatError, match="does not verify"):
        finish_certificate(draft, USER.sign("ssh-ed25519", draft))
