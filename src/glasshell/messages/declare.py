"""The declaration language of the catalogue: one class is one message, in wire order.

    @message(90, "SSH_MSG_CHANNEL_OPEN", clause="RFC 4254 5.1")
    class ChannelOpen(Message):
        channel_type: Name
        sender_channel: U32 = doc("the opener's number for the channel")
        initial_window_size: U32
        maximum_packet_size: U32
        body: Body = by_name("channel_type", CHANNEL_TYPES)

From the one declaration come `encode`, `decode`, `describe` (fields with byte ranges and clause),
what is secret, the reference documentation and the test strategies.

The key of a message is (context, number): 30-49 depend on the key exchange method (RFC 4253 §8),
60-79 on the authentication method (RFC 4252 §6). What is not in the catalogue is an
`UnknownMessage`, shown as bytes.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import (
    Annotated,
    Any,
    ClassVar,
    Final,
    TypeAlias,
    TypeVar,
    cast,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

from .. import wire
from ..errors import MalformedMessage, UsageError
from ..wire import FieldType, Reader

GENERIC: Final = ""
"""The context of a message number that means one thing everywhere."""

U8: TypeAlias = Annotated[int, wire.Byte()]
Bool: TypeAlias = Annotated[bool, wire.Boolean()]
U32: TypeAlias = Annotated[int, wire.Uint32()]
U64: TypeAlias = Annotated[int, wire.Uint64()]
Bytes: TypeAlias = Annotated[bytes, wire.String()]
Content: TypeAlias = Annotated[bytes, wire.String(content=True)]
Text: TypeAlias = Annotated[str, wire.Text()]
Name: TypeAlias = Annotated[str, wire.Name()]
NameList: TypeAlias = Annotated[tuple[str, ...], wire.NameList()]
MPInt: TypeAlias = Annotated[int, wire.Mpint()]
Rest: TypeAlias = Annotated[bytes, wire.Rest()]
SecretBytes: TypeAlias = Annotated[wire.Secret, wire.SecretString()]


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """One field of a declared structure.

    `present_if` names a boolean field before it without which this one is absent; `choice` is
    (field, table): the value of that field selects the structure this one holds.
    """

    name: str
    type: FieldType[Any]
    doc: str = ""
    present_if: str = ""
    choice: tuple[str, Mapping[str, type[Struct]]] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Shown:
    """One field as `describe` gives it; `start` and `end` are byte offsets into the payload."""

    name: str
    type: str
    value: Any
    text: str
    start: int
    end: int
    clause: str
    secret: bool = False
    content: bool = False
    children: tuple[Shown, ...] = ()


class Struct:
    """Base of everything declared: a list of fields that can be read, written and described."""

    __slots__ = ()
    FIELDS: ClassVar[tuple[Field, ...]] = ()
    CLAUSE: ClassVar[str] = ""
    SECRET: ClassVar[bool] = False

    def encode(self) -> bytes:
        """The fields on the wire. Raises UsageError where a value does not fit its type."""
        out = bytearray()
        self.encode_into(out)
        return bytes(out)

    def encode_into(self, out: bytearray) -> None:
        """Appends the fields to `out`."""
        for field in self.FIELDS:
            value = getattr(self, field.name)
            if field.present_if and not getattr(self, field.present_if):
                continue
            if isinstance(value, Struct):
                value.encode_into(out)
                continue
            try:
                field.type.encode(value, out)
            except (ValueError, TypeError, OverflowError, AttributeError, wire.struct.error) as error:
                raise UsageError(f"{type(self).__name__}.{field.name}: {error}") from None

    @classmethod
    def decode_from(cls: type[S], reader: Reader) -> S:
        """Reads the fields. Raises MalformedMessage."""
        values = {field.name: value for field, value, _, _ in cls.walk(reader)}
        return cls(**values)

    @classmethod
    def walk(cls, reader: Reader) -> Iterator[tuple[Field, Any, int, int]]:
        """Yields (field, value, start, end) for each field as it is read."""
        seen: dict[str, Any] = {}
        for field in cls.FIELDS:
            start = reader.pos
            value = field_value(field, seen, reader)
            seen[field.name] = value
            yield field, value, start, reader.pos

    def __repr__(self) -> str:
        shown = ", ".join(
            f"{f.name}={v!r}" if isinstance(v, Struct) else f"{f.name}={_show(type(self), f, v)}"
            for f in self.FIELDS
            if (v := getattr(self, f.name)) is not None
        )
        return f"{type(self).__name__}({shown})"


S = TypeVar("S", bound=Struct)


def field_value(field: Field, seen: Mapping[str, Any], reader: Reader) -> Any:
    """Reads one field, given the values before it. Raises MalformedMessage."""
    if field.present_if and not seen[field.present_if]:
        return None
    if field.choice is not None:
        selector, table = field.choice
        chosen = table.get(seen[selector])
        if chosen is not None:
            return chosen.decode_from(reader)
    return field.type.decode(reader)


def hidden(cls: type[Struct], field: Field, value: Any) -> bool:
    """Whether `value` must not be seen: by its type, or because nobody knows what it is.

    Where some structures of a choice hold secrets, an unknown one may hold one too.
    """
    unknown = field.choice is not None and isinstance(value, bytes)
    return field.type.secret or (unknown and cls.SECRET)


def _show(cls: type[Struct], field: Field, value: Any) -> str:
    return "<redacted>" if hidden(cls, field, value) else field.type.show(value)


Body: TypeAlias = Annotated[Struct | bytes, wire.Rest()]
"""The fields that another field's value selects; bytes where that value is not in the catalogue."""


