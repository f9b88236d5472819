"""Passwords, keyboard-interactive and sessions through the machine's own PAM: real modules, real clients."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import pytest

from tests.interop.glass import environment
from tests.interop.machine import Machine, MachineGlass, MachineOpenSSH, machine
from tests.interop.peers import Client, Keys, Server, require_peer
from tests.interop.test_sshd import Screen

GetClient = Callable[[str], Client]
OPENSSH = ("openssh-9.2", "openssh-10.6")
PASSWORD = "correct horse"

MFA = (
    "auth required pam_unix.so nodelay",
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


def furnish(made: Machine) -> None:
    """The services, and what their modules read and run."""
    made.service("glass-mfa", *MFA)
    made.service("glass-plain", *PLAIN)
    made.script("hook", HOOK)
    files = {
        "variables": "GLASS=half full\n",
        "limits": "* hard nofile 777\n",
        "moon": "The moon is full.\n",
    }
    for name, text in files.items():
        (made.folder / name).write_text(text, "utf-8")


@pytest.fixture(scope="module")
def here() -> Iterator[Machine]:
    with machine("pam_google_authenticator", "pam_unix", "pam_exec", "pam_limits", "pam_motd") as made:
        furnish(made)
        yield made


CLIENT = (sys.executable, "-m", "glasshell", "ssh")
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


@pytest.fixture(scope="module")
def sshd(here: Machine, keys: Keys) -> Iterator[Server]:
    with MachineOpenSSH(here, keys, CONFIG, "glass-plain") as running:
        yield running


@pytest.fixture(scope="module")
def newest() -> Iterator[Machine]:
    with machine("pam_unix", place=require_peer("openssh-10.6")) as made:
        furnish(made)
        yield made


@pytest.fixture(scope="module")
def newest_sshd(newest: Machine, keys: Keys) -> Iterator[Server]:
    with MachineOpenSSH(newest, keys, CONFIG, "glass-plain") as running:
        yield running


def ours(server: Server, user: str, *options: str) -> Screen:
    """`glasshell ssh` on a terminal of its own."""
    known = server.folder / "known"
    known.write_text(server.target.known_hosts(), "utf-8")
    settings = [
        *options,
        "PubkeyAuthentication=no",
        f"UserKnownHostsFile={known}",
        "GlobalKnownHostsFile=none",
    ]
    words = [word for each in settings for word in ("-o", each)]
    where = ["-F", "none", "-p", str(server.target.port), "-l", user, server.target.host]
    variables = [f"{name}={value}" for name, value in environment().items()]
    return Screen(["env", "-i", *variables, *CLIENT, *words, *where, COMMAND])


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


def shown_by(screen: Screen, answers: Sequence[tuple[bytes, str]]) -> str:
    """A whole dialogue, the client's names and the lines' breaks aside."""
    text = b"".join(answer(screen, question, given) for question, given in answers)
    text += screen.until(rb"denied.*\r\n|777\r\n")
    screen.wait()
    return " ".join(re.sub(rb"\(\w+@[0-9.]+\)|\w+@[0-9.]+(?=:)", b"", text).decode().split())


@pytest.mark.parametrize("name", [*OPENSSH, "glasshell"])
def test_password_and_code_in_two_rounds(name: str, here: Machine, mfa: Server, client: GetClient) -> None:
    user = f"ada{len(here.users)}"
    here.add(user, PASSWORD)
    totp = here.secret(user)
    screen = ours(mfa, user) if name == "glasshell" else dial(client(name), mfa, user)
    answer(screen, b"Password: ", PASSWORD)
    answer(screen, b"Verification code: ", totp.code(time.time()))
    shown = screen.until(rb"777\r\n")
    assert b"%s\r\ngot half full\r\n" % user.encode() in shown
    assert screen.wait() == 0


def test_a_wrong_code_and_one_that_was_used_are_refused(
    here: Machine, mfa: Server, client: GetClient
) -> None:
    here.add("bea", PASSWORD)
    totp = here.secret("bea")
    wrong = str((int(totp.code(time.time())) + 1) % 10**6).zfill(6)
    code = totp.code(time.time())
    for given, mark in ((wrong, b"denied"), (code, b"777"), (code, b"denied")):
        screen = dial(client("openssh-9.2"), mfa, "bea", method="keyboard-interactive")
        answer(screen, b"Password: ", PASSWORD)
        answer(screen, b"Verification code: ", given)
        screen.until(mark)
        screen.wait()


def test_a_wrong_password_is_told_after_the_code_only(here: Machine, mfa: Server, client: GetClient) -> None:
    here.add("cy", PASSWORD)
    code = here.secret("cy").code(time.time())
    screen = dial(client("openssh-9.2"), mfa, "cy", method="keyboard-interactive")
    answer(screen, b"Password: ", "wrong")
    answer(screen, b"Verification code: ", code)
    screen.until(b"denied")
    assert screen.wait() == 255


DIALOGUES: dict[str, list[tuple[bytes, str]]] = {
    "right": [(b"Password: ", PASSWORD)],
    "wrong": [(b"Password: ", "wrong")],
    "nobody": [(b"Password: ", PASSWORD)],
    "ended": [(b"Password: ", PASSWORD)],
    "locked": [(b"Password: ", PASSWORD)],
    "stale": [
        (b"Password: ", PASSWORD),
        (b"Current password: ", PASSWORD),
        (b"New password: ", "new gluon 77"),
        (b"Retype new password: ", "new gluon 77"),
    ],
}


def fresh(where: Machine, case: str, suffix: str) -> str:
    """An account for one dialogue."""
    user = f"{case}{suffix}"
    match case:
        case "ended":
            where.add(user, PASSWORD, ends=100)
        case "locked":
            where.add(user, "")
        case "stale":
            where.add(user, PASSWORD, changed=0)
        case "nobody":
            pass
        case _:
            where.add(user, PASSWORD)
    return user


@pytest.mark.parametrize("case", DIALOGUES)
def test_what_a_user_sees_is_what_sshd_shows(
    case: str, here: Machine, plain: Server, sshd: Server, client: GetClient
) -> None:
    """The same service and the same client, before our server and before OpenSSH's."""
    seen = []
    for server, suffix in ((plain, "x"), (sshd, "y")):
        user = fresh(here, case, suffix)
        screen = dial(client("openssh-9.2"), server, user, method="keyboard-interactive")
        seen.append(shown_by(screen, DIALOGUES[case]).replace(user, "USER"))
    assert seen[0] == seen[1]
    assert ("777" in seen[0]) is (case in ("right", "stale"))


