"""Real SSH programs as test peers: servers on loopback ports, and clients, with throwaway keys.

A *place* is where a peer's programs live: this system, or the folder of newest builds that
`make peers` lays out, into which they are chrooted. A server is a context manager:

    with OpenSSHServer("10.6", keys, extra_config="RekeyLimit 1M") as server:
        result = OpenSSHClient("9.2").run(server.target, "echo ok", identity=keys.user())

A client talks to whatever a `Target` describes, our own server included. Nothing outside temporary
folders is written: where a program insists on ~/.ssh it gets a home of its own, mounted over /root in
a mount namespace (unshare(1)) that ends with it.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import os
import pwd
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, Self

from tests.needs import absent

LOOPBACK = "127.0.0.1"
READY_WITHIN = 15.0
"""Seconds until a started server must answer."""

# $1 chroot, $2 home or "", then the command. The namespace is private, so the mounts go when it goes.
_NAMESPACE = """
root=$1 home=$2; shift 2
[ "$root" = / ] || mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 devpts "$root/dev/pts"
[ -z "$home" ] || mount --bind "$home" "$root/root"
exec chroot "$root" "$@"
"""


# -- where programs live -------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """A file system with programs in it. Paths outside are `Path`, as a program sees them `str`."""

    root: Path

    @property
    def path(self) -> str:
        """$PATH inside."""
        own = os.environ.get("PATH", "") if self is SYSTEM else ""
        return f"{own}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".lstrip(":")

    def which(self, program: str) -> str | None:
        """The absolute path of `program` inside, or None."""
        for folder in self.path.split(":"):
            if os.access(self.root / folder.lstrip("/") / program, os.X_OK):
                return f"{folder}/{program}"
        return None

    def scratch(self) -> Path:
        """A new folder that programs here can read; the caller removes it."""
        parent = tempfile.gettempdir() if self is SYSTEM else self.root / "tmp"
        folder = Path(tempfile.mkdtemp(prefix="glasshell-", dir=parent))
        folder.chmod(0o755)  # an account other than root reads its authorized_keys there
        return folder

    def inside(self, path: Path) -> str:
        """`path` as a program here sees it."""
        return f"/{path.relative_to(self.root)}"

    def command(self, program: str, *args: str, home: Path | None = None) -> list[str]:
        """The argument list that runs `program` here, `home` mounted over /root if given."""
        line = [self.which(program) or program, *args]
        if self is SYSTEM and home is None:
            return line
        return ["unshare", "--mount", "sh", "-ec", _NAMESPACE, "sh", str(self.root), str(home or ""), *line]


SYSTEM = Place(Path("/"))
NEWEST = Place(Path(os.environ.get("GLASSHELL_PEERS", "/opt/glasshell-peers/newest")))


@dataclass(frozen=True)
class Peer:
    """One row of `PEERS`: the programs, or the Python package, a name stands for."""

    place: Place
    programs: tuple[str, ...]
    openssh: tuple[int, int] | None = None
    needs_root: bool = False
    module: str = ""


PEERS = {
    "openssh-9.2": Peer(SYSTEM, ("ssh", "sshd", "ssh-keygen"), openssh=(9, 2)),
    "openssh-10.6": Peer(NEWEST, ("ssh", "sshd", "ssh-keygen"), openssh=(10, 6), needs_root=True),
    "dropbear": Peer(SYSTEM, ("dropbear", "dropbearkey"), needs_root=True),
    "dropbear-newest": Peer(NEWEST, ("dropbear", "dropbearkey"), needs_root=True),
    "dbclient": Peer(SYSTEM, ("dbclient", "dropbearconvert")),
    "dbclient-newest": Peer(NEWEST, ("dbclient", "dropbearconvert"), needs_root=True),
    "tinysshd": Peer(SYSTEM, ("tinysshd", "tinysshd-makekey"), needs_root=True),
    "tinysshd-newest": Peer(NEWEST, ("tinysshd", "tinysshd-makekey"), needs_root=True),
    "plink": Peer(SYSTEM, ("plink", "puttygen")),
    "tshark": Peer(SYSTEM, ("tshark",)),
    "tshark-newest": Peer(NEWEST, ("tshark",), needs_root=True),
    "tcpdump": Peer(SYSTEM, ("tcpdump",), needs_root=True),
    "asyncssh": Peer(SYSTEM, (), module="asyncssh"),
    "paramiko": Peer(SYSTEM, (), module="paramiko"),
    "ssh-audit": Peer(SYSTEM, (), module="ssh_audit"),
}


def require_peer(name: str) -> Place:
    """Where the peer `name` lives; the running test is skipped by name, or fails in CI, without it."""
    reason = why_not(name)
    if reason:
        absent(f"{name}: {reason}")
    return PEERS[name].place


@cache
def why_not(name: str) -> str:
    """Why the peer `name` cannot be used here, or ""."""
    peer = PEERS[name]
    if peer.needs_root and os.geteuid() != 0:
        return "needs root"
    if peer.module and find_spec(peer.module) is None:
        return f"the Python package {peer.module} is not installed"
    missing = [program for program in peer.programs if peer.place.which(program) is None]
    if missing:
        return f"{', '.join(missing)} not installed (make peers)"
    if peer.needs_root and not _may_mount():
        return "unshare --mount is not permitted here (a container must be privileged)"
    if peer.openssh is not None:
        return _wrong_openssh(peer)
    return ""


@cache
def _may_mount() -> bool:
    return subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode == 0


def _wrong_openssh(peer: Peer) -> str:
    """The system's version must be the one named; the newest folder may have moved on."""
    wanted = peer.openssh or (0, 0)
    line = peer.place.command("ssh", "-V")
    shown = subprocess.run(line, capture_output=True, text=True, check=False).stderr
    match = re.match(r"OpenSSH_(\d+)\.(\d+)", shown)
    found = (int(match[1]), int(match[2])) if match else (0, 0)
    fits = found == wanted if peer.place is SYSTEM else found >= wanted
    return "" if fits else f"found {shown.strip() or 'no version'}"


