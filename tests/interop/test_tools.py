"""Programs that run ssh(1) find ours in its place, and do their work: at sshd 9.2."""

from __future__ import annotations

import fcntl
import filecmp
import os
import pwd
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

import pytest

from tests.interop.glass import SOURCE
from tests.interop.peers import Keys, OpenSSHServer
from tests.needs import absent

PATIENCE = 30.0
"""Seconds until something that has to happen must have happened."""
HOST = "glass.example"
"""The server's name in the configuration, and nowhere else: who reaches it has read that file."""


class User:
    """Somebody whose PATH has our ssh and no other before it, and whose ~/.ssh/config knows HOST."""

    def __init__(self, home: Path, server: OpenSSHServer, keys: Keys) -> None:
        self.home = home
        self.port = server.target.port
        programs, settings = home / "bin", home / ".ssh"
        programs.mkdir()
        settings.mkdir(mode=0o700)
        self.ssh = programs / "ssh"
        # The tests' interpreter with our source, and nothing of that in what the program is given.
        python, source = shlex.quote(sys.executable), shlex.quote(str(SOURCE))
        self.ssh.write_text(f'#!/bin/sh\nPYTHONPATH={source} exec {python} -m glasshell ssh "$@"\n')
        self.ssh.chmod(0o755)
        known = settings / "known_hosts"
        known.write_text(server.target.known_hosts().replace(f"[127.0.0.1]:{self.port} ", f"{HOST} "))
        (settings / "config").write_text(
            f"Host {HOST}\n HostName 127.0.0.1\n Port {self.port}\n User {server.target.user}\n"
            f" IdentityFile {keys.user().copy_to(settings)}\n IdentitiesOnly yes\n"
            f" HostKeyAlias {HOST}\n StrictHostKeyChecking yes\n"
        )
        self.environment = {
            "PATH": f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(home), "LC_ALL": "C.UTF-8", "TERM": "xterm", "PYTHONWARNINGS": "error",
        }  # fmt: skip

    def run(
        self, *line: str | Path, stdin: bytes | IO[bytes] = b"", status: int = 0, **more: str
    ) -> subprocess.CompletedProcess[bytes]:
        """Runs a program, which must end with `status`; `more` are further variables."""
        source = {"input": stdin} if isinstance(stdin, bytes) else {"stdin": stdin}
        done = subprocess.run(
            line, **source, capture_output=True, cwd=self.home, env={**self.environment, **more},
            timeout=PATIENCE, check=False, start_new_session=True,
        )  # type: ignore[call-overload]  # fmt: skip
        assert done.returncode == status, (done.stdout, done.stderr)
        return done

    def write(self, name: str, data: bytes) -> Path:
        path = self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path


def may_mount() -> bool:
    """Whether this process may mount."""
    line = ["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"]
    return subprocess.run(line, capture_output=True, check=False).returncode == 0


class FarServer(OpenSSHServer):
    """sshd with a table of accounts of its own, in which who logs in is at home in the folder `home`."""

    home: Path

    def _line(self, port: int) -> list[str]:
        me = pwd.getpwuid(os.geteuid())
        self.home = self.folder / "home"
        self.home.mkdir()
        lines = [f"{me.pw_name}:x:{me.pw_uid}:{me.pw_gid}::{self.home}:/bin/bash\n"]
        lines += [
            line
            for line in Path("/etc/passwd").read_text().splitlines(True)
            if not line.startswith(f"{me.pw_name}:")
        ]
        accounts = self._file("passwd", "".join(lines))
        (self.folder / "passwd").chmod(0o644)
        script = 'mount --bind "$0" /etc/passwd && exec "$@"'
        return ["unshare", "-m", "sh", "-c", script, accounts, *super()._line(port)]


@pytest.fixture(scope="session")
def far(keys: Keys) -> Iterator[FarServer]:
    """The server."""
    if not may_mount():
        absent("nothing may be mounted here (root, and CAP_SYS_ADMIN)")
    with FarServer("9.2", keys) as server:
        yield server


