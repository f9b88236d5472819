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
60-79 on the authentication method (RFC 4252 §6). A subsystem's protocol is a context whose numbers
are all its own (`SUBSYSTEMS`). What is not in the catalogue is an `UnknownMessage`, shown as bytes.
"""

from __future__ import annotations

import contextlib
import enum
import struct
from collections.abc import Callable, Iterator, Mapping
from inspect import get_annotations
from typing import (
    Annotated,
    Any,
    ClassVar,
    Final,
    TypeAlias,
    TypeVar,
    dataclass_transform,
    get_args,
    get_origin,
)

from .. import values, wire
from ..errors import MalformedMessage, UsageError
from ..values import MISSING, Spec, slotted, specs
from ..wire import FieldType, Reader

LENGTH: Final = 4
"""Bytes of the length before the content of a string."""

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


Table: TypeAlias = "Mapping[str, type[Struct]]"
"""Structures by the name that selects them."""


@slotted(frozen=True)
class Field:
    """One field of a declared structure.

    `present_if` names a boolean field before it without which this one is absent, or with `bits` a field of
    flags that must have one of these bits; `choice` is (field, table): the value of that field selects the
    structure this one holds. `guarded`: bytes that no structure of the table explains are taken for a secret.
    """

    name: str
    type: FieldType[Any]
    put: Callable[[Any, Any], None]
    """Puts its value into a structure that is being read."""
    doc: str = ""
    present_if: str = ""
    bits: int = -1
    choice: tuple[str, Table] | None = None
    guarded: bool = False
    plain: bool = values.field(init=False)
    """Whether it is always there, and of one type: as nearly all are."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "plain", not self.present_if and self.choice is None)


@slotted(frozen=True)
class Shown:
    """One field as `describe` gives it; `start` and `end` are byte offsets into the payload.

    `holds` is the class whose fields the `children` are; of repeated structures, each child has its own.
    """

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
    holds: str = ""


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
            try:
                if field.plain:
                    field.type.encode(value, out)
                elif field.present_if and not getattr(self, field.present_if) & field.bits:
                    continue
                elif field.choice is not None and isinstance(value, Struct):
                    _check_choice(field, getattr(self, field.choice[0]), value)
                    value.encode_into(out)
                else:
                    field.type.encode(value, out)
            except (ValueError, TypeError, OverflowError, AttributeError, struct.error) as error:
                raise UsageError(f"{type(self).__name__}.{field.name}: {error}") from None

    @classmethod
    def decode(cls: type[S], data: bytes | bytearray | memoryview) -> S:
        """Reads the whole of `data`; nothing may be left over. Raises MalformedMessage.

        This is how the bytes of a reply become the structure that the request expects.
        """
        reader = Reader(data)
        result = cls.decode_from(reader)
        reader.done()
        return result

    @classmethod
    def decode_from(cls: type[S], reader: Reader) -> S:
        """Reads the fields. Raises MalformedMessage."""
        made = object.__new__(cls)
        for field in cls.FIELDS:
            plain = field.plain
            field.put(made, field.type.decode(reader) if plain else field_value(field, made, reader))
        return made

    @classmethod
    def walk(cls, reader: Reader) -> Iterator[tuple[Field, Any, int, int]]:
        """Yields (field, value, start, end) for each field as it is read."""
        seen = object.__new__(cls)
        for field in cls.FIELDS:
            start = reader.pos
            value = field_value(field, seen, reader)
            field.put(seen, value)
            yield field, value, start, reader.pos

    def __repr__(self) -> str:
        shown = ", ".join(
            f"{f.name}={v!r}" if isinstance(v, Struct) else f"{f.name}={_show(f, v)}"
            for f in self.FIELDS
            if (v := getattr(self, f.name)) is not None
        )
        return f"{type(self).__name__}({shown})"


S = TypeVar("S", bound=Struct)


def field_value(field: Field, seen: Struct, reader: Reader) -> Any:
    """Reads one field of `seen`, which has the values before it. Raises MalformedMessage."""
    if field.present_if and not getattr(seen, field.present_if) & field.bits:
        return None
    if field.choice is not None:
        selector, table = field.choice
        chosen = table.get(getattr(seen, selector))
        if chosen is not None:
            return chosen.decode_from(reader)
    return field.type.decode(reader)


def _check_choice(field: Field, selected: str, value: Struct) -> None:
    """Refuses a structure other than the one its selector announces: the peer would misread it."""
    wanted = field.choice[1].get(selected) if field.choice else None
    if wanted is None or not isinstance(value, wanted):
        raise TypeError(f"{selected!r} is not followed by {type(value).__name__}")


def hidden(field: Field, value: Any) -> bool:
    """Whether `value` must not be seen: by its type, or because nobody knows what a guarded one is."""
    return field.type.secret or (field.guarded and isinstance(value, bytes))


def _show(field: Field, value: Any) -> str:
    return "<redacted>" if hidden(field, value) else field.type.show(value)


