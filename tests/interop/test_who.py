"""Who may log in: the same sshd_config, files and programs under our sshd and under OpenSSH's, side by side.

Each case says what is to come of it, and each server has to agree: what is refused here is refused there.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.interop.machine import Machine, MachineGlass, MachineOpenSSH, machine
from tests.interop.peers import Client, KeyPair, Keys, Server, Target, make_key
from tests.interop.test_directory import ChrootOpenSSH

GetClient = Callable[[str], Client]
SERVERS = ("glasshell", "openssh-9.2", "openssh-10.6")
NEWEST = ("glasshell", "openssh-10.6")
IN, OUT = "in as ada", "Permission denied"


@dataclass
class Ring:
    """A user's key, an authority, and certificates of the first by the second."""

    folder: Path
    user: KeyPair
    authority: KeyPair
    made: dict[str, KeyPair] = field(default_factory=dict)

    def certificate(self, name: str, *options: str) -> KeyPair:
        """The user's key with the certificate that `ssh-keygen -s CA OPTIONS` makes, called `name`."""
        if name not in self.made:
            folder = self.folder / name
            folder.mkdir()
            key = KeyPair(self.user.copy_to(folder))
            line = ["ssh-keygen", "-q", "-s", str(self.authority.private), "-I", name, *options]
            subprocess.run([*line, f"{key.private}.pub"], check=True, timeout=30)
            self.made[name] = key
        return self.made[name]


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory, keys: Keys) -> Ring:
    folder = tmp_path_factory.mktemp("ring")
    return Ring(folder, make_key(folder, "ed25519", name="user"), make_key(folder, "ecdsa", name="authority"))


@pytest.fixture(scope="module")
def here() -> Iterator[Machine]:
    with machine() as made:
        for name in ("ada", "keeper"):
            made.add(name)
        yield made


@pytest.fixture
def file(here: Machine) -> Iterator[Callable[[str, str, int], Path]]:
    """file(name, text, mode): a file below the machine's /etc, gone after the test; its path there."""
    written: list[Path] = []

    def write(name: str, text: str, mode: int = 0o644) -> Path:
        path = here.etc / name
        path.write_text(text, "utf-8")
        path.chmod(mode)
        written.append(path)
        return Path("/etc") / name

    yield write
    for path in written:
        path.unlink(missing_ok=True)


def serving(name: str, here: Machine, keys: Keys, config: str) -> Server:
    """A server by name; what it says is at its most verbose but for debugging."""
    return blocks(name, here, keys, config, "")


def blocks(name: str, here: Machine, keys: Keys, config: str, block: str) -> Server:
    """A server whose configuration ends with a block of Match."""
    # The first value counts, and the case's own is to be the first.
    config += "\nAuthorizedKeysFile none\nLogLevel VERBOSE\nPasswordAuthentication no\nUsePAM no\n"
    if name == "glasshell":
        return _WithMatch(here, keys, config, block)
    cls = {"openssh-9.2": MachineOpenSSH, "openssh-10.6": ChrootOpenSSH}[name]
    made = cls(here, keys, config, "sshd") if cls is MachineOpenSSH else cls(here, keys, config)  # type: ignore[call-arg]
    plain = made._config
    made._config = lambda port: f"{plain(port)}\n{block}"  # type: ignore[method-assign]
    return made


class _WithMatch(MachineGlass):
    """Its blocks come last, as they have to."""

    def __init__(self, where: Machine, keys: Keys, config: str, block: str) -> None:
        super().__init__(where, keys, config)
        self._block = block

    def _file(self, name: str, text: str) -> str:
        return super()._file(name, f"{text}\n{self._block}" if name == "sshd_config" else text)


def login(
    server: Server, client: Client, identity: KeyPair, *options: str, user: str = "ada",
    command: str = "echo in as $(id -un)",
) -> str:  # fmt: skip
    target = Target(server.target.port, user, server.target.host_keys)
    certificate = identity.private.with_name(f"{identity.private.name}-cert.pub")
    words = list(options)
    if certificate.exists():
        kept = client._folder / f"{certificate.parent.name}-cert.pub"
        kept.write_text(certificate.read_text("utf-8"), "utf-8")
        words += ["-o", f"CertificateFile={client.place.inside(kept)}"]
    done = client.run(target, command, *words, identity=identity)
    said = (done.stdout + done.stderr).decode(errors="replace").strip().splitlines()
    return said[-1] if said else ""


