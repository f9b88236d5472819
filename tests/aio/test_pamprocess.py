"""A login's own process asked for PAM: real modules of Linux-PAM, services in a folder of the test's."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glasshell.errors import ConfigError
from glasshell.events import Prompts
from glasshell.system.accounts import current_account
from glasshell.system.pam import CODES
from glasshell.system.pamchild import MAX_PACKET, pack, unpack
from glasshell.wire import Secret
from tests.needs import absent

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux-PAM")

PATIENCE = 20.0
SECRET = b"open sesame 79b1"
T = TypeVar("T")

CHECK = f"""#!/bin/sh
# expose_authtok: the answer comes on standard input, with a NUL at its end.
test "$(tr -d '\\0')" = '{SECRET.decode()}'
"""
HOOK = """#!/bin/sh
echo "$PAM_TYPE $PAM_USER $PAM_RHOST $PAM_TTY $(id -u)" >>"${0%/*}/log"
"""
NEED = ("pam_exec.so", "pam_permit.so", "pam_deny.so", "pam_echo.so", "pam_env.so")


class Services:
    """A folder of services and scripts. `exec` stands for pam_exec with one of the scripts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name, text in (("check", CHECK), ("hook", HOOK)):
            (folder / name).write_text(text, "utf-8")
            (folder / name).chmod(0o755)

    def write(self, *lines: str) -> str:
        text = "\n".join(lines).replace("@", f"{self.folder}/")
        (self.folder / "glass").write_text(f"{text}\n", "utf-8")
        return "glass"

    @property
    def log(self) -> list[str]:
        path = self.folder / "log"
        return path.read_text("utf-8").splitlines() if path.exists() else []


@pytest.fixture
def services(tmp_path: Path) -> Services:
    places = [path for path in Path("/").glob("usr/lib/*/security") if (path / "pam_exec.so").exists()]
    if not places or not all((places[0] / name).exists() for name in NEED):
        absent("the modules of Linux-PAM (Debian's libpam-modules)")
    return Services(tmp_path)


def talk(work: Coroutine[Any, Any, T]) -> T:
    async def patiently() -> T:
        async with asyncio.timeout(PATIENCE):
            result = await work
            await over()
            return result

    return asyncio.run(patiently())


async def begun(services: Services, *lines: str, user: str = "ada") -> Any:
    from glasshell.aio.pamprocess import PamProcess

    process = PamProcess()
    reply = await process.start(user, services.write(*lines), "192.0.2.7", str(services.folder))
    assert reply.ok
    return process


async def over() -> None:
    """Waits until every process that was ended has."""
    from glasshell.aio.pamprocess import _ENDING

    await asyncio.gather(*_ENDING)


async def ended(pid: int) -> None:
    """Waits until a process has ended, whoever waits for it."""
    from glasshell.aio.pamprocess import _ended

    await _ended(pid)


ASKING = ("auth required pam_exec.so expose_authtok quiet @check", "account required pam_permit.so")


def test_a_round_for_each_question_and_the_answer_reaches_the_module(services: Services) -> None:
    async def work() -> None:
        process = await begun(services, *ASKING)
        asked = await process.authenticate()
        assert isinstance(asked, Prompts)
        assert [(each.text, each.echo) for each in asked.prompts] == [("Password: ", False)]
        reply = await process.answer([Secret(SECRET)])
        assert (reply.ok, reply.user) == (True, "ada")
        assert (await process.account()).ok
        process.end()

    talk(work())


def test_a_wrong_answer_is_refused_and_the_handle_serves_again(services: Services) -> None:
    async def work() -> None:
        process = await begun(services, *ASKING)
        assert isinstance(await process.authenticate(), Prompts)
        assert CODES[(await process.answer([Secret("wrong")])).code] == "PAM_SYSTEM_ERR"  # pam_exec's no
        assert (await process.check(Secret(SECRET))).ok
        process.end()

    talk(work())


