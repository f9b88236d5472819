"""The same command line for `glasshell keygen`, in this process, and for ssh-keygen in a folder both see."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from glasshell.cli.main import main
from tests.interop.peers import NEWEST, SYSTEM, Place
from tests.needs import absent

PLACES = {"9.2": SYSTEM, "10.6": NEWEST}


class Said(NamedTuple):
    """What came of a command line."""

    status: int
    out: str
    err: str = ""

    @property
    def seen(self) -> tuple[int, str]:
        """What has to be the same of both: errors have each program's own words."""
        return self.status, self.out


@dataclass
class Beside:
    """A folder, and both programs in it. `place` is where ssh-keygen lives."""

    place: Place
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def ours(self, *words: str | Path, stdin: str = "") -> Said:
        """Runs `glasshell keygen` here; nobody can be asked for a passphrase."""
        out, err = io.BytesIO(), io.BytesIO()
        saved = sys.stdin, sys.stdout, sys.stderr, Path.cwd(), dict(os.environ)
        sys.stdin = io.TextIOWrapper(io.BytesIO(stdin.encode("utf-8", "surrogateescape")), "utf-8")
        sys.stdout = io.TextIOWrapper(out, "utf-8", "surrogateescape", write_through=True)
        sys.stderr = io.TextIOWrapper(err, "utf-8", "surrogateescape", write_through=True)
        try:
            os.chdir(self.folder)
            os.environ.update(self.environment)
            status = main(["keygen", *map(str, words)])
            sys.stdout.flush()
            texts = [raw.getvalue().decode("utf-8", "surrogateescape") for raw in (out, err)]
        finally:
            sys.stdin, sys.stdout, sys.stderr = saved[:3]
            os.chdir(saved[3])
            os.environ.clear()
            os.environ.update(saved[4])
        return Said(status, *texts)

    def theirs(self, *words: str | Path, stdin: str = "") -> Said:
        """Runs ssh-keygen there."""
        line = ["ssh-keygen", *map(str, words)]
        if self.place is not SYSTEM:
            inside = self.place.inside(self.folder)
            line = ["chroot", str(self.place.root), "sh", "-c", 'cd "$0" && exec "$@"', inside, *line]
        environment = {"PATH": self.place.path, "LC_ALL": "C.UTF-8", "HOME": "/root", **self.environment}
        done = subprocess.run(
            line, cwd=self.folder, input=stdin.encode("utf-8", "surrogateescape"), capture_output=True,
            env=environment, start_new_session=True,
        )  # fmt: skip
        return Said(
            done.returncode,
            done.stdout.decode("utf-8", "surrogateescape"),
            done.stderr.decode("utf-8", "replace"),
        )

    def write(self, name: str, data: str | bytes, mode: int = 0o600) -> Path:
        path = self.folder / name
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        path.chmod(mode)
        return path


@contextlib.contextmanager
def beside(version: str) -> Iterator[Beside]:
    """Both programs; ssh-keygen of OpenSSH `version`."""
    place = PLACES[version]
    if place.which("ssh-keygen") is None:
        absent(f"ssh-keygen of OpenSSH {version} is not installed")
    if place is not SYSTEM and os.geteuid() != 0:
        absent("only root can run the newest OpenSSH")
    parent = None if place is SYSTEM else place.root / "tmp"
    folder = Path(tempfile.mkdtemp(prefix="keygen-", dir=parent))
    zone = os.environ.get("TZ")
    os.environ["TZ"] = "UTC"
    time.tzset()
    try:
        yield Beside(place, folder, {"TZ": "UTC"})
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.environ.pop("TZ") if zone is None else os.environ.update(TZ=zone)
        time.tzset()
