"""Lines of .shosts and shosts.equiv, as hosts.equiv(5) and OpenSSH have them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glasshell.keys.rhosts import admits, parse_rhosts


def decide(text: str, *, host: str = "box.example", address: str = "192.0.2.7", client: str = "ada",
           user: str = "ada") -> bool:  # fmt: skip
    return admits(parse_rhosts(text.encode()), host, address, client, user) is not None


@pytest.mark.parametrize("text", [
    "box.example", "BOX.example", "192.0.2.7", "box.example ada", "+box.example +ada", "# no\n\nbox.example",
    "other\nbox.example", "NO_PLUS\nbox.example", "  box.example\tada  ", "@group\nbox.example",
])  # fmt: skip
def test_what_admits(text: str) -> None:
    assert decide(text)


@pytest.mark.parametrize("text", [
    "", "other", "+", "+ +", "-", "- ada", "box.example +", "-box.example", "box.example -ada",
    "-box.example\nbox.example", "box.example ada more", "box.example bob", "@group", "box.example @group",
    "-@group\nbox.example", "box.example -@group\nbox.example", "#box.example", "box.example\0",
    "box.example" + " " * 1100,
])  # fmt: skip
def test_what_does_not(text: str) -> None:
    assert not decide(text)


def test_without_a_name_it_is_the_same_user() -> None:
    assert not decide("box.example", client="bob")
    assert decide("box.example bob", client="bob")
    assert not decide("box.example bob", client="ada")


@given(st.binary(max_size=200), st.text(max_size=10), st.text(max_size=10))
def test_noise_is_read_and_admits_nobody_it_does_not_name(data: bytes, host: str, user: str) -> None:
    line = admits(parse_rhosts(data), host, "192.0.2.7", user, "root")
    if line is not None:
        assert line.host.lower() in (host.lower(), "192.0.2.7")
        assert (line.user or "root") == user
