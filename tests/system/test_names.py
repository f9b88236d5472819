"""A name is believed where it leads back to its address, and only there."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from glasshell.system import names


@pytest.mark.parametrize(
    ("name", "addresses", "wanted", "said"),
    [
        ("Host.Example", ["192.0.2.9", "192.0.2.1"], "host.example", ""),
        ("host.example", ["192.0.2.9"], None, "does not map back"),
        ("host.example", [], None, "getaddrinfo"),
        ("192.0.2.1", ["192.0.2.1"], None, "Nasty PTR record"),
        ("::1", ["192.0.2.1"], None, "Nasty PTR record"),
        (None, [], None, ""),
        ("a\x1b]0;\x07", ["192.0.2.9"], None, "does not map back"),
    ],
)
def test_names(
    name: str | None, addresses: list[str], wanted: str | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reverse(*_: Any) -> tuple[str, str]:
        if name is None:
            raise socket.gaierror("no name")
        return name, "0"

    def forward(*_: Any, **__: Any) -> list[Any]:
        if not addresses:
            raise socket.gaierror("no address")
        return [(2, 1, 6, "", (each, 0)) for each in addresses]

    monkeypatch.setattr(socket, "getnameinfo", reverse)
    monkeypatch.setattr(socket, "getaddrinfo", forward)
    found, reason = names.host_name("192.0.2.1")
    assert found == wanted
    assert said in reason
    assert reason.isprintable()


def test_an_address_that_is_none() -> None:
    assert names.host_name("UNKNOWN") == (None, "")
