"""OpenSSH's own regress scripts with our programs in the place of theirs; the table goes to the docs.

    make regress                          every script, twice: our client, and our server
    make regress ARGS='connect rekey'     these scripts; the rows of others stay as they are

Root; needs the scripts (Debian's openssh-tests) and the OpenSSH programs of the same version. Each script
has a folder, a port and keys of its own. Written to docs/compatibility.md after each script.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Final

SUITE: Final = Path("/usr/lib/openssh/regress")
PAGE: Final = Path(__file__).parent.parent / "docs/compatibility.md"
ROLES: Final = ("client", "server")
FIRST_PORT: Final = 14242

SLOW: Final = (
    "dhgex", "scp", "scp3", "sftp", "kextype", "keytype", "agent-restrict", "cert-userkey", "cert-hostkey",
    "forward-control", "key-options", "login-timeout", "percent", "hostkey-agent", "transfer",
    "try-ciphers", "integrity", "rekey",
)  # fmt: skip
"""Scripts that take long, run last."""

NOTES: Final[dict[str, str]] = {
    "addrmatch": "not looked into yet",
    "agent-restrict": "not looked into yet",
    "banner": "our bound for a banner is 64 KiB, both ways; the script goes up to 100,000 bytes",
    "cfgmatch": "reads `Banner` of Match blocks from -T; there it has no effect here, and is not shown",
    "cfgmatchlisten": "client: not looked into yet",
    "cfgparse": "the order of ListenAddress in -T; not looked into yet",
    "channel-timeout": "ChannelTimeout is not built yet",
    "connection-timeout": "UnusedConnectionTimeout is not built yet",
    "dhgex": "client: reads words of OpenSSH's debug log; server: group exchange is on request here",
    "hostbased": "wants a host that is prepared for it; tests/interop/test_hostbased.py is ours",
    "hostkey-rotate": "not looked into yet",
    "keyscan": "OpenSSH's ssh-keyscan prefers chacha20-poly1305 without strict key exchange: refused here "
    "(CVE-2023-48795), before it has seen the host key",
    "cert-hostkey": "cut off by the time it was given",
    "cert-userkey": "cut off by the time it was given",
    "forward-control": "client: not looked into yet",
    "kextype": "server: not looked into yet",
    "knownhosts-command": "server: ECDSA host keys are on request here; client: the command is "
    "asked for the order of keys even where HostKeyAlgorithms is given, which ssh does not do",
    "limit-keytype": "a name in PubkeyAcceptedAlgorithms that is refused here",
    "multiplex": "-O proxy is not built; after -O stop the script waits for more",
    "proxy-connect": "our ProxyCommand gets a pair of sockets, which sshd names otherwise than two pipes",
    "reconfigure": "server: not looked into yet",
    "sftp-chroot": "ChrootDirectory is not built yet",
    "sshfp-connect": "wants a domain with SSHFP records",
}
"""What is to be said of a script beside its result."""

WRAPPER: Final = """#!/bin/sh
exec {program} "$@"
"""

ASKED: Final = """#!/bin/sh
# Scripts go through all that ssh -Q names: that is what both sides have.
case " $* " in *" -Q "*)
  {other} "$@" >"$0.$$"; {program} "$@" | grep -Fx -f "$0.$$"; rm -f "$0.$$"; exit 0 ;;
esac
exec {program} "$@"
"""


def scripts() -> list[str]:
    """The names that the suite's Makefile runs by default."""
    found = re.search(r"^LTESTS=((?:.*\\\n)*.*)$", (SUITE / "Makefile").read_text(), re.MULTILINE)
    if found is None:
        raise SystemExit(f"{SUITE}/Makefile names no LTESTS")
    names = found[1].replace("\\\n", " ").split()
    return sorted(names, key=lambda name: (name in SLOW, SLOW.index(name) if name in SLOW else 0))


def concerns(name: str, role: str) -> bool:
    """Whether the script runs ssh (or sshd) at all."""
    text = (SUITE / f"{name}.sh").read_text()
    if role == "client":
        return bool(re.search(r"\$\{?(SSH|SFTP|SCP)\b", text))
    return bool(re.search(r"start_sshd|ssh_proxy|sshd_proxy|\$\{?SSHD\b", text))


