r"""Display filters over fields, in Wireshark's language (wireshark-filter(4)).

    ssh.message_code == 50 && ssh.userauth_user_name contains "adm"
    ssh.direction == 1 and not (ssh.message_code in {2, 4, 90..100})
    ssh.protocol matches "openssh_[89]\."  ||  ip.addr == 192.0.2.0/24
    ssh.cookie == 93:4b:18:df:d4:6d:2c:9b:c2:cf:74:63:78:9c:93:4c
    sftp.path

A field that stands alone asks whether it is there. A field may have several values: a comparison holds
where it holds for one of them, `!=` where it holds for all, as in Wireshark since 3.6. Of that language
there are no slices, functions and arithmetic.
"""

from __future__ import annotations

import enum
import ipaddress
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeAlias

from ..errors import UsageError

MAX_LENGTH: Final = 8192
"""Longest filter, in characters."""

MAX_NESTING: Final = 64
"""Deepest nesting of parentheses and negations."""

MAX_SEARCHED: Final = 1 << 16
"""So much of a value is searched by `matches`, in characters."""


class Kind(enum.Enum):
    """What the values of a field are, and what they can be compared with."""

    INT = "a number"
    BOOL = "true or false"
    TEXT = "text"
    BYTES = "bytes"
    ADDRESS = "an IP address"
    TIME = "a time in seconds"
    PROTOCOL = "a protocol"


Get: TypeAlias = Callable[[str], Sequence[Any]]
"""The values of a field by its name: int (TIME: nanoseconds), bool, str (ADDRESS too) or bytes."""

Test: TypeAlias = Callable[[Get], bool]


class FilterError(UsageError):
    """A filter that cannot be understood; `at` is the place, in characters from 0."""

    def __init__(self, message: str, text: str, at: int) -> None:
        shown = text.replace("\n", " ").replace("\t", " ")
        super().__init__(f"{message}, at character {at + 1} of the filter", hint=_pointer(shown, at))
        self.at = at


