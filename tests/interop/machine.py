"""A machine of a test's own: its accounts, passwords and PAM services, for servers that are to use them.

A copy of /etc is changed, and mounted over /etc in a mount namespace in which the server is started; the
machine's own is not touched, and tests beside each other do not meet.
"""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from glasshell.auth.totp import Totp
from tests.interop.glass import GlassServer
from tests.interop.peers import SYSTEM, Keys, OpenSSHServer, Place
from tests.needs import absent

MODULES = "usr/lib"
SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
FIRST_UID = 61200
PATIENCE = 20.0
_KINDS = ("auth", "account", "password", "session")

_MOUNT = 'mount --bind "$1" "$2"; shift 2; exec "$@"'


@dataclass
class Machine:
    """`etc` is the copy of a place's /etc; `folder`, in that place, holds it, homes, scripts and logs."""

    folder: Path
    place: Place = SYSTEM
    users: dict[str, int] = field(default_factory=dict)

    @property
    def etc(self) -> Path:
        return self.folder / "etc"

    def home(self, name: str) -> Path:
        """The home of an account."""
        return self.folder / "home" / name

    def add(
        self, name: str, password: str = "", *, changed: int | None = None, ends: int | None = None
    ) -> None:
        """An account; `changed` and `ends` are days, of the last change and of the end (shadow(5))."""
        uid = self.users.setdefault(name, FIRST_UID + len(self.users))
        home = self.home(name)
        home.mkdir(parents=True)
        os.chown(home, uid, uid)
        day = int(time.time()) // 86400 if changed is None else changed
        self._append("passwd", f"{name}:x:{uid}:{uid}::{self.place.inside(home)}:/bin/sh")
        self._append("group", f"{name}:x:{uid}:")
        self._append("shadow", f"{name}:{hashed(password)}:{day}:0:99999:7::{'' if ends is None else ends}:")

    def secret(self, name: str) -> Totp:
        """Gives an account a secret of google-authenticator's; the codes it makes."""
        path = self.home(name) / ".google_authenticator"
        lines = [SECRET, '" RATE_LIMIT 3 30', '" WINDOW_SIZE 17', '" DISALLOW_REUSE', '" TOTP_AUTH']
        path.write_text("\n".join([*lines, ""]), "utf-8")
        path.chmod(0o600)
        os.chown(path, self.users[name], self.users[name])
        return Totp(base64.b32decode(SECRET), attempts=100)

    def service(self, name: str, *lines: str) -> str:
        """A PAM service; `@` in a line stands for this machine's folder."""
        text = "\n".join(lines).replace("@", f"{self.place.inside(self.folder)}/")
        (self.etc / "pam.d" / name).write_text(f"{text}\n", "utf-8")
        return name

    def script(self, name: str, text: str) -> Path:
        """A program that modules can run."""
        path = self.folder / name
        path.write_text(f"#!/bin/sh\n{text}\n", "utf-8")
        path.chmod(0o755)
        return path

    def inside(self, line: Sequence[str]) -> list[str]:
        """The argument list that runs `line` on this machine."""
        places = [str(self.etc), str(self.place.root / "etc")]
        return ["unshare", "--mount", "sh", "-ec", _MOUNT, "sh", *places, *line]

    def wait_for(self, file: str, line: str) -> None:
        """Waits until a file of this machine has a line."""
        deadline = time.monotonic() + PATIENCE
        while line not in (self.folder / file).read_text("utf-8").splitlines():
            assert time.monotonic() < deadline, f"{line!r} does not come to {file}"
            time.sleep(0.02)

    def shadow(self, name: str) -> list[str]:
        """The fields of an account's line in shadow(5)."""
        lines = (self.etc / "shadow").read_text("utf-8").splitlines()
        return next(line.split(":") for line in lines if line.startswith(f"{name}:"))

    def _append(self, file: str, line: str) -> None:
        with (self.etc / file).open("a", encoding="utf-8") as stream:
            stream.write(f"{line}\n")


def hashed(password: str) -> str:
    """As it stands in shadow(5); nobody's where there is none."""
    if not password:
        return "*"
    line = ["openssl", "passwd", "-5", "-stdin"]
    done = subprocess.run(line, input=password, capture_output=True, text=True, check=True, timeout=30)
    return done.stdout.strip()


@contextmanager
def machine(*modules: str, place: Place = SYSTEM) -> Iterator[Machine]:
    """A machine, for as long as the block lasts; the running test is skipped without these PAM modules."""
    if os.geteuid() != 0 or not sys.platform.startswith("linux"):
        absent("root on Linux, to mount a copy of /etc")
    if shutil.which("openssl") is None:
        absent("openssl")
    for module in modules:
        if not any((place.root / MODULES).glob(f"*/security/{module}.so")):
            absent(f"{module} (make peers)")
    parent = tempfile.gettempdir() if place is SYSTEM else place.root / "tmp"
    folder = Path(tempfile.mkdtemp(prefix="glasshell-machine-", dir=parent))
    try:
        folder.chmod(0o755)
        shutil.copytree(place.root / "etc", folder / "etc", symlinks=True, ignore_dangling_symlinks=True)
        made = Machine(folder, place)
        # Read with every service; Debian's includes files that only an installed system has.
        made.service("other", *(f"{kind} required pam_deny.so" for kind in _KINDS))
        yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class MachineGlass(GlassServer):
    """`glasshell sshd` on a machine."""

    def __init__(self, where: Machine, keys: Keys, config: str) -> None:
        super().__init__(keys, config)
        self._machine = where

    def _line(self, port: int) -> list[str]:
        return self._machine.inside(super()._line(port))


class MachineOpenSSH(OpenSSHServer):
    """OpenSSH's sshd on a machine. Its PAM service is PAMServiceName, which 9.2 does not know; to that it is
    what the program is called."""

    def __init__(self, where: Machine, keys: Keys, config: str, service: str) -> None:
        newest = where.place is not SYSTEM
        more = f"PAMServiceName {service}\n" if newest else ""
        super().__init__("10.6" if newest else "9.2", keys, extra_config=more + config)
        self._machine = where
        self._service = service

    def _line(self, port: int) -> list[str]:
        line = super()._line(port)
        if self.place is not SYSTEM:
            return self._machine.inside(line)
        program, *rest = line
        called = self.folder / self._service
        called.symlink_to(program)
        return self._machine.inside([str(called), *rest])