def test_an_expired_password_is_another_one_afterwards(
    here: Machine, plain: Server, client: GetClient
) -> None:
    user = fresh(here, "stale", "z")
    before = here.shadow(user)
    shown_by(dial(client("openssh-10.6"), plain, user, method="keyboard-interactive"), DIALOGUES["stale"])
    assert here.shadow(user)[1] != before[1]
    assert int(here.shadow(user)[2]) > 0
    screen = dial(client("openssh-10.6"), plain, user, method="password")
    answer(screen, b"password: ", "new gluon 77")
    screen.until(b"777")
    assert screen.wait() == 0


@pytest.mark.parametrize("method", ["password", "publickey"])
def test_an_expired_password_keeps_out_who_is_not_asked(
    method: str, here: Machine, plain: Server, client: GetClient, keys: Keys
) -> None:
    user = fresh(here, "stale", method)
    if method == "password":
        screen = dial(client("openssh-9.2"), plain, user, method="password")
        answer(screen, b"password: ", PASSWORD)
        shown = screen.until(b"denied")
    else:
        done = client("openssh-9.2").run(replace(plain.target, user=user), "true", identity=keys.user())
        shown = done.stderr
        assert done.returncode == 255
    assert b"You are required to change your password immediately" in shown


@pytest.mark.parametrize("name", OPENSSH)
def test_a_login_by_key_runs_the_account_and_the_session(
    name: str, here: Machine, plain: Server, client: GetClient, keys: Keys
) -> None:
    user = f"kay{name[-1]}"
    here.add(user, PASSWORD)
    target = replace(plain.target, user=user)
    done = client(name).run(target, f"{COMMAND}; id -u; cat {here.folder}/log; exit 9", identity=keys.user())
    assert done.returncode == 9
    name_, got, limit, uid, *log = done.stdout.decode().splitlines()
    assert (name_, got, limit, int(uid)) == (user, "got half full", "777", here.users[user])
    # Root's, before the program: its modules ran before the rights were given away.
    assert f"open_session {user} 127.0.0.1 0" in log
    assert f"close_session {user} 127.0.0.1 0" not in log
    here.wait_for("log", f"close_session {user} 127.0.0.1 0")


@pytest.mark.parametrize("case", ["ended", "locked"])
def test_a_key_does_not_help_an_account_that_has_ended(
    case: str, here: Machine, plain: Server, client: GetClient, keys: Keys
) -> None:
    user = fresh(here, case, "k")
    done = client("openssh-9.2").run(replace(plain.target, user=user), "echo in", identity=keys.user())
    assert (done.stdout == b"in\n") is (case == "locked")  # no password, but not shut: as sshd has it
    assert (b"Your account has expired" in done.stderr) is (case == "ended")


def test_nologin_keeps_all_but_root_out_and_says_why(
    here: Machine, plain: Server, client: GetClient, keys: Keys
) -> None:
    here.add("nol", PASSWORD)
    (here.etc / "nologin").write_text("Back at noon.\n", "utf-8")
    try:
        done = client("openssh-9.2").run(replace(plain.target, user="nol"), "true", identity=keys.user())
        assert done.returncode == 255
        assert b"Back at noon." in done.stderr
        root = client("openssh-9.2").run(replace(plain.target, user="root"), "echo in", identity=keys.user())
        assert root.stdout == b"in\n"
    finally:
        (here.etc / "nologin").unlink()


