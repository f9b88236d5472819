"""Our audit beside ssh-audit's of the same servers: what it warns of we warn of, but for what is listed."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from glasshell.cli.main import main
from tests.interop.conftest import Start
from tests.interop.doctoring import answering, saying
from tests.interop.peers import LOOPBACK, Keys, OpenSSHServer, Server, make_key, require_peer

KINDS = {"kex": "kex", "key": "host_key", "enc": "cipher", "mac": "mac"}

DEVIATIONS = (
    ("kex", "*", "does not provide protection against post-quantum attacks",
     "said once of the whole list, and not where a hybrid stands beside it: who can takes that"),
    ("kex", "ecdh-sha2-nistp*", "using elliptic curves that are suspected*",
     "RFC 9142 3.3 takes them; nothing was found in them in twenty years"),
    ("kex", "mlkem*nistp*", "using elliptic curves that are suspected*",
     "the same, and post-quantum beside it"),
    ("host_key", "ecdsa-sha2-nistp*", "using elliptic curves that are suspected*", "the same curves"),
    ("host_key", "ecdsa-sha2-nistp*", "using weak random number generator*",
     "true of a machine without randomness, which has no safe key of any kind"),
)  # fmt: skip
"""Where we do not follow: kind, names, ssh-audit's sentence, and why."""


def audit(*words: str) -> tuple[int, dict[str, Any], str]:
    """`glasshell audit --json` in this process: status, document, standard error."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(["audit", "--json", *words])
    return status, json.loads(out.getvalue() or "{}"), err.getvalue()


def at(server: Server) -> str:
    return f"{LOOPBACK}:{server.target.port}"


def theirs(server: Server) -> dict[str, Any]:
    """ssh-audit's own document, without its test of the connection rate."""
    require_peer("ssh-audit")
    where = ["-p", str(server.target.port), LOOPBACK]
    line = [sys.executable, "-m", "ssh_audit.ssh_audit", "-j", "--skip-rate-test", *where]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def deviates(kind: str, name: str, sentence: str) -> bool:
    return any(k == kind and fnmatch(name, n) and fnmatch(sentence, s) for k, n, s, _ in DEVIATIONS)


@pytest.mark.parametrize("name", ["openssh-9.2", "openssh-10.6", "dropbear", "dropbear-newest"])
def test_beside_ssh_audit(name: str, server: Callable[[str], Server]) -> None:
    other = theirs(server(name))
    status, document, _ = audit(at(server(name)))
    (ours,) = document["audits"]
    judged = {(kind, v["name"]): v["grade"] for kind, each in ours["algorithms"].items() for v in each}
    small = any(finding["about"] == "host key" for finding in ours["findings"])
    compared = 0
    for their_kind, kind in KINDS.items():
        for row in other[their_kind]:
            algorithm = row["algorithm"]
            if algorithm.startswith(("kex-strict", "ext-info", "kexguess")):
                continue
            assert (kind, algorithm) in judged  # both have seen the same lists
            compared += 1
            for sentence in (s for level in ("fail", "warn") for s in row["notes"].get(level, [])):
                of_the_key = "modulus" in sentence and kind == "host_key"
                weak = judged[kind, algorithm] in ("weak", "broken") or (of_the_key and small)
                assert weak or deviates(kind, algorithm, sentence), (algorithm, sentence)
    assert compared > 12
    assert ours["software"] == f"{other['banner']['software']} {other['banner']['comments'] or ''}".strip()
    prints = {(key["hostkey"], f"SHA256:{key['hash']}") for key in other["fingerprints"] if
              key["hash_alg"] == "SHA256"}  # fmt: skip
    assert {(key["type"], key["fingerprint"]) for key in ours["host_keys"]} >= {
        pair for pair in prints if pair[0] in ("ssh-rsa", "ssh-ed25519")
    }
    worst = {v["grade"] for each in ours["algorithms"].values() for v in each}
    assert status == (3 if "broken" in worst else 2)


def test_terrapin_as_ssh_audit_sees_it(server: Callable[[str], Server]) -> None:
    """tinysshd of Debian 12 is of before strict key exchange; the others have it."""
    seen = {}
    for name in ("tinysshd", "openssh-9.2", "dropbear-newest"):
        other = theirs(server(name))
        seen[name] = any("Terrapin" in s for row in other["enc"] for s in row["notes"].get("warn", []))
        _, document, _ = audit(at(server(name)))
        assert bool(document["audits"][0]["terrapin"]) == seen[name], name
    assert seen == {"tinysshd": True, "openssh-9.2": False, "dropbear-newest": False}


