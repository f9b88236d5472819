"""Passwords, keyboard-interactive and sessions through the machine's own PAM: real modules, real clients."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from tests.interop.machine import Machine, MachineGlass, machine
from tests.interop.peers import Client, Keys, Server
from tests.interop.test_sshd import Screen

GetClient = Callable[[str], Client]
OPENSSH = ("openssh-9.2", "openssh-10.6")
PASSWORD = "correct horse"

MFA = (
    "auth required pam_unix.so",
    "auth required pam_google_authenticator.so",
    "account required pam_nologin.so",
    "account required pam_unix.so",
    "password required pam_unix.so",
    "session required pam_exec.so @hook",
    "session required pam_env.so conffile=/dev/null readenv=1 envfile=@variables",
    "session required pam_limits.so conf=@limits",
    "session optional pam_motd.so motd=@moon",
    "session required pam_unix.so",
)
PLAIN = tuple(line for line in MFA if "google" not in line)
HOOK = 'echo "$PAM_TYPE $PAM_USER $PAM_RHOST $(id -u)" >>"${0%/*}/log"'


@pytest.fixture(scope="module")
def here() -> Iterator[Machine]:
    with machine("pam_google_authenticator", "pam_unix", "pam_exec", "pam_limits", "pam_motd") as made:
        made.service("glass-mfa", *MFA)
        made.service("glass-plain", *PLAIN)
        made.script("hook", HOOK)
        for name, text in {
            "variables": "GLASS=half full\n",
            "limits": "* hard nofile 777\n",
            "moon": "The moon is full.\n",
        }.items():
            (made.folder / name).write_text(text, "utf-8")
        yield made


COMMAND = "id -un; echo got $GLASS; ulimit -n"
CONFIG = """UsePAM yes
KbdInteractiveAuthentication yes
PasswordAuthentication yes
PermitRootLogin yes
LogLevel DEBUG1
"""


@pytest.fixture(scope="module")
def mfa(here: Machine, keys: Keys) -> Iterator[Server]:
    with MachineGlass(here, keys, f"{CONFIG}PAMServiceName glass-mfa") as running:
        yield running


@pytest.fixture(scope="module")
def plain(here: Machine, keys: Keys) -> Iterator[Server]:
    with MachineGlass(here, keys, f"{CONFIG}PAMServiceName glass-plain") as running:
        yield running


def dial(client: Client, server: Server, user: str, *options: str, method: str = "") -> Screen:
    """ssh on a terminal of its own; without `method`, as its users have it: keyboard-interactive first."""
    settings = ["BatchMode=no", "PubkeyAuthentication=no", *options]
    if method:
        settings += [f"PreferredAuthentications={method}", "NumberOfPasswordPrompts=1"]
    words = [word for each in settings for word in ("-o", each)]
    return Screen([*client.argv(replace(server.target, user=user), *words), COMMAND])


def answer(screen: Screen, question: bytes, text: str) -> bytes:
    """Types `text` at a prompt; what was shown up to there."""
    shown = screen.until(question)
    screen.type(text.encode() + b"\n")
    return shown


@pytest.mark.parametrize("name", OPENSSH)
def test_password_and_code_in_two_rounds(name: str, here: Machine, mfa: Server, client: GetClient) -> None:
    user = f"ada{name[-1]}"
    here.add(user, PASSWORD)
    totp = here.secret(user)
    screen = dial(client(name), mfa, user)
    screen.until(b"Password: ")
    screen.type(PASSWORD.encode() + b"\n")
    screen.until(b"Verification code: ")
    screen.type(totp.code(time.time()).encode() + b"\n")
    shown = screen.until(rb"777\r\n")
    assert b"%s\r\ngot half full\r\n" % user.encode() in shown
    assert screen.wait() == 0
