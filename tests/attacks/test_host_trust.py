"""Whom a client takes for the host it wanted (docs/attacks.md, part D)."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import glasshell.aio.trust as trust_module
from glasshell.aio import hostcommand, sshfp
from glasshell.aio.rotation import HostKeyUpdate
from glasshell.aio.trust import HostChecks, NewHostKey, Trust
from glasshell.crypto.signatures import PrivateKey, PublicKey
from glasshell.errors import ConnectionClosed, HostKeyRefused, UsageError
from glasshell.keys.hostlines import scan
from glasshell.keys.known_hosts import Kind, KnownHosts, format_entry, host_name
from glasshell.keys.public import dump_public_key
from glasshell.keys.rotation import MAX_KEYS, proof_data, usable_keys
from glasshell.messages.connection import HostKeyBlob, Hostkeys, HostKeySignature, HostkeysProveReply
from glasshell.policy import Policy
from tests.aio.kit import HOST_KEY, STRANGER, USER_KEY, connecting, run, serving

KEY, OTHER = HOST_KEY.public, STRANGER.public

# -- D1: an error inside the check ---------------------------------------------------------------

ERRORS: list[BaseException] = [
    MemoryError(), OSError(5, "Input/output error"), TimeoutError(), ValueError("?"), RecursionError(),
    asyncio.CancelledError(),
]  # fmt: skip


def boom(error: BaseException) -> Callable[..., Any]:
    def raising(*args: Any, **kwargs: Any) -> Any:
        raise error

    return raising


def aboom(error: BaseException) -> Callable[..., Any]:
    async def raising(*args: Any, **kwargs: Any) -> Any:
        raise error

    return raising


STEPS: dict[str, Callable[[pytest.MonkeyPatch, BaseException], None]] = {
    "revoked keys": lambda patch, error: patch.setattr(trust_module, "_revoked_by", boom(error)),
    "dns": lambda patch, error: patch.setattr(sshfp, "look_up", aboom(error)),
    "command": lambda patch, error: patch.setattr(hostcommand, "known_by_command", aboom(error)),
    "known_hosts": lambda patch, error: patch.setattr(KnownHosts, "lookup", boom(error)),
    "verdict": lambda patch, error: patch.setattr(trust_module, "judge", boom(error)),
    "changed": lambda patch, error: patch.setattr(Trust, "_changed", boom(error)),
    "picture": lambda patch, error: patch.setattr(Trust, "_picture", boom(error)),
    "written": lambda patch, error: patch.setattr(trust_module, "format_entry", boom(error)),
    "told": lambda patch, error: patch.setattr(KnownHosts, "other_names", boom(error)),
    "asked": lambda patch, error: None,
}  # fmt: skip


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("step", STEPS)
def test_d1_openssh_cve_2025_26465_an_error_is_not_trust(
    step: str, error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever fails, wherever in the check, and however little the user asked for: nobody logs in."""
    monkeypatch.setattr(sshfp, "look_up", aboom(error) if step == "dns" else _nothing)
    monkeypatch.setattr(hostcommand, "known_by_command", _no_keys)

    async def ask(new: NewHostKey) -> bool:
        raise error

    known = tmp_path / "known_hosts"
    strict = "ask" if step == "asked" else "no"

    async def main(port: int) -> None:
        if step in ("changed", "known_hosts", "verdict"):
            known.write_text(format_entry("127.0.0.1", port, OTHER))
        revoked = (str(tmp_path / "revoked"),)
        checks = HostChecks(revoked=revoked, command="/bin/true", dns="yes", picture=True)
        (tmp_path / "revoked").write_text(dump_public_key(OTHER))
        trust = Trust("127.0.0.1", port, known_hosts=known, strict=strict, ask=ask, checks=checks)
        await trust.prepare()
        with monkeypatch.context() as patch:
            STEPS[step](patch, error)
            if step == "picture":
                known.write_text(format_entry("127.0.0.1", port, KEY))
                trust = Trust("127.0.0.1", port, known_hosts=known, strict=strict, checks=checks)
            judged = asyncio.ensure_future(trust.judge(KEY, "127.0.0.1", lambda name, **facts: None))
            await asyncio.wait([judged])
        if isinstance(error, asyncio.CancelledError):
            assert judged.cancelled()
        elif judged.exception() is not None:
            assert judged.exception() is error  # whoever waits for the verdict gets none
        else:
            verdict = judged.result()
            assert isinstance(verdict, HostKeyRefused)
            assert str(verdict).startswith(("Host key verification failed", "Error checking host key"))
            assert verdict.__cause__ is error

    asyncio.run(main(2222))


async def _nothing(*args: Any, **kwargs: Any) -> sshfp.Answer:
    return sshfp.Answer()


async def _no_keys(*args: Any, **kwargs: Any) -> KnownHosts:
    return KnownHosts()


@pytest.mark.parametrize("error", [each for each in ERRORS if isinstance(each, Exception)],
                         ids=lambda error: type(error).__name__)  # fmt: skip
