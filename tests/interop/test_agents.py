"""Our agent with OpenSSH's ssh-add, ssh and ssh-keygen; our client and `glasshell add` with its ssh-agent."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.interop.glass import GlassServer, environment
from tests.interop.peers import Keys, OpenSSHClient, OpenSSHServer, Place, Server, require_peer

KINDS = ("ed25519", "ecdsa", "rsa")
VERSIONS = ("9.2", "10.6")


@dataclass
class Desk:
    """A folder with keys, an agent, and the programs of one version that talk to it."""

    place: Place
    folder: Path
    sock: Path

    def file(self, name: str) -> str:
        """A file of the folder, as the programs see it."""
        return self.place.inside(self.folder / name)

    def run(self, *line: str, stdin: bytes = b"", **more: str) -> subprocess.CompletedProcess[bytes]:
        """One of OpenSSH's programs, without a terminal."""
        settings = {
            "SSH_AUTH_SOCK": self.place.inside(self.sock), "PATH": self.place.path, "LC_ALL": "C",
            "HOME": self.place.inside(self.folder), **more,
        }  # fmt: skip
        words = self.place.command("env", "-i", *(f"{k}={v}" for k, v in settings.items()), *line)
        return subprocess.run(
            words, input=stdin, capture_output=True, timeout=30, check=False, start_new_session=True
        )

    def glass(self, *words: str, stdin: bytes = b"", **more: str) -> subprocess.CompletedProcess[bytes]:
        """One of our commands, without a terminal."""
        line = [sys.executable, "-m", "glasshell", *words]
        settings = environment(SSH_AUTH_SOCK=str(self.sock), HOME=str(self.folder), **more)
        return subprocess.run(
            line, input=stdin, env=settings, cwd=self.folder, capture_output=True, timeout=30, check=False,
            start_new_session=True,
        )  # fmt: skip


@contextmanager
def our_agent(folder: Path, *flags: str, **variables: str) -> Iterator[Path]:
    """`glasshell agent -D`, as long as the block runs."""
    sock = folder / "agent.sock"
    line = [sys.executable, "-m", "glasshell", "agent", "-D", *flags, "-a", str(sock)]
    with (folder / "agent.log").open("wb") as log:
        process = subprocess.Popen(
            line, stdout=subprocess.PIPE, stderr=log, env=environment(HOME=str(folder), **variables)
        )
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == f"SSH_AUTH_SOCK={sock}; export SSH_AUTH_SOCK;\n".encode()
            assert process.stdout.readline() == f"echo Agent pid {process.pid};\n".encode()
            yield sock
        finally:
            process.terminate()
            process.communicate(timeout=10)
            assert not sock.exists()
            assert (folder / "agent.log").read_text().count("Traceback") == 0


Start = Callable[..., Desk]


@pytest.fixture
def desk(keys: Keys) -> Iterator[Start]:
    """desk("10.6"): our agent, the programs of OpenSSH 10.6, and keys of all kinds in their folder."""
    with ExitStack() as stack:

        def start(version: str, *flags: str, **variables: str) -> Desk:
            place = require_peer(f"openssh-{version}")
            folder = place.scratch()
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            for kind in KINDS:
                keys.user(kind).copy_to(folder)
            return Desk(place, folder, stack.enter_context(our_agent(folder, *flags, **variables)))

        yield start


@pytest.fixture
def real(keys: Keys, tmp_path: Path) -> Iterator[Desk]:
    """OpenSSH's ssh-agent, and keys of all kinds."""
    place = require_peer("openssh-9.2")
    sock = tmp_path / "agent"
    for kind in KINDS:
        keys.user(kind).copy_to(tmp_path)
    told = subprocess.run(["ssh-agent", "-a", str(sock)], capture_output=True, check=True).stdout
    match = re.search(rb"SSH_AGENT_PID=(\d+)", told)
    assert match
    yield Desk(place, tmp_path, sock)
    os.kill(int(match[1]), signal.SIGTERM)


# ---- our agent, OpenSSH's programs