# -- keys ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class KeyPair:
    """A key made by ssh-keygen; `private` is the file, the public half lies beside it."""

    private: Path

    @property
    def public(self) -> str:
        """Type and base64, no comment."""
        return " ".join(self.private.with_name(self.private.name + ".pub").read_text("utf-8").split()[:2])

    def copy_to(self, folder: Path) -> Path:
        """A copy in `folder`, public half included; returns the private file's path."""
        for suffix in ("", ".pub"):
            shutil.copy2(f"{self.private}{suffix}", folder)
        return folder / self.private.name


def make_key(folder: Path, kind: str, *, name: str, passphrase: str = "", bits: int = 0) -> KeyPair:
    """A new key of `kind` (ssh-keygen's -t) in `folder`."""
    path = folder / name
    size = ["-b", str(bits)] if bits else []
    line = ["ssh-keygen", "-q", "-t", kind, *size, "-N", passphrase, "-C", name, "-f", str(path)]
    subprocess.run(line, check=True, stdin=subprocess.DEVNULL, timeout=60)
    return KeyPair(path)


@dataclass(frozen=True)
class Keys:
    """Throwaway keys in one folder, each made when first asked for."""

    folder: Path

    def user(self, kind: str = "ed25519") -> KeyPair:
        """A key that every server started with these keys accepts."""
        return self._key(f"user_{kind}", kind)

    def host(self, kind: str = "ed25519") -> KeyPair:
        """A host key."""
        return self._key(f"host_{kind}", kind)

    def stranger(self, kind: str = "ed25519") -> KeyPair:
        """A key that no server accepts and no client trusts."""
        return self._key(f"stranger_{kind}", kind)

    def authorized(self) -> str:
        """The text of an authorized_keys file."""
        return "".join(f"{self.user(kind).public}\n" for kind in ("ed25519", "ecdsa", "rsa"))

    def _key(self, name: str, kind: str) -> KeyPair:
        ready = KeyPair(self.folder / name)
        return ready if ready.private.exists() else make_key(self.folder, kind, name=name)


# -- servers -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Target:
    """What a client must know of a server. `host_keys` are "type base64"."""

    port: int
    user: str
    host_keys: tuple[str, ...]
    host: str = LOOPBACK

    def known_hosts(self) -> str:
        """The text of a known_hosts file, in OpenSSH's form and in dropbear's, which has no port."""
        names = f"[{self.host}]:{self.port},{self.host}"
        return "".join(f"{name} {key}\n" for name in names.split(",") for key in self.host_keys)


LIVE: list[Server] = []
"""The servers now running; a failed test shows their logs."""


