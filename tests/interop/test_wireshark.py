"""Our captures in the hands of Wireshark: nothing malformed, TCP in order, the messages we told of."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

import glasshell
from glasshell.aio.gatekeeper import KnownUsers
from glasshell.aio.session import ServerSession
from glasshell.errors import ConnectionLost
from glasshell.keys.openssh import load_private_key
from glasshell.keys.public import load_public_key
from glasshell.observe.record import Heard, KeyRecord, MessageRecord
from glasshell.policy import Policy
from glasshell.views.keylog import KeyLog
from glasshell.views.pcapng import Pcapng
from tests.interop.conftest import Start
from tests.interop.kit import AllAlgorithms, connect, everything, file_with, payload, talk
from tests.interop.peers import Client, Keys, Server, Target
from tests.interop.wireshark import Tshark
from tests.needs import absent

T = TypeVar("T")

VERSIONS = ("openssh-9.2", "openssh-10.6")

OLD = Policy.client(
    login_grace=0, kex=("curve25519-sha256",), ciphers=("aes128-gcm@openssh.com",)
).for_wireshark()  # fmt: skip
"""What Wireshark 4.0 can follow, up to the first key re-exchange. Keys that encrypted messages name must be
RSA as well: it takes every one for that, and finds others malformed."""

TRIES = 4
CLEAR = {20, 21, 30, 31}


class Witness:
    """Counts the messages of a connection and keeps its secrets."""

    hears = frozenset({"records", "keys"})

    def __init__(self) -> None:
        self.messages: Counter[int] = Counter()
        self.secrets: list[bytes] = []

    def __call__(self, record: Heard) -> None:
        if isinstance(record, MessageRecord):
            self.messages[record.number] += 1
        elif isinstance(record, KeyRecord):
            self.secrets.append(record.secret.reveal())


class Files:
    """Every way of writing a connection down: with its secrets, without, and the key log beside it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.whole, self.bare = folder / "whole.pcapng", folder / "bare.pcapng"
        self.key_log = folder / "keys"
        self.witness = Witness()
        self.sinks: list[Any] = [
            self.witness, Pcapng(self.whole, secrets=True), Pcapng(self.bare), KeyLog(self.key_log)
        ]  # fmt: skip

    def judge(self, tshark: Tshark) -> None:
        """Every file is read without a complaint, to the messages that there were."""
        assert tshark.complaints(self.whole) == ""
        assert tshark.messages(self.whole) == self.witness.messages
        assert tshark.complaints(self.bare, key_log=self.key_log) == ""
        assert tshark.messages(self.bare, key_log=self.key_log) == self.witness.messages
        if tshark.generation != "4.0":  # that one shows AES-GCM without keys as random messages
            assert tshark.complaints(self.bare) == ""

    def no_secret_in_the_bare_one(self) -> None:
        bare = self.bare.read_bytes()
        assert len(self.witness.secrets) >= 1
        for secret in self.witness.secrets:
            assert secret in bytes.fromhex(self.key_log.read_text().split()[-1]) or secret.hex() in (
                self.key_log.read_text()
            )
            assert secret not in bare
            assert secret.hex().encode() not in bare


def for_the_older(work: Callable[[Files], T], folder: Path) -> tuple[Files, T]:
    """A connection whose K begins with no zero byte, as one in 256 does: Wireshark 4.0 hashes that wrong."""
    for number in range(TRIES):
        files = Files(folder / str(number))
        result = work(files)
        if all(len(secret) == 32 for secret in files.witness.secrets):
            break
    return files, result


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.mark.parametrize("version", VERSIONS)
def test_our_client_at_our_defaults(
    version: str, server: Callable[[str], Server], keys: Keys, files: Files
) -> None:
    at = server(version)
    data = payload(5_000_000)
    path = file_with(at, data)

    async def work() -> None:
        policy = Policy.client(login_grace=0).for_wireshark()
        async with connect(at.target, keys, policy=policy, sinks=files.sinks) as connection:
            done = await connection.run(f"cat {path}; exit 3", encoding=None)
            assert done.stdout == data
            connection.rekey()
            done = await connection.run("cat", input=data, encoding=None)
            assert done.stdout == data

    talk(work())
    files.judge(Tshark("4.6", at.target.port))
    files.no_secret_in_the_bare_one()


