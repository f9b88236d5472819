"""Files of keys that want to do harm, and signatures used for what they were not made for (part G)."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Callable

import pytest

from glasshell.crypto.signatures import PrivateKey
from glasshell.errors import KeyFormatError
from glasshell.events import KeyOffered, Verdict
from glasshell.keys.convert import load_public_pem, load_rfc4716
from glasshell.keys.krl import Krl
from glasshell.keys.openssh import dump_private_key, load_private_key
from glasshell.keys.public import load_key
from glasshell.keys.putty import load_ppk
from glasshell.keys.sshsig import FileSignature, sign, to_be_signed
from glasshell.messages.auth import PublickeyRequest
from glasshell.wire import Secret, string, uint32
from tests.auth.kit import judge, key, request, server, to_sign

READERS: list[Callable[[bytes], object]] = [
    lambda data: load_private_key(data, Secret("x")), load_key, load_rfc4716, load_public_pem,
    lambda data: load_ppk(data, Secret("x")), FileSignature.parse, Krl.parse,
]  # fmt: skip

HEADS = [
    b"-----BEGIN OPENSSH PRIVATE KEY-----\n", b"-----BEGIN RSA PRIVATE KEY-----\n", b"ssh-ed25519 ",
    b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n", b"---- BEGIN SSH2 PUBLIC KEY ----\n",
    b"PuTTY-User-Key-File-3: ssh-ed25519\n", b"-----BEGIN SSH SIGNATURE-----\n", b"SSHKRL\n\0",
]  # fmt: skip


def openssh_bomb(rounds: int) -> bytes:
    """A private key whose passphrase goes through bcrypt that often."""
    data = dump_private_key(PrivateKey.generate("ssh-ed25519"), Secret("x"), rounds=1)
    body = base64.b64decode(b"".join(data.split(b"\n")[1:-2]))
    at = body.index(b"bcrypt") + 6 + 4 + 4 + 16
    assert body[at : at + 4] == uint32(1)
    text = base64.b64encode(body[:at] + uint32(rounds) + body[at + 4 :])
    return b"\n".join([data.split(b"\n")[0], text, *data.split(b"\n")[-2:]])


@pytest.mark.parametrize("head", HEADS)
def test_g1_go_b315afd_files_of_100_megabytes(head: bytes) -> None:
    data = head + b"QUFB" * (25 << 20)
    start = time.monotonic()
    for read in READERS:
        with pytest.raises(KeyFormatError):
            read(data)
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("rounds", [2049, 2**31, 2**32 - 1])
def test_g1_russh_0363fde_rounds_of_bcrypt(rounds: int) -> None:
    assert load_private_key(openssh_bomb(1), Secret("x"))
    with pytest.raises(KeyFormatError, match="rounds"):
        load_private_key(openssh_bomb(rounds), Secret("x"))


def test_g7_a_signature_of_a_file_is_no_login() -> None:
    """Who has a file signed cannot log in with what comes out, whatever the file holds."""
    private = key("a")
    login = to_sign(private.public)
    for digest in (login, hashlib.sha512(login).digest(), login.ljust(64, b"\0")):
        made = sign(private.sign, private.public, "ssh-connection", digest)
        port = server()
        port.receive(request(PublickeyRequest(True, "ssh-ed25519", private.public.blob, made.signature)))
        judge(port, {KeyOffered: Verdict(True)})
        assert not [m for m in port.messages() if type(m).__name__ == "UserauthSuccess"]


def test_g7_a_login_is_no_signature_of_a_file() -> None:
    """A server chooses part of what a login signs, the session identifier, but not the length before it."""
    private = key("a")
    digest = hashlib.sha512(b"a file").digest()
    wanted = to_be_signed("file", "sha512", digest)
    assert wanted[:6] == b"SSHSIG"  # which would be the length of a session identifier of 1.4 GB
    for session in (wanted[:32], wanted, wanted[4:]):
        data = to_sign(private.public, session_id=session)
        assert not data.startswith(b"SSHSIG")
        made = FileSignature(private.public, "file", "sha512", private.sign("ssh-ed25519", data))
        assert made.objection("file", digest) == "incorrect signature"


def test_g7_the_namespace_cannot_be_left_out() -> None:
    private = key("a")
    head = b"SSHSIG" + uint32(1) + string(private.public.blob)
    body = head + string(b"") + string(b"") + string(b"sha512")
    bare = b"SSHSIG" + string(b"") + string(b"") + string(b"sha512") + string(bytes(64))
    body += string(private.sign("ssh-ed25519", bare))
    label = b" SSH SIGNATURE-----"
    armored = b"\n".join([b"-----BEGIN" + label, base64.b64encode(body), b"-----END" + label])
    with pytest.raises(KeyFormatError, match="without a namespace"):
        FileSignature.parse(armored)