def test_post_quantum(start: Start, keys: Keys, server: Callable[[str], Server]) -> None:
    _, document, _ = audit(at(server("openssh-10.6")))
    assert document["audits"][0]["post_quantum"] is True
    classical = start(OpenSSHServer("9.2", keys, extra_config="KexAlgorithms curve25519-sha256"))
    _, document, _ = audit(at(classical))
    (found,) = document["audits"]
    assert found["post_quantum"] is False
    assert "post-quantum" in [finding["about"] for finding in found["findings"]]


class SmallKey(OpenSSHServer):
    """sshd with one RSA host key of 1024 bits, which it takes on request."""

    KINDS = ("rsa",)

    def _config(self, port: int) -> str:
        path = self.folder / "small"
        if not path.exists():
            make_key(self.folder, "rsa", name="small", bits=1024)
        config = super()._config(port)
        lines = [line for line in config.splitlines() if not line.startswith("HostKey ")]
        return "\n".join([f"HostKey {path}", "RequiredRSASize 1024", *lines, ""])


def test_what_is_broken(start: Start, keys: Keys) -> None:
    status, document, _ = audit(at(start(SmallKey("9.2", keys))))
    (found,) = document["audits"]
    assert [key["bits"] for key in found["host_keys"]] == [1024]
    assert status == 3
    config = "Ciphers 3des-cbc,aes256-ctr\nMACs hmac-md5-96,hmac-sha2-256-etm@openssh.com"
    status, document, _ = audit(at(start(OpenSSHServer("9.2", keys, extra_config=config))))
    broken = [v["name"] for each in document["audits"][0]["algorithms"].values() for v in each
              if v["grade"] == "broken"]  # fmt: skip
    assert (status, broken) == (3, ["3des-cbc", "hmac-md5-96"])


def test_a_good_server(start: Start, keys: Keys) -> None:
    config = ("KexAlgorithms mlkem768x25519-sha256,sntrup761x25519-sha512\nCiphers aes256-gcm@openssh.com\n"
              "MACs hmac-sha2-512-etm@openssh.com\nHostKeyAlgorithms ssh-ed25519")  # fmt: skip
    server = start(OpenSSHServer("10.6", keys, extra_config=config))
    status, document, _ = audit(at(server))
    assert status == 0, document
    assert document["audits"][0]["grade"] == "good"


def test_the_smallest_group(start: Start, keys: Keys) -> None:
    """OpenSSH gives 2048 bits at least, whatever is asked for (dh.h, DH_GRP_MIN)."""
    config = "KexAlgorithms diffie-hellman-group-exchange-sha256"
    server = start(OpenSSHServer("9.2", keys, extra_config=config))
    _, document, _ = audit(at(server))
    assert document["audits"][0]["smallest_group"] == 2048


def test_nothing_to_be_seen() -> None:
    with answering(saying(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as port:
        status, document, told = audit(f"{LOOPBACK}:{port}")
    assert (status, document) == (1, {})
    assert "no SSH server" in told
    status, _, told = audit(f"{LOOPBACK}:1")
    assert status == 1
    assert "Connection refused" in told


@pytest.mark.parametrize("words", [("a:b",), ("--timeout", "x", "h"), ("/no/such/file",), ()])
def test_bad_usage(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", *words]) in (255, 1)
    assert "Traceback" not in capsys.readouterr().err


def test_files(tmp_path: Path, shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "sshd_config").write_text("Ciphers arcfour,aes256-ctr\nMACs hmac-sha1\n")
    status, document, _ = audit(str(tmp_path / "sshd_config"))
    assert status == 3
    assert document["audits"][0]["role"] == "server"
    assert main(["audit", str(tmp_path / "sshd_config")]) == 3
    told = " ".join(capsys.readouterr().out.split())
    assert "arcfour: broken, RC4" in told
    assert f"{tmp_path}/sshd_config line 1" in told
    status, document, _ = audit(str(shared / "captures/zeek__sshguess.pcap"))
    assert status == 3
    assert {(a["role"], a["software"]) for a in document["audits"]} == {
        ("server", "OpenSSH_6.7p1 Debian-3"), ("client", "OpenSSH_6.2"),
    }  # fmt: skip
    (tmp_path / "nothing").write_bytes(b"\x00\x01")
    assert audit(str(tmp_path / "nothing"))[0] == 1