class Items(FieldType[tuple[Any, ...]]):
    """Repeated structures: `counted` by a uint32 before them, or until the end of the message."""

    def __init__(self, item: type[Struct], *, counted: bool) -> None:
        self.item = item
        self.counted = counted
        self.secret = item.SECRET
        self.name = f"{item.__name__}[]"

    def decode(self, reader: Reader) -> tuple[Any, ...]:
        if not self.counted:
            items = []
            while reader.left():
                items.append(self.item.decode_from(reader))
            return tuple(items)
        count = reader.uint32()
        if count > reader.left():  # an item takes a byte at least: no loop over a count that cannot be
            raise MalformedMessage(f"{count} items announced, {reader.left()} bytes left")
        return tuple(self.item.decode_from(reader) for _ in range(count))

    def encode(self, value: tuple[Any, ...], out: bytearray) -> None:
        if self.counted:
            out += wire.uint32(len(value))
        for item in value:
            item.encode_into(out)

    def show(self, value: tuple[Any, ...]) -> str:
        return ", ".join(repr(item) for item in value)


def doc(text: str, *, present_if: str = "") -> Any:
    """A field with a word of explanation, or one that is there only if a boolean before it is true."""
    metadata = {"doc": text, "present_if": present_if}
    return dataclasses.field(metadata=metadata, **({"default": None} if present_if else {}))


def by_name(selector: str, table: Mapping[str, type[Struct]], text: str = "") -> Any:
    """A field whose structure is selected by the value of the field `selector`."""
    return dataclasses.field(metadata={"doc": text, "choice": (selector, table)})


class Message(Struct):
    """Base of the messages: a structure with a number, a name and a context."""

    __slots__ = ()
    NUMBER: ClassVar[int] = 0
    NAME: ClassVar[str] = ""
    CONTEXT: ClassVar[str] = GENERIC

    def encode(self) -> bytes:
        """The payload: message number, then the fields."""
        out = bytearray((self.NUMBER,))
        self.encode_into(out)
        return bytes(out)

    @classmethod
    def decode(cls: type[M], payload: bytes | bytearray | memoryview) -> M:
        """Reads a whole payload, message number included; nothing may be left over.

        Raises MalformedMessage, whose text names the message.
        """
        reader = Reader(payload, 1)
        try:
            result = cls.decode_from(reader)
            reader.done()
        except MalformedMessage as error:
            raise MalformedMessage(f"{cls.NAME}: {error}", clause=cls.CLAUSE) from None
        return result


M = TypeVar("M", bound=Message)


@dataclasses.dataclass(frozen=True, slots=True)
class UnknownMessage:
    """A message that is not in the catalogue; `payload` includes the number."""

    context: str
    number: int
    payload: bytes


CATALOGUE: Final[dict[tuple[str, int], type[Message]]] = {}
"""Every declared message by (context, number)."""


@dataclass_transform(frozen_default=True, field_specifiers=(doc, by_name))
def message(
    number: int, name: str, *, clause: str, context: str = GENERIC
) -> Callable[[type[M]], type[M]]:
    """Declares a message and puts it in the catalogue."""

    def declare(cls: type[M]) -> type[M]:
        made = _declare(cls, clause)
        made.NUMBER, made.NAME, made.CONTEXT = number, name, context
        if (context, number) in CATALOGUE:
            raise TypeError(f"{name}: ({context!r}, {number}) is declared already")
        CATALOGUE[context, number] = made
        return made

    return declare