@pytest.fixture
def there(far: FarServer) -> Path:
    """The home on the server, empty."""
    for path in far.home.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    return far.home


@pytest.fixture
def user(far: FarServer, keys: Keys, tmp_path: Path) -> User:
    return User(tmp_path, far, keys)


def program(name: str) -> str:
    """Where it is, or the test is skipped."""
    venv = Path(sys.executable).parent
    return shutil.which(name, path=f"{venv}:{os.environ['PATH']}") or absent(f"{name} is not installed")


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def same(one: Path, other: Path) -> bool:
    """Whether two folders hold the same, all the way down."""
    found = filecmp.dircmp(one, other)
    _, wrong, strange = filecmp.cmpfiles(one, other, found.common_files, shallow=False)
    differ = [*found.left_only, *found.right_only, *wrong, *strange, *found.common_funny]
    return not differ and all(same(one / name, other / name) for name in found.common_dirs)


def folder(user: User) -> Path:
    """A folder with a few files, one of them large, one with a name that a shell reads otherwise."""
    user.write("tree/large", os.urandom(3_000_000))
    user.write("tree/deep/er/a name; with $(spaces)", b"text\n")
    user.write("tree/empty", b"")
    return user.home / "tree"


def test_git_clones_and_pushes(user: User, there: Path) -> None:
    git = program("git")
    names = {"GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@example", "GIT_COMMITTER_NAME": "A",
             "GIT_COMMITTER_EMAIL": "a@example", "GIT_SSH_COMMAND": str(user.ssh)}  # fmt: skip
    user.run(git, "init", "-q", "--bare", "-b", "trunk", there / "a repository.git")
    where = f"ssh://{HOST}{there}/a repository.git"
    user.run(git, "clone", "-q", where, "work", **names)
    work = user.home / "work"
    user.write("work/file", os.urandom(500_000))
    user.run(git, "-C", work, "checkout", "-q", "-b", "trunk", **names)
    user.run(git, "-C", work, "add", "file", **names)
    user.run(git, "-C", work, "commit", "-q", "-m", "first", **names)
    user.run(git, "-C", work, "push", "-q", "origin", "trunk", **names)
    # The second form of a place, ssh found by PATH, and the protocol's version by SendEnv.
    user.run(git, "-c", "protocol.version=2", "clone", "-q", f"{HOST}:{there}/a repository.git", "again")
    assert filecmp.cmp(user.home / "again" / "file", work / "file", shallow=False)
    missing = user.run(git, "ls-remote", f"{HOST}:no-such", status=128, **names)
    assert b"does not appear to be a git repository" in missing.stderr


def test_rsync_there_and_back(user: User, there: Path) -> None:
    rsync, tree = program("rsync"), folder(user)
    user.run(rsync, "-a", "-e", str(user.ssh), f"{tree}/", f"{HOST}:mirror/")
    assert same(tree, there / "mirror")
    user.run(rsync, "-a", "-e", f"{user.ssh} -o Compression=yes -p {user.port}", f"{HOST}:mirror/", "back/")
    assert same(tree, user.home / "back")
    gone = user.run(rsync, "-a", "-e", str(user.ssh), f"{HOST}:no-such", "x", status=23)
    assert b"No such file or directory" in gone.stderr


def test_ansible_pings_and_copies(user: User, there: Path) -> None:
    ansible = program("ansible")
    source = user.write("source", b"copied\n")
    python = f"ansible_python_interpreter={Path(sys.executable).resolve()}"
    user.write("hosts", f"{HOST} {python} ansible_ssh_executable={user.ssh}\n".encode())
    sockets = Path(tempfile.mkdtemp(prefix="glasshell-"))  # pytest's folders are too long for a socket's path
    settings = {"ANSIBLE_HOME": str(user.home / "ansible"), "PYTHONWARNINGS": "ignore",
                "ANSIBLE_SSH_CONTROL_PATH_DIR": str(sockets)}  # fmt: skip
    pinged = user.run(ansible, "-i", "hosts", "all", "-m", "ping", **settings)
    assert b'"ping": "pong"' in pinged.stdout
    copied = user.run(
        ansible, "-i", "hosts", "all", "-m", "copy", "-a", f"src={source} dest={there}/copy mode=0640",
        **settings,
    )  # fmt: skip
    assert b'"changed": true' in copied.stdout
    assert (there / "copy").read_bytes() == b"copied\n"
    # By default it shares a connection (ControlPersist): the master must be ended.
    (control,) = sockets.iterdir()
    user.run(user.ssh, "-S", control, "-O", "exit", HOST)
    shutil.rmtree(sockets)