@pytest.mark.parametrize(
    "answers",
    [[], [SECRET, SECRET], [SECRET + b"\0"], [b"x" * 1025], [b"\0" + SECRET]],
    ids=["none", "two", "NUL", "long", "NUL first"],
)
def test_c10_answers_that_are_none_fail_the_conversation(services: Services, answers: list[bytes]) -> None:
    async def work() -> None:
        process = await begun(services, *ASKING)
        assert isinstance(await process.authenticate(), Prompts)
        assert not (await process.answer([Secret(each) for each in answers])).ok
        process.end()

    talk(work())


def test_texts_stand_above_the_question_that_follows(services: Services) -> None:
    (services.folder / "text").write_text("The moon is full.\n", "utf-8")
    line = "auth optional pam_echo.so file=@text"

    async def work() -> None:
        process = await begun(services, line, *ASKING)
        asked = await process.authenticate()
        assert isinstance(asked, Prompts)
        assert asked.instruction == "The moon is full.\n"
        assert [each.text for each in asked.prompts] == ["Password: "]
        assert process.said() == ""
        process.end()

    talk(work())


def test_giving_up_ends_the_call(services: Services) -> None:
    async def work() -> None:
        process = await begun(services, *ASKING)
        assert isinstance(await process.authenticate(), Prompts)
        assert not (await process.give_up()).ok
        process.end()

    talk(work())


def test_the_session_opens_and_closes_around_the_programs(services: Services) -> None:
    (services.folder / "variables").write_text("GLASS=half full\n", "utf-8")
    lines = (
        "auth required pam_permit.so",
        "session required pam_env.so readenv=1 envfile=@variables conffile=/dev/null",
        "session required pam_exec.so @hook",
    )

    async def work() -> None:
        process = await begun(services, *lines)
        assert (await process.open_session()).ok
        assert process.environment["GLASS"] == "half full"
        arguments = ["sh", "-c", "echo $PPID $A; exit 7"]
        account = current_account()
        child, status = await process.start_program(account, arguments, {"A": "b\udcff"})
        assert (await status).status == 7
        assert os.read(child.stdout, 100) == b"%d b\xff\n" % process.pid
        child.close()
        me = os.geteuid()
        assert services.log == [f"open_session ada 192.0.2.7 ssh {me}"]
        process.end()
        await over()
        assert services.log[1:] == [f"close_session ada 192.0.2.7 ssh {me}"]

    talk(work())


def test_the_session_is_closed_where_the_server_dies(services: Services) -> None:
    async def work() -> None:
        process = await begun(services, "auth required pam_permit.so", "session required pam_exec.so @hook")
        assert (await process.open_session()).ok
        process._loop.remove_reader(process._sock)
        process._sock.close()  # all that the process can see of a server that is gone
        await ended(process.pid)
        assert [line.split()[0] for line in services.log] == ["open_session", "close_session"]
        process._process.wait()

    talk(work())


def test_the_session_is_closed_though_the_servers_loop_ends_first(services: Services) -> None:
    services.write()
    (services.folder / "hook").write_text(HOOK.replace("\n", "\nsleep 0.2\n", 1), "utf-8")

    async def work() -> None:
        process = await begun(services, "auth required pam_permit.so", "session required pam_exec.so @hook")
        assert (await process.open_session()).ok
        process.end()

    asyncio.run(work())
    deadline = time.monotonic() + PATIENCE
    while len(services.log) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert services.log[1].startswith("close_session")


def test_a_program_gets_its_signals_and_is_hung_up_at_the_end(services: Services) -> None:
    async def work() -> None:
        process = await begun(services, "auth required pam_permit.so", "session required pam_permit.so")
        assert (await process.open_session()).ok
        account = current_account()
        first, status = await process.start_program(account, ["sh", "-c", "sleep 60"], {})
        assert first.running
        assert first.send_signal("TERM")
        assert (await status).signal == "TERM"
        assert not first.running
        assert not first.send_signal("TERM")
        first.close()
        second, _ = await process.start_program(account, ["sh", "-c", "exec sleep 60"], {})
        hung_up = asyncio.ensure_future(ended(second.pid))
        await asyncio.sleep(0)
        process.end()
        await over()
        await hung_up

    talk(work())


