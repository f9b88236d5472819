"""UpdateHostKeys: the same files before and after, by ssh and by us; our server's keys are proved to ssh."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.kit import Commands
from tests.interop.glass import GlassServer
from tests.interop.peers import LOOPBACK, Keys, OpenSSHClient, OpenSSHServer
from tests.interop.test_host_trust import Certified, authority

# {name}: the host with its port; {ed}: the key it is known by; {old}: one it has no more; {more}: another.
FILES = {
    "one key": "{name} {ed}",
    "an old one": "# mine\n{name} {ed} note\n\n{name} {old}\nlast.example {old2}",
    "name and address": "{name},[192.0.2.7]:22 {ed}\n{name},192.0.2.7 {old}",
    "several names": "{name},a.example,b.example {ed}\n{name} {old}",
    "a pattern": "[127.0.0.*]:* {ed}\n{name} {old}",
    "an authority": "{name} {ed}\n@cert-authority * {old}",
    "a revoked key": "{name} {ed}\n@revoked {name} {old}",
    "revoked elsewhere": "{name} {ed}\n@revoked other.example {old}",
    "a new key under another name": "{name} {ed}\nother.example {more}",
    "an old key under another name": "{name} {ed}\n{name} {old}\nother.example {old}",
    "the known key under another name": "{name} {ed}\nother.example {ed}",
    "by its name alone": LOOPBACK + " {ed}",
    "bad lines": "{name} {ed}\nnot a line\n@what {name} {old}\n{name} ssh-ed25519 AAAA\n",
    "nothing new": "{name} {ed}\n{name} {more}\n{name} {rsa}",
}
GLOBAL = "known by the system's file"


@pytest.fixture(scope="module")
def sshd(keys: Keys) -> Iterator[OpenSSHServer]:
    with OpenSSHServer("10.6", keys) as server:
        yield server


def fill(text: str, keys: Keys, port: int) -> str:
    return text.format(
        name=f"[{LOOPBACK}]:{port}", ed=keys.host().public, more=keys.host("ecdsa").public,
        rsa=keys.host("rsa").public, old=keys.stranger().public, old2=keys.stranger("rsa").public,
    )  # fmt: skip


def login(program: str, folder: Path, server: OpenSSHServer, keys: Keys, *options: str) -> None:
    """Logs in as ssh of the system, or as we do."""
    line = ["ssh"] if program == "ssh" else [sys.executable, "-m", "glasshell", "ssh"]
    given = [f"UserKnownHostsFile={folder / 'known_hosts'} {folder / 'second'}", "BatchMode=yes",
             f"GlobalKnownHostsFile={folder / 'global'}", "IdentitiesOnly=yes", *options]  # fmt: skip
    words = [word for option in given for word in ("-o", option)]
    identity = keys.user().copy_to(folder)
    line += ["-F", "none", "-i", str(identity), *words]
    line += ["-p", str(server.target.port), f"root@{LOOPBACK}", "true"]
    environment = Commands(folder).environment
    done = subprocess.run(line, env=environment, capture_output=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr


def after(folder: Path) -> dict[str, list[str]]:
    """The lines of every file; what is hidden under a salt of its own by its key alone."""
    found = {}
    for file in sorted(folder.glob("known_hosts*")) + sorted(folder.glob("second*")):
        lines = file.read_text().split("\n")
        found[file.name] = [" ".join(line.split()[1:]) if line.startswith("|1|") else line for line in lines]
    return found


@pytest.mark.parametrize("case", [*FILES, GLOBAL])
def test_files_are_updated_as_ssh_updates_them(
    case: str, sshd: OpenSSHServer, keys: Keys, tmp_path: Path
) -> None:
    text = fill(FILES.get(case, ""), keys, sshd.target.port)
    found = []
    for program in ("ssh", "glasshell"):
        folder = tmp_path / program
        folder.mkdir()
        (folder / "known_hosts").write_text(text)
        second = "{name} {old}\n" if case == "an old one" else ""
        (folder / "second").write_text(fill(second, keys, sshd.target.port))
        if case == GLOBAL:
            (folder / "global").write_text(fill("{name} {ed}\n", keys, sshd.target.port))
        login(program, folder, sshd, keys, "UpdateHostKeys=yes", "StrictHostKeyChecking=yes")
        found.append(after(folder))
    if found[0] != found[1]:  # the session was over before the proof was there: the next one brings it again
        login(program, folder, sshd, keys, "UpdateHostKeys=yes", "StrictHostKeyChecking=yes")
        found[1] = after(folder)
    assert found[0] == found[1]
    changed = found[0]["known_hosts"] != text.split("\n")
    same = {
        "several names", "a pattern", "an authority", "a revoked key", "by its name alone", "nothing new",
        "a new key under another name", "an old key under another name", "the known key under another name",
        GLOBAL,
    }  # fmt: skip
    assert changed == (case not in same)


def test_what_is_known_by_a_certificate_is_not_updated(keys: Keys, tmp_path: Path) -> None:
    with Certified("10.6", keys) as server:
        found = []
        for program in ("ssh", "glasshell"):
            folder = tmp_path / program
            folder.mkdir()
            (folder / "known_hosts").write_text(f"@cert-authority * {authority(keys)}\n")
            login(program, folder, server, keys, "UpdateHostKeys=yes", "StrictHostKeyChecking=yes")
            found.append(after(folder))
        assert found[0] == found[1]
        assert keys.host().public not in str(found)


@pytest.mark.parametrize("version", ["9.2", "10.6"])
@pytest.mark.parametrize("hashed", ["yes", "no"])
def test_ssh_learns_the_keys_of_our_server(version: str, hashed: str, keys: Keys) -> None:
    """Proved by signatures over the session's identifier, which ssh checks."""
    with GlassServer(keys) as server, OpenSSHClient(version) as client:
        name = f"[{LOOPBACK}]:{server.target.port}"
        file = client._folder / "learnt"
        file.write_text(f"{name} {keys.host().public}\n{name} {keys.stranger().public}\n")
        options = ("-o", f"UserKnownHostsFile={client.place.inside(file)}", "-o", "UpdateHostKeys=yes",
                   "-o", f"HashKnownHosts={hashed}", "-o", "HostKeyAlgorithms=ssh-ed25519,rsa-sha2-512",
                   "-v")  # fmt: skip
        done = client.run(server.target, "true", *options, identity=keys.user())
        assert done.returncode == 0, done.stderr
        lines = file.read_text().splitlines()
        assert lines[0] == f"{name} {keys.host().public}"
        assert [line.split()[1:] for line in lines[1:]] == [keys.host("rsa").public.split()]
        assert lines[1].startswith("|1|" if hashed == "yes" else name)
        assert b"Learned new hostkey: RSA" in done.stderr
        assert b"Deprecating obsolete hostkey: ED25519" in done.stderr