@dataclass_transform(frozen_default=True, field_specifiers=(doc, by_name))
def body(
    table: dict[str, type[Struct]] | None, name: str = "", *, clause: str
) -> Callable[[type[S]], type[S]]:
    """Declares a structure inside messages; `table[name]` selects it (None: it stands in `Items`)."""

    def declare(cls: type[S]) -> type[S]:
        made = _declare(cls, clause)
        if table is not None:
            table[name] = made
        return made

    return declare


def _declare(cls: type[S], clause: str) -> type[S]:
    """Turns the annotated class into a frozen dataclass with its list of fields."""
    made = cast("type[S]", dataclasses.dataclass(frozen=True, slots=True, repr=False)(cls))
    hints = get_type_hints(made, include_extras=True)
    made.CLAUSE = clause
    made.FIELDS = tuple(
        Field(
            name=f.name,
            type=_field_type(hints[f.name]),
            doc=f.metadata.get("doc", ""),
            present_if=f.metadata.get("present_if", ""),
            choice=f.metadata.get("choice"),
        )
        for f in dataclasses.fields(made)  # type: ignore[arg-type]
    )
    made.SECRET = any(
        f.type.secret or (f.choice is not None and any(s.SECRET for s in f.choice[1].values()))
        for f in made.FIELDS
    )
    return made


def _field_type(hint: Any) -> FieldType[Any]:
    if get_origin(hint) is Annotated:
        for extra in get_args(hint)[1:]:
            if isinstance(extra, FieldType):
                return extra
    for argument in get_args(hint):
        if argument is not type(None) and get_origin(argument) is Annotated:
            return _field_type(argument)
    raise TypeError(f"{hint!r} is not a field type")


def lookup(context: str, number: int) -> type[Message] | None:
    """The declaration of message `number` in `context`, or None."""
    return CATALOGUE.get((context, number)) or CATALOGUE.get((GENERIC, number))


def decode(payload: bytes | bytearray | memoryview, context: str = GENERIC) -> Message | UnknownMessage:
    """Reads a payload by the catalogue. Raises MalformedMessage."""
    if not payload:
        raise MalformedMessage("an empty payload", clause="RFC 4253 6")
    found = lookup(context, payload[0])
    return found.decode(payload) if found else UnknownMessage(context, payload[0], bytes(payload))


def message_name(number: int, context: str = GENERIC) -> str:
    """The name of a message, or `message N` where the catalogue has none."""
    found = lookup(context, number)
    return found.NAME if found else f"message {number}"


def describe(payload: bytes, context: str = GENERIC) -> tuple[Shown, ...]:
    """The fields of a payload with their byte ranges and clause, as far as it can be read.

    Bytes that cannot be read, or are left over, come last as a field named `unparsed`.
    """
    found = lookup(context, payload[0]) if payload else None
    reader = Reader(payload, min(1, len(payload)))
    shown: list[Shown] = []
    if found is not None:
        shown.append(Shown("message", "byte", found.NUMBER, found.NAME, 0, 1, found.CLAUSE))
        with contextlib.suppress(MalformedMessage):
            for item in _describe(found, reader):
                shown.append(item)
    covered = max((s.end for s in shown), default=0)
    if covered < len(payload):
        secret = found is not None and found.SECRET  # it may be the secret itself, cut short
        left = payload[covered:]
        text = "<redacted>" if secret else wire.Rest().show(left)
        shown.append(Shown("unparsed", "byte[]", left, text, covered, len(payload), "", secret))
    return tuple(shown)


def _describe(cls: type[Struct], reader: Reader) -> Iterator[Shown]:
    seen: dict[str, Any] = {}
    for field in cls.FIELDS:
        start = reader.pos
        value = seen[field.name] = field_value(field, seen, reader)
        if value is None:
            continue
        if isinstance(value, Struct):
            inner = Reader(reader.data, start)
            children = tuple(_describe(type(value), inner))
            yield Shown(
                field.name, type(value).__name__, value, "", start, reader.pos, type(value).CLAUSE,
                children=children,
            )  # fmt: skip
            continue
        yield Shown(
            field.name, field.type.name, value, _show(cls, field, value), start, reader.pos, cls.CLAUSE,
            secret=hidden(cls, field, value), content=field.type.content,
        )  # fmt: skip
