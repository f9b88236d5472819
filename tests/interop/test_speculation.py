"""Sending ahead, with every server, on and off, from the first contact to the third; each command once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from glasshell.views.jsonl import read_jsonl
from tests.cli.kit import Commands, Login
from tests.interop.conftest import Start
from tests.interop.peers import Keys, OpenSSHServer, Server, require_peer

TRIPS = {
    "openssh-9.2": (5, 3, 3), "openssh-10.6": (5, 3, 3), "dropbear": (6, 4, 4), "dropbear-newest": (6, 3, 3),
    "tinysshd-newest": (6, 4, 6), "asyncssh": (6, 0, 5), "paramiko": (6, 3, 3),
}  # fmt: skip
"""Server -> round trips to the exit status, TCP's own among them, of the first, second and third contact.

Three where its first key exchange may lead. A session that is sent ahead makes asyncssh end the connection
(that contact takes two, and is not counted), and tinysshd sit on it: from then on they are not sent any.
"""


class Stock(OpenSSHServer):
    """The host keys that sshd has by default, in its order."""

    KINDS = ("rsa", "ecdsa", "ed25519")


@pytest.fixture
def commands(tmp_path: Path) -> Commands:
    return Commands(tmp_path)


def read(trace: Path) -> list[dict[str, Any]]:
    with trace.open() as lines:
        return list(read_jsonl(lines))


def states(trace: Path) -> list[str]:
    """The states that a trace tells of, by name."""
    return [each["name"] for each in read(trace) if each["type"] == "state"]


def trips(trace: Path) -> int:
    """How many round trips a client spends that sends in the order of its trace; TCP's is the first."""
    messages = [
        (each["direction"] == "sent", each["number"]) for each in read(trace) if each["type"] == "message"
    ]

    def ahead(sent: int, received: int) -> bool:
        return messages.index((True, sent)) < messages.index((False, received))

    login = 1 if ahead(50, 6) else 3  # service, `none`, signature
    session = 0 if ahead(98, 52) else 1 if ahead(98, 91) else 2
    return 1 + (1 if ahead(30, 20) else 2) + login + session


@pytest.mark.parametrize("speculation", ["yes", "no"])
@pytest.mark.parametrize("name", TRIPS)
def test_three_contacts(
    name: str, speculation: str, server: Callable[[str], Server], commands: Commands, keys: Keys,
    tmp_path: Path,
) -> None:  # fmt: skip
    at = server(name)
    login = Login(commands, at.target, keys.user().copy_to(tmp_path))
    marks = at.place.inside(at.folder / f"ran-{speculation}")
    options = (f"Speculation={speculation}",)
    found = []
    contacts = 3 if speculation == "yes" else 1
    for contact in range(contacts):
        trace = tmp_path / f"{contact}.jsonl"
        done = login.run(f"echo ran >> {marks}; exit 7", flags=("--trace", str(trace)), options=options)
        assert (done.returncode, done.stdout, done.stderr) == (7, b"", b"")
        told = states(trace)
        failed = name == "asyncssh" and contact == 1 and speculation == "yes"
        assert ("speculation_failed" in told) is failed
        assert ("speculation" in told) is (speculation == "yes")
        if name.startswith("tinysshd") and "channel_closed" in told:
            told = told[: told.index("channel_closed")]  # it hangs up by itself then, at times before us
        assert "error" not in told
        assert told.count("identification_sent") == 1 + failed
        found.append(0 if failed else trips(trace))
    assert (at.folder / f"ran-{speculation}").read_text() == "ran\n" * contacts
    if speculation == "yes":
        assert tuple(found) == TRIPS[name]


