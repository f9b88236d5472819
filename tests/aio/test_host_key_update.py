"""UpdateHostKeys ask: what the person sees, and that nothing is written without a yes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from glasshell.aio.rotation import HostKeyUpdate
from glasshell.aio.trust import HostChecks, Trust
from glasshell.crypto.signatures import PrivateKey
from glasshell.keys.known_hosts import format_entry
from glasshell.keys.rotation import proof_data
from glasshell.messages.connection import HostKeyBlob, Hostkeys, HostKeySignature, HostkeysProveReply
from tests.aio.kit import HOST_KEY, STRANGER
from tests.attacks.test_host_trust import Fake

KEY, OLD = HOST_KEY.public, STRANGER.public
NEW = PrivateKey.generate("ssh-rsa", 2048)
BEFORE = format_entry("host.example", 22, KEY) + format_entry("host.example", 22, OLD)


def updated(file: Path, ask: Any, checks: HostChecks) -> None:
    file.write_text(BEFORE)
    trust = Trust("host.example", known_hosts=file, checks=checks)

    async def main() -> None:
        await trust.judge(KEY, "192.0.2.1", lambda name, **facts: None)
        connection: Any = Fake(KEY)
        connection.negotiated = SimpleNamespace(host_key="ssh-ed25519")
        answer: asyncio.Future[tuple[bool, bytes]] = asyncio.get_running_loop().create_future()
        connection.ask_globally = lambda name, body: answer
        update = HostKeyUpdate(trust, [file], ask=ask)
        update.take(connection, Hostkeys((HostKeyBlob(KEY.blob), HostKeyBlob(NEW.public.blob))))
        proof = NEW.sign("rsa-sha2-512", proof_data(b"session", NEW.public))
        answer.set_result((True, HostkeysProveReply((HostKeySignature(proof),)).encode()))
        await asyncio.sleep(0)
        await update.finish()
        await update.finish()

    asyncio.run(main())


@pytest.mark.parametrize("answer", [True, False])
def test_the_person_sees_what_has_changed_and_decides(answer: bool, tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    seen: list[str] = []

    async def ask(prompt: str) -> bool:
        assert file.read_text() == BEFORE
        seen.append(prompt)
        return answer

    updated(file, ask, HostChecks())
    assert seen == [
        "The server has updated its host keys.\n"
        "These changes were verified by the server's existing trusted key.\n"
        f"Learned new hostkey: RSA {NEW.public.fingerprint()}\n"
        f"Deprecating obsolete hostkey: ED25519 {OLD.fingerprint()}\n"
        "Accept updated hostkeys? (yes/no): "
    ]
    new = format_entry("host.example", 22, KEY) + format_entry("host.example", 22, NEW.public)
    assert file.read_text() == (new if answer else BEFORE)


def test_the_address_gets_the_same_keys(tmp_path: Path) -> None:
    """CheckHostIP: its first line is written when the host is judged."""
    file = tmp_path / "known_hosts"

    async def yes(prompt: str) -> bool:
        return True

    updated(file, yes, HostChecks(address=True))
    assert file.read_text() == (
        format_entry("host.example", 22, KEY) + format_entry("192.0.2.1", 22, KEY)
        + format_entry("host.example", 22, NEW.public, address="192.0.2.1")
    )  # fmt: skip
