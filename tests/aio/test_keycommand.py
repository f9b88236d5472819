"""AuthorizedKeysCommand and its like: as whom it runs, with what, and what becomes of one that fails."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glasshell.aio import keycommand
from glasshell.aio.keycommand import Command, split_words
from glasshell.errors import ConfigError
from glasshell.system.accounts import current_account, find_account, is_root
from tests.aio.kit import run

pytest.importorskip("pwd")

ME = replace(current_account(), name="ada", home="/home/ada", uid=4711)
needs_root = pytest.mark.skipif(not is_root(), reason="a program has to be root's")


@pytest.fixture
def script(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A program that nobody but root could have written, in a folder of the same kind."""
    folder = Path("/root") / f".glasshell-test-{os.getpid()}"
    folder.mkdir(mode=0o755)
    path = folder / "command"
    path.touch(mode=0o755)
    yield path
    for each in folder.iterdir():
        each.unlink()
    folder.rmdir()


def output(
    script: Path, text: str, *arguments: str, user: str = "root", default: bool = True, **tokens: str
) -> tuple[bytes, list[str]]:
    """What the command says, and what the log does, at its loudest levels."""
    script.write_text(f"#!/bin/sh\n{text}\n")
    said: list[str] = []

    def note(level: str, told: str) -> None:
        if not level.startswith("debug"):
            said.append(told)

    command = Command("AuthorizedKeysCommand", " ".join([str(script), *arguments]), user)
    found = run(command.run(ME, {"u": "ada", **tokens}, note, default=default))
    return found, said


@needs_root
def test_tokens_and_no_shell(script: Path) -> None:
    found, said = output(
        script, 'printf "<%s>" "$@"', "%u", "'a b'", "%%k", "x%k", "$HOME;id", k="$(id) 'q", user="root"
    )
    assert (found, said) == (b"<ada><a b><%k><x$(id) 'q><$HOME;id>", [])


@needs_root
def test_without_arguments_it_gets_the_user(script: Path) -> None:
    assert output(script, 'echo "$# $1"') == (b"1 ada\n", [])
    assert output(script, 'echo "$#"', default=False) == (b"0\n", [])


@needs_root
def test_as_its_user_with_nothing_of_the_servers(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "1")
    monkeypatch.setenv("LANG", "C.UTF-8")
    nobody = find_account("nobody")
    assert nobody is not None
    body = "env | sort; id -u; id -G; pwd; ls -l /proc/self/fd | grep -c pipe"
    target = Path("/usr/local/bin") / f"glasshell-test-{os.getpid()}"
    try:  # nobody has to reach it, and /root is shut
        found, said = output(target, body, user="nobody", default=False) if _make(target) else (b"", [])
    finally:
        target.unlink(missing_ok=True)
    assert said == []
    lines = found.decode().splitlines()
    assert {line.partition("=")[0] for line in lines if "=" in line} <= {
        "HOME", "LANG", "LOGNAME", "PATH", "PWD", "USER", "SHLVL", "_", "OLDPWD",
    }  # fmt: skip
    assert f"USER={nobody.name}" in lines
    assert "LANG=C.UTF-8" in lines
    assert lines[-4:-1] == [str(nobody.uid), " ".join(map(str, nobody.groups)), "/"]


def _make(path: Path) -> bool:
    path.touch(mode=0o755)
    return True


@needs_root
@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("echo key; exit 3", "failed, status 3"),
        ("echo key; kill -SEGV $$", "exited on signal 11"),
        ("exec head -c 2000000 /dev/zero", "wrote more than 1048576 bytes"),
    ],
)
def test_what_a_command_that_fails_has_said_does_not_count(script: Path, text: str, word: str) -> None:
    found, (said,) = output(script, text)
    assert found == b""
    assert word in said
    assert said.startswith(f"AuthorizedKeysCommand {script} ada ")


