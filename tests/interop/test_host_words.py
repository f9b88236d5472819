"""What `glasshell ssh` says of a host beside ssh(1) of 10.6, and what DNS makes of it for both."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.kit import Commands
from tests.interop.nameserver import NameServer
from tests.interop.peers import LOOPBACK, Keys, OpenSSHClient, OpenSSHServer, require_peer

LINES = {
    "changed": ("{name} {wrong}", ["StrictHostKeyChecking=yes"]),
    "changed, of another type": ("{name} {wrongtype}", ["StrictHostKeyChecking=accept-new"]),
    "changed, let pass": ("{name} {wrong}", ["StrictHostKeyChecking=no"]),
    "changed, let pass, to be updated": (
        "{name} {wrong}", ["StrictHostKeyChecking=no", "UpdateHostKeys=yes", "LocalForward=0.0.0.0:9 x:9"],
    ),
    "revoked": ("@revoked * {key}", ["StrictHostKeyChecking=yes"]),
    "unknown": ("", ["StrictHostKeyChecking=yes"]),
    "accepted": ("", ["StrictHostKeyChecking=accept-new"]),
    "added": ("", ["StrictHostKeyChecking=no"]),
    "known, drawn": ("{name} {key}", ["VisualHostKey=yes"]),
    "known, drawn in MD5": ("{name} {key}", ["VisualHostKey=yes", "FingerprintHash=md5"]),
    "localhost": ("{name} {wrong}", ["NoHostAuthenticationForLocalhost=yes"]),
    "alias": ("web.example {key}", ["HostKeyAlias=web.example"]),
    "alias, not the name": ("{name} {key}\n[web.example]:22 {key}", ["HostKeyAlias=web.example"]),
    "alias, added": ("", ["HostKeyAlias=web.example", "StrictHostKeyChecking=accept-new"]),
    "alias, localhost": ("web.example {wrong}", ["HostKeyAlias=web.example",
                                                 "NoHostAuthenticationForLocalhost=yes"]),
    "no authority's": ("@cert-authority * {wrong}", ["StrictHostKeyChecking=yes"]),
    "a command that fails": ("{name} {key}", ["KnownHostsCommand=/bin/false"]),
    "a command that knows": ("", ["KnownHostsCommand=/bin/echo %H {key}"]),
    "a command for all": ("", ["KnownHostsCommand=/bin/echo * {key}"]),
}  # fmt: skip
SAME_STATUS = {"changed, let pass, to be updated"}
"""Where our words come in another order."""


class OneKey(OpenSSHServer):
    """sshd with an Ed25519 key."""

    KINDS = ("ed25519",)


@pytest.fixture(scope="module")
def one_key(keys: Keys) -> Iterator[OneKey]:
    with OneKey("10.6", keys) as server:
        yield server


@pytest.fixture(scope="module")
def ssh() -> Iterator[OpenSSHClient]:
    with OpenSSHClient("10.6") as client:
        yield client


def flags(options: list[str]) -> list[str]:
    return [word for option in options for word in ("-o", option)]


@pytest.mark.parametrize("case", LINES)
def test_the_words_are_those_of_ssh(
    case: str, one_key: OneKey, ssh: OpenSSHClient, keys: Keys, tmp_path: Path
) -> None:
    target, (text, options) = one_key.target, LINES[case]
    name = f"[{LOOPBACK}]:{target.port}"
    fill = {"name": name, "key": keys.host().public, "wrong": keys.user().public,
            "wrongtype": keys.user("rsa").public}  # fmt: skip
    options = [option.format(**fill) for option in options]
    folder = ssh._folder / f"words{len(list(ssh._folder.iterdir()))}"
    folder.mkdir()
    file = folder / "hosts"
    said, status, left = [], [], []
    for theirs in (True, False):
        file.write_text(text.format(**fill) + "\n" * bool(text))
        where = ssh.place.inside(file) if theirs else str(file)
        given = flags([*options, f"UserKnownHostsFile={where}", "GlobalKnownHostsFile=none", "BatchMode=yes"])
        if theirs:
            done = ssh.run(target, "true", *given, identity=keys.user())
        else:
            words = ["-F", "none", "-i", str(keys.user().private), *given, "-p", str(target.port)]
            done = Commands(tmp_path).run("ssh", *words, f"{target.user}@{target.host}", "true")
        status.append(done.returncode)
        said.append(done.stderr.decode().replace("\r", "").replace(str(file), ssh.place.inside(file)))
        left.append(file.read_text())
    assert status[0] == status[1], said
    assert left[0] == left[1]
    for line in said[0].splitlines():
        if line.startswith(("KnownHostsCommand", "ED25519 host key for")):  # ours say why, or which line
            line = line.split(" ", 1)[0].removesuffix("-ORDER")
        if case not in SAME_STATUS:
            line = line.rstrip(".")  # we go on in the same line
        assert line in said[1]


# -- DNS -----------------------------------------------------------------------------------------

# $1 resolv.conf, then the command: a mount namespace in which the resolver is another.
_RESOLVER = 'conf=$1; shift; mount --bind "$conf" /etc/resolv.conf; exec "$@"'


class Resolving:
    """Runs ssh of the system, or ours, where `host.example` is this machine and DNS is `zone`."""

    def __init__(self, folder: Path, keys: Keys, server: OneKey, zone: str, **settings: bool) -> None:
        self.folder, self.keys, self.target = folder, keys, server.target
        self.zone = f"host.example IN A 127.0.0.1\n{zone}"
        self.settings = settings

    def run(self, program: str, *options: str, trusted: bool = True) -> tuple[int, str]:
        """Status and what was said. `program`: "ssh", or "glasshell"."""
        address = f"127.{os.getpid() % 250}.{os.getpid() // 250 % 250}.53"
        conf = self.folder / "resolv.conf"
        conf.write_text(f"nameserver {address}\noptions edns0 timeout:2 {'trust-ad' if trusted else ''}\n")
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        commands = Commands(home)
        line = ["ssh"] if program == "ssh" else commands.line("ssh")
        given = ["UserKnownHostsFile=none", "GlobalKnownHostsFile=none", "BatchMode=yes"]
        given += ["StrictHostKeyChecking=yes", "IdentitiesOnly=yes", *options]
        line += ["-F", "none", "-i", str(self.keys.user().private), *flags(given)]
        line += ["-p", str(self.target.port), "root@host.example", "true"]
        with NameServer(self.zone, address=address, port=53, **self.settings) as names:
            done = subprocess.run(
                ["unshare", "--mount", "sh", "-ec", _RESOLVER, "sh", str(conf), *line], timeout=60,
                env=commands.environment, capture_output=True, check=False, start_new_session=True,
            )  # fmt: skip
            self.asked = names.asked
        return done.returncode, done.stderr.decode().replace("\r", "")


@pytest.fixture(scope="module")
def records(keys: Keys) -> dict[str, str]:
    """Records as `ssh-keygen -r` makes them."""
    found = {}
    for name, key in (("right", keys.host()), ("wrong", keys.user())):
        line = ["ssh-keygen", "-r", "host.example", "-f", f"{key.private}.pub"]
        found[name] = subprocess.run(line, check=True, capture_output=True, text=True, timeout=30).stdout
    return found


DNS = {
    "right, validated": ("right", "yes", {}, True, 0),
    "right, not validated": ("right", "yes", {"validated": False}, True, 255),
    "right, from a resolver that is not trusted": ("right", "yes", {}, False, 255),
    "right, asked": ("right", "ask", {}, True, 255),
    "wrong, validated": ("wrong", "yes", {}, True, 255),
    "right and wrong": ("both", "yes", {}, True, 255),
    "none": ("none", "yes", {}, True, 255),
    "right, nobody asks": ("right", "no", {}, True, 255),
}


@pytest.mark.parametrize("case", DNS)
def test_dns_is_believed_as_ssh_believes_it(
    case: str, one_key: OneKey, keys: Keys, records: dict[str, str], tmp_path: Path
) -> None:
    require_peer("openssh-10.6")  # which proves that mounts are permitted here
    which, mode, settings, trusted, status = DNS[case]
    zone = {**records, "both": records["right"] + records["wrong"], "none": ""}[which]
    resolving = Resolving(tmp_path, keys, one_key, zone, **settings)
    found = {}
    for program in ("ssh", "glasshell"):
        found[program] = resolving.run(program, f"VerifyHostKeyDNS={mode}", trusted=trusted)
        assert found[program][0] == status, found
        assert ("host.example SSHFP" in resolving.asked) == (mode != "no")
    for line in found["ssh"][1].splitlines():
        assert line.rstrip(".") in found["glasshell"][1]


def test_dns_that_does_not_answer_is_not_trust(one_key: OneKey, keys: Keys, tmp_path: Path) -> None:
    resolving = Resolving(tmp_path, keys, one_key, "")
    resolving.zone = "host.example IN A 127.0.0.1"
    status, said = resolving.run("glasshell", "VerifyHostKeyDNS=yes", "StrictHostKeyChecking=yes")
    assert status == 255
    assert "No ED25519 host key is known for" in said
