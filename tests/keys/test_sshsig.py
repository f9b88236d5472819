"""Signatures of files: OpenSSH's samples, ssh-keygen both ways, and signatures made for something else."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glasshell.crypto.signatures import PrivateKey, PublicKey
from glasshell.errors import KeyFormatError, UsageError
from glasshell.keys.allowed_signers import AllowedSigners
from glasshell.keys.certificate import Certificate, sign_certificate
from glasshell.keys.public import dump_public_key, load_public_key
from glasshell.keys.sshsig import FileSignature, hasher, sign
from glasshell.keys.times import parse_time
from glasshell.wire import Reader, string, uint32

from .conftest import Keygen

KEY = PrivateKey.generate("ssh-ed25519")
OTHER = PrivateKey.generate("ssh-ed25519")
DIGEST = hashlib.sha512(b"a file").digest()


def signed(key: PrivateKey = KEY, namespace: str = "file", digest: bytes = DIGEST) -> FileSignature:
    return sign(key.sign, key.public, namespace, digest)


def armored(body: bytes) -> bytes:
    text = base64.b64encode(body)
    return b"-----BEGIN SSH SIGNATURE-----\n" + text + b"\n-----END SSH SIGNATURE-----\n"


def parts(*, magic: bytes = b"SSHSIG", version: int = 1, namespace: bytes = b"file", hash: bytes = b"sha512",
          signature: bytes = b"", tail: bytes = b"") -> bytes:  # fmt: skip
    head = magic + uint32(version) + string(KEY.public.blob) + string(namespace) + string(b"reserved")
    return armored(head + string(hash) + string(signature) + tail)


# ---- OpenSSH's


@pytest.mark.parametrize("name", ["ed25519", "ecdsa", "ed25519_sk", "ecdsa_sk", "ecdsa_sk_webauthn"])
def test_samples_of_openssh(name: str, shared: Path) -> None:
    folder = shared / "vectors/openssh/unittests/sshsig/testdata"
    signature = FileSignature.parse((folder / f"{name}.sig").read_bytes())
    message, namespace = (folder / "signed-data").read_bytes(), (folder / "namespace").read_text().strip()
    assert signature.key == load_public_key((folder / f"{name}.pub").read_text())[0]
    assert signature.objection(namespace, hashlib.new(signature.hash, message).digest()) == ""
    assert signature.objection(namespace, hashlib.new(signature.hash, message + b"x").digest())
    assert FileSignature.parse(signature.armor().encode()) == signature


@pytest.mark.parametrize("hash", ["sha256", "sha512"])
def test_ssh_keygen_both_ways(hash: str, private_key: PrivateKey, ssh_keygen: Keygen, tmp_path: Path) -> None:
    from glasshell.keys.openssh import dump_private_key

    key, file = tmp_path / "key", tmp_path / "file"
    key.touch(0o600)
    key.write_bytes(dump_private_key(private_key))
    (tmp_path / "key.pub").write_text(dump_public_key(private_key.public))
    file.write_bytes(b"content\n")
    digest = hashlib.new(hash, b"content\n").digest()
    ssh_keygen("-Y", "sign", "-q", "-O", f"hashalg={hash}", "-n", "git", "-f", key, file)
    theirs = FileSignature.parse((tmp_path / "file.sig").read_bytes())
    assert (theirs.hash, theirs.namespace, theirs.key) == (hash, "git", private_key.public)
    assert theirs.objection("git", digest) == ""
    ours = sign(private_key.sign, private_key.public, "git", digest, hash)
    (tmp_path / "file.sig").write_text(ours.armor())
    done = subprocess.run(["ssh-keygen", "-Y", "check-novalidate", "-n", "git", "-s", tmp_path / "file.sig"],
                          input=b"content\n", capture_output=True, check=True)  # fmt: skip
    assert b'Good "git" signature' in done.stdout
    if private_key.public.type == "ssh-ed25519":  # which signs alike each time
        assert ours.armor() == theirs.armor()


def test_g1_cut_at_every_byte() -> None:
    data = signed().armor().encode()
    for size in range(len(data) - 1):
        with pytest.raises(KeyFormatError):
            FileSignature.parse(data[:size])
    body = base64.b64decode(b"".join(data.split(b"\n")[1:-2]))
    for size in range(len(body)):
        with pytest.raises(KeyFormatError):
            FileSignature.parse(armored(body[:size]))


@given(st.binary(max_size=300))
def test_whatever_it_is_nothing_but_a_key_format_error(data: bytes) -> None:
    for text in (data, armored(data), armored(b"SSHSIG\0\0\0\1" + data), parts(signature=data)):
        with contextlib.suppress(KeyFormatError):
            assert FileSignature.parse(text).objection("file", DIGEST)


# ---- G7: what is signed for one thing is nothing to another


def test_g7_a_signature_is_for_its_namespace_alone() -> None:
    assert signed().objection("file", DIGEST) == ""
    for other in ("git", "", "FILE", "file\0"):
        assert signed().objection(other, DIGEST) == "namespace does not match"
    moved = FileSignature(KEY.public, "git", "sha512", signed().signature)
    assert moved.objection("git", DIGEST) == "incorrect signature"


def test_g7_a_namespace_is_never_empty() -> None:
    with pytest.raises(UsageError):
        signed(namespace="")
    bare = b"SSHSIG" + string(b"") + string(b"") + string(b"sha512") + string(DIGEST)
    with pytest.raises(KeyFormatError, match="without a namespace"):
        FileSignature.parse(parts(namespace=b"", signature=KEY.sign("ssh-ed25519", bare)))
    made = FileSignature(KEY.public, "", "sha512", KEY.sign("ssh-ed25519", bare))
    assert made.objection("", DIGEST)


def test_g7_the_hash_is_part_of_it() -> None:
    short = hashlib.sha256(b"a file").digest()
    swapped = FileSignature(KEY.public, "file", "sha256", signed(digest=short).signature)
    assert swapped.objection("file", short) == "incorrect signature"
    for name in (b"sha1", b"md5", b"sha384", b""):
        with pytest.raises(KeyFormatError, match="hash"):
            FileSignature.parse(parts(hash=name))
    with pytest.raises(UsageError):
        hasher("sha1")


@pytest.mark.parametrize("version", [0, 2, 2**32 - 1])
def test_versions(version: int) -> None:
    with pytest.raises(KeyFormatError, match="version"):
        FileSignature.parse(parts(version=version))


def test_rsa_never_signs_with_sha1() -> None:
    key = PrivateKey.generate("ssh-rsa", 2048)
    assert Reader(sign(key.sign, key.public, "file", DIGEST).signature).name() == "rsa-sha2-512"
    good = sign(key.sign, key.public, "file", hashlib.sha256(b"a file").digest(), "sha256")
    assert Reader(good.signature).name() == "rsa-sha2-256"
    inner = good.signature[4 + len("rsa-sha2-256") :]
    renamed = FileSignature(key.public, "file", "sha256", string(b"ssh-rsa") + inner)
    assert "ssh-rsa" in renamed.objection("file", hashlib.sha256(b"a file").digest())


# ---- allowed_signers

NOW = parse_time("20260101120000Z")


def file(*lines: str) -> AllowedSigners:
    return AllowedSigners.parse("\n".join(lines).encode(), "signers")


def line(options: str = "", principals: str = "a@x", key: PublicKey = KEY.public) -> str:
    return f"{principals} {options} {dump_public_key(key)}".replace("  ", " ").strip()


@pytest.mark.parametrize(
    ("options", "namespace", "says"),
    [
        ("", "file", ""),
        ('namespaces="file"', "file", ""),
        ('NAMESPACES="f*,git"', "file", ""),
        ('namespaces="git"', "file", "namespace"),
        ('namespaces="*,!file"', "file", "namespace"),
        ('namespaces="!file,*"', "file", "namespace"),
        ('valid-after="20260101Z"', "file", ""),
        ('valid-after="20260102Z"', "file", "not yet valid"),
        ('valid-before="20260102Z"', "file", ""),
        ('valid-before="20260101Z"', "file", "expired"),
        ('valid-after="20260101Z",valid-before="20260102Z",namespaces="file"', "file", ""),
        ('valid-after="20260102Z",valid-before="20260101Z"', "file", "bad options"),
        ('valid-after="soon"', "file", "bad options"),
        ('valid-after="20260101Z",valid-after="20260101Z"', "file", "multiple"),
        ('namespaces=""', "file", "bad options"),
        ("namespaces=file", "file", "bad options"),
        ("restrict", "file", "bad options"),
        ('cert-authority="yes"', "file", "bad options"),
        ('namespaces="file",', "file", "bad options"),
    ],
)
def test_options(options: str, namespace: str, says: str) -> None:
    answer = file(line(options)).check(KEY.public, "a@x", namespace, NOW)
    assert bool(answer.principals) == (says == "")
    assert says in "".join(answer.complaints)
    assert all(complaint.startswith("signers:1: ") for complaint in answer.complaints)


def test_principals() -> None:
    signers = file("# comment", "", line(principals="a@x,*@y,!evil@z,*@z"), line(principals='"q r@x"'))
    for name in ("a@x", "anybody@y", "good@z", "q r@x"):
        assert signers.check(KEY.public, name, "file", NOW).principals == (name,)
    for name in ("A@x", "evil@z", "b@x", ""):
        assert not signers.check(KEY.public, name, "file", NOW).principals
    assert not signers.check(OTHER.public, "a@x", "file", NOW).principals
    assert signers.find(KEY.public, NOW).principals == ("a@x", "*@y", "!evil@z", "*@z")
    assert [signer.where for signer in signers.match("good@z")] == ["signers:3"]


def test_a_key_is_no_authority_and_an_authority_no_key() -> None:
    assert not file(line("cert-authority")).check(KEY.public, "a@x", "file", NOW).principals


def certified(authority: PrivateKey = OTHER, **changes: Any) -> Certificate:
    facts: dict[str, Any] = {"kind": "user", "key_id": "x", "principals": ("a@x", "b@x"), **changes}
    return sign_certificate(KEY.public, authority, **facts)


@pytest.mark.parametrize(
    ("certificate", "good"),
    [
        (certified(), True),
        (certified(KEY), False),
        (certified(kind="host"), False),
        (certified(principals=("c@x",)), False),
        (certified(principals=()), False),
        (certified(valid_before=NOW - 1), False),
        (certified(valid_after=NOW + 1), False),
        (certified(critical={"unknown@x": ""}), False),
    ],
    ids=["good", "authority", "host", "principal", "nobody", "expired", "early", "critical"],
)
def test_certificates_count_where_their_authority_may_and_they_hold(
    certificate: Certificate, good: bool
) -> None:
    signers = file(line("cert-authority", "*@x", OTHER.public))
    assert bool(signers.check(certificate, "a@x", "file", NOW).principals) is good
    found = signers.find(certificate, NOW).principals
    assert found == (certificate.principals if good or certificate.principals == ("c@x",) else ())
    plain = file(line("", "*@x", OTHER.public), line("", "*@x", KEY.public))
    assert not plain.check(certificate, "a@x", "file", NOW).principals  # a certificate is not its key


def test_a_bad_line_is_named_and_the_next_one_counts() -> None:
    answer = file("a@x ssh-ed25519 AAAA", "a@x", line()).check(KEY.public, "a@x", "file", NOW)
    assert answer.principals
    assert [complaint[:10] for complaint in answer.complaints] == ["signers:1:", "signers:2:"]


@given(st.text(max_size=200))
def test_whatever_a_list_of_signers_holds(text: str) -> None:
    data = text.encode("utf-8", "surrogatepass")
    for content in (data, b"a@x " + data, b'a@x namespaces="' + data):
        signers = AllowedSigners.parse(content)
        assert not signers.check(KEY.public, "a@x", "file", NOW).principals
        assert not signers.find(KEY.public, NOW).principals
