"""What ssh-audit finds in `glasshell sshd` as it comes: no failure."""

from __future__ import annotations

import re
import shutil
import subprocess

from tests.interop.glass import GlassServer
from tests.interop.peers import Keys
from tests.needs import absent


def test_ssh_audit_finds_no_failure(keys: Keys) -> None:
    program = shutil.which("ssh-audit")
    if program is None:
        absent("ssh-audit is not installed")
    with GlassServer(keys) as server:
        line = [program, "-n", "-p", str(server.target.port), server.target.host]
        said = subprocess.run(line, capture_output=True, text=True, timeout=60).stdout
    assert "banner: SSH-2.0-glasshell" in said
    assert re.search(r"^\(kex\) curve25519-sha256 ", said, re.MULTILINE)  # it has looked at the lists
    assert "[fail]" not in said
