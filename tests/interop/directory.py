"""A real OpenLDAP: a directory on a loopback port, with people whose keys are in `sshPublicKey`."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.interop.peers import LOOPBACK
from tests.needs import absent

BASE = "ou=people,dc=example,dc=org"
ADMIN = "cn=admin,dc=example,dc=org"
PASSWORD = "secret"
READY_WITHIN = 15.0

# The schema that keys in a directory have had since openssh-lpk, in its two definitions.
_CONFIG = f"""
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/nis.schema
attributetype ( 1.3.6.1.4.1.24552.500.1.1.1.13 NAME 'sshPublicKey' EQUALITY octetStringMatch
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.40 )
objectclass ( 1.3.6.1.4.1.24552.500.1.1.2.0 NAME 'ldapPublicKey' SUP top AUXILIARY
  MUST uid MAY sshPublicKey )
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile @/pid
database mdb
suffix "dc=example,dc=org"
rootdn "{ADMIN}"
rootpw {PASSWORD}
directory @/data
"""

_TREE = f"""
dn: dc=example,dc=org
objectClass: dcObject
objectClass: organization
o: Example
dc: example

dn: {BASE}
objectClass: organizationalUnit
ou: people
"""

# What an administrator writes: whoever cannot be asked knows nobody, and says so by the exit status.
_SCRIPT = """#!/bin/sh
found=$(@LDAPSEARCH -x -LLL -o ldif-wrap=no -o nettimeout=3 -H @URL -b @BASE \\
  "(&(objectClass=ldapPublicKey)(uid=$1))" sshPublicKey) || exit 1
printf '%s\\n' "$found" | while IFS= read -r line; do
  case $line in "sshPublicKey: "*) printf '%s\\n' "${line#sshPublicKey: }";; esac
done
"""


@dataclass
class Directory:
    """A running slapd."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"ldap://{LOOPBACK}:{self.port}"

    def script(self, ldapsearch: str = "ldapsearch") -> str:
        """The text of an AuthorizedKeysCommand."""
        words = {"@LDAPSEARCH": ldapsearch, "@URL": self.url, "@BASE": BASE}
        text = _SCRIPT
        for word, value in words.items():
            text = text.replace(word, value)
        return text

    def add(self, user: str, *keys: str) -> None:
        """Somebody with these lines of authorized_keys."""
        kept = "".join(f"sshPublicKey: {key}\n" for key in keys)
        self._tool(
            "ldapadd", f"dn: uid={user},{BASE}\nobjectClass: account\nobjectClass: ldapPublicKey\n{kept}"
        )

    def keep(self, user: str, *keys: str) -> None:
        """Has these keys in the place of those before; none: the last one is taken away."""
        kept = "".join(f"sshPublicKey: {key}\n" for key in keys)
        self._tool("ldapmodify", f"dn: uid={user},{BASE}\nchangetype: modify\nreplace: sshPublicKey\n{kept}")

    def remove(self, user: str) -> None:
        """Nobody of that name any more."""
        self._tool("ldapmodify", f"dn: uid={user},{BASE}\nchangetype: delete\n")

    def stop(self) -> None:
        """Nobody listens any more."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(READY_WITHIN)
            self.process = None

    def start(self) -> None:
        line = [found("slapd"), "-d", "0", "-f", str(self.folder / "slapd.conf"), "-h", self.url]
        self.process = subprocess.Popen(line, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + READY_WITHIN
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                with socket.create_connection((LOOPBACK, self.port), timeout=1):
                    return
            except OSError:
                continue
        raise RuntimeError("slapd does not answer")

    def _tool(self, name: str, text: str) -> None:
        line = [found(name), "-x", "-H", self.url, "-D", ADMIN, "-w", PASSWORD]
        subprocess.run(line, input=text.encode(), check=True, capture_output=True, timeout=30)


def found(program: str) -> str:
    """Where a program of OpenLDAP's is."""
    path = shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin")
    return path or absent(f"{program} (make peers)")


@contextmanager
def directory() -> Iterator[Directory]:
    """A directory with nobody in it; the running test is skipped by name without OpenLDAP."""
    for program in ("slapd", "ldapadd", "ldapsearch"):
        found(program)
    folder = Path(tempfile.mkdtemp(prefix="glasshell-ldap-"))
    with socket.create_server((LOOPBACK, 0)) as free:
        port = free.getsockname()[1]
    made = Directory(folder, port)
    try:
        (folder / "data").mkdir()
        (folder / "slapd.conf").write_text(_CONFIG.replace("@", str(folder)), "utf-8")
        made.start()
        made._tool("ldapadd", _TREE)
        yield made
    finally:
        made.stop()
        shutil.rmtree(folder, ignore_errors=True)
