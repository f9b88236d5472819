"""known_hosts and host certificates: the same files, judged by ssh and by us, at the same hosts."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from glasshell.aio.trust import HostChecks
from glasshell.errors import HostKeyRefused
from glasshell.keys.hostlines import hash_host
from glasshell.observe.record import StateRecord
from glasshell.policy import Policy
from tests.interop.kit import connect, talk
from tests.interop.peers import (
    LOOPBACK,
    Keys,
    OpenSSHClient,
    OpenSSHServer,
    Place,
    require_peer,
)

VERSIONS = ("9.2", "10.6")


class Certified(OpenSSHServer):
    """sshd with one host key and a certificate of it, made by its own ssh-keygen with `flags`."""

    KINDS = ("ed25519",)

    def __init__(self, version: str, keys: Keys, *flags: str, kind: str = "ed25519") -> None:
        super().__init__(version, keys)
        self._flags = flags or ("-h", "-n", f"{LOOPBACK},host.example")
        self.KINDS = (kind,)

    def _config(self, port: int) -> str:
        authority = self.keys.stranger().copy_to(self.folder)
        public = self.keys.host(self.KINDS[0]).copy_to(self.folder).with_suffix(".pub")
        names = [self.place.inside(path) for path in (authority, public)]
        self._tool("ssh-keygen", "-q", "-s", names[0], "-I", "a host", "-z", "7", *self._flags, names[1])
        self._extra = f"HostCertificate {names[1].removesuffix('.pub')}-cert.pub"
        return super()._config(port)


@pytest.fixture(scope="module")
def certified(keys: Keys) -> Iterator[Certified]:
    with Certified("10.6", keys) as server:
        yield server


def authority(keys: Keys) -> str:
    return keys.stranger().public


# -- certificates --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ed25519", "rsa", "ecdsa"])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_host_is_trusted_by_its_certificate(version: str, kind: str, keys: Keys, tmp_path: Path) -> None:
    with Certified(version, keys, kind=kind) as server:
        file = tmp_path / "known_hosts"
        file.write_text(f"# ours\n@cert-authority {LOOPBACK} {authority(keys)} the CA\n")
        records: list[object] = []

        async def check() -> None:
            async with connect(server.target, keys, known_hosts=file, sinks=[records.append]) as connection:
                assert (await connection.run("echo ok")).stdout == "ok\n"
                assert connection.negotiated.host_key.endswith("-cert-v01@openssh.com")

        before = file.read_bytes()
        talk(check())
        (verdict,) = (
            each.facts for each in records
            if isinstance(each, StateRecord) and each.name == "host_key_verdict"
        )  # fmt: skip
        assert (verdict["how"], verdict["line"], verdict["file"]) == ("authority", 2, str(file))
        assert file.read_bytes() == before


BAD_CERTIFICATES = {
    "another name": (("-h", "-n", "other.example"), "name is not a listed principal"),
    "a user's": (("-n", LOOPBACK), "not a host certificate"),
    "expired": (("-h", "-n", LOOPBACK, "-V", "20200101:20200102"), "expired"),
    "not yet valid": (("-h", "-n", LOOPBACK, "-V", "+1w:+2w"), "not yet valid"),
    "nobody's": (("-h",), "lacks principal list"),
}


@pytest.mark.parametrize("flaw", BAD_CERTIFICATES)
def test_d2_a_bad_certificate_is_judged_by_its_key(flaw: str, keys: Keys, tmp_path: Path) -> None:
    """Refused where the key is not known, taken where it is; by ssh(1) as by us."""
    flags, said = BAD_CERTIFICATES[flaw]
    try:
        server = Certified("10.6", keys, *flags).__enter__()
    except (RuntimeError, subprocess.CalledProcessError):
        assert flaw == "a user's"  # sshd itself takes no such file
        return
    with server:
        trusted = f"@cert-authority * {authority(keys)}\n"
        name = f"[{LOOPBACK}]:{server.target.port}"
        refused = Verdicts(tmp_path, keys, server, trusted)
        assert refused.ours == "refused"
        assert said in refused.error
        # Until 10.3 a certificate without principals was for every host.
        assert refused.theirs == {"9.2": "ok" if flaw == "nobody's" else "refused", "10.6": "refused"}
        for key, verdict in ((keys.host().public, "ok"), (keys.host("rsa").public, "refused")):
            both = Verdicts(tmp_path, keys, server, f"{trusted}{name} {key}\n")
            assert both.ours == verdict
            assert both.theirs == {"9.2": "ok" if flaw == "nobody's" else verdict, "10.6": verdict}


@pytest.mark.parametrize("strict", ["yes", "no"])
def test_where_certificates_alone_are_allowed_their_keys_are_not(
    strict: str, keys: Keys, tmp_path: Path
) -> None:
    """HostKeyAlgorithms that name certificates alone; one that does not hold is not judged by its key."""
    only = "ssh-ed25519-cert-v01@openssh.com"
    with Certified("10.6", keys, "-h", "-n", "other.example") as server, OpenSSHClient("10.6") as client:
        name = f"[{LOOPBACK}]:{server.target.port}"
        text = f"@cert-authority * {authority(keys)}\n{name} {keys.host().public}\n"
        file = client._folder / "hosts"
        file.write_text(text)
        options = [f"UserKnownHostsFile={client.place.inside(file)}", f"HostKeyAlgorithms={only}",
                   f"StrictHostKeyChecking={strict}"]  # fmt: skip
        words = [word for option in options for word in ("-o", option)]
        done = client.run(server.target, "true", *words, identity=keys.user())
        assert done.returncode == 255
        assert b"host key ssh-ed25519 not permitted by HostkeyAlgorithms" in done.stderr

        async def check() -> None:
            policy = Policy.client(host_key_algorithms=(only,), login_grace=0)
            with pytest.raises(HostKeyRefused, match="not permitted by HostkeyAlgorithms"):
                await connect(server.target, keys, known_hosts=file, strict=strict, policy=policy)

        talk(check())
        assert file.read_text() == text


@pytest.mark.parametrize(("alias", "good"), [("host.example", True), ("other.example", False)])
def test_the_alias_is_the_name_that_a_certificate_has_to_have(
    alias: str, good: bool, certified: Certified, keys: Keys
) -> None:
    with OpenSSHClient("10.6") as client:
        file = client._folder / "hosts"
        file.write_text(f"@cert-authority *.example {authority(keys)}\n")
        options = ("-o", f"UserKnownHostsFile={client.place.inside(file)}", "-o", f"HostKeyAlias={alias}")
        done = client.run(certified.target, "true", *options, identity=keys.user())
        assert (done.returncode == 0) == good, done.stderr

        async def check() -> None:
            try:
                async with connect(certified.target, keys, known_hosts=file, alias=alias):
                    assert good
            except HostKeyRefused:
                assert not good

        talk(check())


class Verdicts:
    """What ssh 9.2, ssh 10.6 and we say of `server`, given the text of known_hosts."""

    def __init__(self, tmp_path: Path, keys: Keys, server: OpenSSHServer, text: str) -> None:
        self.theirs = {}
        self.said = {}
        for version in VERSIONS:
            with OpenSSHClient(version) as client:
                file = client._folder / "hosts"
                file.write_bytes(text.encode())
                option = f"UserKnownHostsFile={client.place.inside(file)}"
                done = client.run(server.target, "true", "-v", "-o", option, identity=keys.user())
                self.said[version] = done.stderr.decode(errors="replace")
                assert done.returncode in (0, 255)
                if done.returncode:
                    assert "Host key verification failed" in self.said[version]
                self.theirs[version] = "refused" if done.returncode else "ok"
                assert file.read_bytes() == text.encode()
        file = tmp_path / "known_hosts"
        file.write_bytes(text.encode())
        self.error = ""
        self.ours = "ok"

        async def check() -> None:
            try:
                async with connect(server.target, keys, known_hosts=file, strict="yes"):
                    pass
            except HostKeyRefused as error:
                self.ours, self.error = "refused", str(error)

        talk(check())
        assert file.read_bytes() == text.encode()


# -- lines of known_hosts ------------------------------------------------------------------------

# {name}: the host with its port; {key}, {other}: its key, one of another type; {wrong}: of the same type;
# {ca}: its authority; {hidden}, {wronghidden}: the name hidden, another name hidden.
LINES = {
    "plain": ("{name} {key}", "ok"),
    "by its name alone": (LOOPBACK + " {key}", "ok"),
    "a comment": ("{name} {key} comment with = and @", "ok"),
    "tabs": ("\t{name}\t{key}", "ok"),
    "several names": ("x,{name},y {key}", "ok"),
    "a pattern": ("[127.0.0.?]:* {key}", "ok"),
    "negated": ("!{name},[*]:* {key}", "refused"),
    "negated for the port alone": ("*,!{name} {key}", "ok"),
    "hidden": ("{hidden} {key}", "ok"),
    "another hidden": ("{wronghidden} {key}", "refused"),
    "another host": ("other.example {key}", "refused"),
    "another port": ("[127.0.0.1]:1 {key}", "refused"),
    "another key": ("{name} {wrong}", "refused"),
    "another key first": ("{name} {wrong}\n{name} {key}", "ok"),
    "another type": ("{name} {other}", "refused"),
    "the port's key is another": ("{name} {wrong}\n" + LOOPBACK + " {key}", "ok"),
    "bad lines first": ("{name}\n{name} ssh-ed25519 AAAA\n@what {name} {key}\n{name} {key}", "ok"),
    "only bad lines": ("{name}\n{name} ssh-ed25519 AAAA\n@what {name} {key}\n", "refused"),
    "two markers": ("@revoked @cert-authority {name} {ca}\n{name} {key}", "ok"),
    "an authority": ("@cert-authority {name} {ca}", "ok"),
    "an authority by name": ("@cert-authority " + LOOPBACK + " {ca}", "ok"),
    "an authority for all": ("@cert-authority * {ca}", "ok"),
    "an authority for others": ("@cert-authority *.example {ca}", "refused"),
    "another authority": ("@cert-authority * {key}", "refused"),
    "no authority": ("{name} {ca}", "refused"),
    "revoked": ("{name} {key}\n@revoked * {key}", "refused"),
    "revoked by name": ("@revoked {name} {key}\n{name} {key}", "refused"),
    "another revoked": ("{name} {key}\n@revoked * {wrong}", "ok"),
    "authority revoked": ("@cert-authority * {ca}\n@revoked * {ca}", "refused"),
    "authority revoked, key known": ("{name} {key}\n@revoked * {ca}", "refused"),
    "key revoked, authority trusted": ("@cert-authority * {ca}\n@revoked * {key}", "refused"),
    "U+00A0": ("{name}\u00a0{key}", "refused"),
    "carriage returns": ("{name} {key}\r", "ok"),
    "nothing": ("", "refused"),
}
OURS = {
    # ssh looks for the certificate's authority under both names before it looks for the key.
    "the port's key is another": "refused",
    # The key is known and not revoked: we ask for it, and no certificate is shown.
    "authority revoked, key known": "ok",
}
"""Where we differ from ssh, and why."""


@pytest.mark.parametrize("case", LINES)
def test_lines_are_judged_as_ssh_does(case: str, certified: Certified, keys: Keys, tmp_path: Path) -> None:
    text, verdict = LINES[case]
    name = f"[{LOOPBACK}]:{certified.target.port}"
    filled = text.format(
        name=name, key=keys.host().public, other=keys.host("rsa").public, wrong=keys.user().public,
        ca=authority(keys), hidden=hash_host(name, bytes(range(20))),
        wronghidden=hash_host("other.example", bytes(range(20))),
    )  # fmt: skip
    found = Verdicts(tmp_path, keys, certified, filled + "\n")
    assert found.theirs == {"9.2": verdict, "10.6": verdict}, found.said
    assert found.ours == OURS.get(case, verdict), found.error


# -- RevokedHostKeys and KnownHostsCommand -------------------------------------------------------


@pytest.mark.parametrize("form", ["text", "krl", "serial"])
def test_revoked_host_keys_as_ssh_reads_them(form: str, certified: Certified, keys: Keys) -> None:
    with OpenSSHClient("10.6") as client:
        revoked = client._folder / "revoked"
        place = client.place
        _revoke(place, client._folder, revoked, form, keys)
        options = ("-o", f"RevokedHostKeys={place.inside(revoked)}")
        known = f"@cert-authority * {authority(keys)}\n"
        file = client._folder / "hosts"
        file.write_text(known)
        options += ("-o", f"UserKnownHostsFile={place.inside(file)}")
        done = client.run(certified.target, "true", *options, identity=keys.user())
        assert done.returncode == 255
        assert b"revoked by file" in done.stderr

        async def check() -> None:
            checks = HostChecks(revoked=(str(revoked),))
            with pytest.raises(HostKeyRefused, match="revoked by file"):
                await connect(certified.target, keys, known_hosts=file, checks=checks)

        talk(check())


def _revoke(place: Place, folder: Path, revoked: Path, form: str, keys: Keys) -> None:
    public = folder / "key.pub"
    public.write_text(keys.host().public + "\n")
    if form == "text":
        revoked.write_text(public.read_text())
        return
    flags = []
    if form == "serial":
        (folder / "ca.pub").write_text(authority(keys) + "\n")
        public.write_text("serial: 7\n")
        flags = ["-s", place.inside(folder / "ca.pub")]
    line = place.command("ssh-keygen", "-k", "-f", place.inside(revoked), *flags, place.inside(public))
    subprocess.run(line, check=True, capture_output=True, timeout=30)


def test_a_command_tells_ssh_and_us_the_same(certified: Certified, keys: Keys) -> None:
    """The words that each of us runs it with, one line for each time."""
    place = require_peer("openssh-10.6")
    folder = place.scratch()
    try:
        script, log = folder / "known", folder / "log"
        name = f"[{LOOPBACK}]:{certified.target.port}"
        # Our own run is outside the chroot.
        script.write_text(f'#!/bin/sh\necho "$@" >>"$1"\necho "@cert-authority {name} {authority(keys)}"\n')
        script.chmod(0o755)
        tokens = {"h": certified.target.host, "p": str(certified.target.port), "r": "root", "k": "x"}
        words = "%I %H %t %f %K %h %p %r '%%' \"a b\""
        with OpenSSHClient("10.6") as client:
            command = f"{place.inside(script)} {place.inside(log)} {words}"
            options = ("-o", f"KnownHostsCommand={command}", "-o", "UserKnownHostsFile=none")
            done = client.run(certified.target, "true", *options, identity=keys.user())
            assert done.returncode == 0, done.stderr
        theirs = log.read_text().replace(place.inside(log), "LOG").splitlines()
        log.unlink()

        async def check() -> None:
            checks = HostChecks(command=f"{script} {log} {words}", tokens=tokens)
            async with connect(certified.target, keys, known_hosts=[], checks=checks):
                pass

        talk(check())
        ours = log.read_text().replace(str(log), "LOG").splitlines()
        assert [line.split()[1] for line in theirs] == ["ORDER", "HOSTNAME"]
        # ssh names the certificate that was offered, and so do we.
        assert ours == theirs
    finally:
        shutil.rmtree(folder)
