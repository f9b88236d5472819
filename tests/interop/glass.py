"""`glasshell sshd` as a server of the interop tests: the program itself, in a process of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from tests.interop.peers import LOOPBACK, Daemon, Keys

SOURCE = Path(__file__).resolve().parents[2] / "src"
COMMAND = (sys.executable, "-m", "glasshell", "sshd")


def environment(**changes: str) -> dict[str, str]:
    """The environment in which COMMAND finds the package, and nobody's configuration."""
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCE), "LC_ALL": "C.UTF-8", **changes}


class GlassServer(Daemon):
    """`glasshell sshd -D -e`. `authorized` makes the text of authorized_keys, `options` are more flags."""

    def __init__(
        self,
        keys: Keys,
        config: str = "",
        *options: str,
        authorized: Callable[[Keys], str] = Keys.authorized,
    ) -> None:
        super().__init__("openssh-9.2", keys)  # it lives where ssh-keygen does: on this machine
        self._config = config
        self._options = options
        self._authorized = authorized

    def _line(self, port: int) -> list[str]:
        host_keys = [self.keys.host(kind).copy_to(self.folder) for kind in ("ed25519", "rsa")]
        text = [
            self._config,
            f"ListenAddress {LOOPBACK}",
            *(f"HostKey {path}" for path in host_keys),
            f"AuthorizedKeysFile {self._file('authorized_keys', self._authorized(self.keys))}",
            "StrictModes no",  # the folder is under /tmp, where everybody may write
            "Subsystem sftp internal-sftp",
            "PrintMotd no",
            "PidFile none",
            "PasswordAuthentication no",
            "PerSourcePenalties no",  # whoever fails here does so from one address
        ]
        config = self._file("sshd_config", "\n".join(text))
        settings = [f"{name}={value}" for name, value in environment().items()]
        line = ["-D", "-e", "-f", config, "-p", str(port), *self._options]
        return ["env", "-i", *settings, *COMMAND, *line]

    def _host_keys(self) -> tuple[str, ...]:
        return tuple(self.keys.host(kind).public for kind in ("ed25519", "rsa"))
