"""The command line as ssh(1) reads it."""

from __future__ import annotations

import pytest

from glasshell.cli.ssh import Invocation, parse
from glasshell.errors import SSHError


def said(text: str) -> Invocation:
    return parse(text.split())


def lines(text: str) -> list[str]:
    return [f"{line.name} {line.rest}" for line in said(text).lines]


@pytest.mark.parametrize(
    ("text", "host", "command"),
    [
        ("h", "h", None),
        ("h ls -l", "h", "ls -l"),
        ("-v h -p 22 ls -p 1", "h", "ls -p 1"),
        ("-p22 h -- -x y", "h", "-x y"),
        ("-- h ls", "h", "ls"),
        ("a@b@h", "h", None),
        ("ssh://ada@[::1]:2222 id", "::1", "id"),
        ("h --timeline ls --timeline", "h", "ls --timeline"),
    ],
)
def test_the_host_ends_no_flags_and_the_command_does(text: str, host: str, command: str | None) -> None:
    assert (said(text).host, said(text).command) == (host, command)


def test_flags_are_lines_in_their_order() -> None:
    assert lines("-p2222 -l ada grace@h -4NT") == [
        "Port 2222", "User ada", "User grace", "AddressFamily inet", "SessionType none", "RequestTTY no",
        "RequestTTY no",
    ]  # fmt: skip
    assert lines("-oPort=1 -o User=x -L 1:h:2 -R[::1]:3:h:4 h") == [
        "Port 1", "User x", "LocalForward 1:h:2", "RemoteForward [::1]:3:h:4",
    ]  # fmt: skip
    assert lines("ssh://a%40b@h:7") == ["User a@b", "Port 7"]


def test_flags_that_count() -> None:
    assert lines("-vv -v h")[0] == "LogLevel DEBUG3"
    assert lines("-vvvvv h")[0] == "LogLevel DEBUG3"
    assert lines("-t h")[0] == "RequestTTY yes"
    assert lines("-tt h")[0] == "RequestTTY force"


def test_stdio_forwarding_forwards_nothing_else() -> None:
    found = said("-W [::1]:80 h")
    assert found.stdio_forward == ("::1", 80)
    assert "ClearAllForwardings yes" in lines("-W a:80 h")


@pytest.mark.parametrize(
    "text", ["", "-p", "-Z h", "-v", "--nope h", "-W nothing h", "-W h:0 x", "@h", "ssh://h/path", "ssh://", "ssh://h:x"]
)
def test_what_cannot_be_meant(text: str) -> None:
    with pytest.raises(SSHError):
        said(text)