def _pointer(text: str, at: int) -> str:
    start = max(at - 40, 0)
    piece = ("..." if start else "") + text[start : start + 80]
    return f"{piece[: at - start + (3 if start else 0)]}<HERE>{piece[at - start + (3 if start else 0) :]}"


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter that was understood: the fields it asks for, and the question."""

    text: str
    fields: frozenset[str]
    test: Test

    def __call__(self, get: Get) -> bool:
        """Whether it holds for what `get` knows."""
        return self.test(get)


def parse_filter(text: str, kinds: Mapping[str, Kind], unknown: Callable[[str], str] = str) -> Filter:
    """Reads a filter over the fields of `kinds`. Raises FilterError.

    `unknown` makes the message about a name that is no field.
    """
    if len(text) > MAX_LENGTH:
        raise FilterError(f"a filter of {len(text)} characters; {MAX_LENGTH} are allowed", text, MAX_LENGTH)
    parser = _Parser(text, kinds, unknown)
    test = parser.whole()
    return Filter(text, frozenset(parser.fields), test)


# --- words


class Token(NamedTuple):
    """One word: `kind` is "word", "string", "sign" or "end"; `value` of a string is its content."""

    kind: str
    value: str
    at: int


SIGNS: Final = (
    "===",
    "!==",
    "==",
    "!=",
    "<=",
    ">=",
    "&&",
    "||",
    "~=",
    "(",
    ")",
    "{",
    "}",
    ",",
    "!",
    "<",
    ">",
    "~",
)
NAMES: Final = {
    "eq": "==", "ne": "!=", "gt": ">", "lt": "<", "ge": ">=", "le": "<=", "and": "&&", "or": "||", "not": "!",
    "any_eq": "==", "all_ne": "!=", "all_eq": "===", "any_ne": "!==", "~=": "!==", "~": "matches",
}  # fmt: skip
"""Other ways to write a sign."""

ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_WORD: Final = re.compile(r"[A-Za-z0-9_./:+-]+")


def _tokens(text: str) -> Iterable[Token]:
    at = 0
    while at < len(text):
        char = text[at]
        if char.isspace():
            at += 1
        elif char == '"' or text[at : at + 2] in ('r"', 'R"'):
            value, end = _string(text, at)
            yield Token("string", value, at)
            at = end
        elif sign := next((each for each in SIGNS if text.startswith(each, at)), None):
            yield Token("sign", NAMES.get(sign, sign), at)
            at += len(sign)
        elif word := _WORD.match(text, at):
            name = word.group()
            known = NAMES.get(name.lower())
            if known is None and name.lower() in ("contains", "matches", "in"):
                known = name.lower()
            yield Token("sign", known, at) if known else Token("word", name, at)
            at = word.end()
        else:
            raise FilterError(f"{char!r} means nothing here", text, at)
    yield Token("end", "", len(text))


def _string(text: str, start: int) -> tuple[str, int]:
    """A string with its escapes undone, and where it ends; `r` before it: no escapes but of the quote."""
    raw = text[start] != '"'
    at = start + 1 + raw
    out = bytearray()
    while at < len(text) and text[at] != '"':
        if text[at] != "\\" or at + 1 == len(text):
            piece, taken = text[at], 1
        elif raw:
            piece, taken = text[at : at + 2], 2
        elif text[at + 1] in "xX" and re.fullmatch(r"[0-9A-Fa-f]{2}", text[at + 2 : at + 4]):
            out.append(int(text[at + 2 : at + 4], 16))
            piece, taken = "", 4
        else:
            piece, taken = ESCAPES.get(text[at + 1], text[at + 1]), 2
        out += piece.encode("utf-8", "surrogatepass")
        at += taken
    if at >= len(text):
        raise FilterError("a string that does not end", text, start)
    return out.decode("utf-8", "surrogateescape"), at + 1


# --- the grammar


ORDER: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "==": operator.eq, "!=": operator.ne, "===": operator.eq, "!==": operator.ne,
    "<": operator.lt, ">": operator.gt, "<=": operator.le, ">=": operator.ge,
}  # fmt: skip
FOR_ALL: Final = frozenset({"!=", "==="})
"""The comparisons that must hold for every value; the others for one."""


class _Parser:
    """Recursive descent: or, and, not, parentheses, tests."""

    def __init__(self, text: str, kinds: Mapping[str, Kind], unknown: Callable[[str], str]) -> None:
        self.text = text
        self.kinds = kinds
        self.unknown = unknown
        self.fields: set[str] = set()
        self._tokens = list(_tokens(text))
        self._next = 0
        self._depth = 0

    def whole(self) -> Test:
        if self._peek().kind == "end":
            raise FilterError("an empty filter", self.text, 0)
        test = self._any()
        if self._peek().kind != "end":
            raise self._wrong(self._peek(), "`and`, `or` or the end")
        return test

    def _any(self) -> Test:
        tests = [self._all()]
        while self._take("||"):
            tests.append(self._all())
        return tests[0] if len(tests) == 1 else lambda get: any(test(get) for test in tests)

    def _all(self) -> Test:
        tests = [self._not()]
        while self._take("&&"):
            tests.append(self._not())
        return tests[0] if len(tests) == 1 else lambda get: all(test(get) for test in tests)

    def _not(self) -> Test:
        self._depth += 1
        if self._depth > MAX_NESTING:
            raise FilterError(f"nested deeper than {MAX_NESTING}", self.text, self._peek().at)
        if self._take("!"):
            test = self._not()
            negated: Test = lambda get: not test(get)  # noqa: E731
        elif self._take("("):
            negated = self._any()
            if not self._take(")"):
                raise self._wrong(self._peek(), "`)`")
        else:
            negated = self._test()
        self._depth -= 1
        return negated

    def _test(self) -> Test:
        name, kind = self._field()
        sign = self._peek()
        if sign.kind == "sign" and (sign.value in ORDER or sign.value in ("contains", "matches", "in")):
            if kind is Kind.PROTOCOL:
                raise FilterError(f"{name} is a protocol: it is there or not", self.text, sign.at)
            self._next += 1
            return self._comparison(name, kind, sign)
        return lambda get: bool(get(name))

    def _comparison(self, name: str, kind: Kind, sign: Token) -> Test:
        if sign.value == "in":
            return self._member(name, kind)
        if sign.value in ("contains", "matches") and kind not in (Kind.TEXT, Kind.BYTES):
            raise FilterError(
                f"{name} is {kind.value}: `{sign.value}` is for text and bytes", self.text, sign.at
            )
        token = self._operand()
        if sign.value == "contains":
            return _contains(name, self._literal(token, kind))
        if sign.value == "matches":
            return _matches(name, self._pattern(token))
        compare, every = ORDER[sign.value], sign.value in FOR_ALL
        if token.kind == "word" and self.kinds.get(token.value) is kind:
            return _fields_compare(name, self._known(token), compare, every)
        wanted = self._literal(token, kind)
        if kind is Kind.ADDRESS:
            return _address_test(name, wanted, sign.value)
        if every:
            return lambda get: bool(values := get(name)) and all(compare(value, wanted) for value in values)
        return lambda get: any(compare(value, wanted) for value in get(name))

    def _member(self, name: str, kind: Kind) -> Test:
        if not self._take("{"):
            raise self._wrong(self._peek(), "`{`")
        tests: list[Test] = []
        while True:
            token = self._operand()
            while (
                token.kind == "word"
                and self._peek().kind == "word"
                and (token.value.endswith("..") or self._peek().value.startswith(".."))
            ):
                token = token._replace(value=token.value + self._operand().value)
            low, dots, high = token.value.partition("..") if token.kind == "word" else (token.value, "", "")
            first = self._literal(token._replace(value=low), kind)
            if dots:
                last = self._literal(token._replace(value=high, at=token.at + len(low) + 2), kind)
                tests.append(_between(name, first, last))
            elif kind is Kind.ADDRESS:
                tests.append(_address_test(name, first, "=="))
            else:
                tests.append(lambda get, wanted=first: any(value == wanted for value in get(name)))  # type: ignore[misc]
            if self._take("}"):
                return lambda get: any(test(get) for test in tests)
            if not self._take(","):
                raise self._wrong(self._peek(), "`,` or `}`")

    def _field(self) -> tuple[str, Kind]:
        token = self._peek()
        if token.kind != "word":
            raise self._wrong(token, "a field")
        self._next += 1
        return self._known(token), self.kinds[token.value]

    def _known(self, token: Token) -> str:
        if token.value not in self.kinds:
            raise FilterError(self.unknown(token.value), self.text, token.at)
        self.fields.add(token.value)
        return token.value

    def _operand(self) -> Token:
        token = self._peek()
        if token.kind not in ("word", "string"):
            raise self._wrong(token, "a value")
        self._next += 1
        return token

    def _literal(self, token: Token, kind: Kind) -> Any:
        try:
            return _LITERALS[kind](token)
        except ValueError:
            shown = f'"{token.value}"' if token.kind == "string" else token.value
            raise FilterError(f"{shown} is not {kind.value}", self.text, token.at) from None

    def _pattern(self, token: Token) -> re.Pattern[str]:
        try:
            return re.compile(token.value, re.IGNORECASE | re.DOTALL)
        except (re.error, OverflowError, RecursionError) as error:
            raise FilterError(f"not a regular expression: {error}", self.text, token.at) from None

    def _peek(self) -> Token:
        return self._tokens[self._next]

    def _take(self, sign: str) -> bool:
        taken = self._peek().kind == "sign" and self._peek().value == sign
        self._next += taken
        return taken

    def _wrong(self, token: Token, wanted: str) -> FilterError:
        found = "the filter ends" if token.kind == "end" else f"`{token.value}` stands"
        return FilterError(f"{found} where {wanted} should be", self.text, token.at)


# --- values


def _number(token: Token) -> int:
    if token.kind == "string":
        raise ValueError
    if len(token.value) > 40:
        raise ValueError
    if re.fullmatch(r"0[0-7]+", token.value):
        return int(token.value, 8)
    return (
        int(token.value, 0) if token.value.lower() not in TRUE_FALSE else int(TRUE_FALSE[token.value.lower()])
    )


TRUE_FALSE: Final = {"true": True, "false": False}


def _boolean(token: Token) -> bool:
    lower = token.value.lower()
    return TRUE_FALSE[lower] if lower in TRUE_FALSE else bool(_number(token))


def _octets(token: Token) -> bytes:
    if token.kind == "string":
        return token.value.encode("utf-8", "surrogateescape")
    plain = re.fullmatch(
        r"(?:0x)?((?:[0-9A-Fa-f]{2})+|[0-9A-Fa-f]{1,2}(?:[:.-][0-9A-Fa-f]{1,2})+:?)", token.value
    )
    if plain is None:
        raise ValueError
    parts = re.split(r"[:.-]", plain[1].rstrip(":"))
    return bytes.fromhex(parts[0] if len(parts) == 1 else "".join(part.zfill(2) for part in parts))


Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


def _network(token: Token) -> Network:
    return ipaddress.ip_network(token.value, strict=False)


def _nanoseconds(token: Token) -> int:
    whole = re.fullmatch(r"(\d{1,12})(?:\.(\d{1,9})\d{0,20})?", token.value)
    if whole is None:
        raise ValueError
    return int(whole[1]) * 10**9 + int((whole[2] or "").ljust(9, "0"))


_LITERALS: Final[Mapping[Kind, Callable[[Token], Any]]] = {
    Kind.INT: _number, Kind.BOOL: _boolean, Kind.TEXT: lambda token: token.value, Kind.BYTES: _octets,
    Kind.ADDRESS: _network, Kind.TIME: _nanoseconds,
}  # fmt: skip


# --- tests


def _contains(name: str, wanted: str | bytes) -> Test:
    return lambda get: any(wanted in value for value in get(name))


def _matches(name: str, pattern: re.Pattern[str]) -> Test:
    def searched(value: str | bytes) -> str:
        head = value[:MAX_SEARCHED]
        return head if isinstance(head, str) else head.decode("latin-1")

    return lambda get: any(pattern.search(searched(value)) for value in get(name))


def _between(name: str, low: Any, high: Any) -> Test:
    if isinstance(low, Network):
        version, first, last = low.version, int(low.network_address), int(high.broadcast_address)
        return lambda get: any(
            each.version == version == high.version and first <= int(each) <= last
            for each in map(_address, get(name))
        )
    return lambda get: any(low <= value <= high for value in get(name))


def _fields_compare(name: str, other: str, compare: Callable[[Any, Any], bool], every: bool) -> Test:
    def test(get: Get) -> bool:
        pairs = [(a, b) for a in get(name)[:64] for b in get(other)[:64]]
        return bool(pairs) and (all if every else any)(compare(a, b) for a, b in pairs)

    return test


@lru_cache(maxsize=256)
def _address(value: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(value)


def _address_test(name: str, wanted: Network, sign: str) -> Test:
    """Equality is membership of a network; order is that of the numbers, within one family."""

    def holds(value: str) -> bool:
        address = _address(value)
        same = address.version == wanted.version
        if sign in ("==", "==="):
            return same and address in wanted
        if sign in ("!=", "!=="):
            return not (same and address in wanted)
        return same and ORDER[sign](int(address), int(wanted.network_address))

    if sign in FOR_ALL:
        return lambda get: bool(values := get(name)) and all(holds(value) for value in values)
    return lambda get: any(holds(value) for value in get(name))