def test_c17_a_module_that_sleeps_is_killed_with_its_login(services: Services) -> None:
    script = services.folder / "asleep"
    script.write_text("#!/bin/sh\nexec sleep 600\n", "utf-8")
    script.chmod(0o755)

    async def work() -> None:
        process = await begun(services, "auth required pam_exec.so @asleep")
        asking = asyncio.ensure_future(process.authenticate())
        await asyncio.sleep(0)
        began = time.monotonic()
        process.end()
        with pytest.raises(ConfigError, match="given up"):
            await asking
        await over()
        assert time.monotonic() - began < PATIENCE / 2
        with pytest.raises(ConfigError, match="has ended"):
            await process.account()

    talk(work())


def test_a_process_that_dies_fails_the_call(services: Services) -> None:
    async def work() -> None:
        process = await begun(services, *ASKING)
        assert isinstance(await process.authenticate(), Prompts)
        process._process.kill()
        with pytest.raises(ConfigError, match="process that asks PAM"):
            await process.answer([Secret(SECRET)])

    talk(work())


def test_an_unknown_service_is_refused(services: Services) -> None:
    """libpam falls back to `other`, of which there is none in the folder."""

    async def work() -> None:
        from glasshell.aio.pamprocess import PamProcess

        process = PamProcess()
        try:
            reply = await process.start("ada", "no-such-service", "192.0.2.7", str(services.folder))
            assert not reply.ok or not (await process.check(Secret("x"))).ok
        except ConfigError:
            pass
        process.end()

    talk(work())


def test_secrets_are_no_argument_and_no_variable_and_are_overwritten(services: Services) -> None:
    """Our own copies of a password are gone once it was judged: none is left in the process's memory."""
    if os.geteuid() != 0:
        absent("root, to look into a process's memory")

    async def work() -> None:
        process = await begun(services, *ASKING)
        assert isinstance(await process.authenticate(), Prompts)
        assert (await process.answer([Secret(SECRET)])).ok
        assert (await process.check(Secret(SECRET))).ok
        assert (await process.account()).ok  # asked after the last was put in order
        found = list(traces(Path(f"/proc/{process.pid}")))
        process.end()
        assert found == []

    talk(work())


def traces(place: Path) -> Iterator[str]:
    """Where a process has SECRET: argument, environment, or memory that it can write to."""
    yield from (name for name in ("cmdline", "environ") if SECRET in (place / name).read_bytes())
    with (place / "mem").open("rb", 0) as memory:
        for line in (place / "maps").read_text().splitlines():
            span, rights, *_ = line.split()
            start, end = (int(each, 16) for each in span.split("-"))
            if rights.startswith("rw") and "[stack]" not in line:  # where pam_exec has its own copy
                memory.seek(start)
                if SECRET in memory.read(end - start):
                    yield line


@given(st.binary(max_size=200))
def test_a_packet_is_read_or_refused(packet: bytes) -> None:
    try:
        operation, fields = unpack(packet)
    except ValueError:
        return
    assert pack(operation, *fields) == packet


@given(st.lists(st.binary(max_size=50), max_size=5))
def test_what_is_packed_is_read_again(fields: list[bytes]) -> None:
    assert unpack(pack(b"r", *fields)) == (b"r", fields)


def test_a_packet_has_a_bound() -> None:
    with pytest.raises(ValueError, match="too long"):
        pack(b"r", bytes(MAX_PACKET))


@pytest.mark.parametrize("packet", [b"!", b"!\0\0", b"e" + b"\0\0\0\1x" * 2, b"Q", pack(b"!", "x", "", "")])
def test_a_process_that_talks_nonsense_is_ended(services: Services, packet: bytes) -> None:
    async def work() -> None:
        process = await begun(services, *ASKING)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with process._sock, theirs:
            process._loop.remove_reader(process._sock)
            ours.setblocking(False)
            process._sock = ours
            process._loop.add_reader(ours, process._on_packet)
            asking = asyncio.ensure_future(process.account())
            await asyncio.sleep(0)
            theirs.send(packet)
            with pytest.raises(ConfigError, match="process that asks PAM"):
                await asking

    talk(work())
