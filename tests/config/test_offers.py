"""The algorithms that a configuration file names, for an audit."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glasshell.config.offers import Offers, offers_in
from glasshell.errors import ConfigError


def read(text: str, *, path: str = "/f", kind: str | None = None) -> Offers:
    return offers_in(path, lambda _: text.encode(), lambda _: (), home="/h", kind=kind)


def test_what_is_not_built_here_is_named_too() -> None:
    found = read("HostKey /k\nCiphers 3des-cbc,aes256-ctr\nMACs hmac-md5\nMatch User x\nKexAlgorithms a,b\n")
    assert found.role == "server"
    assert found.names == {"cipher": ("3des-cbc", "aes256-ctr"), "mac": ("hmac-md5",), "kex": ("a", "b")}
    assert found.where["cipher"] == "/f line 2"


def test_blocks_add_up() -> None:
    found = read("Host a\nCiphers x\nHost b\nCiphers y,x\n")
    assert (found.role, found.names) == ("client", {"cipher": ("x", "y")})
    assert found.where["cipher"] == "/f line 2, /f line 4"


@pytest.mark.parametrize(
    ("value", "names", "note"),
    [("+x", ("x",), "adds"), ("^x", ("x",), "adds"), ("-x", None, "takes names away")],
)
def test_changes_of_a_default(value: str, names: tuple[str, ...] | None, note: str) -> None:
    found = read(f"Host *\nMACs {value}\n")
    assert found.names.get("mac") == names
    assert any(note in each for each in found.notes)


@pytest.mark.parametrize(
    ("text", "path", "role"),
    [("Port 1\n", "/etc/ssh/sshd_config", "server"), ("Port 1\n", "/home/x/.ssh/config", "client"),
     ("MACs x\n", "/f", "client")],
)  # fmt: skip
def test_whose_file_it_is(text: str, path: str, role: str) -> None:
    assert read(text, path=path).role == role


def test_neither() -> None:
    with pytest.raises(ConfigError, match="neither an ssh_config nor an sshd_config"):
        read("hello there\n")
    assert read("hello there\n", kind="server").role == "server"


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(ConfigError):
        read(text, kind="client")