def template(folder: Path) -> Path:
    """A copy of the suite with programs and keys in it, which every run gets a copy of."""
    suite = folder / "suite"
    # Without the module for security keys, the scripts leave those keys out.
    shutil.copytree(SUITE, suite, ignore=shutil.ignore_patterns("unittests", "fuzz-harness", "sk-dummy.so"))
    program = Path(sys.executable).parent / "glasshell"
    wrappers = {
        "glasshell-ssh": ASKED.format(program=f"{program} ssh", other="ssh"),
        "openssh-ssh": ASKED.format(program="ssh", other=f"{program} ssh"),
        "glasshell-sshd": WRAPPER.format(program=f"{program} sshd"),
    }
    for name, text in wrappers.items():
        (suite / name).write_text(text)
        (suite / name).chmod(0o755)
    listed = subprocess.run(["ssh", "-Q", "key-plain"], check=True, capture_output=True, text=True).stdout
    for key in [name for name in listed.split() if not name.startswith("sk-")]:
        line = ["ssh-keygen", "-q", "-N", "", "-t", key, "-f", str(suite / key)]
        subprocess.run(line, check=True, timeout=60, stdout=subprocess.DEVNULL)
    return suite


class Runs:
    """Runs scripts and keeps what became of each: {script: {role: result}}."""

    def __init__(self, folder: Path, seconds: int, logs: Path | None) -> None:
        self._folder, self._seconds, self._logs = folder, seconds, logs
        self._suite = template(folder)
        self._lock = Lock()
        self._ports = iter(range(FIRST_PORT + os.getpid() * 10 % 20000, 65000, 10))
        self.results = _known()

    def run(self, job: tuple[str, str]) -> None:
        """Runs one script with our program in one role."""
        name, role = job
        with self._lock:
            port = next(self._ports)
        own = self._folder / f"{name}-{role}"
        shutil.copytree(self._suite, own)
        try:
            status, output = self._execute(name, role, own, port)
            if self._logs:
                self._keep(own, self._logs / f"{name}-{role}", output)
        finally:
            _end_server(own / "pidfile")
            shutil.rmtree(own, ignore_errors=True)
        result = _judge(status, output.replace(f"{own}/", "").replace(str(own), "OBJ"), self._seconds)
        print(f"{name:20} {role:7} {result}", flush=True)
        with self._lock:
            self.results.setdefault(name, {})[role] = result
            write(self.results)

    def _execute(self, name: str, role: str, own: Path, port: int) -> tuple[int | None, str]:
        settings = {
            "PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/root"), "LOGNAME": "root",
            "SUDO": "sudo" if shutil.which("sudo") else "env", "TEST_SHELL": "sh", "BUILDDIR": str(own),
            "TEST_SSH_UNSAFE_PERMISSIONS": "1", "TEST_SSH_PORT": str(port), "TEST_SSH_IPV6": "yes",
            "TEST_SSH_SFTPSERVER": "/usr/lib/openssh/sftp-server",
            "TEST_SSH_SSH": str(own / ("glasshell-ssh" if role == "client" else "openssh-ssh")),
        }  # fmt: skip
        if role == "server":
            settings["TEST_SSH_SSHD"] = str(own / "glasshell-sshd")
        line = ["sh", str(own / "test-exec.sh"), str(own), str(own / f"{name}.sh")]
        with Path("/dev/zero").open("rb") as nothing, (own / "output").open("wb") as output:
            process = subprocess.Popen(
                line, cwd=own, env=settings, stdin=nothing, stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip
            try:
                status: int | None = process.wait(self._seconds)
            except subprocess.TimeoutExpired:
                status = None
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        return status, (own / "output").read_text(errors="replace")

    @staticmethod
    def _keep(own: Path, place: Path, output: str) -> None:
        place.mkdir(parents=True, exist_ok=True)
        (place / "output").write_text(output)
        for log in own.glob("*.log"):
            shutil.copy(log, place)


def _end_server(pidfile: Path) -> None:
    with suppress(OSError, ValueError):
        os.kill(int(pidfile.read_text()), signal.SIGTERM)


def _judge(status: int | None, output: str, seconds: int) -> str:
    """pass, or the word for what else, and the last that the script said of it."""
    output = "".join(sign if sign.isprintable() else "\n" for sign in output)
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    skipped = [line for line in lines if line.startswith("SKIPPED")]
    if status == 0:
        return f"skips itself: {skipped[0][9:].strip()}" if skipped else "pass"
    said = [line for line in lines if not line.startswith(("failed ", "ok "))]
    last = said[-1][:140] if said else "it says nothing"
    return f"over {seconds} s, at: {last}" if status is None else f"fails: {last}"


# ---- the page


MARK: Final = "<!-- results: "

HEAD: Final = """# OpenSSH's regress scripts

OpenSSH comes with scripts that test its programs against each other. `make regress` (root) runs those of
Debian's package `openssh-tests` ({version}) twice: with `TEST_SSH_SSH` set to
`glasshell ssh`, everything else OpenSSH's, and with `TEST_SSH_SSHD` set to `glasshell sshd`. This page is
written by it. Not run yet: the scripts of OpenSSH 10, and of 9.2 rekey, try-ciphers, integrity, percent
and cert-hostkey.

| our program | pass | skip themselves | do not pass | run |
|---|---:|---:|---:|---:|
{sums}

A script is a row of many checks and counts as passed only when every one of them holds. What stands behind
"fails" is the last that the script said. Scripts that run neither program (those of ssh-keygen, of the
agent alone) are not listed. Where a script goes through all that `ssh -Q` names, that is what both sides
have: no DSA, for one, which OpenSSH 10 has dropped. Keys inside security keys are left out: the scripts
bring a module in OpenSSH's own binary interface for them. "-": the script does not use this program, or was
not run.

| script | `glasshell ssh` | `glasshell sshd` | remark |
|---|---|---|---|
"""


def write(results: dict[str, dict[str, str]]) -> None:
    """Writes the page."""
    names = [name for name in scripts() if name in results]
    sums = []
    for role, program in zip(ROLES, ("glasshell ssh", "glasshell sshd"), strict=True):
        all_of_it = [results[name][role] for name in names if role in results[name]]
        passed = all_of_it.count("pass")
        skipped = sum(each.startswith("skips") for each in all_of_it)
        rest = len(all_of_it) - passed - skipped
        sums.append(f"| `{program}` | {passed} | {skipped} | {rest} | {len(all_of_it)} |")
    query = ["dpkg-query", "-Wf", "${Version}", "openssh-tests"]
    version = subprocess.run(query, check=True, capture_output=True, text=True).stdout
    page = HEAD.format(version=version, sums="\n".join(sums))
    for name in sorted(names):
        cells = [results[name].get(role, "-").replace("|", "\\|").replace("<", "&lt;") for role in ROLES]
        note = NOTES.get(name, "") if any(cell not in ("pass", "-") for cell in cells) else ""
        page += f"| {name} | {cells[0]} | {cells[1]} | {note} |\n"
    PAGE.write_text(f"{page}\n{MARK}{json.dumps(results, sort_keys=True).replace('--', '- -')} -->\n")


def _known() -> dict[str, dict[str, str]]:
    """The results that the page holds already."""
    text = PAGE.read_text() if PAGE.exists() else ""
    found = text.partition(MARK)[2].removesuffix(" -->\n")
    known: dict[str, dict[str, str]] = json.loads(found) if found else {}
    return known


def main() -> None:
    """Runs what is asked for."""
    parser = argparse.ArgumentParser(description="OpenSSH's regress scripts with our programs.")
    parser.add_argument("names", nargs="*", help="scripts, without .sh (all)")
    parser.add_argument("--role", choices=ROLES, action="append", help="only our client, or our server")
    parser.add_argument("--jobs", type=int, default=2, help="how many at once")
    parser.add_argument("--seconds", type=int, default=300, help="how long a script may take")
    parser.add_argument("--page", action="store_true", help="write the page anew, and run nothing")
    parser.add_argument("--logs", type=Path, help="keep the logs of every script in this folder")
    asked = parser.parse_args()
    if asked.page:
        return write(_known())
    if os.geteuid() != 0 or not SUITE.exists():
        raise SystemExit("regress: needs root and the scripts: apt-get install openssh-tests")
    every = scripts()
    if unknown := set(asked.names) - set(every):
        raise SystemExit(f"regress: no such script: {', '.join(sorted(unknown))}")
    names = [name for name in every if name in asked.names or not asked.names]
    jobs = [(name, role) for name in names for role in asked.role or ROLES if concerns(name, role)]
    with tempfile.TemporaryDirectory(prefix="regress.", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        runs = Runs(Path(folder), asked.seconds, asked.logs)
        with ThreadPoolExecutor(asked.jobs) as pool:
            list(pool.map(runs.run, jobs))


if __name__ == "__main__":
    main()
