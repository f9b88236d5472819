"""RFC 4251 §5: the data types of the protocol.

`Reader` is a cursor that never reads past its end; a `FieldType` is one data type: how it is read,
written and shown. The catalogue (`glasshell.messages`) is written in these field types.
"""

from __future__ import annotations

import hmac
import struct
from functools import lru_cache
from typing import Final, Generic, TypeVar

from .errors import MalformedMessage

T = TypeVar("T")

_U32 = struct.Struct(">I")
_U64 = struct.Struct(">Q")

MAX_NAME: Final = 64
"""Longest algorithm or method name, in bytes (RFC 4251 §6)."""

MAX_KNOWN: Final = 1024
"""Longest name-list, in bytes, that is kept to be known again."""

_NAME_BYTES: Final = bytes(set(range(0x21, 0x7F)) - {0x2C})

MAX_MPINT: Final = 2049
"""Longest mpint taken, in bytes: a 16,384-bit integer and its sign byte."""


class Secret:
    """Bytes that must not be seen: shown, formatted and logged as `<redacted>`.

    `reveal()` is the only way to the value, so that every use of it can be found by name.
    """

    __slots__ = ("_value",)

    def __init__(self, value: bytes | bytearray | memoryview | str) -> None:
        self._value = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else bytes(value)

    def reveal(self) -> bytes:
        """The value, in bytes."""
        return self._value

    def text(self) -> str:
        """The value as text; bytes that are not UTF-8 survive as surrogates."""
        return self._value.decode("utf-8", "surrogateescape")

    def __len__(self) -> int:
        return len(self._value)

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value, other._value)

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __repr__(self) -> str:
        return "<redacted>"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a Secret is not pickled")


def visible(value: str | bytes) -> str:
    """`value` with everything unprintable escaped, safe for a terminal and for one line of a log.

    Control characters, C1, bidirectional controls and bytes that are not UTF-8 come out as octal
    escapes of their bytes, as OpenSSH's vis(3) writes them.
    """
    text = value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else "".join(f"\\{b:03o}" for b in c.encode("utf-8", "surrogateescape"))
        for c in text
    )


class Reader:
    """A cursor over the bytes of one message; every read past the end is a `MalformedMessage`."""

    __slots__ = ("data", "end", "pos")

    def __init__(self, data: bytes | bytearray | memoryview, pos: int = 0) -> None:
        self.data = bytes(data)
        self.pos = pos
        self.end = len(self.data)

    def take(self, count: int) -> bytes:
        """The next `count` bytes. Raises MalformedMessage where fewer are left."""
        start = self.pos
        if count > self.end - start:
            raise MalformedMessage(f"{count} bytes wanted at offset {start}, {self.end - start} left")
        self.pos = start + count
        return self.data[start : start + count]

    def byte(self) -> int:
        """An unsigned byte."""
        return self.take(1)[0]

    def boolean(self) -> bool:
        """A boolean; every non-zero value is true (RFC 4251 §5)."""
        return self.take(1)[0] != 0

    def uint32(self) -> int:
        """An unsigned 32-bit integer."""
        start = self.pos
        if self.end - start < 4:
            self.take(4)
        self.pos = start + 4
        return int(_U32.unpack_from(self.data, start)[0])

    def uint64(self) -> int:
        """An unsigned 64-bit integer."""
        return int(_U64.unpack(self.take(8))[0])

    def string(self) -> bytes:
        """A length-prefixed string of bytes; the length is checked before anything is allocated."""
        start = self.pos + 4
        if start > self.end:
            self.take(4)
        stop = start + int(_U32.unpack_from(self.data, start - 4)[0])
        if stop > self.end:
            self.pos = start
            self.take(stop - start)
        self.pos = stop
        return self.data[start:stop]

    def text(self) -> str:
        """A string of UTF-8; bytes that are not UTF-8 survive as surrogates, so nothing is lost."""
        return self.string().decode("utf-8", "surrogateescape")

    def name(self) -> str:
        """One name of RFC 4251 §6 in a string: printable US-ASCII without comma, 1 to 64 bytes, or empty."""
        raw = self.string()
        if len(raw) > MAX_NAME:
            raise MalformedMessage(f"a name of {len(raw)} bytes; {MAX_NAME} are allowed", clause="RFC 4251 6")
        return _check_name(raw)

    def name_list(self) -> tuple[str, ...]:
        """A comma-separated list of names; an empty string is the empty list."""
        raw = self.string()
        return _names_again(raw) if len(raw) <= MAX_KNOWN else _names(raw)

    def mpint(self) -> int:
        """A two's complement integer in its shortest form (RFC 4251 §5)."""
        raw = self.string()
        if len(raw) > MAX_MPINT:
            raise MalformedMessage(f"an mpint of {len(raw)} bytes; {MAX_MPINT} are allowed")
        value = int.from_bytes(raw, "big", signed=True)
        if mpint_body(value) != raw:
            raise MalformedMessage("an mpint that is not in its shortest form")
        return value

    def rest(self) -> bytes:
        """Everything that is left."""
        return self.take(self.end - self.pos)

    def left(self) -> int:
        """How many bytes are left."""
        return self.end - self.pos

    def done(self) -> None:
        """Raises MalformedMessage where bytes are left over: none are ignored."""
        if self.pos != self.end:
            raise MalformedMessage(f"{self.end - self.pos} bytes too many after offset {self.pos}")


