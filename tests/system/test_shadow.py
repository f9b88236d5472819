"""Passwords by shadow(5), without PAM: hashes of another program, nobody told apart."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from glasshell.errors import ConfigError
from glasshell.system import shadow
from glasshell.system.shadow import check_password

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="libcrypt")

# What `openssl passwd -5` and `-6` make of it with the salt "saltstring".
PASSWORD = b"Hello world!"
SHA256 = "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5"
SHA512 = (
    "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1"
)
LINES = f"""root:*:19000:0:99999:7:::
ada:{SHA256}:19000:0:99999:7:::
bob:{SHA512}:19000:0:99999:7:::
locked:!{SHA256}:19000:0:99999:7:::
open::19000:0:99999:7:::
odd:$99$nothing$knows:19000:0:99999:7:::
short
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "shadow"
    path.write_text(LINES, "utf-8")
    return path


@pytest.mark.parametrize("user", ["ada", "bob"])
def test_hashes_of_openssl(user: str, file: Path) -> None:
    assert check_password(user, PASSWORD, empty_passwords=False, shadow=file)
    assert not check_password(user, b"hello world!", empty_passwords=False, shadow=file)


@pytest.mark.parametrize("user", ["root", "locked", "odd", "short", "nobody-here", ""])
@pytest.mark.parametrize("password", [PASSWORD, b"", b"*", b"*0", b"!"])
def test_whose_password_is_none_never_gets_in(user: str, password: bytes, file: Path) -> None:
    assert not check_password(user, password, empty_passwords=True, shadow=file)


def test_an_empty_password_where_it_may_be(file: Path) -> None:
    assert check_password("open", b"", empty_passwords=True, shadow=file)
    assert not check_password("open", b"", empty_passwords=False, shadow=file)
    assert not check_password("open", b"x", empty_passwords=True, shadow=file)


def test_nobody_costs_one_hash_of_the_machines_own_kind(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings: list[bytes] = []
    real = shadow._crypt
    monkeypatch.setattr(shadow, "_crypt", lambda p, s: settings.append(s) or real(p, s))
    for user in ("ada", "root", "nobody-here"):
        check_password(user, b"wrong", empty_passwords=False, shadow=file)
    assert settings == [SHA256.encode()] * 3


def test_a_file_that_cannot_be_read_is_an_error_and_no_yes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="passwords cannot be checked"):
        check_password("ada", PASSWORD, empty_passwords=True, shadow=tmp_path / "none")
