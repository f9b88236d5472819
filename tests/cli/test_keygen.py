"""`glasshell keygen` beside ssh-keygen(1): each reads what the other wrote, and they say the same."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cli.kit import Commands, Screen
from tests.needs import absent


@pytest.fixture(scope="module")
def ssh_keygen() -> str:
    found = shutil.which("ssh-keygen")
    if found is None:
        absent("ssh-keygen (OpenSSH) is not installed")
    return found


def theirs(program: str, *words: str, cwd: Path) -> str:
    return subprocess.run([program, *words], cwd=cwd, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("flags", "label"),
    [
        ((), "256 SHA256:.* a comment (ED25519)"),
        (("-t", "ed25519"), "256 SHA256:.* a comment (ED25519)"),
        (("-t", "ecdsa"), "256 SHA256:.* a comment (ECDSA)"),
        (("-t", "ecdsa", "-b", "384"), "384 SHA256:.* a comment (ECDSA)"),
        (("-t", "ecdsa", "-b", "521"), "521 SHA256:.* a comment (ECDSA)"),
        (("-t", "rsa"), "3072 SHA256:.* a comment (RSA)"),
        (("-t", "rsa", "-b", "2048"), "2048 SHA256:.* a comment (RSA)"),
    ],
)
@pytest.mark.parametrize("passphrase", ["", "open sesame"])
def test_openssh_reads_what_we_make(
    flags: tuple[str, ...], label: str, passphrase: str, commands: Commands, ssh_keygen: str
) -> None:
    done = commands.run("keygen", "-q", *flags, "-f", "key", "-N", passphrase, "-C", "a comment")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    path = commands.home / "key"
    assert path.stat().st_mode & 0o777 == 0o600
    public = theirs(ssh_keygen, "-y", "-P", passphrase, "-f", "key", cwd=commands.home)
    assert public == (commands.home / "key.pub").read_text()
    shown = theirs(ssh_keygen, "-l", "-f", "key.pub", cwd=commands.home)
    assert re.fullmatch(label.replace("(", r"\(").replace(")", r"\)"), shown.strip())


def test_what_is_said_is_what_ssh_keygen_says(commands: Commands, ssh_keygen: str) -> None:
    ours = commands.run("keygen", "-t", "ed25519", "-f", "a", "-N", "", "-C", "c")
    said = theirs(ssh_keygen, "-t", "ed25519", "-f", "b", "-N", "", "-C", "c", cwd=commands.home)

    def masked(text: str) -> list[str]:
        text = re.sub(r"SHA256:\S+", "SHA256:...", text).replace("in b", "in a")
        return ["|...|" if line.startswith("|") else line for line in text.splitlines()]

    assert masked(ours.stdout.decode()) == masked(said)


@pytest.mark.parametrize("flags", [("-l",), ("-l", "-v"), ("-l", "-E", "md5"), ("-lv", "-E", "md5")])
@pytest.mark.parametrize("name", ["key", "key.pub", "several", "-"])
def test_fingerprints_are_those_of_ssh_keygen(
    flags: tuple[str, ...], name: str, commands: Commands, ssh_keygen: str
) -> None:
    home = commands.home
    theirs(ssh_keygen, "-q", "-t", "ed25519", "-f", "key", "-N", "", "-C", "mine", cwd=home)
    theirs(ssh_keygen, "-q", "-t", "ecdsa", "-f", "other", "-N", "", cwd=home)
    several = f"# two keys\n\n{(home / 'key.pub').read_text()}{(home / 'other.pub').read_text()}"
    (home / "several").write_text(several)
    ours = commands.run("keygen", *flags, "-f", name, stdin=several.encode())
    said = subprocess.run(
        [ssh_keygen, *flags, "-f", name], cwd=home, input=several.encode(), capture_output=True, check=True
    )
    assert ours.stdout == said.stdout


@pytest.mark.parametrize("form", ["RFC4716", "PEM", "PKCS8"])
def test_the_public_half_of_what_openssh_makes(form: str, commands: Commands, ssh_keygen: str) -> None:
    theirs(ssh_keygen, "-q", "-t", "rsa", "-m", form, "-f", "key", "-N", "secret", cwd=commands.home)
    done = commands.run("keygen", "-y", "-f", "key", "-P", "secret")
    public = (commands.home / "key.pub").read_text()
    assert done.stdout.decode().split()[:2] == public.split()[:2]


def test_a_passphrase_is_changed_for_openssh_too(commands: Commands, ssh_keygen: str) -> None:
    theirs(ssh_keygen, "-q", "-t", "ed25519", "-f", "key", "-N", "first", "-C", "c d", cwd=commands.home)
    done = commands.run("keygen", "-p", "-f", "key", "-P", "first", "-N", "second")
    assert done.stdout == (
        b"Key has comment 'c d'\nYour identification has been saved with the new passphrase.\n"
    )
    public = theirs(ssh_keygen, "-y", "-P", "second", "-f", "key", cwd=commands.home)
    assert public == (commands.home / "key.pub").read_text()
    assert (commands.home / "key").stat().st_mode & 0o777 == 0o600
    before = (commands.home / "key").read_bytes()
    done = commands.run("keygen", "-p", "-f", "key", "-P", "first", "-N", "third")
    assert done.returncode == 255
    assert b"incorrect passphrase" in done.stderr
    assert (commands.home / "key").read_bytes() == before


def test_a_file_is_not_overwritten_unasked(commands: Commands) -> None:
    words = ("keygen", "-q", "-f", "key", "-N", "")
    assert commands.run(*words).returncode == 0
    first = (commands.home / "key").read_bytes()
    for answer in (b"", b"n\n", b"\n", b"no\n"):
        done = commands.run(*words, stdin=answer)
        assert (done.returncode, done.stdout) == (1, b"key already exists.\nOverwrite (y/n)? ")
        assert (commands.home / "key").read_bytes() == first
    assert commands.run(*words, stdin=b"y\n").returncode == 0
    assert (commands.home / "key").read_bytes() != first
    assert sorted(path.name for path in commands.home.iterdir()) == ["key", "key.pub"]


def questions(commands: Commands, *words: str) -> Screen:
    return commands.on_terminal("keygen", *words)


def test_everything_is_asked_for_on_a_terminal(commands: Commands, ssh_keygen: str) -> None:
    screen = questions(commands, "-C", "c")
    home = str(commands.home).encode()
    screen.expect(rb"Enter file in which to save the key \(" + home + rb"/\.ssh/id_ed25519\): $")
    screen.type(b"\r")
    screen.expect(rb"Created directory '" + home + rb"/\.ssh'\.")
    for passphrase in (b"one", b"another"):
        screen.expect(rb"(?:passphrase for \S+ \(empty for no passphrase\)|passphrase again): $")
        screen.type(passphrase + b"\r")
    screen.expect(rb"Passphrases do not match\.  Try again\.")
    for _ in range(2):
        screen.expect(rb"(?:passphrase for \S+ \(empty for no passphrase\)|passphrase again): $")
        screen.type(b"same\r")
    assert screen.wait() == 0
    assert b"another" not in screen.seen
    assert (commands.home / ".ssh").stat().st_mode & 0o777 == 0o700
    path = str(commands.home / ".ssh/id_ed25519")
    assert theirs(ssh_keygen, "-y", "-P", "same", "-f", path, cwd=commands.home).endswith(" c\n")


def test_an_old_passphrase_is_asked_for(commands: Commands) -> None:
    assert commands.run("keygen", "-q", "-f", "key", "-N", "old one").returncode == 0
    screen = questions(commands, "-y", "-f", "key")
    screen.expect(rb"Enter passphrase for \"key\": $")
    screen.type(b"old one\r")
    screen.expect(rb"ssh-ed25519 AAAA")
    assert screen.wait() == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-t", "dsa", "-f", "k", "-N", ""), "unknown key type dsa"),
        (("-t", "rsa", "-b", "1024", "-f", "k", "-N", ""), "minimum is 2048 bits"),
        (("-t", "rsa", "-b", "32768", "-f", "k", "-N", ""), "maximum is 16384 bits"),
        (("-t", "ecdsa", "-b", "255", "-f", "k", "-N", ""), "valid lengths are 256, 384 or 521 bits"),
        (("-b", "many", "-f", "k", "-N", ""), "bad value"),
        (("-C", "a\nb", "-f", "k", "-N", ""), "comment"),
        (("-f", "/nowhere/k", "-N", ""), 'Saving key "/nowhere/k" failed: No such file or directory'),
        (("-f", "k"), "no terminal to ask for a passphrase"),
        (("-l", "-f", "nothing"), "nothing: No such file or directory"),
        (("-l", "-f", "junk"), "junk is not a public key file."),
        (("-y", "-f", "junk"), 'Load key "junk": '),
        (("-y", "-f", "open"), "0644"),
        (("-E", "sha3", "-l"), "Invalid hash algorithm"),
        (("-Z", "rot13"), "Invalid OpenSSH-format cipher 'rot13'"),
        (("-D", "p11.so"), "ssh-add -s"),
        (("-M", "generate"), "ssh-keygen -M"),
        (("-m", "DOC"), 'Unsupported conversion format "DOC"'),
        (("-a", "0"), "Invalid number: 0"),
        (("-a", "2049", "-f", "k", "-N", "x"), "1 to 2048"),
        (("-z", "x", "-k"), 'Invalid serial number "x"'),
    ],
)
def test_what_cannot_be_done_is_one_sentence(words: tuple[str, ...], said: str, commands: Commands) -> None:
    (commands.home / "junk").write_text("junk\n")
    (commands.home / "junk").chmod(0o600)
    (commands.home / "open").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    (commands.home / "open").chmod(0o644)
    done = commands.run("keygen", *words)
    assert done.returncode == 255
    told = done.stderr.decode()
    assert re.search("^glasshell keygen: ", told, re.MULTILINE)
    assert said in told
    assert "Traceback" not in told
    assert not (commands.home / "k").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-W",), "option -W not recognized"),
        (("-f",), "option -f requires argument"),
        (("k",), "Too many arguments."),
        (("-s", "ca", "-I", "id"), "Too few arguments."),
        (("-p", "-c"), "Can only have one of -p and -c."),
        (("-l", "-H"), "Cannot use -l with -H or -R."),
        (("-Y", "seal"), 'Unsupported operation for -Y: "seal"'),
    ],
)
def test_what_makes_no_sense_is_answered_with_the_usage(
    words: tuple[str, ...], said: str, commands: Commands, ssh_keygen: str
) -> None:
    done = commands.run("keygen", *words)
    assert said in done.stderr.decode()
    assert "usage: glasshell keygen" in done.stderr.decode()
    real = subprocess.run([ssh_keygen, *words], capture_output=True, stdin=subprocess.DEVNULL)
    assert done.returncode == real.returncode == 1


def test_passphrases_come_from_a_pipe_or_from_askpass(commands: Commands, ssh_keygen: str) -> None:
    done = commands.run("keygen", "-q", "-a", "1", "-f", "piped", stdin=b"word\nword\n")
    assert done.returncode == 0, done.stderr
    program = commands.home / "askpass"
    program.write_text("#!/bin/sh\necho word\n")
    program.chmod(0o700)
    asked = {"SSH_ASKPASS": str(program), "SSH_ASKPASS_REQUIRE": "force"}
    done = commands.run("keygen", "-q", "-a", "1", "-f", "asked", environment=asked)
    assert done.returncode == 0, done.stderr
    for name in ("piped", "asked"):
        public = (commands.home / f"{name}.pub").read_text()
        assert theirs(ssh_keygen, "-y", "-P", "word", "-f", name, cwd=commands.home) == public
        done = commands.run("keygen", "-y", "-f", name, environment=asked)
        assert done.stdout.decode() == public


def test_a_link_stays_one_and_a_file_its_owner_s(commands: Commands) -> None:
    assert commands.run("keygen", "-q", "-f", "real", "-N", "").returncode == 0
    link = commands.home / "link"
    link.symlink_to("real")
    if os.geteuid() == 0:
        os.chown(commands.home / "real", 12345, 12345)
    before = (commands.home / "real").stat()
    assert commands.run("keygen", "-p", "-f", "link", "-N", "x", "-a", "1").returncode == 0
    after = (commands.home / "real").stat()
    assert link.is_symlink()
    assert (after.st_uid, after.st_gid, after.st_mode) == (before.st_uid, before.st_gid, before.st_mode)
    assert after.st_ino != before.st_ino