def _names(raw: bytes) -> tuple[str, ...]:
    if not raw:
        return ()
    names = raw.split(b",")
    for name in names:
        if not name or len(name) > MAX_NAME:
            raise MalformedMessage(f"a name of {len(name)} bytes in a name-list; 1 to {MAX_NAME} are allowed")
    return tuple(map(_check_name, names))


_names_again = lru_cache(maxsize=128)(_names)
"""Everybody offers the lists of their program: they are read, and kept, once."""


def _check_name(raw: bytes) -> str:
    if raw.translate(None, _NAME_BYTES):
        raise MalformedMessage(f"a name with a forbidden character: {visible(raw)}", clause="RFC 4251 6")
    return raw.decode("ascii")


def uint32(value: int) -> bytes:
    """`value` as four bytes, big endian."""
    return _U32.pack(value)


def uint64(value: int) -> bytes:
    """`value` as eight bytes, big endian."""
    return _U64.pack(value)


def string(value: bytes | bytearray | memoryview) -> bytes:
    """`value` with its length before it."""
    return _U32.pack(len(value)) + bytes(value)


def mpint_body(value: int) -> bytes:
    """The shortest two's complement form of `value`, without the length (RFC 4251 §5)."""
    if value == 0:
        return b""
    bits = value.bit_length() if value > 0 else (~value).bit_length()
    return value.to_bytes(bits // 8 + 1, "big", signed=True)


def mpint(value: int) -> bytes:
    """`value` as an mpint: its length, then the shortest two's complement form."""
    return string(mpint_body(value))


class FieldType(Generic[T]):
    """One data type: `decode` reads it, `encode` appends it, `show` is its text for people.

    `secret` fields are never shown and are wiped before a record reaches a sink; `content` fields
    (a channel's data) are shown as their length.
    """

    name: str = ""
    secret: bool = False
    content: bool = False

    def decode(self, reader: Reader) -> T:
        """Reads one value. Raises MalformedMessage."""
        raise NotImplementedError

    def encode(self, value: T, out: bytearray) -> None:
        """Appends `value` to `out`."""
        raise NotImplementedError

    def show(self, value: T) -> str:
        """`value` in one line, safe for a terminal."""
        return str(value)


class Byte(FieldType[int]):
    """`byte`: an octet read as a number."""

    name = "byte"

    def decode(self, reader: Reader) -> int:
        return reader.byte()

    def encode(self, value: int, out: bytearray) -> None:
        out.append(value)


class Boolean(FieldType[bool]):
    """`boolean`."""

    name = "boolean"

    def decode(self, reader: Reader) -> bool:
        return reader.boolean()

    def encode(self, value: bool, out: bytearray) -> None:
        out.append(1 if value else 0)

    def show(self, value: bool) -> str:
        return "true" if value else "false"


class Uint32(FieldType[int]):
    """`uint32`."""

    name = "uint32"

    def decode(self, reader: Reader) -> int:
        return reader.uint32()

    def encode(self, value: int, out: bytearray) -> None:
        out += _U32.pack(value)


class Uint64(FieldType[int]):
    """`uint64`."""

    name = "uint64"

    def decode(self, reader: Reader) -> int:
        return reader.uint64()

    def encode(self, value: int, out: bytearray) -> None:
        out += _U64.pack(value)


def _show_bytes(value: bytes) -> str:
    head = value[:32].hex()
    return head if len(value) <= 32 else f"{head}... ({len(value)} bytes)"


class String(FieldType[bytes]):
    """`string` of arbitrary bytes."""

    name = "string"

    def __init__(self, *, content: bool = False) -> None:
        self.content = content

    def decode(self, reader: Reader) -> bytes:
        return reader.string()

    def encode(self, value: bytes, out: bytearray) -> None:
        out += _U32.pack(len(value))
        out += value

    def show(self, value: bytes) -> str:
        return f"{len(value)} bytes" if self.content else _show_bytes(value)


class SecretString(FieldType[Secret]):
    """`string` that is secret: it is decoded to a `Secret` and shown as `<redacted>`."""

    name = "string"
    secret = True

    def decode(self, reader: Reader) -> Secret:
        return Secret(reader.string())

    def encode(self, value: Secret, out: bytearray) -> None:
        raw = value.reveal()
        out += _U32.pack(len(raw))
        out += raw


class Text(FieldType[str]):
    """`string` of UTF-8 text (RFC 3629); bytes that are not UTF-8 round-trip as surrogates."""

    name = "string"

    def decode(self, reader: Reader) -> str:
        return reader.text()

    def encode(self, value: str, out: bytearray) -> None:
        raw = value.encode("utf-8", "surrogateescape")
        out += _U32.pack(len(raw))
        out += raw

    def show(self, value: str) -> str:
        return visible(value)


class Name(FieldType[str]):
    """`string` that holds one name of RFC 4251 §6."""

    name = "string"

    def decode(self, reader: Reader) -> str:
        return reader.name()

    def encode(self, value: str, out: bytearray) -> None:
        raw = value.encode("ascii")
        out += _U32.pack(len(raw))
        out += raw


class NameList(FieldType[tuple[str, ...]]):
    """`name-list`."""

    name = "name-list"

    def decode(self, reader: Reader) -> tuple[str, ...]:
        return reader.name_list()

    def encode(self, value: tuple[str, ...], out: bytearray) -> None:
        raw = ",".join(value).encode("ascii")
        out += _U32.pack(len(raw))
        out += raw

    def show(self, value: tuple[str, ...]) -> str:
        return ",".join(value)


class Mpint(FieldType[int]):
    """`mpint`."""

    name = "mpint"

    def decode(self, reader: Reader) -> int:
        return reader.mpint()

    def encode(self, value: int, out: bytearray) -> None:
        out += mpint(value)

    def show(self, value: int) -> str:
        return f"{_show_bytes(mpint_body(value))} ({value.bit_length()} bits)"


class Raw(FieldType[bytes]):
    """`byte[n]`: exactly `count` bytes without a length."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.name = f"byte[{count}]"

    def decode(self, reader: Reader) -> bytes:
        return reader.take(self.count)

    def encode(self, value: bytes, out: bytearray) -> None:
        if len(value) != self.count:
            raise ValueError(f"{len(value)} bytes, not {self.count}")
        out += value

    def show(self, value: bytes) -> str:
        return _show_bytes(value)


class Rest(FieldType[bytes]):
    """Whatever is left of the message."""

    name = "byte[]"

    def decode(self, reader: Reader) -> bytes:
        return reader.rest()

    def encode(self, value: bytes, out: bytearray) -> None:
        out += value

    def show(self, value: bytes) -> str:
        return _show_bytes(value)
