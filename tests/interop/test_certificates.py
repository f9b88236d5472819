"""Certificates and security keys with OpenSSH, in both roles: hosts' and users'."""

from __future__ import annotations

import base64
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

import glasshell
from glasshell.agent.client import Identity
from glasshell.aio.agent import Agent, Binding
from glasshell.aio.memory import Memory
from glasshell.crypto.signatures import PrivateKey, PublicKey
from glasshell.errors import AuthenticationFailed, HostKeyRefused
from glasshell.keys.certificate import Certificate, sign_certificate
from glasshell.keys.openssh import dump_private_key, load_private_key
from glasshell.keys.public import AnyKey, dump_public_key, load_key, read_key
from glasshell.observe.record import Record, StateRecord
from glasshell.policy import Policy
from tests import certs
from tests.certs import CA, REVOKED_CA, RSA_CA, RSA_USER, TABLE, USER, Case, Offered, blob_of, signature
from tests.fido import ECDSA, ED25519, TOUCHED, VERIFIED, Token, string

from .glass import GlassServer, environment
from .kit import connect, known, talk
from .peers import Client, Keys, OpenSSHClient, OpenSSHServer, Place, Server, Target, require_peer

VERSIONS = ("9.2", "10.6")


Scratch = Callable[[Place], Path]


@pytest.fixture
def scratch() -> Iterator[Scratch]:
    """scratch(place): a folder that programs there can read, gone after the test."""
    with ExitStack() as stack:

        def make(place: Place) -> Path:
            folder = place.scratch()
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            return folder

        yield make


def lines(*keys: AnyKey) -> str:
    return "".join(dump_public_key(key) for key in keys)


class Certified(OpenSSHServer):
    """sshd that trusts the table's authorities, one of which is revoked, and shows a host certificate."""

    def _config(self, port: int) -> str:
        host = self.keys.host("ed25519")
        certificate = host_certificate(host.public)
        more = [
            f"TrustedUserCAKeys {self._file('ca', lines(CA.public, RSA_CA.public, REVOKED_CA.public))}",
            f"RevokedKeys {self._file('revoked', lines(REVOKED_CA.public))}",
            f"HostCertificate {self._file('host-cert.pub', lines(certificate))}",
        ]
        self._extra = "\n".join(more)
        return super()._config(port)


class GlassCertified(GlassServer):
    """`glasshell sshd` set up as `Certified`."""

    def _line(self, port: int) -> list[str]:
        certificate = host_certificate(self.keys.host("ed25519").public)
        self._config = "\n".join([
            f"TrustedUserCAKeys {self._file('ca', lines(CA.public, RSA_CA.public, REVOKED_CA.public))}",
            f"RevokedKeys {self._file('revoked', lines(REVOKED_CA.public))}",
            f"HostCertificate {self._file('host-cert.pub', lines(certificate))}",
            "LogLevel VERBOSE",
        ])  # fmt: skip
        return super()._line(port)


def host_certificate(public: str, **changes: Any) -> Certificate:
    key = PublicKey.from_blob(base64.b64decode(public.split()[1]))
    told: dict[str, Any] = {"kind": "host", "key_id": "a host", "principals": ["127.0.0.1"], "serial": 5}
    return sign_certificate(key, CA, **{**told, **changes})


@pytest.fixture(scope="module")
def sshd(keys: Keys) -> Iterator[Any]:
    """sshd("10.6"), or "glasshell": the server, started once."""
    running: dict[str, Server] = {}
    with ExitStack() as stack:

        def get(version: str) -> Server:
            if version not in running:
                made = GlassCertified(keys) if version == "glasshell" else Certified(version, keys)
                running[version] = stack.enter_context(made)
            return running[version]

        yield get


class TestAgent(Agent):
    """An agent inside the test: it holds one key, whatever that is."""

    __test__ = False

    def __init__(self, key: Any, sign: Any) -> None:
        super().__init__("/")
        self._identity = Identity(key.blob, "test", key)
        self._sign = sign

    async def identities(self) -> tuple[Identity, ...]:
        return (self._identity,)

    async def sign(self, blob: bytes, algorithm: str, data: bytes) -> bytes:
        return self._sign(data)  # type: ignore[no-any-return]

    def bound(self, binding: Binding | None) -> TestAgent:
        return self


