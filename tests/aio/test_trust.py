"""StrictHostKeyChecking, as ssh_config(5) has it; the files are judged by ssh-keygen too."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from glasshell.aio.trust import NewHostKey, Trust
from glasshell.crypto.signatures import PrivateKey, PublicKey
from glasshell.errors import HostKeyRefused, UsageError
from glasshell.keys.known_hosts import format_entry
from glasshell.system.replacing import append_line
from tests.aio.kit import HOST_KEY, STRANGER, run

KEY, OTHER = HOST_KEY.public, STRANGER.public


class Case:
    """One verdict, what was warned, and the record."""

    def __init__(self, file: Path | None, key: PublicKey = KEY, **settings: Any) -> None:
        self.warnings: list[str] = []
        self.records: list[tuple[str, dict[str, Any]]] = []
        self.trust = Trust("host", 2222, known_hosts=file, warn=self.warnings.append, **settings)
        self.verdict = run(
            self.trust.judge(key, "192.0.2.1", lambda name, **facts: self.records.append((name, facts)))
        )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "new" / "known_hosts"


def known(file: Path, key: PublicKey) -> None:
    append_line(file, format_entry("host", 2222, key))


@pytest.mark.parametrize("strict", ["yes", "ask", "accept-new", "no"])
def test_a_known_key_is_taken_without_a_word(file: Path, strict: str) -> None:
    known(file, KEY)
    case = Case(file, strict=strict)
    assert case.verdict is True
    assert case.warnings == []
    name, facts = case.records[0]
    assert (name, facts["how"], facts["line"], facts["file"]) == ("host_key_verdict", "known", 1, str(file))


@pytest.mark.parametrize("strict", ["yes", "ask"])
def test_a_new_host_is_refused_where_nobody_can_be_asked(file: Path, strict: str) -> None:
    case = Case(file, strict=strict)
    assert isinstance(case.verdict, HostKeyRefused)
    assert "No ED25519 host key is known for [host]:2222 and you have requested strict" in str(case.verdict)
    assert KEY.fingerprint() in str(case.verdict)
    assert not file.exists()


@pytest.mark.parametrize("strict", ["accept-new", "no"])
def test_a_new_host_is_added_so_that_ssh_keygen_finds_it(file: Path, strict: str) -> None:
    case = Case(file, strict=strict)
    assert case.verdict is True
    assert case.warnings == ["Warning: Permanently added '[host]:2222' (ED25519) to the list of known hosts."]
    found = subprocess.run(
        ["ssh-keygen", "-l", "-F", "[host]:2222", "-f", str(file)], capture_output=True, text=True, check=True
    )
    assert KEY.fingerprint() in found.stdout
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_a_hashed_name_is_found_by_ssh_keygen_and_not_by_eye(file: Path) -> None:
    assert Case(file, strict="no", hashed=True).verdict is True
    assert "host" not in file.read_text()
    subprocess.run(["ssh-keygen", "-F", "[host]:2222", "-f", str(file)], capture_output=True, check=True)


@pytest.mark.parametrize("answer", [True, False])
def test_the_person_who_is_asked_sees_openssh_s_words_and_decides(file: Path, answer: bool) -> None:
    append_line(file, format_entry("elsewhere", 22, KEY))
    seen: list[NewHostKey] = []

    async def ask(new: NewHostKey) -> bool:
        seen.append(new)
        return answer

    case = Case(file, strict="ask", ask=ask)
    assert seen[0].text.splitlines() == [
        "The authenticity of host '[host]:2222 (192.0.2.1)' can't be established.",
        f"ED25519 key fingerprint is: {KEY.fingerprint()}",
        "This host key is known by the following other names/addresses:",
        f"    {file}:1: elsewhere",
    ]
    assert (case.verdict is True) == answer
    assert ("[host]:2222" in file.read_text()) == answer


@pytest.mark.parametrize("strict", ["yes", "ask", "accept-new"])
def test_a_changed_key_is_refused_loudly(file: Path, strict: str) -> None:
    known(file, OTHER)
    before = file.read_text()

    async def never(new: NewHostKey) -> bool:
        raise AssertionError("nobody is asked about a changed key")

    case = Case(file, strict=strict, ask=never)
    assert isinstance(case.verdict, HostKeyRefused)
    text = str(case.verdict)
    assert "REMOTE HOST IDENTIFICATION HAS CHANGED!" in text
    assert "Host key for [host]:2222 has changed and you have requested strict checking" in text
    assert KEY.fingerprint() in text
    assert OTHER.fingerprint() in text
    assert f"ssh-keygen -f '{file}' -R '[host]:2222'" in case.verdict.hint
    lines = case.warnings[0].splitlines()
    assert lines[1] == "@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @"
    assert f"Offending ED25519 key in {file}:1" in lines
    assert file.read_text() == before


def test_a_key_of_another_type_is_a_changed_key_and_not_a_new_one(file: Path) -> None:
    known(file, KEY)
    rsa = PrivateKey.generate("ssh-rsa", 2048).public
    assert isinstance(Case(file, rsa, strict="accept-new").verdict, HostKeyRefused)


def test_no_lets_a_changed_key_pass_but_no_password(file: Path) -> None:
    known(file, OTHER)
    case = Case(file, strict="no")
    assert case.verdict is True
    assert case.trust.restricted == "the host key has changed"
    assert "HAS CHANGED" in case.warnings[0]
    assert case.warnings[1:] == [
        "Password authentication is disabled to avoid man-in-the-middle attacks.",
        "Keyboard-interactive authentication is disabled to avoid man-in-the-middle attacks.",
    ]


def test_a_revoked_key_is_refused_whatever_else_is_said(file: Path) -> None:
    known(file, KEY)
    append_line(file, "@revoked * " + format_entry("x", 22, KEY).split(" ", 1)[1])
    for strict in ("yes", "no"):
        case = Case(file, strict=strict)
        assert isinstance(case.verdict, HostKeyRefused)
        assert "revoked" in str(case.verdict)


def test_none_knows_nothing_and_a_key_knows_itself() -> None:
    assert isinstance(Case(None, strict="yes").verdict, HostKeyRefused)
    pinned: Any = KEY
    assert Case(pinned).verdict is True
    other: Any = OTHER
    case = Case(other, strict="no")
    assert isinstance(case.verdict, HostKeyRefused), "a key that was given cannot be overruled"


def test_algorithms_of_known_keys_come_first(file: Path) -> None:
    append_line(file, format_entry("host", 2222, PrivateKey.generate("ssh-rsa", 2048).public))
    trust = Trust("host", 2222, known_hosts=file)
    offered = ("ssh-ed25519", "ecdsa-sha2-nistp256", "rsa-sha2-512", "rsa-sha2-256")
    assert trust.order(offered) == ("rsa-sha2-512", "rsa-sha2-256", "ssh-ed25519", "ecdsa-sha2-nistp256")


def test_a_line_is_added_on_a_line_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_text("# no line feed at the end")
    append_line(file, "a\n")
    append_line(file, "b\n")
    assert file.read_text() == "# no line feed at the end\na\nb\n"


def test_a_host_name_that_would_be_more_than_one_is_refused(file: Path) -> None:
    with pytest.raises(UsageError):
        Trust("host,*", 22, known_hosts=file)