@pytest.mark.parametrize("version", VERSIONS)
def test_ssh_add_and_ssh_keygen_with_our_agent(desk: Start, version: str) -> None:
    at = desk(version)
    none = at.run("ssh-add", "-l")
    assert (none.returncode, none.stdout) == (1, b"The agent has no identities.\n")
    assert at.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", at.file("ca")).returncode == 0
    sign = ("ssh-keygen", "-q", "-s", at.file("ca"), "-I", "id", "-n", "root")
    signed = at.run(*sign, at.file("user_rsa.pub"))
    assert signed.returncode == 0, signed.stderr
    for kind in KINDS:
        added = at.run("ssh-add", at.file(f"user_{kind}"))
        assert added.returncode == 0, added.stderr
    listed = at.run("ssh-add", "-L").stdout.decode().splitlines()
    expected = [(at.folder / f"user_{kind}.pub").read_text().split()[:2] for kind in KINDS]
    expected.append((at.folder / "user_rsa-cert.pub").read_text().split()[:2])
    assert [line.split()[:2] for line in listed] == expected
    assert at.run("ssh-add", "-L").stdout == at.glass("add", "-L").stdout
    assert at.run("ssh-add", "-l").stdout == at.glass("add", "-l").stdout
    y = ("ssh-keygen", "-Y")
    for kind in KINDS:
        tested = at.run("ssh-add", "-T", at.file(f"user_{kind}.pub"))
        assert (tested.returncode, tested.stderr) == (0, b"")
        made = at.run(*y, "sign", "-n", "file", "-f", at.file(f"user_{kind}.pub"), stdin=b"data")
        (at.folder / "sig").write_bytes(made.stdout)
        good = at.run(*y, "check-novalidate", "-n", "file", "-s", at.file("sig"), stdin=b"data")
        assert good.returncode == 0, good.stderr
    gone = at.run("ssh-add", "-d", at.file("user_ecdsa"))
    assert gone.returncode == 0
    assert len(at.run("ssh-add", "-l").stdout.splitlines()) == 3
    assert at.run("ssh-add", "-D").returncode == 0
    assert at.run("ssh-add", "-l").returncode == 1


@pytest.mark.parametrize("version", VERSIONS)
def test_lock_and_lifetime_by_ssh_add(desk: Start, version: str) -> None:
    at = desk(version)
    at.run("ssh-add", "-t", "1h", at.file("user_ed25519"))
    assert at.run("ssh-add", "-x", stdin=b"pw\npw\n").returncode == 0
    assert at.run("ssh-add", "-l").returncode == 1
    assert at.run("ssh-add", "-X", stdin=b"no\n").returncode == 1
    assert at.run("ssh-add", "-X", stdin=b"pw\n").returncode == 0
    assert at.run("ssh-add", "-l").returncode == 0
    assert at.run("ssh-add", "-D").returncode == 0
    at.run("ssh-add", "-t", "1", at.file("user_ed25519"))
    for _ in range(200):  # each is a process: seconds in all
        if at.glass("add", "-l").returncode == 1:
            break
    else:
        pytest.fail("the key outlived its second")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_provider_that_ssh_add_names_is_not_loaded(desk: Start, version: str) -> None:
    """G4, CVE-2023-38408."""
    at = desk(version)
    (at.folder / "evil.so").write_bytes(b"")
    for provider in (at.file("evil.so"), "/usr/lib/evil.so"):
        assert at.run("ssh-add", "-s", provider, stdin=b"pin\n").returncode == 1
    assert "is not" in (at.folder / "agent.log").read_text()


@pytest.mark.parametrize("confirmed", ["yes", "no"])
def test_confirmation_by_an_askpass_program(desk: Start, tmp_path: Path, confirmed: str) -> None:
    program = tmp_path / "askpass"
    program.write_text(
        f'#!/bin/sh\necho "$SSH_ASKPASS_PROMPT|$1" >> {tmp_path}/asked\necho {confirmed}\n', "utf-8"
    )
    program.chmod(0o700)
    at = desk("9.2", SSH_ASKPASS=str(program), DISPLAY=":0")
    assert at.run("ssh-add", "-c", at.file("user_ed25519")).returncode == 0
    assert at.run("ssh-add", "-T", at.file("user_ed25519.pub")).returncode == (confirmed == "no")
    asked = (tmp_path / "asked").read_text()
    assert asked.startswith("confirm|Allow use of key user_ed25519?\nKey fingerprint SHA256:")


