"""SSH_ASKPASS: when its program is asked (ssh(1), ENVIRONMENT), and what its answer is."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from glasshell.aio import askpass


@pytest.mark.parametrize(
    ("environment", "allowed", "preferred"),
    [
        ({}, False, False),
        ({"DISPLAY": ":0"}, True, False),
        ({"WAYLAND_DISPLAY": "wayland-0"}, True, False),
        ({"DISPLAY": ""}, False, False),
        ({"SSH_ASKPASS_REQUIRE": "never", "DISPLAY": ":0"}, False, False),
        ({"SSH_ASKPASS_REQUIRE": "prefer", "DISPLAY": ":0"}, True, True),
        ({"SSH_ASKPASS_REQUIRE": "prefer"}, False, False),
        ({"SSH_ASKPASS_REQUIRE": "force"}, True, True),
        ({"SSH_ASKPASS_REQUIRE": "FORCE"}, True, True),
        ({"SSH_ASKPASS_REQUIRE": "sometimes", "DISPLAY": ":0"}, True, False),
    ],
)
def test_when_the_program_is_asked(environment: dict[str, str], allowed: bool, preferred: bool) -> None:
    assert (askpass.allowed(environment), askpass.preferred(environment)) == (allowed, preferred)


def script(folder: Path, text: str) -> dict[str, str]:
    path = folder / "askpass"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o700)
    return {"SSH_ASKPASS": str(path), "DISPLAY": ":0", "PATH": "/usr/bin:/bin"}


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("echo secret", b"secret"),
        ("printf 'secret'", b"secret"),
        ("printf 'one\\r\\ntwo\\n'", b"one"),
        ("echo", b""),
        ('printf "%s" "$1"', b"What is it? $(id) '"),
        ('printf "%s" "$SSH_ASKPASS_PROMPT"', b""),
        ("echo secret; exit 1", None),
        ("kill -9 $$", None),
        ("head -c 100000 /dev/zero | tr '\\0' x", b"x" * 1023),
    ],
)
def test_the_answer(tmp_path: Path, text: str, answer: bytes | None) -> None:
    environment = script(tmp_path, text) | {"SSH_ASKPASS_PROMPT": "confirm"}
    said = asyncio.run(askpass.ask("What is it? $(id) '", environment=environment))
    assert (said.reveal() if said is not None else None) == answer
    assert said is None or "secret" not in repr(said)


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    environment = {"SSH_ASKPASS": str(tmp_path / "none"), "DISPLAY": ":0"}
    assert asyncio.run(askpass.ask("?", environment=environment)) is None
    assert not asyncio.run(askpass.confirm("?", environment))
    assert asyncio.run(askpass.ask("a\0b", environment=script(tmp_path, "echo x"))) is None


@pytest.mark.parametrize(
    ("text", "yes"), [("echo yes", True), ("echo YES", True), ("echo", True), ("echo no", False),
                      ("exit 1", False), ("echo yes please", False)]
)  # fmt: skip
def test_confirm(tmp_path: Path, text: str, yes: bool) -> None:
    assert asyncio.run(askpass.confirm("May I?", script(tmp_path, text))) is yes
    kind = script(tmp_path, 'test "$SSH_ASKPASS_PROMPT" = confirm')
    assert asyncio.run(askpass.confirm("May I?", kind))


def test_where_nobody_can_be_asked_the_answer_is_no(tmp_path: Path) -> None:
    environment = script(tmp_path, "echo yes")
    del environment["DISPLAY"]
    assert not asyncio.run(askpass.confirm("May I?", environment))


def test_a_program_that_is_waited_for_no_longer_is_ended(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "up")
    environment = script(tmp_path, f"echo $$ > {tmp_path}/up; exec sleep 60")

    async def work() -> int:
        asking = asyncio.ensure_future(askpass.ask("?", environment=environment))
        async with asyncio.timeout(10):
            pid = int(await asyncio.to_thread((tmp_path / "up").read_text))
            asking.cancel()
            await asyncio.wait([asking])
        return pid

    with pytest.raises(ProcessLookupError):
        os.kill(asyncio.run(work()), 0)


def test_a_notice_is_there_while_its_block_runs(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "shown")
    text = f'echo "$SSH_ASKPASS_PROMPT|$1" > {tmp_path}/shown; exec sleep 60'

    async def work() -> str:
        async with askpass.Notice("Touch it", script(tmp_path, text)), asyncio.timeout(10):
            return await asyncio.to_thread((tmp_path / "shown").read_text)

    assert asyncio.run(work()) == "none|Touch it\n"