def lets_in(target: Target, key: Any, sign: Any, **changes: Any) -> bool:
    """Whether a server takes `key`, which `sign(data)` signs with, from our client."""
    names = Policy.client().pubkey_algorithms
    policy = Policy.client(pubkey_algorithms=tuple(dict.fromkeys((*key.algorithms, *names))))

    async def attempt() -> bool:
        with suppress(AuthenticationFailed):
            async with glasshell.connect(
                target.host, target.port, user=target.user, keys=[], agent=TestAgent(key, sign),
                known_hosts=known(target.known_hosts()), strict="yes", policy=policy, memory=None, **changes,
            ) as connection:  # fmt: skip
                return (await connection.run("true")).status == 0
        return False

    return talk(attempt())


# ---- the table: sshd judges what our server judges


@pytest.mark.parametrize("case", TABLE, ids=str)
def test_sshd_judges_the_table(case: Case, sshd: Any) -> None:
    target = sshd("10.6").target
    offered = Offered(blob_of(case, target.user), case.algorithm)
    assert lets_in(target, offered, lambda data: signature(case, data)) is case.sshd_good


@pytest.mark.parametrize("case", TABLE, ids=str)
def test_our_server_judges_the_table(case: Case, sshd: Any) -> None:
    target = sshd("glasshell").target
    offered = Offered(blob_of(case, target.user), case.algorithm)
    assert lets_in(target, offered, lambda data: signature(case, data)) is case.good


# ---- real ssh offers what real sshd and ours judge

NAMED = (
    "plain", "another name", "wildcard", "no name", "expired", "not yet valid", "unknown critical option",
    "another address", "forced command", "RSA key", "authority of RSA, SHA-256", "revoked authority",
    "authority that is not trusted",
)  # fmt: skip


def files(folder: Path, key: PrivateKey, certificate: AnyKey | None = None) -> Path:
    """A private key file, and its certificate beside it."""
    path = folder / "id"
    path.write_bytes(dump_private_key(key))
    path.chmod(0o600)
    path.with_name("id.pub").write_text(dump_public_key(key.public))
    if certificate is not None:
        path.with_name("id-cert.pub").write_text(dump_public_key(certificate))
    return path


@pytest.mark.parametrize("server", ["10.6", "glasshell"])
@pytest.mark.parametrize("name", NAMED)
def test_ssh_offers_a_certificate(name: str, server: str, sshd: Any, scratch: Scratch) -> None:
    case = next(case for case in TABLE if case.name == name)
    target = sshd(server).target
    certificate = read_key(blob_of(case, target.user))
    key = RSA_USER if certificate.plain == RSA_USER.public else USER
    with OpenSSHClient("10.6") as client:
        place = client.place
        folder = scratch(place)
        path = place.inside(files(folder, key, certificate))
        done = client.run(target, "echo in", "-i", path, "-o", f"CertificateFile={path}-cert.pub", "-v")
    said = done.stderr.decode()
    assert f"-CERT {key.public.fingerprint()}" in said
    assert done.returncode == (0 if case.good else 255), said
    assert done.stdout == (b"" if name == "forced command" or not case.good else b"in\n")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_host_certificate_of_ours_under_ssh(version: str, sshd: Any, scratch: Scratch) -> None:
    """known_hosts has nothing but the authority's line."""
    server = sshd("glasshell")
    target = server.target
    certificate = certs.build(target.user.encode())
    with OpenSSHClient(version) as client:
        folder = scratch(client.place)
        path = client.place.inside(files(folder, USER, read_key(certificate)))
        trusted = folder / "known"
        for names, good in ((f"[{target.host}]:{target.port}", True), ("other", False)):
            trusted.write_text(f"@cert-authority {names} {dump_public_key(CA.public)}")
            done = client.run(
                target, "echo in", "-v", "-i", path, "-o",
                f"UserKnownHostsFile={client.place.inside(trusted)}",
            )  # fmt: skip
            said = done.stderr.decode()
            assert (done.returncode == 0) is good, said
            if good:
                assert 'serial 5 ID "a host" CA ssh-ed25519' in said
                assert "matches the ED25519-CERT host certificate" in said
    user, by = USER.public.fingerprint(), CA.public.fingerprint()
    assert f"ED25519-CERT {user} ID id (serial 7) CA ED25519 {by}" in server.log


# ---- our client


