"""A Kerberos realm of the tests' own: a KDC of Debian's krb5-kdc on loopback, its files in one folder."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

from tests.needs import absent

NAME = "GLASS.TEST"
PASSWORD = "correct horse"
SBIN = "/usr/sbin"
SECONDS = 10.0


class Realm:
    """The realm GLASS.TEST, with keys for host/localhost and for host/ of this machine: a context manager."""

    def __init__(self, folder: Path) -> None:
        missing = [name for name in ("krb5kdc", "kadmin.local", "kdb5_util", "kinit") if not _which(name)]
        if missing:
            absent(f"{', '.join(missing)} not installed (make peers)")
        self.folder = folder
        self._kdc: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What points Kerberos' programs and library at this realm; of tickets see `tickets`."""
        return {
            "KRB5_CONFIG": str(self.folder / "krb5.conf"), "KRB5_KDC_PROFILE": str(self.folder / "kdc.conf"),
            "KRB5_KTNAME": f"FILE:{self.folder / 'keytab'}", "KRB5RCACHETYPE": "none",
        }  # fmt: skip

    def __enter__(self) -> Self:
        for _ in range(3):  # the port is free when chosen, and could be taken before the KDC has it
            self._configure(_free_port())
            if not (self.folder / "principal").exists():
                self._create()
            log = (self.folder / "kdc.log").open("ab")
            self._kdc = subprocess.Popen(
                [f"{SBIN}/krb5kdc", "-n"], env=self._all(), stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
            if self._answers():
                return self
            self.__exit__()
        raise RuntimeError(f"no KDC: {(self.folder / 'kdc.log').read_text()}")

    def __exit__(self, *_exc: object) -> None:
        if self._kdc is not None:
            self._kdc.terminate()
            self._kdc.wait(SECONDS)

    def tickets(self, principal: str, *options: str) -> dict[str, str]:
        """The environment of somebody who has logged in to the realm as `principal`."""
        cache = self.folder / f"tickets-{principal}-{len(list(self.folder.iterdir()))}"
        environment = {**self.environment, "KRB5CCNAME": f"FILE:{cache}"}
        subprocess.run(
            ["kinit", "-f", *options, principal], input=f"{PASSWORD}\n", text=True, check=True,
            capture_output=True, env={**os.environ, **environment}, timeout=SECONDS,
        )  # fmt: skip
        return environment

    def add(self, principal: str) -> None:
        """A principal with PASSWORD."""
        self._admin(f"addprinc -pw {PASSWORD.replace(' ', '')} {principal}")
        self._admin(f'cpw -pw "{PASSWORD}" {principal}')

    def _all(self) -> dict[str, str]:
        return {**os.environ, **self.environment, "LC_ALL": "C"}

    def _configure(self, port: int) -> None:
        self.port = port
        (self.folder / "krb5.conf").write_text(
            f"[libdefaults]\n default_realm = {NAME}\n dns_lookup_kdc = false\n dns_lookup_realm = false\n"
            " dns_canonicalize_hostname = false\n rdns = false\n clockskew = 1\n udp_preference_limit = 1\n"
            f"[realms]\n {NAME} = {{\n  kdc = 127.0.0.1:{port}\n }}\n[domain_realm]\n localhost = {NAME}\n"
        )
        (self.folder / "kdc.conf").write_text(
            f"[kdcdefaults]\n kdc_listen = 127.0.0.1:{port}\n kdc_tcp_listen = 127.0.0.1:{port}\n"
            f"[realms]\n {NAME} = {{\n  database_name = {self.folder}/principal\n"
            f"  key_stash_file = {self.folder}/stash\n  acl_file = {self.folder}/acl\n }}\n"
        )

    def _create(self) -> None:
        subprocess.run(
            [f"{SBIN}/kdb5_util", "create", "-s", "-r", NAME, "-P", "master"], env=self._all(), check=True,
            capture_output=True, timeout=SECONDS,
        )  # fmt: skip
        for host in {"localhost", socket.gethostname()}:
            self._admin(f"addprinc -randkey host/{host}")
            self._admin(f"ktadd -k {self.folder}/keytab host/{host}")

    def _admin(self, query: str) -> None:
        line = [f"{SBIN}/kadmin.local", "-r", NAME, "-q", query]
        subprocess.run(line, env=self._all(), check=True, capture_output=True, timeout=SECONDS)

    def _answers(self) -> bool:
        end = time.monotonic() + SECONDS
        while self._kdc is not None and self._kdc.poll() is None and time.monotonic() < end:
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 1.0).close()
                return True
        return False


def _which(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:{SBIN}")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as made:
        return int(made.getsockname()[1])
