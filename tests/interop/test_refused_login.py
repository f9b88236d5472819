"""What a user is told whose login was refused: each identity, where it came from, and the server's answer."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.interop.conftest import Start
from tests.interop.peers import Keys, OpenSSHServer, fingerprint


def refused(config: Path, port: int, user: str, **environment: str) -> str:
    words = ["ssh", "-F", str(config), "-p", str(port), "-l", user, "127.0.0.1", "true"]
    done = subprocess.run(
        [sys.executable, "-m", "glasshell", *words], capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == 255
    return done.stderr


def written(tmp_path: Path, keys: Keys, port: int, *lines: str) -> Path:
    known = tmp_path / "known_hosts"
    known.write_text(f"[127.0.0.1]:{port} {keys.host('ed25519').public}\n")
    config = tmp_path / "config"
    common = (f"UserKnownHostsFile {known}", "GlobalKnownHostsFile none", "BatchMode yes")
    config.write_text("\n".join(["Host 127.0.0.1", *lines, *common, ""]))
    return config


@pytest.mark.parametrize("version", ["9.2", "10.6"])
def test_each_identity_with_its_place_and_answer(
    version: str, keys: Keys, start: Start, tmp_path: Path
) -> None:
    server = start(OpenSSHServer(version, keys, extra_config="PubkeyAcceptedAlgorithms ssh-ed25519"))
    stranger, rsa = keys.stranger(), keys.stranger("rsa")
    config = written(
        tmp_path, keys, server.target.port, f"IdentityFile {stranger.private}",
        f"IdentityFile {rsa.private}", f"IdentityFile {tmp_path}/none-such", "IdentityAgent none",
    )  # fmt: skip
    told = refused(config, server.target.port, server.target.user)
    shown = [fingerprint(each.public) for each in (stranger, rsa)]
    assert f"publickey ED25519 {shown[0]} {stranger.private} ({config} line 2): refused" in told
    # What the server says of algorithms that it takes is asked before the key is.
    assert f"RSA {shown[1]} {rsa.private} ({config} line 3): " in told
    assert f"publickey {tmp_path}/none-such ({config} line 4): skipped: No such file or directory" in told
    left = "publickey(, password)?(, keyboard-interactive)?"
    assert re.search(rf"the server would still take: {left}\r?\n", told)


def test_a_local_command_runs_when_the_login_is_done(keys: Keys, start: Start, tmp_path: Path) -> None:
    user, out = keys.user(), tmp_path / "out"
    server = start(OpenSSHServer("10.6", keys))
    port = server.target.port
    for permitted in ("no", "yes"):
        config = written(
            tmp_path, keys, port, f"IdentityFile {user.private}", f"PermitLocalCommand {permitted}",
            f"LocalCommand echo '%h' \"%r %p %T %%\" > {out}", f"User {server.target.user}",
        )  # fmt: skip
        words = ["ssh", "-F", str(config), "-p", str(port), "127.0.0.1", f"test -e {out} && echo there"]
        done = subprocess.run(
            [sys.executable, "-m", "glasshell", *words], capture_output=True, timeout=60, check=False
        )
        assert done.stderr == b""
        assert out.exists() is (permitted == "yes")
    assert out.read_text() == f"127.0.0.1 {server.target.user} {port} NONE %\n"


def test_what_an_agent_had_is_the_agents(keys: Keys, start: Start, tmp_path: Path) -> None:
    server = start(OpenSSHServer("10.6", keys))
    stranger = keys.stranger("ecdsa")
    socket = tmp_path / "agent"
    with subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL) as agent:
        try:
            variables = {"SSH_AUTH_SOCK": str(socket)}
            add = ["sh", "-c", f"until [ -S {socket} ]; do :; done; ssh-add -q {stranger.private}"]
            subprocess.run(add, env={**os.environ, **variables}, check=True, timeout=30)
            config = written(tmp_path, keys, server.target.port, "IdentityFile none")
            told = refused(config, server.target.port, server.target.user, **variables)
        finally:
            agent.terminate()
    shown = re.escape(fingerprint(stranger.public))
    assert re.search(rf"publickey ECDSA {shown} \S+ \(agent\): refused", told)


def test_a_step_that_was_taken_is_told_as_such(keys: Keys, start: Start, tmp_path: Path) -> None:
    user = keys.user()
    server = start(OpenSSHServer("10.6", keys, extra_config="AuthenticationMethods publickey,password"))
    config = written(tmp_path, keys, server.target.port, f"IdentityFile {user.private}", "IdentityAgent none")
    told = refused(config, server.target.port, server.target.user)
    place = f"{user.private} ({config} line 2)"
    assert f"{place}: accepted; the server still asked for password" in told
    assert "the server would still take: password" in told
