"""AuthorizedPrincipalsFile: a name of certificates a line, behind options as authorized_keys has them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glasshell.keys.authorized_keys import Options, Permissions
from glasshell.keys.principals import AuthorizedPrincipals


def test_lines() -> None:
    text = 'ada\n# c\n\n  no-pty\tops # c\r\ncommand="a b",from="10.0.0.0/8"   web team\n'
    found = AuthorizedPrincipals.parse(text, "file")
    assert [line.reason for line in found.refused] == ['options that cannot be read from "   web" on']
    assert [(line.where, line.principal) for line in found.entries] == [("file:1", "ada"), ("file:4", "ops")]
    assert found.entries[1].options == Options(Permissions(pty=False))


def test_the_first_line_that_fits_decides_and_names_count_whole() -> None:
    found = AuthorizedPrincipals.parse("a,b\nrestrict b\nb\n")
    assert found.find(["b"]) is found.entries[1]
    assert found.find(["a"]) is None
    assert found.find(["a,b"]) is found.entries[0]
    assert found.find([]) is found.find([""]) is found.find(["*"]) is None


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("cert-authority ada", "cert-authority"),
        ('principals="x" ada', "principals"),
        ('cert-authority,principals="x" ada', "cert-authority"),
        ("no-such-option ada", "unknown"),
        ('command="x ada', "cannot be read"),
        ("no-pty, ada", "cannot be read"),
        ("a\0b no", "NUL"),
        (f'command="{"x" * 70000}" ada', "too long"),
    ],
)
def test_a_line_that_cannot_be_enforced_is_refused(line: str, word: str) -> None:
    found = AuthorizedPrincipals.parse(line)
    assert found.entries == ()
    assert word in found.refused[0].reason


@given(st.text(alphabet='ab \t"\\,#=\n\0-restrict'))
def test_any_text_is_read(text: str) -> None:
    found = AuthorizedPrincipals.parse(f"{text}\nada")
    assert all(line.principal and " " not in line.principal for line in found.entries)
