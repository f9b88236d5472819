"""The command line as ssh(1) reads it."""

from __future__ import annotations

import pytest

from glasshell.cli.query import answer
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
    "text",
    [
        "",
        "-p",
        "-Z h",
        "-v",
        "--nope h",
        "-W nothing h",
        "-W h:0 x",
        "@h",
        "ssh://h/path",
        "ssh://",
        "ssh://h:x",
    ],
)
def test_what_cannot_be_meant(text: str) -> None:
    with pytest.raises(SSHError):
        said(text)


def test_no_host_is_needed_for_the_version_and_for_lists() -> None:
    assert said("-V").version
    assert said("-Q kex").query == "kex"


def test_ssh_2_may_be_asked_for_and_ssh_1_may_not() -> None:
    """sshfs says -2."""
    assert said("-2 -x h").host == "h"
    with pytest.raises(SSHError, match=r"SSH protocol v\.1 is no longer supported"):
        said("-1 h")
    with pytest.raises(SSHError, match="Tunnel device forwarding is not supported"):
        said("-w any h")


@pytest.mark.parametrize(
    ("query", "has", "lacks"),
    [
        ("cipher", "aes128-ctr", "hmac-sha2-256"),
        ("cipher-auth", "aes256-gcm@openssh.com", "aes128-ctr"),
        ("MACs", "hmac-sha2-256", "aes128-ctr"),
        ("kexalgorithms", "curve25519-sha256", "ext-info-c"),
        ("key", "ssh-ed25519-cert-v01@openssh.com", "rsa-sha2-256"),
        ("key-cert", "ssh-ed25519-cert-v01@openssh.com", "ssh-ed25519"),
        ("key-plain", "ssh-ed25519", "ssh-ed25519-cert-v01@openssh.com"),
        ("key-sig", "rsa-sha2-512-cert-v01@openssh.com", "aes128-ctr"),
        ("sig", "rsa-sha2-512", "ssh-ed25519-cert-v01@openssh.com"),
        ("compression", "zlib@openssh.com", "aes128-ctr"),
        ("protocol-version", "2", "1"),
        ("help", "cipher-auth", "help"),
    ],
)
def test_lists(query: str, has: str, lacks: str) -> None:
    rows = answer(query)
    assert has in rows
    assert lacks not in rows


def test_a_list_that_is_none() -> None:
    with pytest.raises(SSHError, match='Unsupported query "x"'):
        answer("x")


def test_what_stdio_forwarding_switches_gives_way_to_another_flag() -> None:
    """OpenSSH's sshcfgparse.sh: -W a:1 -o clearallforwardings=no."""
    said = parse(["-W", "a:1", "-o", "clearallforwardings=no", "h"])
    switched = [(line.keyword, line.args) for line in said.lines if line.keyword == "clearallforwardings"]
    assert switched == [("clearallforwardings", ("no",)), ("clearallforwardings", ("yes",))]