Body: TypeAlias = Annotated[Struct | bytes, wire.Rest()]
"""The fields that another field's value selects; bytes where that value is not in the catalogue."""


class Items(FieldType[tuple[Any, ...]]):
    """Repeated structures: `counted` by a uint32 before them, or until the end of the message."""

    def __init__(self, item: type[Struct], *, counted: bool) -> None:
        self.item = item
        self.counted = counted
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


class Nested(FieldType[Struct]):
    """One structure in its place, without a length of its own."""

    def __init__(self, item: type[Struct]) -> None:
        self.item = item
        self.name = item.__name__

    def decode(self, reader: Reader) -> Struct:
        return self.item.decode_from(reader)

    def encode(self, value: Struct, out: bytearray) -> None:
        if not isinstance(value, self.item):
            raise TypeError(f"{type(value).__name__} is no {self.name}")
        value.encode_into(out)

    def show(self, value: Struct) -> str:
        return repr(value)


class Holding(wire.String):
    """`string` whose content is a structure. Its value stays bytes: who uses them reads them, with checks of
    their own; to whoever looks on, the structure is shown where it can be read.
    """

    def __init__(self, item: type[Struct]) -> None:
        super().__init__()
        self.item = item


class Code(FieldType[int]):
    """`uint32` out of a list of assigned numbers; a number that is not on the list is taken as it is."""

    name = "uint32"

    def __init__(self, numbers: type[enum.IntEnum]) -> None:
        self.numbers = numbers

    def decode(self, reader: Reader) -> int:
        return reader.uint32()

    def encode(self, value: int, out: bytearray) -> None:
        out += wire.uint32(value)

    def show(self, value: int) -> str:
        return f"{code_name(self.numbers, value)} ({value})"


def code_name(numbers: type[enum.IntEnum], value: int) -> str:
    """The name of an assigned number, or `unassigned`."""
    known = numbers._value2member_map_.get(value)
    return known.name if isinstance(known, enum.Enum) else "unassigned"


def doc(text: str, *, present_if: str = "", bits: int = -1, default: Any = MISSING) -> Any:
    """A field with a word of explanation, a default, or a field before it that says it is there: a boolean,
    or flags of which it needs one of `bits`.

    A field that may be absent is given `default=None`, so that it can be left out.
    """
    return Spec(default, metadata={"doc": text, "present_if": present_if, "bits": bits})


def by_name(selector: str, table: Table, text: str = "", *, guarded: bool = False) -> Any:
    """A field whose structure is selected by the value of the field `selector`.

    `guarded`: where the table has no such structure, the bytes are treated as a secret.
    """
    return Spec(MISSING, metadata={"doc": text, "choice": (selector, table), "guarded": guarded})


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


@slotted(frozen=True)
class UnknownMessage:
    """A message that is not in the catalogue; `payload` includes the number."""

    context: str
    number: int
    payload: bytes = values.field(repr=False)  # of an authentication method: it may be a secret


CATALOGUE: Final[dict[tuple[str, int], type[Message]]] = {}
"""Every declared message of SSH by (context, number)."""

SUBSYSTEMS: Final[dict[str, dict[int, type[Message]]]] = {"sftp": {}, "agent": {}}
"""The protocols that run inside a channel, each a context of its own: its packets by number.

A number means there what that protocol says, or nothing: 1 is SSH_FXP_INIT, never SSH_MSG_DISCONNECT.
"""


@dataclass_transform(frozen_default=True, field_specifiers=(doc, by_name))
def message(number: int, name: str, *, clause: str, context: str = GENERIC) -> Callable[[type[M]], type[M]]:
    """Declares a message and puts it in the catalogue."""

    def declare(cls: type[M]) -> type[M]:
        made = _declare(cls, clause)
        made.NUMBER, made.NAME, made.CONTEXT = number, name, context
        if (context, number) in CATALOGUE or number in SUBSYSTEMS.get(context, ()):
            raise TypeError(f"{name}: ({context!r}, {number}) is declared already")
        if context in SUBSYSTEMS:
            SUBSYSTEMS[context][number] = made
        else:
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
    """Turns the annotated class into a frozen class of values with its list of fields."""
    hints = get_annotations(cls, eval_str=True)
    made = slotted(frozen=True, repr=False)(cls)
    made.CLAUSE = clause
    made.FIELDS = tuple(
        Field(
            spec.name, _field_type(hints[spec.name]), getattr(made, spec.name).__set__, **spec.metadata or {}
        )
        for spec in specs(made)
    )
    made.SECRET = any(_may_hide(f) for f in made.FIELDS)
    return made


def _may_hide(field: Field) -> bool:
    inner = list(field.choice[1].values()) if field.choice is not None else []
    if isinstance(field.type, Items | Nested):
        inner.append(field.type.item)
    return field.type.secret or field.guarded or any(each.SECRET for each in inner)