@pytest.mark.parametrize("version", VERSIONS)
def test_our_server_at_our_defaults(
    version: str, client: Callable[[str], Client], keys: Keys, files: Files
) -> None:
    port = _serve(keys, files, Policy.server().for_wireshark(), client(version))
    files.judge(Tshark("4.6", port))
    files.no_secret_in_the_bare_one()


@pytest.mark.parametrize("version", VERSIONS)
def test_our_client_before_the_older_wireshark(
    version: str, server: Callable[[str], Server], keys: Keys, tmp_path: Path
) -> None:
    at = server(version)

    async def work(files: Files) -> None:
        user = [keys.user("rsa").private]
        async with connect(at.target, keys, keys=user, policy=OLD, sinks=files.sinks) as connection:
            data = payload(3_000_000)
            assert (await connection.run("cat", input=data, encoding=None)).stdout == data

    files, _ = for_the_older(lambda files: talk(work(files)), tmp_path)
    files.judge(Tshark("4.0", at.target.port))


@pytest.mark.parametrize("version", VERSIONS)
def test_our_server_before_the_older_wireshark(
    version: str, client: Callable[[str], Client], keys: Keys, tmp_path: Path
) -> None:
    policy = Policy.server(kex=OLD.kex, ciphers=OLD.ciphers).for_wireshark()
    files, port = for_the_older(
        lambda files: _serve(keys, files, policy, client(version), "rsa"), tmp_path
    )  # fmt: skip
    files.judge(Tshark("4.0", port))


def _serve(keys: Keys, files: Files, policy: Policy, client: Client, kind: str = "ed25519") -> int:
    """Serves one connection of `client`, which asks twice for 300,000 bytes; the port."""
    host = keys.host(kind)
    data = payload(300_000)

    async def answer(session: ServerSession) -> int:
        session.stdout.write(data)
        await session.stdout.drain()
        return 4

    async def work() -> int:
        users = KnownUsers({"ada": [load_public_key(keys.user(kind).public)[0]]})
        async with glasshell.serve(
            "127.0.0.1", 0, host_keys=[load_private_key(host.private.read_bytes())], gatekeeper=users,
            handler=answer, policy=policy, sinks=lambda peer: files.sinks,
        ) as running:  # fmt: skip
            target = Target(running.port, "ada", (host.public,))
            done = await asyncio.to_thread(client.run, target, "go", identity=keys.user(kind))
            assert (done.returncode, done.stdout) == (4, data)
            return running.port

    return talk(work())


def test_without_secrets_it_sees_what_anybody_sees(
    server: Callable[[str], Server], keys: Keys, files: Files
) -> None:
    at = server("openssh-10.6")

    async def work() -> None:
        async with connect(at.target, keys, sinks=files.sinks) as connection:
            await connection.run("exit 0")

    talk(work())
    assert set(Tshark("4.6", at.target.port).messages(files.bare)) == CLEAR


def test_the_subsystem_of_files_is_decoded(server: Callable[[str], Server], keys: Keys, files: Files) -> None:
    at = server("openssh-10.6")

    async def work() -> None:
        async with connect(at.target, keys, sinks=files.sinks) as connection:
            sftp = await connection.open(subsystem="sftp")
            sftp.stdin.write(bytes.fromhex("0000000501 00000003"))  # SSH_FXP_INIT, version 3
            assert (await sftp.stdout.readexactly(5))[4] == 2
            sftp.close()

    talk(work())
    rows = Tshark("4.6", at.target.port).fields(files.whole, "sftp.packet_type")
    assert [row[0] for row in rows if row[0]] == ["1", "2"]


def test_the_comments_name_the_phases(server: Callable[[str], Server], keys: Keys, files: Files) -> None:
    at = server("openssh-10.6")

    async def work() -> None:
        async with connect(at.target, keys, sinks=files.sinks) as connection:
            await connection.run("exit 0")

    talk(work())
    tshark = Tshark("4.6", at.target.port)
    rows = tshark.fields(files.bare, "frame.number", "frame.comment", "ssh.message_code")
    comments = "\n".join(row[1] for row in rows)
    begun = re.findall(r"phase (\d [a-zA-Z ]+?) begins", comments)
    assert begun == [
        "0 TCP", "1 identification", "2 negotiation", "3 key exchange", "4 authentication", "5 connection",
        "6 teardown",
    ]  # fmt: skip
    where = {name: int(row[0]) for row in rows for name in ("20", "21") if name in row[2].split(",")}
    assert "SSH_MSG_KEXINIT: kex=" in rows[where["20"] - 1][1]
    assert f"in frame {min(_frames_of(rows, '21'))}" in comments or "NEWKEYS" in rows[where["21"] - 1][1]
    assert "exit" not in comments, "what travelled encrypted is in no comment"


