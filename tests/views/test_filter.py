"""The filter's language as wireshark-filter(4) has it; that tshark agrees is tested beside the captures."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glasshell.views.filter import MAX_LENGTH, MAX_NESTING, FilterError, Kind, parse_filter

KINDS = {
    "n": Kind.INT, "b": Kind.BOOL, "t": Kind.TEXT, "o": Kind.BYTES, "ip.addr": Kind.ADDRESS,
    "when": Kind.TIME, "none": Kind.INT, "ssh": Kind.PROTOCOL, "more": Kind.INT, "o2": Kind.BYTES,
}  # fmt: skip
VALUES = {
    "n": (20, 21), "b": (True,), "t": ("SSH-2.0-OpenSSH_9.2p1 Debian", 'quo"te'), "o": (b"\xaa\xbb\x0c",),
    "ip.addr": ("192.0.2.7", "2001:db8::1"), "when": (1_500_000_000,), "ssh": (True,), "more": (21, 99),
    "o2": (b"\xaa\xbb\x0c",),
}  # fmt: skip


def holds(text: str) -> bool:
    asked = parse_filter(text, KINDS)
    return asked(lambda name: VALUES.get(name, ()))


TRUE = """
n == 20
n eq 21
n == 0x14
n == 024
n != 7
n !== 20
n > 20
n ge 21
n < 21
n <= 20
n in {1, 21}
n in {1..20}
n in { 30 .. 40 , 20 }
n
ssh
!none
not none
not (n == 7)
n == 20 && n == 21
n == 7 || n == 20
n == 7 or n == 20 and b
b == 1
b == true
b
t contains "OpenSSH"
t contains OpenSSH
t == "quo\\"te"
t matches "openssh_[89]\\."
t matches r"OPENSSH_9\\.\\d"
t ~ "debian$"
t < "T"
o == aa:bb:0c
o == aa-bb-c
o == aabb0c
o contains bb:0c
o contains "\\xbb"
o matches "^\\\\xaa"
o == o2
ip.addr == 192.0.2.7
ip.addr == 192.0.2.0/24
ip.addr == 2001:db8::1
ip.addr in {10.0.0.0/8, 192.0.2.1..192.0.2.9}
ip.addr != 10.0.0.1
ip.addr > 192.0.2.6
n == more
when == 1.5
when > 1
when < 1.500000001
!(n == 7) && !b == false
""".strip().splitlines()

FALSE = """
n != 20
n === 20
none != 1
none
n in {1..19}
t == "ssh"
t contains "openssh"
ip.addr == 192.0.2.8
ip.addr != 192.0.2.7
o == aa:bb
!ssh
not n
n == 20 and n == 7
""".strip().splitlines()


@pytest.mark.parametrize("text", TRUE)
def test_it_holds(text: str) -> None:
    assert holds(text)


@pytest.mark.parametrize("text", FALSE)
def test_it_does_not_hold(text: str) -> None:
    assert not holds(text)


WRONG = [
    ("", 0, "an empty filter"),
    ("   ", 0, "an empty filter"),
    ("n ==", 4, "the filter ends where a value should be"),
    ("n == 1 n", 7, "`n` stands where"),
    ("(n == 1", 7, "`)` should be"),
    ("n == x", 5, "x is not a number"),
    ('n == "1"', 5, '"1" is not a number'),
    ("n contains 1", 2, "n is a number: `contains` is for text and bytes"),
    ('t matches "("', 10, "not a regular expression"),
    ("o == xyz", 5, "xyz is not bytes"),
    ("ip.addr == 300.1.2.3", 11, "300.1.2.3 is not an IP address"),
    ('t == "abc', 5, "a string that does not end"),
    ("nn == 1", 0, "nn"),
    ("n in 1", 5, "`{` should be"),
    ("n in {1; 2}", 7, "';' means nothing here"),
    ("n in {1 2}", 8, "`,` or `}` should be"),
    ("ssh == 1", 4, "ssh is a protocol"),
    ("n == 1 && ", 10, "a field should be"),
    ("== 1", 0, "`==` stands where a field should be"),
    ("n == 1 @", 7, "'@' means nothing here"),
]


@pytest.mark.parametrize(("text", "at", "words"), WRONG)
def test_what_is_wrong_is_said_with_its_place(text: str, at: int, words: str) -> None:
    with pytest.raises(FilterError) as caught:
        parse_filter(text, KINDS)
    assert words in str(caught.value)
    assert caught.value.at == at
    assert "<HERE>" in caught.value.hint


def test_it_is_bounded() -> None:
    deep = MAX_NESTING - 1
    parse_filter("(" * deep + "n" + ")" * deep, KINDS)
    for text in ("(" * 5000 + "n" + ")" * 5000, "!" * 5000 + "n", "n" * (MAX_LENGTH + 1)):
        with pytest.raises(FilterError):
            parse_filter(text, KINDS)


NUMBERS = st.integers(0, 30)
TEXTS = st.recursive(
    st.builds("n {} {}".format, st.sampled_from(["==", "!=", "<", ">=", "==="]), NUMBERS)
    | st.builds("n in {{{}, {}..{}}}".format, NUMBERS, NUMBERS, NUMBERS)
    | st.sampled_from(["n", "none", "b == true"]),
    lambda inner: (
        st.builds("({} {} {})".format, inner, st.sampled_from(["&&", "or", "and", "||"]), inner)
        | st.builds("!{}".format, inner)
        | st.builds("not ({})".format, inner)
    ),
    max_leaves=8,
)


def meant(text: str, numbers: tuple[int, ...]) -> bool:
    """The same question by Python's own parser."""
    import re

    comparisons = {
        "==": lambda w: any(v == w for v in numbers),
        "!=": lambda w: bool(numbers) and all(v != w for v in numbers),
        "<": lambda w: any(v < w for v in numbers), ">=": lambda w: any(v >= w for v in numbers),
        "===": lambda w: bool(numbers) and all(v == w for v in numbers),
    }  # fmt: skip
    python = re.sub(r"n (==|!=|<|>=|===) (\d+)", lambda m: str(comparisons[m[1]](int(m[2]))), text)
    python = re.sub(
        r"n in \{(\d+), (\d+)\.\.(\d+)\}",
        lambda m: str(any(v == int(m[1]) or int(m[2]) <= v <= int(m[3]) for v in numbers)),
        python,
    )
    python = re.sub(r"\bnone\b", "False", python.replace("b == true", "True"))
    python = re.sub(r"\bn\b", str(bool(numbers)), python)
    python = python.replace("!", " not ").replace("&&", " and ").replace("||", " or ")
    return bool(eval(python))


@settings(max_examples=200)
@given(TEXTS, st.lists(NUMBERS, max_size=3).map(tuple))
def test_the_logic_is_that_of_python(text: str, numbers: tuple[int, ...]) -> None:
    values = {"n": numbers, "b": (True,)}
    assert parse_filter(text, KINDS)(lambda name: values.get(name, ())) == meant(text, numbers)


SIGNS = [
    "n",
    "t",
    "o",
    "==",
    "!=",
    "(",
    ")",
    "{",
    "}",
    '"',
    "1",
    "aa:bb",
    "in",
    "not",
    "&&",
    "..",
    "\\",
    'r"',
    "/",
    ",",
]


@settings(max_examples=500)
@given(st.text(max_size=40) | st.lists(st.sampled_from(SIGNS), max_size=12).map(" ".join))
def test_any_text_is_a_filter_or_an_error_with_a_place(text: str) -> None:
    try:
        asked = parse_filter(text, KINDS)
    except FilterError as error:
        at = error.at
    else:
        asked(lambda name: VALUES.get(name, ()))
        at = 0
    assert 0 <= at <= len(text)
