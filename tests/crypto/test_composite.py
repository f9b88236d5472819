"""ML-DSA-44 with Ed25519 (ssh-mldsa44-ed25519): the vector of the draft, OpenSSH 10.6 both ways, halves."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from glasshell.crypto.handles import CompositeKey, CompositePublic
from glasshell.crypto.registry import Kind, defaults
from glasshell.crypto.signatures import COMPOSITE, PrivateKey, PublicKey
from glasshell.errors import KeyFormatError
from glasshell.keys.openssh import dump_private_key, load_private_key
from glasshell.keys.public import load_public_key
from glasshell.policy import Policy
from glasshell.wire import Secret, string
from tests.cli.beside import Beside, beside
from tests.cli.conftest import commands
from tests.cli.kit import Commands
from tests.interop.conftest import Start, keys, start
from tests.interop.peers import Keys, OpenSSHServer

__all__ = ["commands", "keys", "start"]


@pytest.fixture(scope="module")
def key() -> PrivateKey:
    return PrivateKey.generate(COMPOSITE, comment="c")


def test_the_vector_of_the_draft(shared: Path) -> None:
    path = shared / "vectors/openssh/unittests/crypto/testdata/draft-ietf-lamps-pq-composite-sigs.json"
    vector = json.loads(path.read_text())
    message, public, secret, signature = (base64.b64decode(vector[name]) for name in ("m", "pk", "sk", "s"))
    CompositePublic(public).verify(signature, message)
    assert CompositeKey(secret).public_key().raw == public
    CompositePublic(public).verify(CompositeKey(secret).sign(message), message)


def test_nobody_gets_it_who_did_not_ask() -> None:
    assert COMPOSITE not in defaults(Kind.HOST_KEY, "client")
    assert COMPOSITE not in defaults(Kind.HOST_KEY, "server")
    assert COMPOSITE not in Policy.client().pubkey_algorithms


def test_neither_half_is_enough(key: PrivateKey) -> None:
    signature, other = (key.sign(COMPOSITE, data) for data in (b"data", b"other"))
    assert key.public.verify(COMPOSITE, signature, b"data")
    head = len(string(COMPOSITE.encode())) + 4
    for cut in (head + 2420, head):  # ML-DSA's of one message and Ed25519's of another; neither
        for mixed in (signature[:cut] + other[cut:], other[:cut] + signature[cut:]):
            assert key.public.verify(COMPOSITE, mixed, b"data") is (mixed == signature)
    for broken in (signature[:-1], signature + b"\0", signature[: head + 2420], b""):
        assert not key.public.verify(COMPOSITE, broken, b"data")


@pytest.mark.parametrize("size", [0, 32, 1312, 1343, 1345])
def test_keys_of_another_size(size: int) -> None:
    with pytest.raises(KeyFormatError):
        PublicKey.from_blob(string(COMPOSITE.encode()) + string(b"\1" * size))


def test_a_classical_half_of_small_order(key: PrivateKey) -> None:
    blob = key.public.blob[:-32] + bytes(32)
    with pytest.raises(KeyFormatError, match="small order"):
        PublicKey.from_blob(blob)


def test_files(key: PrivateKey) -> None:
    assert load_private_key(dump_private_key(key)).public == key.public
    sealed = dump_private_key(key, Secret("x"), rounds=1)
    assert load_private_key(sealed, Secret("x")).public == key.public


@pytest.fixture
def pair() -> Iterator[Beside]:
    with beside("10.6") as made:
        yield made


def test_keys_and_signatures_of_either(pair: Beside) -> None:
    for make, name in ((pair.ours, "mine"), (pair.theirs, "other")):
        said = make("-t", "mldsa44-ed25519", "-N", "pass", "-a", "1", "-C", "c", "-f", name)
        assert said.status == 0
        public = (pair.folder / f"{name}.pub").read_text()
        assert load_public_key(public)[0].type == COMPOSITE
        for ask in (pair.ours, pair.theirs):
            assert ask("-y", "-P", "pass", "-f", name).seen == (0, public)
        for flags in (("-l",), ("-lv",), ("-B",)):
            assert pair.ours(*flags, "-f", name).seen == pair.theirs(*flags, "-f", name).seen
        pair.ours("-p", "-P", "pass", "-N", "", "-f", name)
    for sign, name in ((pair.ours, "mine"), (pair.theirs, "other")):
        pair.write("sig", sign("-Y", "sign", "-n", "file", "-f", name, stdin="data").out)
        check = ("-Y", "check-novalidate", "-n", "file", "-s", "sig")
        for ask in (pair.ours, pair.theirs):
            assert ask(*check, stdin="data").status == 0
            assert ask(*check, stdin="else").status == 255


def test_a_login_by_it_and_a_host_that_shows_it(
    pair: Beside, start: Start, keys: Keys, commands: Commands
) -> None:
    for name in ("host", "user"):
        pair.ours("-q", "-t", "mldsa44-ed25519", "-N", "", "-f", name)
    inside = pair.place.inside(pair.folder)
    config = f"""HostKey {inside}/host