@pytest.mark.parametrize("flags", [(), ("-O",)], ids=["sftp", "rcp"])
def test_scp_of_openssh(user: User, there: Path, flags: tuple[str, ...]) -> None:
    scp, tree = program("scp"), folder(user)
    user.run(scp, *flags, "-S", user.ssh, "-qrp", tree, f"{HOST}:")
    assert same(tree, there / "tree")
    user.run(scp, *flags, "-S", user.ssh, "-qr", f"{HOST}:tree", "back")
    assert same(tree, user.home / "back")


def test_sftp_of_openssh(user: User, there: Path) -> None:
    tree = folder(user)
    batch = f"put -R {tree}\nrename tree moved\nget -R moved back\nls moved\n".encode()
    listed = user.run(program("sftp"), "-S", user.ssh, "-qb", "-", HOST, stdin=batch)
    assert b"moved/large" in listed.stdout
    assert same(tree, there / "moved")
    assert same(tree, user.home / "back")


def test_sshfs_mounts(user: User, there: Path) -> None:
    sshfs = program("sshfs")
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR))
    except OSError as error:  # a property of the machine, which CI may lack
        pytest.skip(f"no FUSE here: /dev/fuse: {error.strerror}")
    (there / "file").write_bytes(b"from there\n")
    tree, mount = folder(user), user.home / "mount"
    mount.mkdir()
    user.run(sshfs, f"{HOST}:", mount, "-o", f"ssh_command={user.ssh}")
    try:
        assert (mount / "file").read_bytes() == b"from there\n"
        shutil.copytree(tree, mount / "tree")
        assert same(tree, mount / "tree")
    finally:
        subprocess.run(["umount", mount], check=True, timeout=PATIENCE)
    assert same(tree, there / "tree")


def test_mosh_starts_its_server(user: User) -> None:
    """mosh asks for a terminal, a word of its server, and which address it was reached at."""
    mosh = program("mosh")
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    line = [mosh, f"--ssh={user.ssh}", "--predict=never", HOST, "--", "sh", "-c", "echo $((6*7)); read x"]
    process = subprocess.Popen(
        line, stdin=slave, stdout=slave, stderr=slave, env=user.environment, start_new_session=True
    )
    os.close(slave)
    seen = b""
    try:
        os.set_blocking(master, False)

        def ended() -> bool:
            nonlocal seen
            with suppress(OSError):  # there is nothing yet, or no more
                seen += os.read(master, 65536)
            return process.poll() is not None

        until(lambda: ended() or b"42" in seen, "mosh shows nothing")
        assert b"42" in seen, seen
        os.write(master, b"\n")
        until(ended, "mosh does not end")
    finally:
        process.kill()
        process.wait()
        os.close(master)
    assert process.returncode == 0, seen


def test_a_script_by_standard_input(user: User, there: Path) -> None:
    """As editors install their servers: no terminal, the script is the input, -D for what comes later."""
    script = b'echo begin\nfor i in 1 2 3; do echo "$i" >> there; done\ncat there >&2\nexit 9\n'
    done = user.run(user.ssh, "-T", HOST, "sh", stdin=script, status=9)
    assert (done.stdout, done.stderr) == (b"begin\n", b"1\n2\n3\n")
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    line = ("-T", "-D", str(port), "-o", "ConnectTimeout=15", HOST, "bash", "-s")
    done = user.run(user.ssh, *line, stdin=b"echo $0 $#\n")
    assert done.stdout == b"bash 0\n"


