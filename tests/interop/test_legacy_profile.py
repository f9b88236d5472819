"""Profile legacy: an sshd that speaks nothing newer is reached by who says so for that host."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.interop.conftest import Start
from tests.interop.peers import Keys, OpenSSHServer, Server

OLD = {
    "cbc": "Ciphers aes128-cbc\nMACs hmac-sha1",
    "cbc with EtM": "Ciphers aes256-cbc\nMACs hmac-sha1-etm@openssh.com",
    "ctr": "Ciphers aes192-ctr\nMACs hmac-sha1",
}
SHA1 = "KexAlgorithms diffie-hellman-group14-sha1\nHostKeyAlgorithms ssh-rsa"
LOUD = "Profile legacy: 127.0.0.1 may use algorithms that are broken"


def run(config: Path, server: Server, *flags: str) -> subprocess.CompletedProcess[str]:
    words = ["ssh", "-F", str(config), *flags, "-p", str(server.target.port), "127.0.0.1", "echo", "reached"]
    return subprocess.run(
        [sys.executable, "-m", "glasshell", *words], capture_output=True, text=True, timeout=60, check=False
    )


def written(tmp_path: Path, keys: Keys, server: Server, profile: str) -> Path:
    known = tmp_path / "known_hosts"
    host = f"[127.0.0.1]:{server.target.port}"
    known.write_text(f"{host} {(keys.host('rsa').public).strip()}\n")
    config = tmp_path / "config"
    config.write_text(
        f"Host 127.0.0.1\n  {profile}\n  User {server.target.user}\n  BatchMode yes\n"
        f"  IdentityFile {keys.user('rsa').private}\n  IdentitiesOnly yes\n  UserKnownHostsFile {known}\n"
        "  GlobalKnownHostsFile none\n"
    )
    return config


@pytest.mark.parametrize("kind", OLD)
@pytest.mark.parametrize("version", ["9.2", "10.6"])
def test_an_old_device(version: str, kind: str, keys: Keys, start: Start, tmp_path: Path) -> None:
    keys.user("rsa")
    server = start(OpenSSHServer(version, keys, extra_config=f"{OLD[kind]}\n{SHA1}"))
    done = run(written(tmp_path, keys, server, "Profile legacy"), server)
    assert (done.returncode, done.stdout) == (0, "reached\n"), done.stderr
    assert LOUD in done.stderr
    assert f"config line 2: {LOUD}" in done.stderr


def test_without_the_profile_it_is_refused(keys: Keys, start: Start, tmp_path: Path) -> None:
    keys.user("rsa")
    server = start(OpenSSHServer("9.2", keys, extra_config=f"{OLD['cbc']}\n{SHA1}"))
    for profile in ("Profile compatible", "Ciphers +aes128-cbc"):
        done = run(written(tmp_path, keys, server, profile), server)
        assert done.returncode == 255
        assert "no matching key exchange method found" in done.stderr
        assert "-o Profile=legacy  speaks diffie-hellman-group14-sha1: for this host only" in done.stderr


def test_modern_has_enough_for_a_new_server(keys: Keys, start: Start, tmp_path: Path) -> None:
    keys.user("rsa")
    server = start(OpenSSHServer("10.6", keys, extra_config=""))
    done = run(written(tmp_path, keys, server, "Profile modern"), server, "-v")
    assert done.returncode == 0, done.stderr
    assert "kex: algorithm: mlkem768x25519-sha256" in done.stderr