# Options of ssh-keygen -s -> whether the certificate lets ada in where only TrustedUserCAKeys says so.
CERTIFICATES: dict[str, tuple[tuple[str, ...], str]] = {
    "hers": (("-n", "ada"), IN),
    "of-several": (("-n", "bob,ada"), IN),
    "of-another": (("-n", "bob"), OUT),
    "of-nobody": ((), OUT),
    "expired": (("-n", "ada", "-V", "20200101:20210101"), OUT),
    "of-the-future": (("-n", "ada", "-V", "20980101:20990101"), OUT),
    "of-a-host": (("-h", "-n", "ada"), OUT),
    "from-here": (("-n", "ada", "-O", "source-address=127.0.0.0/8"), IN),
    "from-elsewhere": (("-n", "ada", "-O", "source-address=192.0.2.0/24"), OUT),
    "forced": (("-n", "ada", "-O", "force-command=echo forced"), "forced"),
    "unknown-critical": (("-n", "ada", "-O", "critical:no-such@example.com=x"), OUT),
    "unknown-extension": (("-n", "ada", "-O", "extension:no-such@example.com=x"), IN),
}


@pytest.mark.parametrize("name", SERVERS)
def test_c12_certificates_of_a_trusted_authority(
    name: str, here: Machine, ring: Ring, file: Callable[..., Path], client: GetClient, keys: Keys
) -> None:
    path = file("ca.pub", f"# trusted\n{ring.authority.public}\n")
    ssh = client("openssh-10.6")
    with serving(name, here, keys, f"TrustedUserCAKeys {path}\nMaxAuthTries 20") as server:
        for case, (options, wanted) in CERTIFICATES.items():
            said = login(server, ssh, ring.certificate(case, *options))
            # One without names was for everybody before OpenSSH 10.3, whoever they were.
            expected = IN if (name, case) == ("openssh-9.2", "of-nobody") and said == IN else wanted
            assert said.startswith(expected) or expected in said, case
        if name == "glasshell":
            assert 'Accepted certificate ID "hers" (serial 0) signed by' in server.log
            assert re.search(r'Refusing certificate ID "expired" .*: .* invalid: expired', server.log)
        assert OUT in login(server, ssh, ring.user)


# Lines of AuthorizedPrincipalsFile -> what they let a certificate for "ops" do.
PRINCIPALS: dict[str, tuple[str, str]] = {
    "named": ("# who\nweb\nops\n", IN),
    "not-named": ("web\nada\n", OUT),
    "a-list-is-no-name": ("web,ops\n", OUT),
    "no-pattern": ("o*\n", OUT),
    "with-a-command": ('command="echo held" ops\n', "held"),
    "from-elsewhere": ('from="192.0.2.1" ops\n', OUT),
    "expired": ('expiry-time="20200101" ops\n', OUT),
    "bad-option": ("no-such-option ops\n", OUT),
    "cert-authority": ("cert-authority ops\n", OUT),
    "empty": ("", OUT),
}


@pytest.mark.parametrize("name", NEWEST)
def test_names_that_a_file_gives(
    name: str, here: Machine, ring: Ring, file: Callable[..., Path], client: GetClient, keys: Keys
) -> None:
    authority = file("ca.pub", ring.authority.public)
    path = file("principals_ada", "")
    config = f"TrustedUserCAKeys {authority}\nAuthorizedPrincipalsFile /etc/principals_%u"
    ssh, ops = client("openssh-10.6"), ring.certificate("ops", "-n", "ops")
    with serving(name, here, keys, config) as server:
        for case, (text, wanted) in PRINCIPALS.items():
            (here.etc / path.name).write_text(text, "utf-8")
            assert wanted in login(server, ssh, ops), case
        (here.etc / path.name).unlink()
        assert OUT in login(server, ssh, ops)
        # The user's own name is none of the file's.
        assert OUT in login(server, ssh, ring.certificate("hers", "-n", "ada"))


