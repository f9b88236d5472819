"""What the tests of `glasshell doctor` share: the command in this process, servers of accounts, bare TCP."""

from __future__ import annotations

import contextlib
import io
import json
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from glasshell.cli.main import main
from tests.interop.peers import LOOPBACK, KeyPair, Keys, OpenSSHServer, require_peer

Speak = Callable[[socket.socket], None]

SOURCE = Path(__file__).resolve().parents[2] / "src"

# Links to what is in /etc, but for the files that differ, mounted over /etc in a namespace of its own.
_OVER_ETC = 'mount --bind /etc "$1/real"; mount --bind "$1/etc" /etc; shift; exec "$@"'


@dataclass
class Found:
    """What doctor said."""

    status: int
    document: dict[str, Any]
    words: str = ""

    @property
    def rule(self) -> str:
        """The name of the explanation, or ""."""
        return str((self.document.get("explanation") or {}).get("rule", ""))

    @property
    def text(self) -> str:
        """Everything of the explanation and the steps."""
        return json.dumps(self.document, ensure_ascii=False) + self.words


def examine(*words: str) -> Found:
    """Runs `glasshell doctor --json` in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(["doctor", "--json", *words])
    text = out.getvalue()
    return Found(status, json.loads(text) if text else {}, err.getvalue())


def run_in(namespace: Sequence[str], *words: str) -> Found:
    """Runs `glasshell doctor --json` as a process, behind the words of `namespace`."""
    line = [*namespace, sys.executable, "-m", "glasshell", "doctor", "--json", *words]
    done = subprocess.run(
        line, capture_output=True, text=True, timeout=30, check=False,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )  # fmt: skip
    return Found(done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr)


_ALL = """
import contextlib, io, json, sys
from glasshell.cli.main import main
for words in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        status = main(["doctor", "--json", *words])
    print(json.dumps([status, json.loads(out.getvalue() or "{}")]))
"""


def run_all_in(namespace: Sequence[str], lines: Sequence[Sequence[str]]) -> list[Found]:
    """As `run_in`, for several command lines in one process."""
    line = [*namespace, sys.executable, "-c", _ALL, json.dumps(lines)]
    done = subprocess.run(
        line, capture_output=True, text=True, timeout=60, check=True,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )  # fmt: skip
    return [Found(*json.loads(each)) for each in done.stdout.splitlines()]


@dataclass
class User:
    """One account of `AccountServer`. `keys` is its authorized_keys; None: the user key's line as it is."""

    name: str
    shell: str = "/bin/sh"
    password: str = "*"
    expires: str = ""
    mode: int = 0o755
    options: str = ""
    match: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)


class AccountServer(OpenSSHServer):
    """Debian's sshd with accounts that this machine does not have, each wrong in a way of its own."""

    KINDS = ("ed25519",)

    def __init__(self, keys: Keys, users: Sequence[User], *, extra_config: str = "", **etc: str) -> None:
        require_peer("dropbear")  # root, who may mount
        super().__init__("9.2", keys, extra_config=extra_config)
        self._users = users
        self._etc = etc

    def _line(self, port: int) -> list[str]:
        line = super()._line(port)
        etc = self.folder / "etc"
        if not etc.exists():
            etc.mkdir(mode=0o755)
            (self.folder / "real").mkdir()
            for each in Path("/etc").iterdir():
                (etc / each.name).symlink_to(self.folder / "real" / each.name)
            for name, text in self._etc.items():
                (etc / name).write_text(text)
            self._make_accounts(etc)
        return [*self.namespace(), *line]

    def namespace(self) -> list[str]:
        """The words before a command that is to see these accounts."""
        return ["unshare", "--mount", "sh", "-ec", _OVER_ETC, "sh", str(self.folder)]

    def _make_accounts(self, etc: Path) -> None:
        passwd, shadow = [], []
        for place, user in enumerate(self._users, 61000):
            number = 0 if user.name == "root" else place
            home = self.folder / "homes" / user.name
            (home / ".ssh").mkdir(parents=True)
            line = f"{user.options} {self.keys.user().public}\n".lstrip()
            (home / ".ssh/authorized_keys").write_text(line)
            for name, text in user.files.items():
                (home / name).write_text(text)
                (home / name).chmod(0o755)
            for path in (home / ".ssh", home / ".ssh/authorized_keys", home):
                os.chown(path, number, number)
            home.chmod(user.mode)
            shell = user.shell.replace("~", str(home))
            passwd.append(f"{user.name}:x:{number}:{number}::{home}:{shell}\n")
            shadow.append(f"{user.name}:{user.password}:19000:0:99999:7::{user.expires}:\n")
        for name, lines in (("passwd", passwd), ("shadow", shadow)):
            path = etc / name
            path.unlink()
            # The first line of a name counts.
            path.write_text("".join(lines) + Path("/etc", name).read_text())

    def _config(self, port: int) -> str:
        config = super()._config(port).replace("StrictModes no", "StrictModes yes")
        config = "\n".join(line for line in config.splitlines() if not line.startswith("AuthorizedKeysFile"))
        matches = [f"Match User {user.name}\n" + "\n".join(user.match) for user in self._users if user.match]
        return "\n".join([f"{config}\nAuthorizedKeysFile .ssh/authorized_keys", *matches, ""])


@contextmanager
def answering(speak: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server of bare TCP; `speak` has each connection, which is closed afterwards. Yields its port."""
    with socket.create_server((LOOPBACK, 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection, contextlib.suppress(OSError):
                    speak(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def saying(*data: bytes, reset: bool = False, first: int = 0, wait: bool = False) -> Speak:
    """Says `data`, after `first` bytes of the client's; waits for its end, or resets the connection."""

    def speak(connection: socket.socket) -> None:
        connection.settimeout(10)
        got = 0
        while got < first:
            part = connection.recv(4096)
            if not part:
                return
            got += len(part)
        for each in data:
            connection.sendall(each)
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return
        if not wait:  # an orderly end: what the client has sent is read, or the kernel would reset
            connection.shutdown(socket.SHUT_WR)
        while connection.recv(4096):
            pass

    return speak


def packet(payload: bytes) -> bytes:
    """A packet in clear (RFC 4253 §6), padded to 8 bytes."""
    padding = 8 - (len(payload) + 5) % 8
    padding += 8 * (padding < 4)
    return struct.pack(">IB", len(payload) + padding + 1, padding) + payload + bytes(padding)


def known_hosts(folder: Path, text: str, name: str = "known") -> str:
    """A file with these lines; its path."""
    path = folder / name
    path.write_text(text)
    return str(path)


def identity(key: KeyPair, folder: Path, *, name: str = "", mode: int = 0o600, public: bool = True) -> str:
    """A copy of a key in `folder`; its path."""
    path = folder / (name or key.private.name)
    path.write_bytes(key.private.read_bytes())
    path.chmod(mode)
    if public:
        path.with_name(path.name + ".pub").write_text(key.public + "\n")
    return str(path)