@pytest.mark.parametrize("version", VERSIONS)
def test_ssh_logs_in_by_our_agent(desk: Start, server: Callable[[str], Server], version: str) -> None:
    at = desk(version)
    at.run("ssh-add", at.file("user_rsa"))
    target = server("openssh-9.2").target
    with OpenSSHClient(version) as client:
        how = ("-o", f"IdentityAgent={at.place.inside(at.sock)}", "-o", "IdentitiesOnly=no")
        assert client.run(target, "echo in", *how).stdout == b"in\n"


def host_files(at: Desk, *servers: Server) -> str:
    text = "".join(
        f"[{s.target.host}]:{s.target.port} {key}\n" for s in servers for key in s.target.host_keys
    )
    (at.folder / "hosts").write_text(text)
    return at.file("hosts")


@pytest.mark.parametrize("version", VERSIONS)
def test_destinations_of_ssh_add_are_held_to(
    desk: Start, server: Callable[[str], Server], start: Callable[[Server], Server], keys: Keys,
    tmp_path: Path, version: str,
) -> None:  # fmt: skip
    """`ssh-add -h` and `session-bind` of OpenSSH's ssh, enforced by our agent."""
    other = Keys(tmp_path)
    shutil.copy2(keys.user().private, tmp_path)
    shutil.copy2(f"{keys.user().private}.pub", tmp_path)
    near, far = server("openssh-9.2"), start(OpenSSHServer("9.2", other))
    at = desk(version)
    place = f"[{near.target.host}]:{near.target.port}"
    added = at.run("ssh-add", "-H", host_files(at, near, far), "-h", f"{near.target.user}@{place}",
                   at.file("user_ed25519"))  # fmt: skip
    assert added.returncode == 0, added.stderr
    with OpenSSHClient(version) as client:
        how = ("-o", f"IdentityAgent={at.place.inside(at.sock)}", "-o", "IdentitiesOnly=no")
        assert client.run(near.target, "echo in", *how).stdout == b"in\n"
        refused = client.run(far.target, "echo in", *how)
        assert (refused.returncode, refused.stdout) == (255, b"")
    assert at.glass("add", "-l").returncode == 0
    assert at.glass("add", "-T", "user_ed25519.pub").returncode == 1


# ---- OpenSSH's agent, our programs


def both(at: Desk, *words: str, stdin: bytes = b"", before: Sequence[str] = ()) -> None:
    """The same by `ssh-add` and by `glasshell add`: status, output and errors, but for how they are named."""
    results = []
    for run in (lambda: at.run("ssh-add", *words, stdin=stdin), lambda: at.glass("add", *words, stdin=stdin)):
        at.run("ssh-add", "-D")
        for name in before:
            assert at.run("ssh-add", name).returncode == 0
        done = run()
        results.append((done.returncode, done.stdout, done.stderr.replace(b"\r", b"")))
    assert results[0] == results[1]


def test_glasshell_add_says_what_ssh_add_says(real: Desk) -> None:
    at = real
    for kind in KINDS:
        (at.folder / kind).write_bytes((at.folder / f"user_{kind}").read_bytes())
        (at.folder / kind).chmod(0o600)
    file = str(at.folder / "user_ed25519")
    rsa = str(at.folder / "user_rsa")
    at.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(at.folder / "ca"))
    at.run("ssh-keygen", "-q", "-s", str(at.folder / "ca"), "-I", "an id", "-n", "x", f"{rsa}.pub")
    at.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-C", "shut", "-f", str(at.folder / "shut"))
    shut = str(at.folder / "shut")
    (at.folder / "garbage").write_text("garbage\n")
    (at.folder / "garbage").chmod(0o600)
    both(at, file)
    both(at, rsa)
    both(at, "-k", rsa)
    both(at, "-q", file, rsa)
    both(at, "-t", "10m", rsa)
    both(at, "-c", "-t", "90", file)
    both(at, shut, stdin=b"secret\n")
    both(at, shut, stdin=b"wrong\nsecret\n")
    both(at, shut, stdin=b"\n")
    both(at, "-l", before=[file, rsa])
    both(at, "-L", before=[file, rsa])
    both(at, "-E", "md5", "-l", before=[rsa])
    both(at, "-l")
    both(at, "-d", rsa, before=[file, rsa])
    both(at, "-d", file)
    both(at, "-d", "-", stdin=Path(f"{rsa}.pub").read_bytes(), before=[rsa])
    both(at, "-D", before=[file])
    both(at, "-T", f"{rsa}.pub", before=[rsa])
    both(at, "-T")
    both(at, "-t", "soon", file)
    both(at, "-l", "-L")
    both(at, "-l", "-x")
    both(at, str(at.folder / "nothing"))
    both(at, "-s", "/nowhere.so", stdin=b"pin\n")
    both(at, "-e", "/nowhere.so")
    both(at, "-h", "nowhere", file)
    both(at, "-x", stdin=b"one\ntwo\n")
    Path(file).chmod(0o644)
    both(at, file)