ASK = """#!/bin/sh
# TOKENS: %u %i %s %T %F %f %t
[ "$1 $2 $3 $4" = "ada id 7 ecdsa-sha2-nistp256" ] || exit 0
case "$5 $6" in SHA256:*" "SHA256:*) ;; *) exit 0;; esac
[ "$7" = ssh-ed25519-cert-v01@openssh.com ] && [ "$(id -un)" = keeper ] && echo ops
"""


@pytest.mark.parametrize("name", NEWEST)
def test_names_that_a_program_gives(
    name: str, here: Machine, ring: Ring, file: Callable[..., Path], client: GetClient, keys: Keys
) -> None:
    authority, script = file("ca.pub", ring.authority.public), file("ask-names", ASK, 0o755)
    config = (
        f"TrustedUserCAKeys {authority}\nAuthorizedPrincipalsCommand {script} %u %i %s %T %F %f %t\n"
        "AuthorizedPrincipalsCommandUser keeper"
    )
    ssh = client("openssh-10.6")
    with serving(name, here, keys, config) as server:
        # The identity is its certificate's name: "id" here.
        assert login(server, ssh, ring.certificate("id", "-n", "ops", "-z", "7")) == IN
        assert OUT in login(server, ssh, ring.certificate("id-8", "-n", "ops", "-z", "8"))
        assert OUT in login(server, ssh, ring.certificate("other", "-n", "ada", "-z", "7"))


# Lines of authorized_keys with @CA for the authority -> what a certificate for "ada" comes to.
LINES: dict[str, tuple[str, str]] = {
    "authority": ("cert-authority @CA", IN),
    "without-the-word": ("@CA", OUT),
    "principals": ('cert-authority,principals="ops,ada" @CA', IN),
    "other-principals": ('cert-authority,principals="ops" @CA', OUT),
    "command": ('cert-authority,command="echo by line" @CA', "by line"),
    "restrict": ("restrict,cert-authority @CA", IN),
    "from": ('cert-authority,from="192.0.2.1" @CA', OUT),
    "second-line": ('cert-authority,principals="ops" @CA\ncert-authority @CA', IN),
}


@pytest.mark.parametrize("name", NEWEST)
def test_authorities_in_authorized_keys(
    name: str, here: Machine, ring: Ring, file: Callable[..., Path], client: GetClient, keys: Keys
) -> None:
    path = file("keys_ada", "")
    ssh, hers = client("openssh-10.6"), ring.certificate("hers", "-n", "ada")
    with serving(name, here, keys, "AuthorizedKeysFile /etc/keys_%u") as server:
        for case, (text, wanted) in LINES.items():
            (here.etc / path.name).write_text(text.replace("@CA", ring.authority.public) + "\n", "utf-8")
            assert wanted in login(server, ssh, hers), case
            assert OUT in login(server, ssh, ring.user), case  # without the certificate the key is nobody's


# Options of a key's line -> what a login by it comes to.
OPTIONS: dict[str, tuple[str, str]] = {
    "": ("", IN),
    "all-of-no": ("no-pty,no-port-forwarding,no-agent-forwarding,no-X11-forwarding,no-user-rc", IN),
    "restrict": ("restrict,pty", IN),
    "command": ('command="echo \\"by line\\""', "by line"),
    "from-here": ('from="127.0.0.1"', IN),
    "not-from-here": ('from="!127.0.0.1,*"', OUT),
    "expired": ('expiry-time="20200101"', OUT),
    "not-yet-expired": ('expiry-time="20990101Z"', IN),
    "environment": ('environment="X=y"', IN),
    "tunnel": ('tunnel="0"', IN),
    "bad-tunnel": ('tunnel="x"', OUT),
    "touch": ("no-touch-required", IN),
    "verify": ("verify-required", IN),
    "principals-without-authority": ('principals="ada"', OUT),
    "unknown": ("no-such-option", OUT),
    "unfinished": ('command="x', OUT),
    "port-65536": ('permitopen="h:65536"', OUT),
    "two-commands": ('command="a",command="b"', OUT),
}


