"""What is shown of keys, certificates and signatures, beside what ssh-keygen says of the same files."""

from __future__ import annotations

import base64
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glasshell.messages import Shown, describe, kex
from glasshell.wire import string
from tests.needs import absent

FLAT = ("ed25519", "rsa", "ecdsa")


@pytest.fixture
def keygen(tmp_path: Path) -> Path:
    if shutil.which("ssh-keygen") is None:
        absent("ssh-keygen")
    for name in (*FLAT, "ca"):
        kind = "ed25519" if name == "ca" else name
        run(tmp_path, "-q", "-t", kind, "-N", "", "-C", "", "-f", name)
    return tmp_path


def run(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["ssh-keygen", *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout


def blob_of(path: Path) -> bytes:
    return base64.b64decode(path.read_text().split()[1])


def shown(host_key: bytes, signature: bytes = b"") -> tuple[Shown, Shown]:
    """The fields of a reply with these two, as they are shown."""
    fields = {
        each.name: each for each in describe(kex.KexEcdhReply(host_key, b"Q", signature).encode(), "ecdh")
    }
    return fields["host_key"], fields["signature"]


def values(field: Shown) -> dict[str, object]:
    found: dict[str, object] = {}
    for child in field.children:
        found |= values(child) if child.children and child.type != "string" else {child.name: child.value}
    return found


@pytest.mark.parametrize("name", FLAT)
def test_a_key_is_shown_by_its_parts(keygen: Path, name: str) -> None:
    line = (keygen / f"{name}.pub").read_text().split()
    held, _ = shown(blob_of(keygen / f"{name}.pub"))
    assert held.holds == "PublicKeyBlob"
    assert values(held)["type"] == line[0]
    if name == "rsa":
        bits = run(keygen, "-l", "-f", "rsa.pub").split()[0]
        modulus = values(held)["n"]
        assert isinstance(modulus, int)
        assert modulus.bit_length() == int(bits)
    else:
        point = values(held)["q" if name == "ecdsa" else "key"]
        assert isinstance(point, bytes)
        assert len(point) == {"ecdsa": 65, "ed25519": 32}[name]


@pytest.mark.parametrize("name", FLAT)
def test_a_certificate_is_shown_by_its_parts(keygen: Path, name: str) -> None:
    run(keygen, "-q", "-s", "ca", "-I", "who is it", "-z", "77", "-n", "ann,bob", "-V", "always:forever",
        "-O", "source-address=192.0.2.0/24", f"{name}.pub")  # fmt: skip
    held, _ = shown(blob_of(keygen / f"{name}-cert.pub"))
    told = values(held)
    assert (told["serial"], told["key_id"], told["valid_after"]) == (77, "who is it", 0)
    principals = next(each for each in flat(held) if each.name == "valid_principals")
    assert [each.value for each in flat(principals) if each.name == "name"] == ["ann", "bob"]
    options = next(each for each in flat(held) if each.name == "critical_options")
    assert [each.value for each in flat(options) if each.name == "name"] == ["source-address"]
    authority = next(each for each in flat(held) if each.name == "signature_key")
    assert values(authority)["key"] == blob_of(keygen / "ca.pub")[-32:]


def flat(field: Shown) -> list[Shown]:
    return [each for child in field.children for each in (child, *flat(child))]


def test_a_signature_is_shown_by_its_parts() -> None:
    _, held = shown(b"", string(b"ssh-ed25519") + string(bytes(64)))
    assert values(held) == {"algorithm": "ssh-ed25519", "signature": bytes(64)}


def test_certificates_inside_certificates_end() -> None:
    """The key of an authority is no certificate, whatever a peer wraps in it."""
    name = b"ssh-ed25519-cert-v01@openssh.com"
    blob = string(b"ssh-ed25519") + string(bytes(32))
    for _ in range(1500):
        blob = (
            string(name)
            + string(b"") * 2
            + bytes(12)
            + string(b"") * 2
            + bytes(16)
            + string(b"") * 3
            + string(blob)
            + string(b"")
        )
    held, _ = shown(blob)
    assert held.holds == "PublicKeyBlob"


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_any_bytes_are_shown(key: bytes, signature: bytes) -> None:
    for field, raw in zip(shown(key, signature), (key, signature), strict=True):
        assert field.value == raw