@pytest.mark.parametrize("version", VERSIONS)
def test_a_host_certificate_of_sshd(version: str, sshd: Any, keys: Keys) -> None:
    target = sshd(version).target
    line = dump_public_key(CA.public)

    async def shown(names: str) -> AnyKey:
        trusted = known(f"@cert-authority {names} {line}")
        async with connect(target, keys, known_hosts=trusted, memory=None) as connection:
            assert (await connection.run("true")).ok
            return connection.host_key

    host = talk(shown(f"[{target.host}]:{target.port}"))
    assert isinstance(host, Certificate)
    assert (host.key_id, host.serial, host.authority) == ("a host", 5, CA.public)
    with pytest.raises(HostKeyRefused):
        talk(shown("other"))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("key", [USER, RSA_USER], ids=["ed25519", "rsa"])
@pytest.mark.parametrize("where", ["beside", "named", "agent", "key in the agent"])
def test_a_user_certificate_at_sshd(
    version: str, key: PrivateKey, where: str, sshd: Any, keys: Keys, tmp_path: Path
) -> None:
    """In FILE-cert.pub, in CertificateFile, in ssh-agent; and in a file while ssh-agent has the key."""
    target = sshd(version).target
    certificate = read_key(certs.build(target.user.encode(), key=key.public))
    path = files(tmp_path, key, certificate)
    changes: dict[str, Any] = {"keys": [path]}
    with ExitStack() as stack:
        if where == "named":
            elsewhere = path.rename(tmp_path / "other")
            changes = {"keys": [elsewhere], "certificates": [tmp_path / "id-cert.pub"]}
        elif where != "beside":
            if where != "agent":
                path.with_name("id-cert.pub").rename(tmp_path / "cert")
                changes = {"certificates": [tmp_path / "cert"]}
            changes |= {"keys": [], "agent": stack.enter_context(real_agent(tmp_path, path))}

        async def offered() -> list[str]:
            records: list[Record] = []
            async with connect(target, keys, memory=None, sinks=[records.append], **changes) as connection:
                assert (await connection.run("true")).ok
            told = [r.facts for r in records if isinstance(r, StateRecord) and r.name == "auth_offer"]
            return [f"{facts['key_type']} {facts['fingerprint']}" for facts in told]

        assert talk(offered())[-1] == f"{key.public.label}-CERT {key.public.fingerprint()}"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_certificate_that_was_enough_comes_first_the_next_time(
    version: str, sshd: Any, keys: Keys, tmp_path: Path
) -> None:
    """And alone: with the session behind it, on one connection."""
    target = sshd(version).target
    path = files(tmp_path, USER, read_key(certs.build(target.user.encode())))
    memory = Memory()

    async def run() -> list[str]:
        records: list[Record] = []
        connecting = connect(target, keys, keys=[path], memory=memory, sinks=[records.append])
        async with connecting as connection:
            assert (await connection.run("true")).ok
        states = [r for r in records if isinstance(r, StateRecord)]
        assert sum(r.name == "started" for r in states) == 1
        return [r.facts["key_type"] for r in states if r.name == "auth_offer"]

    assert talk(run()) == ["ED25519", "ED25519-CERT"]
    assert talk(run()) == ["ED25519-CERT"]


@contextmanager
def real_agent(folder: Path, *paths: Path) -> Iterator[str]:
    """ssh-agent(1) with the keys in files, and the certificates beside them."""
    sock = str(folder / "agent")
    process = subprocess.Popen(["ssh-agent", "-D", "-a", sock], stdout=subprocess.DEVNULL)
    try:
        for _ in range(200):
            if Path(sock).exists():
                break
            process.poll()
            threading.Event().wait(0.01)
        settings = {**os.environ, "SSH_AUTH_SOCK": sock}
        subprocess.run(["ssh-add", "-q", *map(str, paths)], check=True, env=settings, timeout=20)
        yield sock
    finally:
        process.terminate()
        process.wait()