def test_glasshell_add_without_an_agent(real: Desk) -> None:
    at = real
    at.sock.rename(at.folder / "elsewhere")
    for stay in ({"SSH_AUTH_SOCK": ""}, {}):
        ours, theirs = at.glass("add", "-l"), at.run("ssh-add", "-l")
        if stay:
            ours = subprocess.run(
                [sys.executable, "-m", "glasshell", "add", "-l"], env=environment(), capture_output=True
            )
            theirs = subprocess.run(["ssh-add", "-l"], env={"PATH": os.environ["PATH"]}, capture_output=True)
        assert (ours.returncode, ours.stderr) == (theirs.returncode, theirs.stderr.replace(b"\r", b""))


def test_destinations_of_glasshell_add_are_held_to_by_ssh_agent(
    real: Desk, server: Callable[[str], Server], start: Callable[[Server], Server], keys: Keys
) -> None:
    """`glasshell add -h`, and the `session-bind` of our client, judged by OpenSSH's agent."""
    at, near = real, server("openssh-9.2")
    far = start(GlassServer(keys))
    hosts = host_files(at, near, far)
    text = Path(hosts).read_text().splitlines()
    only_near = [line for line in text if f":{near.target.port} " in line]
    (at.folder / "near").write_text("\n".join(only_near) + "\n")
    # A host key that both have would be one place.
    other = [key for key in far.target.host_keys if key not in near.target.host_keys]
    place = f"[{near.target.host}]:{near.target.port}"
    added = at.glass("add", "-H", "near", "-h", place, "user_ed25519")
    assert added.returncode == 0, added.stderr
    options = ["-F", "none", "-o", f"UserKnownHostsFile={hosts}", "-o", "GlobalKnownHostsFile=none", "-o",
               "BatchMode=yes", "-l", near.target.user, "-o", "IdentityFile=none"]  # fmt: skip
    done = at.glass("ssh", *options, "-p", str(near.target.port), near.target.host, "echo in")
    assert done.stdout == b"in\n", done.stderr
    if other:
        refused = at.glass("ssh", *options, "-p", str(far.target.port), far.target.host, "echo in")
        assert refused.returncode == 255


@pytest.mark.parametrize("how", ["yes", "confirm", "5m"])
def test_add_keys_to_agent(real: Desk, server: Callable[[str], Server], how: str) -> None:
    at, target = real, server("openssh-9.2").target
    hosts = host_files(at, server("openssh-9.2"))
    done = at.glass(
        "ssh", "-F", "none", "-o", f"UserKnownHostsFile={hosts}", "-o", "BatchMode=yes", "-o",
        f"AddKeysToAgent={how}", "-i", "user_ed25519", "-p", str(target.port), "-l", target.user, target.host,
        "echo in",
    )  # fmt: skip
    assert done.stdout == b"in\n", done.stderr
    assert len(at.run("ssh-add", "-l").stdout.splitlines()) == 1
    if how == "confirm":  # nobody can be asked: not usable
        assert at.run("ssh-add", "-T", "user_ed25519.pub").returncode == 1


# ---- lent to programs on servers


