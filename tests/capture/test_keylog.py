"""Key logs of both generations, as Wireshark's documentation and OpenSSH's patch write them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from glasshell.capture import keylog
from glasshell.capture.keylog import KeyLog

COOKIE = bytes(range(16))


def log(text: str | bytes) -> KeyLog:
    made = KeyLog()
    made.add(text, "file")
    return made


def test_both_forms_comments_and_line_ends() -> None:
    made = log(
        "# a comment\r\n\r\n"
        f"{COOKIE.hex()} 0a0B\r\n"
        f"{COOKIE.hex().upper()} SHARED_SECRET ff\n"
        f"  {COOKIE.hex()}  PRIVATE_KEY  0a0b  "
    )
    found = [(each.label, each.value.reveal(), each.source) for each in made.find(COOKIE)]
    assert found == [("SHARED_SECRET", b"\xff", "file:4"), ("PRIVATE_KEY", b"\x0a\x0b", "file:3")]
    assert not made.troubles
    assert made.find(bytes(16)) == []


def test_bad_lines_are_named_and_the_rest_is_read() -> None:
    made = log(
        f"nonsense\n{COOKIE.hex()} WHAT 00\n{COOKIE.hex()[:-1]} 00\n{COOKIE.hex()} xyz\n"
        f"{COOKIE.hex()} 00 01 02\n{COOKIE.hex()} {'0' * keylog.MAX_LINE}\n{COOKIE.hex()} 07\n"
    )
    assert [line.partition(": ")[0] for line in made.troubles] == [f"file:{n}" for n in range(1, 7)]
    assert [each.value.reveal() for each in made.find(COOKIE)] == [b"\x07"]


def test_secrets_are_not_shown() -> None:
    assert "deadbeef" not in repr(log(f"{COOKIE.hex()} deadbeef").find(COOKIE)[0]).lower()


def test_growth_is_bounded() -> None:
    made = log("".join(f"{COOKIE.hex()} {n:08x}\n" for n in range(100)) + "bad\n" * 100)
    assert len(made.find(COOKIE)) == keylog.MAX_PER_COOKIE
    assert len(made.troubles) == keylog.MAX_NAMED
    assert made.bad == 100 + 100 - keylog.MAX_PER_COOKIE


@given(st.binary(max_size=300))
def test_any_bytes_are_read(data: bytes) -> None:
    made = log(data)
    assert len(made.troubles) <= data.count(b"\n") + 1