@dataclass(eq=False, repr=False)
class Server:
    """A peer's server on a loopback port: a context manager. Subclasses say what to run.

    `target` says how to reach it, `folder` is its scratch folder (in the chroot, if it has one).
    """

    name: str
    keys: Keys
    place: Place = field(init=False)
    folder: Path = field(init=False)
    target: Target = field(init=False)
    _stack: ExitStack = field(init=False, default_factory=ExitStack)

    def __enter__(self) -> Self:
        self.place = require_peer(self.name)
        with ExitStack() as undo:
            self.folder = self.place.scratch()
            undo.callback(shutil.rmtree, self.folder, ignore_errors=True)
            LIVE.append(self)
            undo.callback(LIVE.remove, self)
            self._start(undo)
            self._stack = undo.pop_all()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stack.close()

    @property
    def log(self) -> str:
        """What the server has said so far."""
        path = self.folder / "log"
        return path.read_text("utf-8", errors="replace") if path.exists() else ""

    def _start(self, undo: ExitStack) -> None:
        raise NotImplementedError

    def _open_log(self, undo: ExitStack) -> IO[bytes]:
        return undo.enter_context((self.folder / "log").open("ab"))

    def _file(self, name: str, text: str) -> str:
        """A file in the scratch folder, only its owner's; returns its path inside."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        return self.place.inside(path)

    def _home(self) -> Path:
        """A home for root with the authorized keys; for servers that read no other file."""
        self._file("home/.ssh/authorized_keys", self.keys.authorized())
        return self.folder / "home"

    def _tool(self, program: str, *args: str) -> str:
        """The output of one of the peer's own tools."""
        line = self.place.command(program, *args)
        return subprocess.run(line, check=True, capture_output=True, text=True, timeout=60).stdout