def test_autossh_starts_it_again(user: User, there: Path) -> None:
    """autossh ends ssh with signals, and starts it again where it ends with 255."""
    autossh = program("autossh")
    command = f"echo x >> {there}/begun; exec cat"
    environment = {**user.environment, "AUTOSSH_PATH": str(user.ssh), "AUTOSSH_GATETIME": "0"}
    process = subprocess.Popen(
        [autossh, "-M", "0", "-T", HOST, f"echo $$ >> {there}/programs; {command}"], env=environment,
        cwd=user.home, start_new_session=True, stdin=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    begun, programs = there / "begun", there / "programs"
    try:
        until(lambda: begun.exists() and begun.read_text() == "x\n", "it was not started")
        os.kill(int(programs.read_text()), signal.SIGKILL)  # what ends by a signal is 255 to ssh(1)
        until(lambda: begun.read_text() == "x\nx\n", "it was not started again")
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE)


def test_ssh_copy_id(user: User, there: Path, keys: Keys) -> None:
    """It tries the new key alone first, and copies what the server does not take: the agent's key logs in."""
    new = keys.stranger().copy_to(user.home)
    public = keys.stranger().public
    Path(f"{new}.pub").write_text(public + "\n")
    config = user.home / ".ssh" / "config"
    (identity,) = (line for line in config.read_text().splitlines() if "IdentityFile" in line)
    config.write_text(config.read_text().replace(identity, "").replace("IdentitiesOnly yes", ""))
    copied = user.run(
        "ssh-agent",
        "sh",
        "-c",
        'ssh-add -q "$1" && ssh-copy-id -i "$2" "$3"',
        "sh",
        identity.split()[1],
        new,
        HOST,
    )
    assert b"Number of key(s) added: 1" in copied.stdout
    assert (there / ".ssh" / "authorized_keys").read_text().split()[:2] == public.split()[:2]


def test_it_is_a_proxy_command(user: User) -> None:
    """ssh -W for OpenSSH's ssh, and for ours."""
    proxy = f"ProxyCommand={user.ssh} -W 127.0.0.1:%p {HOST}"
    theirs = shutil.which("ssh") or absent("ssh is not installed")
    for ssh in (theirs, str(user.ssh)):
        # Whoever has no configuration of its own looks for that of the account, not of HOME.
        settings = user.home / ".ssh"
        known = f"UserKnownHostsFile={settings}/known_hosts"
        line = (ssh, "-F", settings / "config", "-o", known, "-o", proxy, HOST, "echo through; exit 3")
        assert user.run(*line, status=3).stdout == b"through\n"


PASSES = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as connection:
    socket.send_fds(socket.socket(fileno=1), [b"x"], [connection.fileno()])
"""


def test_a_proxy_command_that_passes_its_connection(user: User) -> None:
    """ProxyUseFdpass, as `nc -F` does it: the program is gone before the login. One that does not."""
    passes = user.write("passes.py", PASSES.encode())
    flags = ("-o", "ProxyUseFdpass=yes", "-o")
    done = user.run(
        user.ssh, *flags, f"ProxyCommand={sys.executable} {passes} %h %p", HOST, "echo in; exit 5", status=5
    )
    assert done.stdout == b"in\n"
    refused = user.run(user.ssh, *flags, "ProxyCommand=true", HOST, "true", status=255)
    assert b"ended without passing a connection" in refused.stderr


@pytest.mark.parametrize(("terminal", "byte"), [("-tt", 72), ("-T", 32)])
def test_traffic_is_marked(user: User, terminal: str, byte: int) -> None:
    """IPQoS: af21 is 0x48 where somebody types, cs1 is 0x20 elsewhere (RFC 2474, RFC 2597)."""
    strace, seen = program("strace"), user.home / "seen"
    line = (strace, "-f", "-e", "trace=setsockopt", "-o", seen)
    user.run(*line, user.ssh, terminal, "-o", "IPQoS=af21 cs1", HOST, "true")
    assert f"IP_TOS, [{byte}], 4) = 0" in seen.read_text()