def test_the_order_is_that_of_ssh(sshd: Any, scratch: Scratch) -> None:
    """What ssh 10.6 offers, one after another, to a server that takes none of it."""
    target = sshd("10.6").target
    stranger = PrivateKey.generate("ssh-ed25519")
    with OpenSSHClient("10.6") as client:
        home = scratch(client.place)
        (home / ".ssh").mkdir()
        first, second = home / ".ssh/id_rsa", home / ".ssh/id_ed25519"
        for path, key in ((first, RSA_USER), (second, stranger)):
            made = files(home, key, certs_for_nobody(key))
            for suffix in ("", ".pub", "-cert.pub"):
                made.with_name(f"id{suffix}").rename(path.with_name(path.name + suffix))
        spare = home / "spare.pub"
        spare.write_text(dump_public_key(certs_for_nobody(stranger, serial=9)))
        for explicit in (True, False):
            for named in (True, False):
                options = [word for path in (first, second) for word in ("-i", client.place.inside(path))]
                more = ["-o", f"CertificateFile={client.place.inside(spare)}"] if named else []
                theirs = offers(client, target, home, [*(options if explicit else []), *more])
                ours = tried(target, [first, second] if explicit else None, [spare] if named else [], home)
                assert ours == theirs, (explicit, named)
                assert len(theirs) == (3 if named else 4)


def certs_for_nobody(key: PrivateKey, **parts: Any) -> AnyKey:
    return read_key(certs.build(b"nobody", key=key.public, **parts))


def offers(client: Client, target: Target, home: Path, options: list[str]) -> list[str]:
    inside = client.place.inside(home)
    (home / ".ssh/known_hosts").write_text(target.known_hosts())
    line = ["ssh", "-F", "none", "-v", "-o", "BatchMode=yes", "-o",
            f"UserKnownHostsFile={inside}/.ssh/known_hosts", *options, "-p", str(target.port), "-l",
            target.user, target.host, "true"]  # fmt: skip
    argv = client.place.command("env", "-i", f"PATH={client.place.path}", *line, home=home)
    said = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False).stderr
    return re.findall(r"Offering public key: \S+ (\S+ SHA256:\S+)", said)


def tried(target: Target, paths: list[Path] | None, certificates: list[Path], home: Path) -> list[str]:
    async def attempt() -> list[str]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HOME", str(home))
            connecting = glasshell.connect(
                target.host, target.port, user=target.user, keys=paths, certificates=certificates,
                agent=None, known_hosts=known(target.known_hosts()), memory=None,
            )  # fmt: skip
            with pytest.raises(AuthenticationFailed) as caught:
                await connecting
        return [a.identity for a in caught.value.attempts if a.identity]

    return talk(attempt())


def test_a_refused_certificate_is_explained(sshd: Any, tmp_path: Path) -> None:
    target = sshd("10.6").target
    old = read_key(certs.build(target.user.encode(), before=31 * certs.YEAR))
    path = files(tmp_path, USER, old)
    (tmp_path / "known").write_text(target.known_hosts())
    line = [sys.executable, "-m", "glasshell", "ssh", "-F", "none", "-o", "BatchMode=yes", "-o",
            f"UserKnownHostsFile={tmp_path / 'known'}", "-o", "IdentitiesOnly=yes", "-i", str(path), "-p",
            str(target.port), "-l", target.user, target.host, "true"]  # fmt: skip
    done = subprocess.run(line, capture_output=True, text=True, timeout=30, check=False, env=environment())
    assert done.returncode == 255
    said = rf"publickey ED25519-CERT {re.escape(f'{USER.public.fingerprint()} {path}')}( \(.*\))?: refused"
    assert re.search(said, done.stderr)
    by = CA.public.fingerprint()
    assert f"certificate ID id (serial 7) CA ED25519 {by}, for {target.user}" in done.stderr
    assert "it has expired" in done.stderr
    cause = "a certificate does not hold, wherever it is shown: Certificate invalid: expired"
    assert f"likely: {cause}" in done.stderr


# ---- security keys