def test_what_modules_say_of_the_day_is_shown_on_a_terminal(
    here: Machine, plain: Server, client: GetClient, keys: Keys
) -> None:
    here.add("mona", PASSWORD)
    target = replace(plain.target, user="mona")
    screen = Screen(client("openssh-9.2").argv(target, "-t", identity=keys.user()))
    screen.until(b"The moon is full.\r\n")
    screen.until(rb"\$ ")
    screen.type(b"ulimit -n; exit 4\n")
    screen.until(b"777\r\n")
    assert screen.wait() == 4
    done = client("openssh-9.2").run(target, "true", identity=keys.user())
    assert b"moon" not in done.stdout + done.stderr


def test_a_key_and_then_a_code(here: Machine, keys: Keys, client: GetClient) -> None:
    here.add("dee", PASSWORD)
    totp = here.secret("dee")
    config = f"{CONFIG}PAMServiceName glass-mfa\nAuthenticationMethods publickey,keyboard-interactive:pam"
    with MachineGlass(here, keys, config) as server:
        target = replace(server.target, user="dee")
        words = ["-o", "BatchMode=no"]
        screen = Screen([*client("openssh-10.6").argv(target, *words, identity=keys.user()), COMMAND])
        answer(screen, b"Password: ", PASSWORD)
        answer(screen, b"Verification code: ", totp.code(time.time()))
        screen.until(b"777")
        assert screen.wait() == 0
        alone = dial(client("openssh-10.6"), server, "dee", method="keyboard-interactive")
        alone.until(b"denied \\(publickey\\)")  # the first step is the key's
        assert alone.wait() == 255
        log = server.log
    assert "Partial publickey for dee" in log
    assert "Accepted keyboard-interactive/pam for dee" in log


@pytest.mark.parametrize("user", ["sha", "nobody-here"])
def test_passwords_without_pam(user: str, here: Machine, keys: Keys, client: GetClient) -> None:
    if user == "sha":
        here.add(user, PASSWORD)
    with MachineGlass(here, keys, "UsePAM no\nPasswordAuthentication yes") as server:
        for password, good in (("wrong", False), (PASSWORD, user == "sha")):
            screen = dial(client("openssh-9.2"), server, user, method="password")
            answer(screen, b"password: ", password)
            screen.until(b"got" if good else b"denied \\(publickey,password\\)")
            screen.wait()


# -- our client before OpenSSH's server


@pytest.mark.parametrize(
    ("method", "case"),
    [
        *(("keyboard-interactive", case) for case in ("right", "stale", "wrong")),
        *(("password", case) for case in ("right", "wrong")),  # sshd asks for no new password here
    ],
)
@pytest.mark.parametrize("version", OPENSSH)
def test_our_client_at_sshd(version: str, case: str, method: str, request: pytest.FixtureRequest) -> None:
    names = ("here", "sshd") if version == "openssh-9.2" else ("newest", "newest_sshd")
    where, server = (request.getfixturevalue(name) for name in names)
    user = fresh(where, case, f"o{method[0]}")
    screen = ours(server, user, f"PreferredAuthentications={method}", "NumberOfPasswordPrompts=1")
    questions = DIALOGUES[case] if method != "password" else [(b"password: ", DIALOGUES[case][0][1])]
    shown = shown_by(screen, questions)
    assert ("777" in shown) is (case != "wrong")
    if case == "stale":
        assert int(where.shadow(user)[2]) > 0


def test_the_number_of_prompts_is_the_users_to_say(here: Machine, sshd: Server) -> None:
    user = fresh(here, "right", "n")
    screen = ours(sshd, user, "PreferredAuthentications=password", "NumberOfPasswordPrompts=2")
    for _ in range(2):
        answer(screen, b"password: ", "wrong")
    screen.until(b"denied")
    assert screen.wait() == 255


@pytest.mark.parametrize("refuse", ["no", "yes"])
def test_d4_a_server_that_asks_for_nothing_is_told_of_or_left(refuse: str, here: Machine, keys: Keys) -> None:
    here.add(user := f"ope{refuse}", PASSWORD)
    here.service("glass-open", "auth required pam_permit.so", *PLAIN[1:])
    with MachineOpenSSH(here, keys, CONFIG, "glass-open") as server:
        screen = ours(server, user, f"RefuseTrivialAuth={refuse}")
        shown = screen.until(b"777\r\n|prompt that follows")
        assert b"the server let the user in without a credential" in shown
        assert (screen.wait() == 0) is (refuse == "no")


# -- what Debian has in /etc, unchanged


def test_debians_own_configuration_and_service(here: Machine, keys: Keys, client: GetClient) -> None:
    here.add("deb", PASSWORD)
    with MachineGlass(here, keys, "Include /etc/ssh/sshd_config\nPasswordAuthentication yes") as server:
        screen = dial(client("openssh-10.6"), server, "deb")
        answer(screen, b"[Pp]assword: ", PASSWORD)
        screen.until(b"deb\r\n")
        assert screen.wait() == 0
        target = replace(server.target, user="deb")
        done = client("openssh-10.6").run(target, "cat /proc/self/loginuid", identity=keys.user())
        assert int(done.stdout) == here.users["deb"]  # pam_loginuid's doing: the audit log knows who it is
        log = server.log
    assert "UsePAM" not in log