def test_d1_openssh_cve_2025_26465_over_a_connection(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same through all of `connect`: no login was tried, and the error is one of ours."""

    async def main() -> None:
        async with serving() as server:
            monkeypatch.setattr(trust_module, "judge", boom(error))
            with pytest.raises((HostKeyRefused, ConnectionClosed)):
                await connecting(server.port, known_hosts=None, strict="no")
            assert not server.connections

    run(main())


def test_d1_what_is_cancelled_while_a_person_thinks_is_over() -> None:
    async def never(new: NewHostKey) -> bool:
        thinking.set()
        await asyncio.get_running_loop().create_future()
        return True

    async def main() -> None:
        async with serving() as server:
            connected = asyncio.ensure_future(_opened(server.port, never))
            await thinking.wait()
            connected.cancel()
            with pytest.raises(asyncio.CancelledError):
                await connected

    thinking = asyncio.Event()
    run(main())


async def _opened(port: int, ask: Any) -> object:
    return await connecting(port, known_hosts=None, strict="ask", ask_host_key=ask)


# -- D2: no check, another type, a certificate that fails ----------------------------------------


def test_d2_go_cve_2017_3204_no_check_is_no_login() -> None:
    """Nobody has to ask for a check, and there is no value that stands for none."""

    async def main() -> None:
        async with serving() as server:
            for known in (None, [], KnownHosts()):
                with pytest.raises(HostKeyRefused):
                    await connecting(server.port, known_hosts=known)
            with pytest.raises(UsageError):
                await connecting(server.port, strict="off")

    run(main())


@pytest.mark.parametrize("strict", ["yes", "ask", "accept-new"])
@pytest.mark.parametrize("kind", ["ecdsa-sha2-nistp256", "ssh-rsa"])
def test_d2_openssh_cve_2014_2653_another_type_is_a_changed_key(kind: str, strict: Any) -> None:
    shown = PrivateKey.generate(kind, 2048 if kind == "ssh-rsa" else None).public
    known = KnownHosts.parse(format_entry("host.example", 22, KEY))

    async def yes(new: NewHostKey) -> bool:
        return True

    trust = Trust("host.example", known_hosts=known, strict=strict, ask=yes)
    verdict = asyncio.run(trust.judge(shown, "192.0.2.1", lambda name, **facts: None))
    assert isinstance(verdict, HostKeyRefused)
    assert "HAS CHANGED" in str(verdict)


def test_d2_a_certificate_skips_no_other_check() -> None:
    """OpenSSH CVE-2014-2653: a certificate that failed made the client pass DNS over."""
    from glasshell.keys.certificate import sign_certificate

    authority = PrivateKey.generate("ssh-ed25519")
    shown = sign_certificate(KEY, authority, kind="host", key_id="x", principals=["host.example"])
    asked: list[str] = []

    async def look(host: str) -> sshfp.Answer:
        asked.append(host)
        return sshfp.Answer()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sshfp, "look_up", look)
        trust = Trust("host.example", known_hosts=None, strict="no", checks=HostChecks(dns="yes"))
        asyncio.run(trust.judge(shown, "", lambda name, **facts: None))
    assert asked == ["host.example"]


# -- D3: known_hosts -----------------------------------------------------------------------------

GOOD = dump_public_key(KEY).strip()
BLOB = base64.b64encode(KEY.blob).decode()


@pytest.mark.parametrize("line", [
    f"@revoked @cert-authority * {GOOD}", f"@cert-authority @revoked * {GOOD}", f"@unknown * {GOOD}",
    f"@Revoked * {GOOD}", f"@cert-authority\u00a0* {GOOD}", f"host.example\u00a0{GOOD}", f"@ * {GOOD}",
    "host.example", "host.example ssh-ed25519", f"host.example ssh-ed25519 {BLOB[:-8]}",
    f"host.example ssh-rsa {BLOB}", "|1|x|y " + GOOD, "|1||" + GOOD, f"|2|AAAA|AAAA {GOOD}",
    "|1|" + "A" * 28 + " " + GOOD,
    f"|1|{'A' * 4000}|{'A' * 28} {GOOD}",
    f"host.example ssh-ed25519 {BLOB} ".replace("A", "\x00"),
])  # fmt: skip
def test_d3_a_bad_line_trusts_nobody_and_is_named(line: str) -> None:
    known = KnownHosts.parse(f"other.example {GOOD}\n{line}\nhost2.example {GOOD}\n", "file")
    assert known.check("host.example", 22, KEY).kind is Kind.UNKNOWN
    assert [bad.line for bad in known.bad_lines] == [2]
    assert known.check("host2.example", 22, KEY).kind is Kind.KNOWN


def _seconds(work: Callable[[], object]) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin


@pytest.mark.parametrize("hosts", [
    "*a" * 400 + "b", "?" * 900 + "*", ",".join(["*a*b*c*d*"] * 200), "!" * 500 + "*", ",".join("*" * 500),
    "*?" * 300 + "x",
])  # fmt: skip
def test_d3_libssh_cve_2026_0967_patterns_cost_no_time(hosts: str) -> None:
    text = f"{hosts} {GOOD}\n" * 200
    known = KnownHosts.parse(text)
    assert _seconds(lambda: known.lookup("a" * 250 + ".example")) < 2


def test_d3_megabytes_of_garbage() -> None:
    hidden = f"|1|{'A' * 27}=|{'A' * 27}="
    pieces = (f"{hidden} {GOOD}\n", "@" * 100 + "\n", "\x00" * 99 + "\n", f"x {GOOD}\n")
    for piece in pieces:
        text = (piece * (2_500_000 // len(piece) + 1)).encode()
        assert _seconds(lambda text=text: KnownHosts.parse(text).lookup("host.example")) < 5
        assert _seconds(lambda text=text: list(scan(text))) < 5


@given(st.text(max_size=300))
def test_d3_any_text_is_a_file(text: str) -> None:
    known = KnownHosts.parse(text)
    assert known.check("host.example", 22, KEY).kind in Kind
    assert "".join(line.text + "\n" for line in scan(text)).rstrip("\n") == text.rstrip("\n")


@pytest.mark.parametrize("name", [
    "a\nb", "a\rb", "a b", "a,b", "*", "a?", "!a", "|1|x", "@a", "#", "", "a\x00b", "a\u2028b", "a" * 2000,
    "[a]",
])  # fmt: skip
def test_d3_d9_a_name_that_is_more_than_one_is_never_written(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        host_name(name)
    with pytest.raises(UsageError):
        Trust(name, known_hosts=tmp_path / "known_hosts", strict="no")
    with pytest.raises(UsageError):
        format_entry("host.example", 22, KEY, address=name or "\n")
    assert not list(tmp_path.iterdir())


# -- D10: keys that a server says it has ---------------------------------------------------------


class Fake:
    """As much of a connection as an update sees; `asked` are the requests for proofs."""

    def __init__(self, key: PublicKey) -> None:
        self.host_key = key
        self.core = self
        self.policy = Policy.client()
        self.session_id = b"session"
        self.negotiated = self
        self.asked: list[Any] = []
        self.link = self
        self.told: list[str] = []

    def behind_session(self, work: Callable[[], None]) -> None:
        work()

    def ask_globally(self, name: str, body: Any) -> asyncio.Future[tuple[bool, bytes]]:
        self.asked.append(body)
        return asyncio.get_running_loop().create_future()

    def state(self, name: str, **facts: Any) -> None:
        self.told.append(name)


def test_d10_unproved_keys_are_never_written(tmp_path: Path) -> None:
    """No answer, a refusal, another's signature, one of another session, too few: the file stays."""
    file = tmp_path / "known_hosts"
    new = PrivateKey.generate("ssh-ed25519")

    def reply(*proofs: bytes) -> tuple[bool, bytes]:
        return True, HostkeysProveReply(tuple(map(HostKeySignature, proofs))).encode()

    good = new.sign("ssh-ed25519", proof_data(b"session", new.public))
    wrong = [
        None, (False, b""), (True, b""), (True, b"\xff" * 9), reply(), reply(good, good),
        reply(STRANGER.sign("ssh-ed25519", proof_data(b"session", new.public))),
        reply(new.sign("ssh-ed25519", proof_data(b"another", new.public))),
        reply(new.sign("ssh-ed25519", proof_data(b"session", KEY))),
    ]  # fmt: skip

    async def offered(answer: tuple[bool, bytes] | None) -> str:
        before = format_entry("host.example", 22, KEY)
        file.write_text(before)
        trust = Trust("host.example", known_hosts=file)
        connection: Any = Fake(KEY)
        await trust.judge(KEY, "", lambda name, **facts: None)
        update = HostKeyUpdate(trust, [file])
        futures: list[asyncio.Future[tuple[bool, bytes]]] = []

        def ask(name: str, body: Any) -> asyncio.Future[tuple[bool, bytes]]:
            futures.append(asyncio.get_running_loop().create_future())
            return futures[-1]

        connection.ask_globally = ask
        connection.negotiated.host_key = KEY
        update.take(connection, Hostkeys((HostKeyBlob(KEY.blob), HostKeyBlob(new.public.blob))))
        assert len(futures) == 1
        if answer is not None:
            futures[0].set_result(answer)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return file.read_text().removeprefix(before)

    for answer in wrong:
        assert asyncio.run(offered(answer)) == "", answer
    assert asyncio.run(offered(reply(good))) == format_entry("host.example", 22, new.public)


def test_d10_keys_are_capped_and_come_after_the_login() -> None:
    blobs = [PrivateKey.generate("ssh-ed25519").public.blob for _ in range(MAX_KEYS + 10)]
    assert len(usable_keys(blobs, Policy.client().host_key_algorithms)) == MAX_KEYS
    assert usable_keys([b"", b"\xff" * 100, USER_KEY.public.blob], ("ssh-ed25519",)) == (USER_KEY.public,)
