"""What a line, a certificate and PubkeyAuthOptions ask of the holder of a security key, all together."""

from __future__ import annotations

import base64
from itertools import product
from pathlib import Path

import pytest

from glasshell.aio import shellgate
from glasshell.aio.gatekeeper import Peer
from glasshell.aio.shellgate import AccountGatekeeper
from glasshell.config.options import ServerOptions
from glasshell.crypto.signatures import PrivateKey
from glasshell.keys.certificate import sign_certificate
from glasshell.system.accounts import current_account
from glasshell.values import replace
from tests.aio.kit import run

pytest.importorskip("pwd")

PEER = Peer("192.0.2.1", 1, "192.0.2.2", 22)
KEY, AUTHORITY = (PrivateKey.generate("ssh-ed25519") for _ in range(2))


def line(options: str, key: PrivateKey) -> str:
    return f"{options} {key.public.type} {base64.b64encode(key.public.blob).decode()}\n".lstrip()


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> None:
    me = replace(current_account(), name="ada")
    monkeypatch.setattr(shellgate, "find_account", lambda name: me if name == "ada" else None)
    monkeypatch.setattr(shellgate, "account_objection", lambda *_, **__: "")


def asked(folder: Path, text: str, key: object, *wanted: str, authorities: str = "") -> tuple[bool, bool]:
    """Whether a touch, and whether a verification, is asked of `key` with these PubkeyAuthOptions."""
    (folder / "keys").write_text(text)
    (folder / "ca").write_text(authorities)
    options = ServerOptions(
        authorized_keys=(str(folder / "keys"),), strict_modes=False, root_login="yes",
        pubkey_auth_options=wanted, trusted_user_ca_keys=str(folder / "ca"),
    )  # fmt: skip
    verdict = run(AccountGatekeeper(options).key("ada", key, PEER, signed=True))  # type: ignore[arg-type]
    assert verdict.accepted
    return verdict.touch_required, verdict.verify_required


@pytest.mark.usefixtures("account")
def test_a_line(tmp_path: Path) -> None:
    for relaxed, verified, touch_wanted, verify_wanted in product((False, True), repeat=4):
        options = ",".join(["no-touch-required"] * relaxed + ["verify-required"] * verified)
        wanted = ["touch-required"] * touch_wanted + ["verify-required"] * verify_wanted
        found = asked(tmp_path, line(options, KEY), KEY.public, *wanted)
        assert found == (touch_wanted or not relaxed, verify_wanted or verified)


@pytest.mark.usefixtures("account")
def test_an_authority_and_its_certificate(tmp_path: Path) -> None:
    """Who need not touch is let off by both; who has to verify is told so by either (sshd(8))."""
    for relaxed, verified, by_line in product((False, True), repeat=3):
        certificate = sign_certificate(
            KEY.public, AUTHORITY, kind="user", key_id="x", principals=["ada"],
            critical={"verify-required": ""} if verified else {},
            extensions={"no-touch-required": ""} if relaxed else {},
        )  # fmt: skip
        options = ",".join(["cert-authority", *["no-touch-required"] * by_line])
        found = asked(tmp_path, line(options, AUTHORITY), certificate)
        assert found == (not (relaxed and by_line), verified)
        # TrustedUserCAKeys has no options: the certificate alone says it.
        found = asked(tmp_path, "", certificate, authorities=line("", AUTHORITY))
        assert found == (not relaxed, verified)
