"""Lines, quoting, Include and values, as ssh_config(5) and sshd_config(5) describe them."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glasshell.config import forms
from glasshell.config.forms import algorithm_list, seconds, size, yes_no
from glasshell.config.parse import flatten, parse_line, read_file
from glasshell.crypto.registry import Kind
from glasshell.errors import ConfigError
from glasshell.keys.patterns import match_list


@pytest.mark.parametrize(
    ("text", "keyword", "args"),
    [
        ("Port 22", "port", ("22",)),
        ("\tPort = 22  # the usual", "port", ("22",)),
        ("Port=22\r", "port", ("22",)),
        ('"Port" 22', "port", ("22",)),
        ("AcceptEnv LANG LC_*", "acceptenv", ("LANG", "LC_*")),
        ("SetEnv A=b C=d", "setenv", ("A=b", "C=d")),
        ('Banner "/etc/my banner"', "banner", ("/etc/my banner",)),
        (r"Banner /etc/my\ banner", "banner", ("/etc/my banner",)),
        (r'Banner "a \"quoted\" one"', "banner", ('a "quoted" one',)),
        (r"Banner C:\new", "banner", (r"C:\new",)),
        ("Banner a#b", "banner", ("a#b",)),
    ],
)
def test_a_line(text: str, keyword: str, args: tuple[str, ...]) -> None:
    line = parse_line(text, "f", 7)
    assert line is not None
    assert (line.keyword, line.args, line.where) == (keyword, args, "f line 7")


@pytest.mark.parametrize("text", ["", "   ", "# Port 22", "  \t# x"])
def test_nothing_in_the_line(text: str) -> None:
    assert parse_line(text, "f", 1) is None


@pytest.mark.parametrize(
    "text", ["Port", "Port =", "Port # 22", 'Port "22', "= 22", "Port 2\0", "P " + "x" * 70000]
)
def test_a_line_that_is_wrong_is_named(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^f line 3: "):
        parse_line(text, "f", 3)


@given(st.text())
def test_any_line_parses_or_is_a_config_error(text: str) -> None:
    with contextlib.suppress(ConfigError):
        parse_line(text, "f", 1)


def test_the_rest_of_a_line_is_kept_as_written() -> None:
    line = parse_line("ForceCommand  echo  'a  b' | cat", "f", 1)
    assert line is not None
    assert line.rest == "echo  'a  b' | cat"


# -- Include


def lines_of(files: dict[str, str], **options: str) -> list[tuple[str, str]]:
    def read(path: str) -> bytes:
        try:
            return files[path].encode()
        except KeyError:
            raise FileNotFoundError(2, "No such file or directory") from None

    def find(pattern: str) -> list[str]:
        return sorted(p for p in files if match_list(p, [pattern]))

    return [(line.name, line.where) for line in flatten(read_file("/etc/main", read, find, **options))]


def test_included_lines_stand_where_the_include_stands() -> None:
    files = {"/etc/main": "A 1\nInclude d/*.conf\nD 4", "/etc/d/1.conf": "B 2\n", "/etc/d/2.conf": "\nC 3\n"}
    assert lines_of(files, base="/etc") == [
        ("A", "/etc/main line 1"), ("B", "/etc/d/1.conf line 1"), ("C", "/etc/d/2.conf line 2"),
        ("D", "/etc/main line 3"),
    ]  # fmt: skip


def test_an_include_that_names_no_file_is_no_error() -> None:
    assert lines_of({"/etc/main": "Include /nowhere/*\nA 1"}) == [("A", "/etc/main line 2")]


def test_a_home() -> None:
    assert lines_of({"/etc/main": "Include ~/c", "/home/u/c": "A 1"}, home="/home/u") == [
        ("A", "/home/u/c line 1")
    ]
    with pytest.raises(ConfigError, match="main line 1: Include ~/c"):
        lines_of({"/etc/main": "Include ~/c"})


def test_a_loop_of_includes_ends_in_an_error() -> None:
    with pytest.raises(ConfigError, match="main line 1: Include is nested more than 16 deep"):
        lines_of({"/etc/main": "Include /etc/main"})


def test_a_bomb_of_includes_ends_in_an_error() -> None:
    with pytest.raises(ConfigError, match="more than 256 configuration files"):
        lines_of({"/etc/main": "Include /etc/b*"} | {f"/etc/b{n}": "A 1" for n in range(300)})


def test_a_giant_file_is_refused() -> None:
    with pytest.raises(ConfigError, match="/etc/main: "):
        lines_of({"/etc/main": "#" * (1 << 21)})


# -- values: the examples of sshd_config(5), TIME FORMATS


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("600", 600),
        ("10m", 600),
        ("1h30m", 5400),
        ("0", 0),
        ("2W", 1209600),
        ("1d1s", 86401),
        ("1.5", 1),
        ("1m2.5s", 62),
    ],
)
def test_seconds(text: str, value: int) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize(
    "text", ["", "x", "10y", "-1", "1.5m", "1.", "1s2", "1 m", "9999999999", "1" * 40, "٣"]
)
def test_no_time(text: str) -> None:
    with pytest.raises(ConfigError):
        seconds(text)


@pytest.mark.parametrize(("text", "value"), [("512", 512), ("64K", 65536), ("1m", 1 << 20), ("4G", 4 << 30)])
def test_size(text: str, value: int) -> None:
    assert size(text) == value


@pytest.mark.parametrize("text", ["", "K", "1T", "-1", "1.5G", "1 G"])
def test_no_size(text: str) -> None:
    with pytest.raises(ConfigError):
        size(text)


def test_rekey_limit() -> None:
    assert forms.rekey_limit(["default", "none"]) == (None, None)
    assert forms.rekey_limit(["1G", "1h"]) == (1 << 30, 3600)
    with pytest.raises(ConfigError):
        forms.rekey_limit(["8"])


def test_yes_no() -> None:
    assert yes_no("Yes")
    assert not yes_no("no")
    with pytest.raises(ConfigError):
        yes_no("perhaps")


DEFAULTS = ("aes256-gcm@openssh.com", "aes256-ctr")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("aes128-ctr,aes256-ctr", ("aes128-ctr", "aes256-ctr")),
        ("+aes192-ctr,aes256-ctr", (*DEFAULTS, "aes192-ctr")),
        ("^aes192-ctr", ("aes192-ctr", *DEFAULTS)),
        ("-*gcm*", ("aes256-ctr",)),
        ("3des-cbc,aes128-ctr", ("aes128-ctr",)),
        ("+aes1*-ctr", (*DEFAULTS, "aes128-ctr", "aes192-ctr")),
    ],
)
def test_algorithms(value: str, expected: tuple[str, ...]) -> None:
    assert algorithm_list(Kind.CIPHER, value, DEFAULTS) == expected


@pytest.mark.parametrize("value", ["", "3des-cbc", "-aes*", "aes256_ctr"])
def test_a_list_with_nothing_in_it_is_refused(value: str) -> None:
    with pytest.raises(ConfigError, match="no cipher of"):
        algorithm_list(Kind.CIPHER, value, DEFAULTS)


def test_what_is_not_built_is_told() -> None:
    assert forms.unknown_algorithms(Kind.CIPHER, "+3des-cbc,aes128-ctr") == ("3des-cbc",)
    assert forms.unknown_algorithms(Kind.CIPHER, "-3des-cbc") == ()