def _frames_of(rows: list[list[str]], number: str) -> list[int]:
    return [int(row[0]) for row in rows if number in row[2].split(",")]


def test_capinfos_and_editcap_read_it(
    server: Callable[[str], Server], keys: Keys, files: Files, tmp_path: Path
) -> None:
    at = server("openssh-9.2")

    async def work() -> None:
        async with connect(at.target, keys, sinks=files.sinks) as connection:
            await connection.run("exit 0")

    talk(work())
    try:
        told = subprocess.run(["capinfos", files.whole], capture_output=True, text=True, check=True)
        lines = dict(line.split(":", 1) for line in told.stdout.splitlines() if ":" in line)
        edited = subprocess.run(
            ["editcap", "--discard-all-secrets", files.whole, tmp_path / "x.pcapng"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    except FileNotFoundError:
        absent("capinfos and editcap (tshark) are not installed")
    assert told.stderr == edited.stderr == ""
    assert lines["Capture application"].strip() == f"glasshell {glasshell.__version__}"
    assert lines["Strict time order"].strip() == "True"
    assert lines["Number of decryption secrets in file"].strip() == "1"


@pytest.mark.parametrize(
    "changes",
    [
        {"kex": ("diffie-hellman-group14-sha256",)},
        {"kex": ("diffie-hellman-group-exchange-sha256",)},
        {"ciphers": ("chacha20-poly1305@openssh.com",)},
        {"ciphers": ("aes256-ctr",), "macs": ("hmac-sha2-256",)},
    ],
    ids=lambda changes: str(next(iter(changes.values()))[0]),
)
def test_what_else_it_follows(
    changes: dict[str, tuple[str, ...]], start: Start, keys: Keys, files: Files
) -> None:
    """The long lines of Diffie-Hellman, both forms of one exchange side by side, and other ciphers."""
    at = start(AllAlgorithms("10.6", keys))

    async def work() -> None:
        async with connect(at.target, keys, policy=everything(**changes), sinks=files.sinks) as connection:
            await connection.run("exit 0")

    talk(work())
    files.judge(Tshark("4.6", at.target.port))


def test_a_connection_that_dies_in_the_middle(
    server: Callable[[str], Server], keys: Keys, files: Files
) -> None:
    at = server("openssh-10.6")

    async def work() -> None:
        policy = Policy.client(login_grace=0).for_wireshark()
        async with connect(at.target, keys, policy=policy, sinks=files.sinks) as connection:
            with pytest.raises(ConnectionLost):
                await connection.run("head -c 3000000 /dev/zero; kill -9 $PPID", encoding=None)

    talk(work())
    tshark = Tshark("4.6", at.target.port)
    files.judge(tshark)
    rows = tshark.fields(files.whole, "tcp.flags.fin", "tcp.flags.reset")
    assert any(end in ("1", "True") for row in rows[-3:] for end in row)


def test_both_ends_of_a_connection_over_ipv6(keys: Keys, tmp_path: Path) -> None:
    ends = [Files(tmp_path / side) for side in ("client", "server")]
    host = keys.host()

    async def answer(session: ServerSession) -> int:
        session.stdout.write(await session.stdin.read())
        return 0

    async def work() -> int:
        users = KnownUsers({"ada": [load_public_key(keys.user().public)[0]]})
        async with glasshell.serve(
            "::1", 0, host_keys=[load_private_key(host.private.read_bytes())], gatekeeper=users,
            handler=answer, policy=Policy.server().for_wireshark(), sinks=lambda peer: ends[1].sinks,
        ) as running:  # fmt: skip
            target = Target(running.port, "ada", (host.public,), "::1")
            async with connect(target, keys, sinks=ends[0].sinks) as connection:
                data = payload(200_000)
                assert (await connection.run("x", input=data, encoding=None)).stdout == data
            return running.port

    port = talk(work())
    for end in ends:
        tshark = Tshark("4.6", port)
        assert tshark.complaints(end.whole) == ""
        assert tshark.messages(end.whole) == end.witness.messages
        rows = tshark.fields(end.whole, "ipv6.src", "tcp.srcport")
        assert rows[0][0] == "::1"
        assert {row[1] for row in rows[1:2]} == {str(port)}
    assert ends[0].witness.messages == ends[1].witness.messages
