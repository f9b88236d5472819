"""Records tests/transcripts/*.json: one session with a real OpenSSH for each algorithm, in both roles.

    python scripts/record_transcripts.py

Run from the root of the checkout, as root, after `make peers`. Needed again only where what we send in
such a session is meant to change.
"""

from __future__ import annotations

import secrets
import select
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from glasshell.crypto.registry import Kind, find, names  # noqa: E402
from glasshell.crypto.signatures import PrivateKey  # noqa: E402
from glasshell.keys.openssh import load_private_key  # noqa: E402
from glasshell.keys.public import dump_public_key  # noqa: E402
from tests.interop.peers import Keys, OpenSSHClient, OpenSSHServer, Target  # noqa: E402
from tests.transcripts.driver import (  # noqa: E402
    COMMAND,
    NOT_OPENSSH,
    OUTPUT,
    Session,
    Transcript,
    fixed_kex,
)

SECONDS = 20.0


def suites() -> Iterator[dict[str, Any]]:
    """Settings, so that every key exchange, cipher and MAC comes once at least; the last is compressed."""
    ciphers, macs, methods = names(Kind.CIPHER), names(Kind.MAC), names(Kind.KEX)
    methods = tuple(name for name in methods if name not in NOT_OPENSSH)
    aead = [(c, None) for c in ciphers if find(Kind.CIPHER, c).aead]
    counter = [c for c in ciphers if not find(Kind.CIPHER, c).aead]
    others = [(counter[at % len(counter)], mac) for at, mac in enumerate(macs)]
    pairs = [*aead, *others]
    for at, method in enumerate(methods):
        yield _settings(method, *pairs[at % len(pairs)])
    yield {**_settings("curve25519-sha256", *pairs[0]), "compression": ["zlib@openssh.com"]}


def _settings(method: str, cipher: str, mac: str | None) -> dict[str, Any]:
    return {
        "kex": [method], "ciphers": [cipher], "macs": [mac] if mac else [], "compression": ["none"],
        "host_key_algorithms": ["ssh-ed25519"], "pubkey_algorithms": ["ssh-ed25519"],
        "software": "glasshell_recording", "keepalive_interval": 0,
    }  # fmt: skip


def version_for(method: str) -> str:
    """OpenSSH 9.2 has all but ML-KEM, which came with 9.9."""
    return "10.6" if method.startswith("mlkem") else "9.2"


def raw(key: PrivateKey) -> str:
    """The seed of an Ed25519 key."""
    return str(key.reveal().private_bytes_raw().hex())


def converse(session: Session, connection: socket.socket) -> None:
    """Joins our core and a socket until the connection is over, and writes down what passes."""
    t = session.t
    out = session.begin()
    while True:
        if out:
            t.append(">", out)
            connection.sendall(out)
        if session.core.closed or not select.select([connection], [], [], SECONDS)[0]:
            return
        data = connection.recv(1 << 16)
        if not data:
            return
        t.append("<", data)
        out = session.turn(data)


def record_client(settings: dict[str, Any], keys: Keys) -> Transcript:
    """Our client and sshd."""
    method, cipher, mac = settings["kex"][0], settings["ciphers"][0], ",".join(settings["macs"])
    lines = [f"KexAlgorithms {method}", f"Ciphers {cipher}", f"MACs {mac}" if mac else "", "Compression yes"]
    with OpenSSHServer(version_for(method), keys, extra_config="\n".join(lines)) as server:
        user_key = load_private_key(keys.user().private.read_bytes())
        t = _new("client", server.name, settings, server.target.user, user_key)
        with (
            fixed_kex(t, recording=True),
            socket.create_connection(("127.0.0.1", server.target.port)) as connection,
        ):
            return _finish(t, connection)


def record_server(settings: dict[str, Any], keys: Keys) -> Transcript:
    """Our server and ssh."""
    version = version_for(settings["kex"][0])
    user_key = load_private_key(keys.user().private.read_bytes())
    t = _new("server", f"openssh-{version}", settings, "root", user_key)
    with (
        OpenSSHClient(version) as client,
        socket.create_server(("127.0.0.1", 0)) as listener,
        fixed_kex(t, recording=True),
    ):
        session_key = Session(t).host_key.public
        target = Target(listener.getsockname()[1], "root", (dump_public_key(session_key).strip(),))
        # Without options of its own it lists all it has, which a recording should hold.
        # (Only what is not among its defaults must be named.)
        asked = f"-oKexAlgorithms={t.settings['kex'][0]}" if "mlkem768nistp256" in t.name else "-T"
        line = [*client.argv(target, asked, "-C" if t.rekey else "-T", identity=keys.user()), COMMAND]
        with subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
            connection, _ = listener.accept()
            with connection:
                _finish(t, connection)
            assert process.stdout is not None
            said = process.stdout.read()
            assert (said, process.wait(SECONDS)) == (OUTPUT, 0), said
    return t


def _new(role: str, peer: str, settings: dict[str, Any], user: str, user_key: PrivateKey) -> Transcript:
    return Transcript(
        peer, role, secrets.token_hex(8), settings, settings["compression"] != ["none"], user,
        raw(PrivateKey.generate("ssh-ed25519")), raw(user_key),
    )  # fmt: skip


def _finish(t: Transcript, connection: socket.socket) -> Transcript:
    session = Session(t)
    converse(session, connection)
    t.peer = f"{t.peer}: {session.core.peer_software}"
    t.session_id = session.core.session_id.hex()
    t.events = session.told
    assert t.events[-1] == ("Closed NoneType" if t.role == "client" else "Closed Disconnected"), t.events
    return t


def main() -> None:
    """Records them all."""
    with tempfile.TemporaryDirectory() as folder:
        keys = Keys(Path(folder))
        for settings in suites():
            for record in (record_client, record_server):
                made = record(settings, keys)
                made.save()
                print(made.name)


if __name__ == "__main__":
    main()
