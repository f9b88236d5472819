"""Keys in the forms of other programs, read and written as ssh-keygen -i and -e do."""

from __future__ import annotations

import base64
import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glasshell.crypto.signatures import PrivateKey
from glasshell.errors import KeyFormatError
from glasshell.keys.convert import dump_public_pem, dump_rfc4716, load_public_pem, load_rfc4716
from glasshell.keys.pem import dump_pem
from glasshell.keys.public import dump_public_key
from glasshell.wire import string, uint32

from .conftest import Keygen

RSA = PrivateKey.generate("ssh-rsa", 2048)


def import_(ssh_keygen: Keygen, path: Path, text: str, form: str) -> str:
    path.write_text(text)
    return ssh_keygen("-i", "-m", form, "-f", path).strip()


@pytest.mark.parametrize("comment", ["", "2048-bit RSA: of somebody"])
def test_rfc_4716_both_ways(
    comment: str, private_key: PrivateKey, ssh_keygen: Keygen, tmp_path: Path
) -> None:
    line = dump_public_key(private_key.public).strip()
    text = dump_rfc4716(private_key.public, comment)
    assert max(map(len, text.splitlines())) <= 72  # RFC 4716 §3.4
    assert import_(ssh_keygen, tmp_path / "key", text, "RFC4716") == line
    (tmp_path / "key.pub").write_text(line)
    theirs = ssh_keygen("-e", "-f", tmp_path / "key.pub")
    assert load_rfc4716(theirs.encode()) == private_key.public
    assert [x for x in theirs.splitlines() if ":" not in x] == [x for x in text.splitlines() if ":" not in x]


def test_rfc_4716_headers_and_line_ends() -> None:
    body = base64.encodebytes(RSA.public.blob).decode()
    text = ('---- BEGIN SSH2 PUBLIC KEY ----\nSubject: me\nComment: "a long \\\nline, and \\\nanother"\n'
            f"x-flag:yes\n{body}---- END SSH2 PUBLIC KEY ----\ntrailing")  # fmt: skip
    for form in (text, text.replace("\n", "\r\n"), text.replace("\n", "\r")):
        assert load_rfc4716(form.encode()) == RSA.public


def bits(value: int) -> bytes:
    return uint32(value.bit_length()) + value.to_bytes((value.bit_length() + 7) // 8, "big")


def test_a_private_key_of_ssh_com(ssh_keygen: Keygen, tmp_path: Path) -> None:
    x = RSA.reveal().private_numbers()
    n, e = x.public_numbers.n, x.public_numbers.e
    head = uint32(0x3F6FF9EB) + uint32(0) + string(b"if-modn{sign{rsa-pkcs1-sha1}}") + string(b"none")
    numbers = b"".join(map(bits, (x.d, n, x.iqmp, x.q, x.p)))
    body = head + uint32(0) * 3 + e.to_bytes(3, "big") + numbers
    label = b"SSH2 ENCRYPTED PRIVATE KEY ----\n"
    path = tmp_path / "key"
    path.write_bytes(
        b"---- BEGIN " + label + b"Comment: x\n" + base64.encodebytes(body) + b"---- END " + label
    )
    key = load_rfc4716(path.read_bytes())
    assert isinstance(key, PrivateKey)
    assert key.public == RSA.public
    assert ssh_keygen("-i", "-f", path) == dump_pem(key, "PEM").decode()


def test_a_short_one_is_refused(shared: Path) -> None:
    with pytest.raises(KeyFormatError, match="1024 bits"):
        load_rfc4716((shared / "vectors/openssh/rsa_ssh2.prv").read_bytes())


@pytest.mark.parametrize("form", ["PKCS8", "PEM"])
@pytest.mark.parametrize("kind", ["ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp521"])
def test_public_keys_in_pem_both_ways(form: str, kind: str, ssh_keygen: Keygen, tmp_path: Path) -> None:
    key = RSA.public if kind == "ssh-rsa" else PrivateKey.generate(kind).public
    (tmp_path / "key.pub").write_text(dump_public_key(key))
    theirs = ssh_keygen("-e", "-m", form, "-f", tmp_path / "key.pub")
    assert theirs == dump_public_pem(key, form)
    assert load_public_pem(theirs.encode()) == key


def test_ed25519_in_pem_which_openssh_has_no_word_for() -> None:
    key = PrivateKey.generate("ssh-ed25519").public
    text = dump_public_pem(key, "PKCS8")
    assert text == dump_public_pem(key, "PEM")
    assert load_public_pem(text.encode()) == key


@given(st.binary(max_size=300))
def test_whatever_it_is_nothing_but_a_key_format_error(data: bytes) -> None:
    inside = base64.b64encode(data)
    private = base64.b64encode(b"\x3f\x6f\xf9\xeb" + data)
    public = b"---- BEGIN SSH2 PUBLIC KEY ----\n" + inside
    for text in (data, public, b"---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\n" + private):
        with contextlib.suppress(KeyFormatError):
            load_rfc4716(text)
    for label in (b"PUBLIC KEY", b"RSA PUBLIC KEY"):
        with contextlib.suppress(KeyFormatError):
            load_public_pem(
                b"-----BEGIN " + label + b"-----\n" + inside + b"\n-----END " + label + b"-----\n"
            )