def test_our_agent_lent_by_our_client_to_a_program_at_sshd(
    desk: Start, server: Callable[[str], Server]
) -> None:
    at, near = desk("9.2"), server("openssh-9.2")
    at.glass("add", "user_ed25519")
    flags = ["-F", "none", "-o", f"UserKnownHostsFile={host_files(at, near)}", "-o",
             "GlobalKnownHostsFile=none", "-p", str(near.target.port), "-l", near.target.user]  # fmt: skip
    plain = at.glass("ssh", *flags, near.target.host, "ssh-add -l")
    assert plain.returncode == 2
    lent = at.glass("ssh", "-A", *flags, near.target.host, "ssh-add -l")
    assert lent.stdout == at.glass("add", "-l").stdout
    first = at.glass("ssh", "-A", "-a", *flags, near.target.host, "ssh-add -l")
    assert first.returncode == 0  # the first of both counts


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("allowed", ["yes", "no"])
def test_an_agent_lent_by_ssh_to_a_program_at_our_server(
    desk: Start, start: Callable[[Server], Server], keys: Keys, version: str, allowed: str
) -> None:
    at = desk(version)
    at.run("ssh-add", at.file("user_ed25519"))
    ours = start(GlassServer(keys, f"AllowAgentForwarding {allowed}"))
    with OpenSSHClient(version) as client:
        how = ("-o", f"IdentityAgent={at.place.inside(at.sock)}", "-o", "IdentitiesOnly=no", "-A")
        done = client.run(ours.target, 'ssh-add -l; ls -ld "${SSH_AUTH_SOCK%/*}" "$SSH_AUTH_SOCK"', *how)
    if allowed == "no":
        assert b"SHA256" not in done.stdout
        return
    first, folder, sock = done.stdout.decode().splitlines()
    assert f"{first}\n".encode() == at.run("ssh-add", "-l").stdout
    assert (folder[:10], sock[:10]) == ("drwx------", "srw-------")
    assert not Path(sock.split()[-1]).exists()  # it went with the connection


def test_restricted_keys_get_no_agent(desk: Start, start: Callable[[Server], Server], keys: Keys) -> None:
    at = desk("9.2")
    at.run("ssh-add", at.file("user_ed25519"))
    ours = start(GlassServer(keys, authorized=lambda ring: f"restrict {ring.user().public}\n"))
    with OpenSSHClient("9.2") as client:
        how = ("-o", f"IdentityAgent={at.sock}", "-o", "IdentitiesOnly=no", "-A")
        assert client.run(ours.target, "echo [$SSH_AUTH_SOCK]", *how).stdout == b"[]\n"


def test_the_file_of_a_security_key_goes_to_either_agent(desk: Start, real: Desk, shared: Path) -> None:
    """OpenSSH's own test keys: nobody here can touch them, but both programs add and list them alike."""
    names = ("ed25519_sk1", "ecdsa_sk1")
    at = desk("9.2")
    for name in names:
        data = (shared / "vectors/openssh/unittests/sshkey/testdata" / name).read_bytes()
        for where in (at, real):
            (where.folder / name).write_bytes(data)
            (where.folder / name).chmod(0o600)
    assert at.run("ssh-add", *map(at.file, names)).returncode == 0
    assert real.glass("add", *names).returncode == 0
    listed = [at.run("ssh-add", "-L").stdout, at.glass("add", "-L").stdout, real.run("ssh-add", "-L").stdout]
    keys = [[line.split()[:2] for line in text.splitlines()] for text in listed]
    assert keys[0] == keys[1] == keys[2]
    assert len(keys[0]) == 2
    assert at.glass("add", "-l").stdout.count(b"-SK)") == 2


def test_destinations_are_held_to_beyond_a_hop(
    desk: Start, server: Callable[[str], Server], start: Callable[[Server], Server], keys: Keys,
    tmp_path: Path,
) -> None:  # fmt: skip
    """ssh -A to one sshd, and from there ssh to another: the agent is told of both, and allows the way."""
    other = Keys(tmp_path)
    for suffix in ("", ".pub"):
        shutil.copy2(f"{keys.user().private}{suffix}", tmp_path)
    near, far = server("openssh-9.2"), start(OpenSSHServer("9.2", other))
    at = desk("9.2")
    hosts = host_files(at, near, far)
    one, two = (f"[{s.target.host}]:{s.target.port}" for s in (near, far))
    onward = (
        f"ssh -F none -o BatchMode=yes -o UserKnownHostsFile={hosts} -o IdentityFile=none"
        f" -p {far.target.port} -l {far.target.user} {far.target.host} echo beyond"
    )
    how = ("-A", "-o", f"IdentityAgent={at.sock}", "-o", "IdentitiesOnly=no")
    with OpenSSHClient("9.2") as client:
        for routes, beyond in ((("-h", one, "-h", f"{one}>{two}"), b"beyond\n"), (("-h", one), b"")):
            assert at.run("ssh-add", "-D").returncode == 0
            added = at.run("ssh-add", "-H", hosts, *routes, at.file("user_ed25519"))
            assert added.returncode == 0, added.stderr
            assert client.run(near.target, onward, *how).stdout == beyond
            assert client.run(far.target, "echo straight", *how).stdout == b""