@contextmanager
def fido_agent(folder: Path, token: Token, flags: int, *blobs: bytes) -> Iterator[Path]:
    """An agent that holds security keys in software: it lists `blobs`, and signs with `token`."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(folder / "fido"))
    listening.listen()

    def answer(asked: bytes) -> bytes:
        if asked[:1] == b"\x0b":
            held = b"".join(string(blob) + string(b"token") for blob in blobs)
            return b"\x0c" + struct.pack(">I", len(blobs)) + held
        if asked[:1] == b"\x0d":
            size = int.from_bytes(asked[1:5], "big")
            start = 5 + size
            data = asked[start + 4 : start + 4 + int.from_bytes(asked[start : start + 4], "big")]
            return b"\x0e" + string(token.sign(data, flags=flags))
        return b"\x05"

    def serve() -> None:
        with suppress(OSError):
            while True:
                sock, _ = listening.accept()
                threading.Thread(target=talk_to, args=(sock,), daemon=True).start()

    def talk_to(sock: socket.socket) -> None:
        with sock, suppress(OSError), sock.makefile("rwb") as stream:
            while head := stream.read(4):
                stream.write(string(answer(stream.read(int.from_bytes(head, "big")))))
                stream.flush()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield folder / "fido"
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()


@pytest.fixture(scope="module")
def tokens() -> dict[str, Token]:
    return {kind: Token(kind) for kind in (ED25519, ECDSA)}


@pytest.fixture(scope="module")
def touched(keys: Keys, tokens: dict[str, Token]) -> Iterator[Server]:
    """Our server, with both security keys in authorized_keys; the second asks for no touch."""
    text = dump_public_key(tokens[ED25519].public)
    text += f"no-touch-required {dump_public_key(tokens[ECDSA].public)}"
    with GlassServer(keys, "LogLevel VERBOSE", authorized=lambda _: text) as server:
        yield server


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("kind", "flags", "good"),
    [(ED25519, TOUCHED, True), (ED25519, 0, False), (ECDSA, TOUCHED | VERIFIED, True), (ECDSA, 0, True)],
    ids=["touched", "untouched", "verified", "no-touch-required"],
)
def test_ssh_with_a_security_key(
    version: str,
    kind: str,
    flags: int,
    good: bool,
    touched: Server,
    tokens: dict[str, Token],
    scratch: Scratch,
) -> None:
    token = tokens[kind]
    with OpenSSHClient(version) as client:
        folder = scratch(client.place)
        (folder / "id.pub").write_text(dump_public_key(token.public))
        with fido_agent(folder, token, flags, token.blob) as sock:
            done = client.run(
                touched.target, "echo in", "-o", f"IdentityAgent={client.place.inside(sock)}", "-i",
                client.place.inside(folder / "id.pub"),
            )  # fmt: skip
    assert done.returncode == (0 if good else 255), done.stderr.decode()


# ---- ssh-keygen of both versions


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", ["ed25519", "rsa", "ecdsa", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"])
def test_ssh_keygen_certifies(kind: str, version: str, keys: Keys, scratch: Scratch) -> None:
    """What it signs is read here, and shown as it shows it; what is signed here it shows as that."""
    place = require_peer(f"openssh-{version}")
    folder = scratch(place)

    def keygen(*words: str) -> str:
        line = place.command("ssh-keygen", *words)
        return subprocess.run(line, capture_output=True, text=True, check=True, timeout=60).stdout

    user, authority = (place.inside(k.copy_to(folder)) for k in (keys.user(kind), keys.stranger(kind)))
    keygen(
        "-q", "-s", authority, "-I", "an id", "-n", "bob,alice", "-z", "18446744073709551614",
        "-V", "20200101000000Z:20300101000000Z", "-O", "force-command=ls -l", "-O", "no-pty",
        "-O", "source-address=192.0.2.0/24,::1/128", "-O", "verify-required",
        "-O", "extension:x@example.org=v", "-O", "critical:y@example.org=w", f"{user}.pub",
    )  # fmt: skip
    path = folder / f"{Path(user).name}-cert.pub"
    read, _ = load_key(path.read_bytes())
    assert isinstance(read, Certificate)
    assert (read.force_command, read.source_addresses) == ("ls -l", ("192.0.2.0/24", "::1/128"))
    assert (read.valid_after, read.valid_before) == (1577836800, 1893456000)
    assert read.objection("user", "bob", 1600000000, address="::1") == (
        'Certificate critical option "y@example.org" is not supported'
    )
    signer = load_private_key(keys.stranger(kind).private.read_bytes())
    assert read.authority == signer.public
    made = sign_certificate(
        read.key, signer, kind="host", key_id='a "host"', principals=["h", "*.example.org"], serial=3,
        valid_before=1893456000,
    )  # fmt: skip
    (folder / "made-cert.pub").write_text(dump_public_key(made))
    for name in (path.name, "made-cert.pub"):
        shown = keygen("-L", "-f", place.inside(folder / name))
        line = [sys.executable, "-m", "glasshell", "keygen", "-L", "-f", str(folder / name)]
        ours = subprocess.run(line, capture_output=True, text=True, check=True, env=environment()).stdout
        assert ours.splitlines()[1:] == shown.splitlines()[1:]
