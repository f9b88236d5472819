"""Signatures of security keys, by an authenticator in software behind the interface of the real one."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from glasshell.agent.held import SecurityKey, add_request
from glasshell.agent.keyring import Keyring
from glasshell.aio.agent import Agent
from glasshell.aio.agentserver import AgentServer
from glasshell.aio.askpass import Notice
from glasshell.aio.login import Asking
from glasshell.crypto.signatures import PublicKey, uncompressed
from glasshell.errors import ConfigError, CryptoError, MalformedMessage, RequestFailed
from glasshell.system import fido
from glasshell.wire import Secret, string

ED25519, ECDSA = "sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com"


class Soft:
    """An authenticator with one credential: what CTAP 2 has it sign, it signs (WebAuthn §6.3.3)."""

    def __init__(self, kind: str, flags: int = fido.PRESENT) -> None:
        self.flags = flags
        self.counter = 0
        self.handle = os.urandom(16)
        if kind == ED25519:
            self._sign = ed25519.Ed25519PrivateKey.generate()
            point = string(self._sign.public_key().public_bytes_raw())
        else:
            self._ec = ec.generate_private_key(ec.SECP256R1())
            point = string(b"nistp256") + string(uncompressed(self._ec.public_key()))
        self.kind = kind
        blob = string(kind.encode()) + point + string(b"ssh:")
        self.key = SecurityKey(PublicKey.from_blob(blob), "ssh:", 1, Secret(self.handle))

    def get_assertion(
        self, application: str, digest: bytes, handle: bytes, flags: int
    ) -> fido.Assertion | None:
        if handle != self.handle:
            return None
        assert flags == 1
        self.counter += 1
        rp = hashlib.sha256(application.encode()).digest()
        signed = rp + bytes([self.flags]) + self.counter.to_bytes(4, "big") + digest
        ecdsa = ec.ECDSA(hashes.SHA256())
        raw = self._sign.sign(signed) if self.kind == ED25519 else self._ec.sign(signed, ecdsa)
        return fido.Assertion(raw, self.flags, self.counter)


@pytest.mark.parametrize("kind", [ED25519, ECDSA])
def test_a_signature_verifies_as_openssh_has_it(kind: str) -> None:
    """PROTOCOL.u2f: over the hashes of application and message, with flags and counter between."""
    soft = Soft(kind)
    signature = fido.signature(soft.key, b"data", [Soft(kind), soft])
    assert soft.key.public.verify(kind, signature, b"data")
    assert not soft.key.public.verify(kind, signature, b"other")
    assert signature[-5:] == b"\x01\x00\x00\x00\x01"


def test_what_does_not_verify_does_not_leave() -> None:
    liar = Soft(ED25519)
    other = Soft(ED25519)
    other.handle = liar.handle
    with pytest.raises(CryptoError, match="does not verify"):
        fido.signature(liar.key, b"data", [other])
    with pytest.raises(CryptoError, match="no security key that is plugged in"):
        fido.signature(liar.key, b"data", [])


def test_a_signature_that_is_no_der(monkeypatch: pytest.MonkeyPatch) -> None:
    soft = Soft(ECDSA)
    monkeypatch.setattr(soft, "get_assertion", lambda *_: fido.Assertion(b"garbage", 1, 1))
    with pytest.raises(MalformedMessage):
        fido.signature(soft.key, b"data", [soft])


def test_an_untouched_key_signs_and_is_refused_by_who_wants_a_touch() -> None:
    """CVE-2026-39831: the flag is the verifier's to judge, and stands in the signature."""
    soft = Soft(ED25519, flags=0)
    signature = fido.signature(soft.key, b"data", [soft])
    assert not soft.key.public.verify(ED25519, signature, b"data")
    assert soft.key.public.verify(ED25519, signature, b"data", touch_required=False)


def test_without_the_library_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fido2.hid", None)
    with pytest.raises(ConfigError, match="needs python-fido2") as caught:
        fido.sign(Soft(ED25519).key, b"data")
    assert "glasshell[fido2]" in caught.value.hint


def test_through_the_agent(tmp_path: Path) -> None:
    soft = Soft(ED25519)
    path = tmp_path / "agent"

    async def work() -> None:
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(path))
        server = AgentServer(
            Keyring(random=os.urandom, tell=lambda level, text: None), confirm=_never, notice=Notice,
            sign=lambda key, data: fido.signature(key, data, [soft]), tell=lambda level, text: None,
        )  # fmt: skip
        await server.serve(sock)
        try:
            agent = Agent(path)
            await agent.add(soft.key, "sk", provider="internal")
            (held,) = await agent.identities()
            signature = await agent.sign(held.blob, ED25519, b"data")
            assert soft.key.public.verify(ED25519, signature, b"data")
            await agent.do(add_request(Soft(ECDSA).key, "gone", provider="internal"), "take a key")
            with pytest.raises(RequestFailed):
                await agent.sign((await agent.identities())[1].blob, ECDSA, b"data")
        finally:
            await server.close()

    asyncio.run(work())


async def _never(text: str) -> bool:
    return False


def test_a_login_by_the_file_of_a_security_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an agent: what the file says is enough to ask the security key for a signature."""
    import glasshell
    from glasshell.agent.adding import PRIVATE_KEYS
    from glasshell.keys.openssh import dump_private_key, private_from_fields
    from glasshell.wire import Reader
    from tests.aio.kit import HOST_KEY, program, run

    soft = Soft(ED25519)
    request = add_request(soft.key, "")
    fields = getattr(request, "key", None)
    assert isinstance(fields, PRIVATE_KEYS[ED25519])
    path = tmp_path / "id_ed25519_sk"
    path.touch(0o600)
    path.write_bytes(dump_private_key(private_from_fields(ED25519, Reader(fields.encode()))))
    monkeypatch.setattr(fido, "attached", lambda: [soft])
    told: list[str] = []

    async def work() -> None:
        gate = glasshell.KnownUsers(keys={"ada": [soft.key.public]})
        async with (
            glasshell.serve("127.0.0.1", 0, host_keys=[HOST_KEY], gatekeeper=gate, handler=program) as server,
            glasshell.connect(
                "127.0.0.1", server.port, user="ada", keys=[path], agent=False, memory=None,
                known_hosts=HOST_KEY.public, asking=Asking(warn=told.append),
            ) as connection,
        ):  # fmt: skip
            assert (await connection.run("exit 3")).status == 3

    run(work())
    assert told == [f"Confirm user presence for key ED25519-SK {soft.key.public.fingerprint()}"]
    assert soft.counter == 1
