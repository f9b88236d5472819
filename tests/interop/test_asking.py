"""Who is asked what: the same by OpenSSH's ssh and by ours, with a program in the place of a terminal."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from tests.interop.glass import environment
from tests.interop.peers import Keys, PythonServer, Server, make_key


class Asked:
    """Both clients, and what the program was asked."""

    def __init__(self, folder: Path, target: Server, key: Path) -> None:
        self.folder = folder
        self.server = target
        self.key = key
        (folder / "known").write_text(target.target.known_hosts())

    def answers(self, *said: str) -> None:
        """What the program answers, one after the other; then it fails."""
        (self.folder / "answers").write_text("".join(f"{text}\n" for text in said))

    def run(
        self, program: Sequence[str], *options: str, variables: Mapping[str, str]
    ) -> tuple[int, bytes, str]:
        """Exit status, output, and the questions."""
        script = self.folder / "askpass"
        log, answers = self.folder / "asked", self.folder / "answers.now"
        answers.write_text((self.folder / "answers").read_text())
        script.write_text(
            f'#!/bin/sh\nprintf "%s|%s\\n" "$SSH_ASKPASS_PROMPT" "$1" >> {log}\n'
            f"head -n 1 {answers} | grep . || exit 1\nsed -i 1d {answers}\n"
        )
        script.chmod(0o700)
        log.write_text("")
        target = self.server.target
        line = [*program, "-F", "none", *options, "-o", f"UserKnownHostsFile={self.folder}/known", "-o",
                "GlobalKnownHostsFile=none", "-o", f"IdentityFile={self.key}", "-o", "IdentitiesOnly=yes",
                "-p", str(target.port), "-l", target.user, target.host, "echo in"]  # fmt: skip
        settings = environment(HOME=str(self.folder), SSH_ASKPASS=str(script), **variables)
        done = subprocess.run(
            line, env=settings, capture_output=True, timeout=30, check=False, stdin=subprocess.DEVNULL,
            start_new_session=True, cwd=self.folder,
        )  # fmt: skip
        return done.returncode, done.stdout, log.read_text()

    def both(self, *options: str, **variables: str) -> tuple[int, bytes, str]:
        """The same of both."""
        theirs = self.run(["ssh"], *options, variables=variables)
        ours = self.run([sys.executable, "-m", "glasshell", "ssh"], *options, variables=variables)
        assert ours == theirs
        return ours


@pytest.fixture
def locked(tmp_path: Path, keys: Keys) -> Path:
    """The user's key, under the passphrase `secret`."""
    path = keys.user().copy_to(tmp_path)
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "secret", "-f", str(path)], check=True)
    return path


@pytest.fixture
def at(tmp_path: Path, server: Callable[[str], Server], locked: Path) -> Asked:
    return Asked(tmp_path, server("openssh-9.2"), locked)


def test_a_passphrase(at: Asked) -> None:
    at.answers("secret")
    question = f"|Enter passphrase for key '{at.key}': \n"
    assert at.both(DISPLAY=":0") == (0, b"in\n", question)
    ours = [sys.executable, "-m", "glasshell", "ssh"]  # 9.2 does not know of Wayland
    assert at.run(ours, variables={"WAYLAND_DISPLAY": "w"}) == (0, b"in\n", question)
    assert at.both(SSH_ASKPASS_REQUIRE="force") == (0, b"in\n", question)
    assert at.both(SSH_ASKPASS_REQUIRE="never", DISPLAY=":0")[2] == ""
    assert at.both()[2] == ""
    assert at.both("-o", "BatchMode=yes", DISPLAY=":0")[2] == ""


def test_a_passphrase_that_is_wrong_is_asked_for_again(at: Asked) -> None:
    at.answers("wrong", "secret")
    status, output, asked = at.both(DISPLAY=":0")
    assert (status, output, asked.count("Enter passphrase")) == (0, b"in\n", 2)
    at.answers("wrong", "wrong", "wrong", "secret")
    # Who gives no answer is asked no more by us; by ssh, which sends an empty password, twice more.
    asked = at.both("-o", "PreferredAuthentications=publickey", DISPLAY=":0")[2]
    assert asked.count("Enter passphrase") == 3


def test_no_passphrase_passes_the_key_over(at: Asked) -> None:
    at.answers()
    status, output, asked = at.both("-o", "PreferredAuthentications=publickey", DISPLAY=":0")
    assert (status, output, asked.count("Enter passphrase")) == (255, b"", 1)


def test_whether_a_new_host_is_the_right_one(at: Asked) -> None:
    at.answers("yes", "secret")
    (at.folder / "known").write_text("")
    status, output, asked = at.run(
        [sys.executable, "-m", "glasshell", "ssh"], variables={"SSH_ASKPASS_REQUIRE": "force"}
    )
    assert (status, output) == (0, b"in\n")
    assert "Are you sure you want to continue connecting (yes/no/[fingerprint])? " in asked
    (at.folder / "known").write_text("")
    at.answers("no")
    status, output, _ = at.run(
        [sys.executable, "-m", "glasshell", "ssh"], variables={"SSH_ASKPASS_REQUIRE": "force"}
    )
    assert (status, output) == (255, b"")


@pytest.mark.parametrize("prompts", [2])
def test_number_of_password_prompts(
    start: Callable[[Server], Server], keys: Keys, tmp_path: Path, prompts: int
) -> None:
    stranger = make_key(tmp_path, "ed25519", name="stranger")
    at = Asked(tmp_path, start(PythonServer("asyncssh", keys, password="open")), stranger.private)
    options = ("-o", f"NumberOfPasswordPrompts={prompts}", "-o", "PreferredAuthentications=password")
    at.answers("no", "no", "no", "no")
    status, _, asked = at.both(*options, DISPLAY=":0")
    assert (status, asked.count("'s password: ")) == (255, prompts)
    at.answers(*["no"] * (prompts - 1), "open")
    assert at.both(*options, DISPLAY=":0")[2].count("'s password: ") == prompts
    assert at.both(*options, "-o", "BatchMode=yes", DISPLAY=":0")[2] == ""
