"""Configuration that is made to hang, to grow, or to mean more than it says (docs/attacks.md, G)."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glasshell.cli import ssh
from glasshell.config import sshd_config
from glasshell.config.match import Login
from glasshell.config.parse import parse_lines, read_file
from glasshell.config.ssh_config import Facts, load
from glasshell.errors import ConfigError, UsageError
from glasshell.system.files import find_files, read_regular


def facts(files: dict[str, str], found: Sequence[str] = ()) -> Facts:
    def read(path: str) -> bytes:
        if path not in files:
            raise FileNotFoundError(2, "No such file or directory")
        return files[path].encode()

    return Facts(home="/h", user="u", read=read, find=lambda pattern: found or [pattern])


@pytest.mark.parametrize("special", ["fifo", "directory", "device"])
def test_g8_special_file(special: str, tmp_path: Path) -> None:
    """libssh CVE-2026-0965: opening it blocks for ever, or never ends."""
    path = tmp_path / "special"
    if special == "fifo":
        os.mkfifo(path)
    elif special == "directory":
        path.mkdir()
    else:
        path = Path("/dev/zero")
    for run in (
        lambda: load("h", ssh.facts(), file=str(path)),
        lambda: load("h", ssh.facts(), file=str(including(tmp_path, path))),
        lambda: read_file(str(including(tmp_path, path)), read_regular, find_files),
    ):
        began = time.monotonic()
        with pytest.raises(ConfigError, match=f"{path}|{tmp_path}/main"):
            run()
        assert time.monotonic() - began < 1


def including(folder: Path, path: Path) -> Path:
    main = folder / "main"
    main.write_text(f"Include {path}\n")
    return main


def test_g8_include_loop() -> None:
    with pytest.raises(ConfigError, match=r"/h/.ssh/config line 1: Include is nested more than 16 deep"):
        load("h", facts({"/h/.ssh/config": "Include /h/.ssh/config\n"}))
    with pytest.raises(ConfigError, match="line 2: Include is nested more than 16 deep"):
        load("h", facts({"/a": "\nInclude /b\n", "/b": "\nInclude /a\n"}), file="/a")


def test_g8_glob_bomb() -> None:
    files = {f"/x{n}": "Port 1\n" for n in range(400)}
    with pytest.raises(ConfigError, match="more than 256 configuration files"):
        load("h", facts({"/a": "Include /x*\n", **files}, found=sorted(files)), file="/a")


def test_g8_includes_that_double() -> None:
    """Sixteen levels of two Includes each are 65,536 files."""
    files = {f"/{n}": f"Include /{n + 1}\nInclude /{n + 1}\n" for n in range(15)} | {"/15": "Port 7\n"}
    began = time.monotonic()
    with pytest.raises(ConfigError, match="files were included 4096 times"):
        load("h", facts(files), file="/0")
    assert time.monotonic() - began < 5


def test_g8_tokens_are_replaced_once_and_within_bounds() -> None:
    text = "User a\nIdentityFile " + "%h" * 5000 + "\n"
    with pytest.raises(ConfigError, match=r"line 2: a value of \d+ characters"):
        load("h" * 200, facts({"/a": text}), file="/a")
    assert load("%n", facts({"/a": "IdentityFile /%h\n"}), file="/a").identity_files == ("/%n",)


def test_g8_a_line_or_a_file_without_an_end() -> None:
    with pytest.raises(ConfigError, match="/a line 1: a line of "):
        load("h", facts({"/a": "User " + "x" * 70000}), file="/a")
    with pytest.raises(ConfigError, match="/a: 2097152 bytes"):
        load("h", facts({"/a": "#" * (1 << 21)}), file="/a")


@given(st.binary(max_size=300))
def test_g8_any_bytes_are_a_configuration_or_an_error(data: bytes) -> None:
    stored = {"/a": data}
    where = Facts(home="/h", user="u", read=lambda path: stored[path], find=lambda pattern: ())
    for run in (
        lambda: load("h", where, file="/a"),
        lambda: sshd_config.load(read_file("/a", where.read, where.find)).at(Login(user="u", address="::1")),
    ):
        with contextlib.suppress(ConfigError):
            run()
    list(parse_lines(data, "/a"))


def test_g8_a_condition_from_the_future_never_holds() -> None:
    """paramiko 5.1.0 applied such blocks (seen): what is meant for few was for all."""
    words = ("tomorrow x", "!tomorrow x", "tomorrow=x", "tomorrow", "tomorrow host h", "host h tomorrow x")
    for word in words:
        found = load("h", facts({"/a": f"Match {word}\n  User root\n"}), file="/a")
        assert found.user == "u"
        assert "is not known: its block never applies" in found.warnings[0]
        if not word.startswith("!"):
            where = facts({"/a": f"Match {word}\n  PermitTTY no\n"})
            config = sshd_config.load(read_file("/a", where.read, where.find))
            assert "is not known: its block never applies" in config.warnings[0]
            assert config.at(Login(user="u", address="::1", host="h"))[1].permissions.pty


def options_of(words: Sequence[str]) -> None:
    said = ssh.parse(words)
    load(said.host, facts({}), command_line=said.lines, file="none")


NASTY = ["`id`", "$(id)", "a;id", "a'b", 'a"b', "a\nb", "a\0b", "-oProxyCommand=id", "a|b", "a&b", "a b",
         "a>b", "{a,b}"]  # fmt: skip


@pytest.mark.parametrize("name", NASTY)
def test_d9_a_host_that_a_shell_would_read(name: str) -> None:
    """CVE-2023-51385, CVE-2025-61984: refused before anything is built of it, whatever the files say."""
    for words in ([name], [f"u@{name}"], ["--", name]):
        with pytest.raises((UsageError, ConfigError)):
            ssh.parse(words)


@pytest.mark.parametrize("name", ["`id`", "a;id", "a'b", 'a"b', "a\nb", "-x", "a|b", "a -b", "a\\"])
def test_d9_a_user_that_a_shell_would_read(name: str) -> None:
    for words in ([f"{name}@h"], ["-l", name, "h"]):
        with pytest.raises((UsageError, ConfigError)):
            options_of(words)


@pytest.mark.parametrize("jump", ["`id`", "-x", "a;id", "a'b@h", "a,b;c", "$(id)@h", "h:99999", "@h", ""])
def test_d9_a_jump_that_a_shell_would_read(jump: str) -> None:
    with pytest.raises((UsageError, ConfigError)):
        options_of(["-o", f"ProxyJump={jump}", "h"])


def test_d9_a_users_name_out_of_a_token_is_judged_again() -> None:
    """CVE-2025-61984: %-tokens brought control characters into the user's name."""
    read = facts({"/a": "User ${EVIL}\n"}).read
    where = Facts(home="/h", user="u", read=read, environment={"EVIL": "a\n;id"})
    with pytest.raises(ConfigError, match="remote username contains invalid characters"):
        load("h", where, file="/a")