HostKeyAlgorithms {COMPOSITE}
PubkeyAcceptedAlgorithms {COMPOSITE}
AuthorizedKeysFile {inside}/user.pub"""
    target = start(OpenSSHServer("10.6", keys, extra_config=config)).target
    known = pair.write("known", f"[{target.host}]:{target.port} {(pair.folder / 'host.pub').read_text()}")
    words = ["ssh", "-F", "none", "-p", str(target.port), "-i", str(pair.folder / "user")]
    for option in (f"UserKnownHostsFile={known}", "GlobalKnownHostsFile=none", "IdentitiesOnly=yes"):
        words += ["-o", option]
    asked = ("-o", f"HostKeyAlgorithms={COMPOSITE}", "-o", f"PubkeyAcceptedAlgorithms={COMPOSITE}")
    done = commands.run(*words, *asked, f"{target.user}@{target.host}", "echo in")
    assert (done.returncode, done.stdout) == (0, b"in\n"), done.stderr
    done = commands.run(*words, f"{target.user}@{target.host}", "echo in")
    assert (done.returncode, done.stdout) == (255, b"")  # on request only
    assert COMPOSITE.encode() in done.stderr


def free_port() -> int:
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        number: int = chosen.getsockname()[1]
        return number


def test_a_server_of_ours_shows_it_and_takes_it(pair: Beside, commands: Commands) -> None:
    for name in ("host", "user"):
        pair.ours("-q", "-t", "mldsa44-ed25519", "-N", "", "-f", name)
    port = str(free_port())
    (commands.home / "config").write_text(f"""ListenAddress 127.0.0.1
Port {port}
HostKey {pair.folder}/host
HostKeyAlgorithms {COMPOSITE}
PubkeyAcceptedAlgorithms {COMPOSITE}
AuthorizedKeysFile {pair.folder}/user.pub
StrictModes no
PermitRootLogin yes
UsePAM no
""")
    process = commands.start("sshd", "-D", "-e", "-f", "config")
    assert process.stderr is not None
    heard = process.stderr.readline().decode()
    assert f"port {port}" in heard
    known = f"[127.0.0.1]:{port} {(pair.folder / 'host.pub').read_text()}"
    pair.write("known", known)
    inside = pair.place.inside(pair.folder)
    words = ["ssh", "-F", "none", "-p", port, "-i", f"{inside}/user", "-o", "BatchMode=yes"]
    for option in (f"UserKnownHostsFile={inside}/known", "GlobalKnownHostsFile=none", "IdentitiesOnly=yes",
                   f"HostKeyAlgorithms={COMPOSITE}", f"PubkeyAcceptedAlgorithms={COMPOSITE}"):  # fmt: skip
        words += ["-o", option]
    line = ["chroot", str(pair.place.root), *words, "root@127.0.0.1", "echo in"]
    done = subprocess.run(line, capture_output=True, stdin=subprocess.DEVNULL, timeout=30)
    assert (done.returncode, done.stdout) == (0, b"in\n"), done.stderr
    assert b"MLDSA44-ED25519" in process.stderr.readline()
