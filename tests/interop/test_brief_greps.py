"""The article's two greps over -vvv: our client's lines against those of ssh(1) 9.2, from the same server.

Algorithm options are equal; what is masked is what each side has of its own: the lists it offers, its
version, its sequence of bytes. Everything else, and the order, has to be the same; but a client that does not
ask first whether a key would do has the server's remark about that key once and not twice.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.interop.conftest import Start
from tests.interop.peers import Keys, OpenSSHServer, Server, require_peer

GREPS = ("kex|cipher|mac|compress", "auth|Authentications")
OWN = (
    "debug2: sshpkt_disconnect: sending SSH2_MSG_DISCONNECT: no more", "is one of the public keys offered",
    "  why: ", "  likely: ", "  try: ",
)  # fmt: skip
"""What ssh(1) does not do when a login fails: say good-bye, give a hint, and explain."""
SOURCE = Path(__file__).resolve().parents[2] / "src"

OPTIONS = {
    "gcm": ["KexAlgorithms=curve25519-sha256", "Ciphers=aes256-gcm@openssh.com",
            "HostKeyAlgorithms=ssh-ed25519"],
    "chacha": ["KexAlgorithms=ecdh-sha2-nistp256", "Ciphers=chacha20-poly1305@openssh.com",
               "HostKeyAlgorithms=rsa-sha2-512"],
    "etm": ["KexAlgorithms=ecdh-sha2-nistp384", "Ciphers=aes128-ctr", "MACs=hmac-sha2-256-etm@openssh.com",
            "HostKeyAlgorithms=ecdsa-sha2-nistp256"],
    "mac": ["KexAlgorithms=diffie-hellman-group14-sha256", "Ciphers=aes192-ctr", "MACs=hmac-sha2-512",
            "HostKeyAlgorithms=rsa-sha2-256"],
    "gex": ["KexAlgorithms=diffie-hellman-group-exchange-sha256", "Ciphers=aes256-ctr",
            "MACs=hmac-sha2-512-etm@openssh.com", "HostKeyAlgorithms=ssh-ed25519"],
    "zlib": ["KexAlgorithms=curve25519-sha256@libssh.org", "Ciphers=aes128-gcm@openssh.com",
             "Compression=yes", "HostKeyAlgorithms=ssh-ed25519"],
}  # fmt: skip


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in whose name no pattern is found."""
    return tmp_path_factory.mktemp("run")


def lines(program: list[str], words: list[str], pattern: str, cwd: Path) -> list[str]:
    """What `program -vvv ... 2>&1 | grep -E pattern` prints, values masked."""
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "HOME": str(cwd), "LC_ALL": "C"}
    environment.pop("SSH_AUTH_SOCK", None)
    shown = subprocess.run(
        [*program, "-vvv", *words], cwd=cwd, env=environment, stdin=subprocess.DEVNULL, capture_output=True,
        start_new_session=True, timeout=60, check=False,
    )  # fmt: skip
    text = shown.stderr.decode().replace("\r", "")
    return [masked(line) for line in text.splitlines() if re.search(pattern, line)]


def masked(line: str) -> str:
    line = re.sub(r"((?:compression|ciphers|MACs) (?:ctos|stoc)): .*", r"\1: ...", line)
    line = re.sub(r"((?:KEX|host key) algorithms): .*", r"\1: ...", line)
    return re.sub(r"(compress \w+: ).*", r"\1...", line)  # the factors are those of different packets


def both(words: list[str], pattern: str, cwd: Path) -> tuple[list[str], list[str]]:
    require_peer("openssh-9.2")
    ours = lines([sys.executable, "-m", "glasshell", "ssh"], words, pattern, cwd)
    return ours, lines(["ssh"], words, pattern, cwd)


def words_for(
    server: Server, keys: Keys, folder: Path, *options: str, user_keys: tuple[str, ...]
) -> list[str]:
    known = folder / "known_hosts"
    known.write_text(server.target.known_hosts())
    settings = [
        f"UserKnownHostsFile={known}",
        "GlobalKnownHostsFile=none",
        "IdentitiesOnly=yes",
        "BatchMode=yes",
    ]
    identities = [word for path in user_keys for word in ("-i", path)]
    words = [word for setting in (*settings, *options) for word in ("-o", setting)]
    return [
        "-F",
        "none",
        *words,
        *identities,
        "-p",
        str(server.target.port),
        f"root@{server.target.host}",
        "true",
    ]


def once(found: list[str]) -> list[str]:
    """Without the repetitions of what the server remarks."""
    seen = set[str]()
    return [line for line in found if "Remote:" not in line or not (line in seen or seen.add(line))]


@pytest.mark.parametrize("pattern", GREPS)
@pytest.mark.parametrize("name", OPTIONS)
def test_a_login_prints_the_same_lines(
    name: str, pattern: str, server: Callable[[str], Server], keys: Keys, folder: Path
) -> None:
    identity = str(keys.user().copy_to(folder))
    words = words_for(server("openssh-9.2"), keys, folder, *OPTIONS[name], user_keys=(identity,))
    ours, theirs = both(words, pattern, folder)
    assert ours == once(theirs)
    assert len(ours) >= 6
    again, _ = both(words, pattern, folder)  # the server is known by now, and is sent more before its time
    assert again == ours


@pytest.mark.parametrize("pattern", GREPS)
def test_a_login_in_turns_prints_them_as_often(
    pattern: str, server: Callable[[str], Server], keys: Keys, folder: Path
) -> None:
    identity = str(keys.user().copy_to(folder))
    words = words_for(server("openssh-9.2"), keys, folder, *OPTIONS["gcm"], user_keys=(identity,))
    ours = lines([sys.executable, "-m", "glasshell", "ssh", "-o", "Speculation=no"], words, pattern, folder)
    assert ours == lines(["ssh"], words, pattern, folder)


@pytest.mark.parametrize("pattern", GREPS)
def test_keys_that_are_refused_first(
    pattern: str, server: Callable[[str], Server], keys: Keys, folder: Path
) -> None:
    pair = (keys.stranger("ed25519"), keys.stranger("ecdsa"), keys.user("rsa"))
    identities = tuple(str(key.copy_to(folder)) for key in pair)
    words = words_for(server("openssh-9.2"), keys, folder, *OPTIONS["gcm"], user_keys=identities)
    ours, theirs = both(words, pattern, folder)
    assert ours == once(theirs)


@pytest.mark.parametrize("pattern", GREPS)
def test_a_login_that_fails(pattern: str, start: Start, keys: Keys, folder: Path) -> None:
    server = start(OpenSSHServer("9.2", keys, extra_config="PasswordAuthentication no"))
    identity = str(keys.stranger().copy_to(folder))
    words = words_for(server, keys, folder, *OPTIONS["gcm"], user_keys=(identity,))
    ours, theirs = both(words, pattern, folder)
    assert [line for line in ours if not line.startswith(OWN)] == theirs