@pytest.mark.parametrize("version", ["9.2", "10.6"])
def test_a_key_that_sshd_takes_no_more(
    version: str, start: Start, commands: Commands, keys: Keys, tmp_path: Path
) -> None:
    """What was sent behind the login is lost with it, whatever sshd makes of that; then all goes in turns."""
    at = start(OpenSSHServer(version, keys))
    right, other = (keys.user(kind).copy_to(tmp_path) for kind in ("ed25519", "ecdsa"))
    login = Login(commands, at.target, right)
    marks = at.place.inside(at.folder / "ran")
    command = f"echo ran >> {marks}"
    words = ["-i", str(other)]
    for _ in range(2):
        assert login.run(command, flags=words).returncode == 0
    authorized = at.folder / "authorized_keys"
    authorized.write_text("".join(line for line in authorized.open() if "ecdsa" not in line))
    trace = tmp_path / "trace.jsonl"
    done = login.run(command, flags=(*words, "--trace", str(trace)))
    assert (done.returncode, done.stderr) == (0, b"")
    assert states(trace).count("speculation_failed") == 1
    assert (at.folder / "ran").read_text() == "ran\n" * 3
    authorized.write_text("")
    assert login.run(command, flags=words).returncode == 255
    assert (at.folder / "ran").read_text() == "ran\n" * 3


@pytest.mark.parametrize("hashed", ["no", "yes"])
@pytest.mark.parametrize("version", ["9.2", "10.6"])
def test_host_keys_are_updated_as_ssh_does(
    version: str, hashed: str, start: Start, keys: Keys, tmp_path: Path
) -> None:
    """The same file before, the same lines after: ssh(1) and ours."""
    require_peer("openssh-9.2")
    at = start(Stock(version, keys))
    name = f"[{at.target.host}]:{at.target.port}"
    known = next(key for key in at.target.host_keys if "ed25519" in key)
    before = (
        f"# mine\nother.example {keys.stranger().public}\n{name} {known} note\n"
        f"{name} {keys.stranger('ecdsa').public}\n\nlast.example {keys.stranger('rsa').public}"
    )
    after = []
    for program in (["ssh"], [sys.executable, "-m", "glasshell", "ssh"]):
        home = tmp_path / Path(program[0]).name
        home.mkdir()
        file = home / "known_hosts"
        file.write_text(before)
        options = (
            f"UserKnownHostsFile={file}", "GlobalKnownHostsFile=none", "UpdateHostKeys=yes", "BatchMode=yes",
            f"HashKnownHosts={hashed}", "IdentitiesOnly=yes", "HostKeyAlgorithms=+ssh-ed25519",
        )  # fmt: skip
        words = [word for option in options for word in ("-o", option)]
        identity = keys.user().copy_to(home)
        words += ["-F", "none", "-i", str(identity), "-p", str(at.target.port), "root@127.0.0.1", "true"]
        environment = Commands(home).environment
        subprocess.run([*program, *words], env=environment, check=True, capture_output=True, timeout=20)
        lines = file.read_text().split("\n")
        after.append([line.split()[-2:] if line.startswith("|1|") else line for line in lines])
        assert (home / "known_hosts.old").read_text() == before
    assert after[0] == after[1]
    assert len(after[0]) == len(before.split("\n")) + 2


def test_three_default_host_keys_are_led_with_from_the_second_contact_on(
    start: Start, commands: Commands, keys: Keys, tmp_path: Path
) -> None:
    """Of the host one key is known, which sshd puts last; the first contact learns the others by proof."""
    at = start(Stock("10.6", keys))
    identity = keys.user().copy_to(tmp_path)
    (tmp_path / ".ssh").mkdir()
    line = next(line for line in at.target.known_hosts().splitlines() if "ed25519" in line)
    (tmp_path / ".ssh" / "known_hosts").write_text(line + "\n")
    found = []
    for contact in range(3):
        where = ["-p", str(at.target.port), f"root@{at.target.host}"]
        trace = tmp_path / f"{contact}.jsonl"
        done = commands.run("ssh", "-F", "none", "-i", str(identity), "--trace", str(trace), *where, "true")
        assert done.returncode == 0, done.stderr
        found.append(trips(trace))
    assert found == [5, 3, 3]