@needs_root
def test_one_that_hangs_is_killed_with_its_children(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keycommand, "SECONDS", 0.3)
    pid = script.with_name("pid")
    began = time.monotonic()
    found, (said,) = output(script, f"sleep 600 & echo $! > {pid}; sleep 600")
    assert (found, time.monotonic() - began < 20) == (b"", True)
    assert "took more than 0.3 seconds" in said
    assert _dead(int(pid.read_text()))


@needs_root
def test_a_connection_that_ends_ends_it(script: Path) -> None:
    pid = script.with_name("pid")
    os.mkfifo(pid)
    script.write_text(f"#!/bin/sh\necho $$ > {pid}; exec sleep 600\n")

    async def check() -> int:
        command = Command("AuthorizedKeysCommand", str(script), "root")
        task = asyncio.create_task(command.run(ME, {}, lambda level, text: None, default=True))
        started = int(await asyncio.to_thread(pid.read_text))
        task.cancel()
        await asyncio.wait([task])
        return started

    assert _dead(run(check()))


def _dead(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            if "Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]:
                return True  # an orphan whose new parent has not looked yet
        except (FileNotFoundError, ProcessLookupError):
            return True
    return False


@needs_root
def test_output_that_is_closed_early_is_no_failure(script: Path) -> None:
    assert output(script, "echo key; exec >&-; exit 0") == (b"key\n", [])


@needs_root
@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (lambda path: path.chmod(0o775), "bad ownership or modes for file"),
        (lambda path: path.parent.chmod(0o777), "bad ownership or modes for directory"),
        (lambda path: os.chown(path, 12345, -1), "bad ownership or modes for file"),
        (lambda path: path.unlink(), "Could not stat"),
        (lambda path: (path.unlink(), path.mkdir(), None)[-1], "not a regular file"),
        (lambda path: path.chmod(0o644), "ermission denied"),
    ],
    ids=["group", "folder", "owner", "missing", "folder-itself", "not-executable"],
)
def test_a_program_that_others_could_have_written_is_not_run(script: Path, spoil: object, word: str) -> None:
    said: list[str] = []
    script.write_text("#!/bin/sh\necho key\n")
    spoil(script)  # type: ignore[operator]
    command = Command("AuthorizedKeysCommand", str(script), "root")
    try:
        found = run(command.run(ME, {}, lambda level, text: said.append(text), default=True))
    finally:
        if script.is_dir():
            script.rmdir()
    assert found == b""
    assert word in said[-1]


@pytest.mark.parametrize(
    ("line", "user", "word"),
    [
        ("true", "root", "path is not absolute"),
        ("/bin/true %x", "root", "%x"),
        ("/bin/true 'x", "root", "invalid quotes"),
        ("", "root", "invalid quotes"),
        ("/bin/true", "no-such-user-here", 'User "no-such-user-here" not found'),
        ("/bin/true", "", "not found"),
    ],
)
def test_what_cannot_be_run_says_so_once(line: str, user: str, word: str) -> None:
    said: list[str] = []
    command = Command("AuthorizedKeysCommand", line, user)
    assert run(command.run(ME, {}, lambda level, text: said.append(text), default=True)) == b""
    assert len(said) == 1
    assert word in said[0]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/bin/x a\tb", ["/bin/x", "a", "b"]),
        ("  '/a b' \"c d\" ", ["/a b", "c d"]),
        (r'\"a \'b a\ b "\"" c\d', ['"a', "'b", "a b", '"', r"c\d"]),
        ("a'b'c \"\" ''", ["abc", "", ""]),
        ("a\\", ["a\\"]),
    ],
)
def test_words(line: str, words: list[str]) -> None:
    assert split_words(line) == words


@given(st.text(alphabet="ab \t'\"\\%"))
def test_any_line_is_words_or_an_error(line: str) -> None:
    try:
        words = split_words(line)
    except ConfigError:
        return
    assert words
    assert sum(map(len, words)) <= len(line)