class Daemon(Server):
    """A server that listens by itself."""

    def _line(self, port: int) -> list[str]:
        raise NotImplementedError

    def _start(self, undo: ExitStack) -> None:
        log = self._open_log(undo)
        # The port is free when chosen, and could be taken before the daemon has it: choose again.
        for _ in range(3):
            port = _free_port()
            process = subprocess.Popen(self._line(port), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            if _answers(port, process):
                undo.callback(_end, process)
                self.target = Target(port, pwd.getpwuid(os.geteuid()).pw_name, self._host_keys())
                return
            _end(process)
            if "in use" not in self.log:
                break
        raise RuntimeError(f"{self.name} does not answer; it said:\n{self.log}")

    def _host_keys(self) -> tuple[str, ...]:
        raise NotImplementedError


class OpenSSHServer(Daemon):
    """sshd in the foreground. `extra_config` comes before the defaults, and sshd takes the first value."""

    KINDS: tuple[str, ...] = ("ed25519", "ecdsa", "rsa")

    def __init__(self, version: str, keys: Keys, *, extra_config: str = "") -> None:
        super().__init__(f"openssh-{version}", keys)
        self._extra = extra_config

    def _line(self, port: int) -> list[str]:
        config = self._file("sshd_config", self._config(port))
        if os.geteuid() == 0:
            (self.place.root / "run/sshd").mkdir(mode=0o755, exist_ok=True)
        return self.place.command("sshd", "-D", "-e", "-f", config)

    def _config(self, port: int) -> str:
        host_keys = [self.keys.host(kind).copy_to(self.folder) for kind in self.KINDS]
        return "\n".join(
            [
                f"ListenAddress {LOOPBACK}",
                f"Port {port}",
                *(f"HostKey {self.place.inside(path)}" for path in host_keys),
                "PidFile none",
                self._extra,
                f"AuthorizedKeysFile {self._file('authorized_keys', self.keys.authorized())}",
                "StrictModes no",
                "PermitRootLogin yes",
                "UsePAM no",
                "MaxStartups 100",
                # Tests fail to log in on purpose; a penalty would fall on the next test.
                "PerSourcePenalties no" if self.place is NEWEST else "",
                "AcceptEnv LANG LC_* GLASSHELL_*",
                "PrintMotd no",
                "Subsystem sftp internal-sftp",
                "LogLevel VERBOSE",  # at DEBUG a session writes to its own pseudo-terminal
                "",
            ]
        )

    def _host_keys(self) -> tuple[str, ...]:
        return tuple(self.keys.host(kind).public for kind in self.KINDS)


class DropbearServer(Daemon):
    """dropbear in the foreground; `newest` chooses the build, `options` are added to its command line."""

    KINDS = ("ed25519", "ecdsa", "rsa")

    def __init__(self, keys: Keys, *, newest: bool = False, options: Sequence[str] = ()) -> None:
        super().__init__("dropbear-newest" if newest else "dropbear", keys)
        self._options = tuple(options)

    def _line(self, port: int) -> list[str]:
        for kind in self.KINDS:
            if not (self.folder / kind).exists():
                self._tool("dropbearkey", "-t", kind, "-f", self._host_key(kind))
        keys = [word for kind in self.KINDS for word in ("-r", self._host_key(kind))]
        where = ["-p", f"{LOOPBACK}:{port}", "-P", self.place.inside(self.folder / "pid")]
        words = ["-F", "-E", "-m", *where, *keys, *self._options]
        return self.place.command("dropbear", *words, home=self._home())

    def _host_key(self, kind: str) -> str:
        return self.place.inside(self.folder / kind)

    def _host_keys(self) -> tuple[str, ...]:
        shown = [self._tool("dropbearkey", "-y", "-f", self._host_key(kind)) for kind in self.KINDS]
        found = [re.search(r"^((?:ssh|ecdsa)-\S+ \S+)", text, re.MULTILINE) for text in shown]
        return tuple(match[1] for match in found if match)


class TinysshServer(Server):
    """tinysshd serves one connection on its standard streams; this is the inetd before it."""

    def __init__(self, keys: Keys, *, newest: bool = False, options: Sequence[str] = ()) -> None:
        super().__init__("tinysshd-newest" if newest else "tinysshd", keys)
        self._options = tuple(options)

    def _start(self, undo: ExitStack) -> None:
        key_folder = self.place.inside(self.folder / "keys")
        self._tool("tinysshd-makekey", key_folder)
        public = self._tool("tinysshd-printkey", key_folder).split()
        line = self.place.command("tinysshd", "-v", *self._options, key_folder, home=self._home())
        listener = undo.enter_context(socket.create_server((LOOPBACK, 0)))
        children: list[subprocess.Popen[bytes]] = []
        log = self._open_log(undo)
        acceptor = threading.Thread(target=self._accept, args=(listener, line, log, children))
        acceptor.start()
        undo.callback(lambda: _end(*children))
        undo.callback(acceptor.join)
        undo.callback(listener.shutdown, socket.SHUT_RDWR)  # accept() returns
        self.target = Target(listener.getsockname()[1], "root", (" ".join(public[:2]),))

    @staticmethod
    def _accept(
        listener: socket.socket, line: list[str], log: IO[bytes], children: list[subprocess.Popen[bytes]]
    ) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                streams = connection.fileno()
                children.append(subprocess.Popen(line, stdin=streams, stdout=streams, stderr=log))


class PythonServer(Daemon):
    """A server written with the Python package `name`, in a process of its own: `python_servers.py`.

    `options` become keywords there: `rekey_bytes=...`, `password=...`.
    """

    def __init__(self, name: str, keys: Keys, **options: str | int) -> None:
        super().__init__(name, keys)
        self._options = options

    def _line(self, port: int) -> list[str]:
        files = [str(self.keys.host().private), self._file("authorized_keys", self.keys.authorized())]
        words = [f"{name}={value}" for name, value in self._options.items()]
        return [sys.executable, str(Path(__file__).with_name("python_servers.py")), self.name, str(port),
                *files, *words]  # fmt: skip

    def _host_keys(self) -> tuple[str, ...]:
        return (self.keys.host().public,)


def _free_port() -> int:
    with socket.create_server((LOOPBACK, 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def _answers(port: int, process: subprocess.Popen[bytes]) -> bool:
    """Whether the server's identification arrives before its process ends or the time is up."""
    for _ in range(int(READY_WITHIN / 0.02)):
        try:
            with socket.create_connection((LOOPBACK, port), timeout=READY_WITHIN) as connection:
                return connection.recv(4) == b"SSH-" and process.poll() is None
        except OSError:
            pass
        try:
            process.wait(timeout=0.02)
        except subprocess.TimeoutExpired:
            continue
        return False
    return False


def _end(*processes: subprocess.Popen[bytes]) -> None:
    for process in processes:
        process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


# -- clients -------------------------------------------------------------------------------------


@dataclass
class Client:
    """A peer's client. It never asks: what it would ask for is a failure.

    `argv` is a prefix; the remote command, if any, is appended as one more word. The files it names
    live until `close`.
    """

    name: str
    place: Place = field(init=False)
    _folder: Path = field(init=False)
    _count: itertools.count[int] = field(init=False, default_factory=itertools.count)

    def __post_init__(self) -> None:
        self.place = require_peer(self.name)
        self._folder = self.place.scratch()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the client's files."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def argv(self, target: Target, *options: str, identity: KeyPair | None = None) -> list[str]:
        """The argument list that logs in at `target`, up to but without the remote command."""
        home = self._folder / str(next(self._count))
        (home / ".ssh").mkdir(parents=True)
        home.chmod(0o700)
        (home / ".ssh/known_hosts").write_text(target.known_hosts(), "utf-8")
        line = self._line(target, list(options), identity.copy_to(home) if identity else None, home)
        # env(1) inside the chroot, so that the list is complete in itself.
        settings = [f"HOME={self.place.inside(home)}", f"PATH={self.place.path}", "LC_ALL=C"]
        return self.place.command("env", "-i", *settings, *line)

    def run(
        self,
        target: Target,
        command: str | None,
        *options: str,
        identity: KeyPair | None = None,
        stdin: bytes | None = b"",
        timeout: float = 30.0,
    ) -> subprocess.CompletedProcess[bytes]:
        """Log in, run `command`, wait at most `timeout` seconds; output and exit status of the client.

        After `stdin` comes the end of input, at which dropbear and tinysshd hang a pseudo-terminal up;
        with None the input stays open and silent.
        """
        line = self.argv(target, *options, identity=identity) + ([command] if command is not None else [])
        with ExitStack() as undo:
            if stdin is None:
                silent, open_end = os.pipe()
                undo.callback(os.close, open_end)
                source: Mapping[str, Any] = {"stdin": undo.enter_context(os.fdopen(silent, "rb"))}
            else:
                source = {"input": stdin}
            # A session of its own: no terminal on which it could ask.
            return subprocess.run(
                line, **source, capture_output=True, timeout=timeout, check=False, start_new_session=True
            )

    def _line(self, target: Target, options: list[str], identity: Path | None, home: Path) -> list[str]:
        raise NotImplementedError


class OpenSSHClient(Client):
    """ssh(1), reading no configuration but its options."""

    def __init__(self, version: str) -> None:
        super().__init__(f"openssh-{version}")

    def _line(self, target: Target, options: list[str], identity: Path | None, home: Path) -> list[str]:
        settings = {
            "BatchMode": "yes",
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": self.place.inside(home / ".ssh/known_hosts"),
            "GlobalKnownHostsFile": "none",
            "IdentitiesOnly": "yes",
            "IdentityFile": self.place.inside(identity) if identity else "none",
        }
        # ssh takes the first value it meets, so a test's own options come first.
        words = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
        where = ["-p", str(target.port), "-l", target.user, target.host]
        return ["ssh", "-F", "none", *options, *words, *where]


class DropbearClient(Client):
    """dbclient(1)."""

    def __init__(self, *, newest: bool = False) -> None:
        super().__init__("dbclient-newest" if newest else "dbclient")

    def _line(self, target: Target, options: list[str], identity: Path | None, home: Path) -> list[str]:
        key = []
        if identity:
            converted = identity.with_suffix(".dropbear")
            files = [self.place.inside(identity), self.place.inside(converted)]
            line = self.place.command("dropbearconvert", "openssh", "dropbear", *files)
            subprocess.run(line, check=True, capture_output=True, timeout=60)
            key = ["-i", files[1]]
        return ["dbclient", *options, *key, "-p", str(target.port), "-l", target.user, target.host]


class PlinkClient(Client):
    """plink(1), PuTTY's command-line client. It is given the host keys' fingerprints."""

    def __init__(self) -> None:
        super().__init__("plink")

    def _line(self, target: Target, options: list[str], identity: Path | None, home: Path) -> list[str]:
        key = []
        if identity:
            converted = str(identity.with_suffix(".ppk"))
            line = ["puttygen", str(identity), "-O", "private", "-o", converted]
            subprocess.run(line, check=True, capture_output=True, timeout=60)
            key = ["-i", converted]
        trust = [word for host_key in target.host_keys for word in ("-hostkey", fingerprint(host_key))]
        where = ["-P", str(target.port), "-l", target.user, target.host]
        return ["plink", "-batch", "-ssh", *options, *key, *trust, *where]


def fingerprint(public: str) -> str:
    """SHA256:… of "type base64", as every SSH program prints it."""
    digest = hashlib.sha256(base64.b64decode(public.split()[1])).digest()
    return "SHA256:" + base64.b64encode(digest).decode("ascii").rstrip("=")