def _field_type(hint: Any) -> FieldType[Any]:
    if get_origin(hint) is Annotated:
        for extra in get_args(hint)[1:]:
            if isinstance(extra, FieldType):
                return extra
    for argument in get_args(hint):
        if argument is not type(None) and get_origin(argument) is Annotated:
            return _field_type(argument)
    raise TypeError(f"{hint!r} is not a field type")


def family(number: int) -> str:
    """What the meaning of a number depends on: `kex` (30-49), `auth` (60-79) or nothing (RFC 4251 7)."""
    if 30 <= number <= 49:
        return "kex"
    return "auth" if 60 <= number <= 79 else GENERIC


def hot_header(cls: type[Message]) -> struct.Struct:
    """The leading fields of fixed size, number first and the length of a string last, as one `Struct`.

    For the paths that handle every packet of data: one `unpack_from` on the payload, no object.
    """
    layout = ">B"
    for field in cls.FIELDS:
        code = HOT_CODES.get(type(field.type))
        layout += code or ("I" if isinstance(field.type, wire.String) else "")
        if code is None:
            break
    return struct.Struct(layout)


HOT_CODES: Final[Mapping[type[FieldType[Any]], str]] = {
    wire.Byte: "B", wire.Boolean: "?", wire.Uint32: "I", Code: "I", wire.Uint64: "Q",
}  # fmt: skip
"""How `struct` writes the types that have a fixed size."""


def lookup(context: str, number: int) -> type[Message] | None:
    """The declaration of message `number` in `context`, or None."""
    if context in SUBSYSTEMS:
        return SUBSYSTEMS[context].get(number)
    return CATALOGUE.get((context, number)) or CATALOGUE.get((GENERIC, number))


def decode(payload: bytes | bytearray | memoryview, context: str = GENERIC) -> Message | UnknownMessage:
    """Reads a payload by the catalogue. Raises MalformedMessage."""
    if not payload:
        raise MalformedMessage("an empty payload", clause="RFC 4253 6")
    found = lookup(context, payload[0])
    return found.decode(payload) if found else UnknownMessage(context, payload[0], bytes(payload))


def may_hide(number: int, context: str = GENERIC) -> bool:
    """Whether a message may hold a secret: its declaration says so, or it belongs to an
    authentication method that is not known (RFC 4250 §4.1.2: 50 to 79).
    """
    found = lookup(context, number)
    return found.SECRET if found is not None else 50 <= number <= 79 and context not in SUBSYSTEMS


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
        shown.append(_unparsed(payload, covered, secret=may_hide(payload[0], context)))
    return tuple(shown)


def _unparsed(payload: bytes, start: int, *, secret: bool) -> Shown:
    """What is left of a payload; it may be the secret itself, cut short."""
    left = payload[start:]
    value: wire.Secret | bytes = wire.Secret(left) if secret else left
    text = repr(value) if isinstance(value, wire.Secret) else wire.Rest().show(left)
    return Shown("unparsed", "byte[]", value, text, start, len(payload), "", secret)


def _describe(cls: type[Struct], reader: Reader) -> Iterator[Shown]:
    for field, value, start, end in cls.walk(reader):
        if value is not None:
            yield _shown(cls, field, value, reader.data, start, end)


def _shown(cls: type[Struct], field: Field, value: Any, data: bytes, start: int, end: int) -> Shown:
    if isinstance(value, Struct):
        inside = tuple(_describe(type(value), Reader(data, start)))
        kind = type(value).__name__
        return Shown(field.name, kind, value, "", start, end, type(value).CLAUSE, children=inside, holds=kind)
    inside, holds = (), ""
    if isinstance(field.type, Items):
        inside = tuple(_describe_items(field.type, data, start, value))
    elif isinstance(field.type, Holding):
        inside = _describe_held(field.type.item, data, start + LENGTH, end)
        holds = field.type.item.__name__ if inside else ""
    secret = hidden(field, value)
    return Shown(
        field.name, field.type.name, wire.Secret(value) if secret and isinstance(value, bytes) else value,
        _show(field, value), start, end, cls.CLAUSE, secret, field.type.content, inside, holds,
    )  # fmt: skip


def _describe_held(item: type[Struct], data: bytes, start: int, end: int) -> tuple[Shown, ...]:
    """The fields inside a string; none where they do not fill it."""
    reader = Reader(data[:end], start)
    try:
        shown = tuple(_describe(item, reader))
    except MalformedMessage:
        return ()
    return () if reader.left() else shown


def _describe_items(items: Items, data: bytes, start: int, value: tuple[Any, ...]) -> Iterator[Shown]:
    reader = Reader(data, start)
    if items.counted:
        reader.uint32()
    for index, item in enumerate(value):
        begin = reader.pos
        inside = tuple(_describe(items.item, reader))
        kind = items.item.__name__
        yield Shown(
            f"[{index}]", kind, item, "", begin, reader.pos, items.item.CLAUSE, children=inside, holds=kind
        )