@pytest.mark.parametrize("name", NEWEST)
def test_c14_options_of_a_line(
    name: str, here: Machine, ring: Ring, file: Callable[..., Path], client: GetClient, keys: Keys
) -> None:
    path = file("keys_ada", "")
    ssh = client("openssh-10.6")
    with serving(name, here, keys, "AuthorizedKeysFile /etc/none_%u /etc/keys_%u") as server:
        for case, (options, wanted) in OPTIONS.items():
            (here.etc / path.name).write_text(f"{options} {ring.user.public}\n".lstrip(), "utf-8")
            assert wanted in login(server, ssh, ring.user), case


@pytest.mark.parametrize("name", SERVERS)
def test_revoked_keys(
    name: str, here: Machine, ring: Ring, file: Callable[..., Path], client: GetClient, keys: Keys,
    tmp_path: Path,
) -> None:  # fmt: skip
    """A list in text, a KRL by serial and by authority; a file that cannot be read revokes everything."""
    authority, krl = file("ca.pub", ring.authority.public), tmp_path / "krl"
    file("keys_ada", f"{ring.user.public}\n")
    path = file("revoked", "# nobody\n")
    config = f"AuthorizedKeysFile /etc/keys_%u\nTrustedUserCAKeys {authority}\nRevokedKeys {path}"
    ssh = client("openssh-10.6")
    seven, eight = (ring.certificate(f"serial-{n}", "-n", "ada", "-z", n) for n in ("7", "8"))

    def revoke(text: str) -> None:
        (tmp_path / "spec").write_text(text, "utf-8")
        line = ["ssh-keygen", "-q", "-k", "-f", str(krl), "-s", f"{ring.authority.private}.pub"]
        subprocess.run([*line, str(tmp_path / "spec")], check=True, timeout=30)
        (here.etc / path.name).write_bytes(krl.read_bytes())

    with serving(name, here, keys, config) as server:
        assert login(server, ssh, ring.user) == IN
        revoke("serial: 7\n")
        assert login(server, ssh, ring.user) == IN
        (here.etc / "keys_ada").write_text("", "utf-8")
        assert OUT in login(server, ssh, seven)
        assert login(server, ssh, eight) == IN
        revoke(f"key: {ring.authority.public}\n")
        assert OUT in login(server, ssh, eight)
        (here.etc / "keys_ada").write_text(f"{ring.user.public}\n", "utf-8")
        for text in (f"{ring.user.public}\n", "this is no key\n"):
            (here.etc / path.name).write_text(text, "utf-8")
            assert OUT in login(server, ssh, ring.user), text
        (here.etc / path.name).unlink()
        assert OUT in login(server, ssh, ring.user)
        said = server.log
    assert re.search(r"Authentication key ED25519 SHA256:\S+ revoked by file /etc/revoked", said)
    assert re.search(r"Error checking authentication key ED25519 SHA256:\S+ in revoked keys file", said)


@pytest.mark.parametrize("name", NEWEST)
def test_what_a_session_is_told_of_its_login(
    name: str, here: Machine, ring: Ring, file: Callable[..., Path], client: GetClient, keys: Keys
) -> None:
    """ExposeAuthInfo, and what PermitUserEnvironment lets through."""
    file("keys_ada", f'environment="GLASS_A=1",environment="OTHER=2" {ring.user.public}\n')
    config = "AuthorizedKeysFile /etc/keys_%u\nExposeAuthInfo yes\nPermitUserEnvironment GLASS_*,!GLASS_B"
    command = 'stat -c "%a %U" $SSH_USER_AUTH; cat $SSH_USER_AUTH; echo $GLASS_A.$OTHER.; echo $SSH_USER_AUTH'
    ssh = client("openssh-10.6")
    with serving(name, here, keys, config) as server:
        target = Target(server.target.port, "ada", server.target.host_keys)
        done = ssh.run(target, command, identity=ring.user)
        mode, told, variables, path = done.stdout.decode().splitlines()
    assert (mode, told, variables) == ("600 ada", f"publickey {ring.user.public}", "1..")
    assert not Path(path).exists()


NAMED: dict[str, tuple[str, str]] = {
    "name": ('from="LOCALHOST"', IN),
    "pattern": ('from="local*,!elsewhere"', IN),
    "not-it": ('from="*,!localhost"', OUT),
    "another": ('from="localhost.example"', OUT),
    "address": ('from="127.0.0.1"', IN),
}


@pytest.mark.parametrize("name", NEWEST)
def test_names_of_hosts(
    name: str, here: Machine, ring: Ring, file: Callable[..., Path], client: GetClient, keys: Keys
) -> None:
    """UseDNS: 127.0.0.1 is called localhost, and localhost leads back there."""
    path = file("keys_ada", "")
    ssh = client("openssh-10.6")
    config = "AuthorizedKeysFile /etc/keys_%u\nUseDNS yes\nAllowUsers ada@localhost"
    with serving(name, here, keys, config) as server:
        for case, (options, wanted) in NAMED.items():
            (here.etc / path.name).write_text(f"{options} {ring.user.public}\n", "utf-8")
            assert wanted in login(server, ssh, ring.user), case
    with serving(name, here, keys, config.replace("UseDNS yes", "UseDNS no")) as server:
        assert OUT in login(server, ssh, ring.user)


HERE = "AuthorizedKeysFile /etc/keys_%u"
MATCHES: Sequence[tuple[str, str]] = [
    (f"Match User ada\n  {HERE}", IN),
    (f"Match User bob\n  {HERE}", OUT),
    (f"Match Group ada Address 127.0.0.1\n  {HERE}\n  ForceCommand echo matched", "matched"),
    (f"Match User ada\n  {HERE}\n  PubkeyAcceptedAlgorithms ecdsa-sha2-nistp256", OUT),
    (f"Match User ada\n  {HERE}\n  AuthenticationMethods publickey,publickey", OUT),
    (f"Match User ada\n  {HERE}\nMatch LocalAddress 127.0.0.1\n  DenyUsers ada", OUT),
]


@pytest.mark.parametrize("name", NEWEST)
@pytest.mark.parametrize(("block", "wanted"), MATCHES, ids=range(len(MATCHES)))
def test_blocks_for_some(
    name: str, block: str, wanted: str, here: Machine, ring: Ring, file: Callable[..., Path],
    client: GetClient, keys: Keys,
) -> None:  # fmt: skip
    file("keys_ada", f"{ring.user.public}\n")
    with blocks(name, here, keys, "", block) as server:
        assert wanted in login(server, client("openssh-10.6"), ring.user)


@pytest.mark.parametrize("name", NEWEST)
@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        ("PermitEmptyPasswords yes", IN),
        ("PermitEmptyPasswords no", OUT),
        ("PermitEmptyPasswords yes\nAuthenticationMethods none", IN),
        ("PermitEmptyPasswords yes\nAuthenticationMethods publickey", OUT),
        ("PermitEmptyPasswords yes\nAuthenticationMethods none,publickey", OUT),
    ],
)
def test_accounts_without_a_password(
    name: str, config: str, wanted: str, here: Machine, ring: Ring, client: GetClient, keys: Keys
) -> None:
    """`none` lets in whose password is empty, where that is permitted; nobody else, and for no other step."""
    shadow = (here.etc / "shadow").read_text("utf-8")
    (here.etc / "shadow").write_text(re.sub("^ada:[^:]*:", "ada::", shadow, flags=re.MULTILINE), "utf-8")
    try:
        with serving(name, here, keys, f"{config}\nPasswordAuthentication yes") as server:
            assert wanted in login(server, client("openssh-10.6"), ring.user)
            assert OUT in login(server, client("openssh-10.6"), ring.user, user="keeper")
            assert OUT in login(server, client("openssh-10.6"), ring.user, user="nosuch")
    finally:
        (here.etc / "shadow").write_text(shadow, "utf-8")
