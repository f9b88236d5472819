"""Hypothesis strategies, derived from the declarations: any message, or any structure inside one.

Hypothesis is imported when a strategy is asked for: it is needed by whoever tests, not by whoever
imports the test kit.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Any

from .. import wire
from ..messages import CATALOGUE, Message, Struct
from ..messages.declare import Code, Field, Items, Nested
from ..wire import FieldType

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn, SearchStrategy

NAME_ALPHABET = "".join(chr(c) for c in range(0x21, 0x7F) if chr(c) != ",")
"""What a name is made of (RFC 4251 §6)."""


def any_message(*, unknown_bodies: bool = True) -> SearchStrategy[Message]:
    """Any message of the catalogue, in any context."""
    from hypothesis import strategies as st

    return st.one_of([message_strategy(cls, unknown_bodies=unknown_bodies) for cls in CATALOGUE.values()])


def message_strategy(cls: type[Struct], *, unknown_bodies: bool = True) -> SearchStrategy[Any]:
    """Instances of a declared message or body.

    `unknown_bodies`: where a name selects a structure, also names that select none, with bytes.
    """
    from hypothesis import strategies as st

    @st.composite
    def build(draw: DrawFn) -> Struct:
        values: dict[str, Any] = {}
        for field in cls.FIELDS:
            values[field.name] = draw(_field(cls, field, values, unknown_bodies))
        return cls(**values)

    return build()


def _field(cls: type[Struct], field: Field, values: Mapping[str, Any], unknown: bool) -> SearchStrategy[Any]:
    from hypothesis import strategies as st

    if field.present_if and not values[field.present_if] & field.bits:
        return st.none()
    if field.choice is not None:
        chosen = field.choice[1].get(values[field.choice[0]])
        return st.binary(max_size=64) if chosen is None else message_strategy(chosen)
    flags = [f.bits for f in cls.FIELDS if f.present_if == field.name and f.bits > 0]
    if flags:
        return st.lists(st.sampled_from(flags)).map(lambda bits: reduce(or_, bits, 0)) | type_strategy(
            field.type
        )
    tables = [f.choice[1] for f in cls.FIELDS if f.choice is not None and f.choice[0] == field.name]
    if tables:
        known = st.sampled_from(sorted(tables[0]))
        return known | type_strategy(field.type) if unknown else known
    return type_strategy(field.type)


def type_strategy(kind: FieldType[Any]) -> SearchStrategy[Any]:
    """Values of one data type. Raises TypeError for a type it does not know."""
    from hypothesis import strategies as st

    if isinstance(kind, Items):
        return st.lists(message_strategy(kind.item), max_size=4).map(tuple)
    if isinstance(kind, Nested):
        return message_strategy(kind.item)
    if isinstance(kind, wire.Raw):
        return st.binary(min_size=kind.count, max_size=kind.count)
    if isinstance(kind, Code):
        return st.sampled_from([int(n) for n in kind.numbers]) | st.integers(0, 2**32 - 1)
    for known, strategy in _plain_types().items():
        if isinstance(kind, known):
            return strategy
    raise TypeError(f"no strategy for {kind!r}")


def _plain_types() -> dict[type[FieldType[Any]], SearchStrategy[Any]]:
    from hypothesis import strategies as st

    data = st.binary(max_size=96)
    text = st.text(max_size=32) | data.map(lambda raw: raw.decode("utf-8", "surrogateescape"))
    name = st.text(NAME_ALPHABET, min_size=1, max_size=wire.MAX_NAME)
    return {
        wire.Byte: st.integers(0, 255),
        wire.Boolean: st.booleans(),
        wire.Uint32: st.integers(0, 2**32 - 1),
        wire.Uint64: st.integers(0, 2**64 - 1),
        wire.String: data,
        wire.SecretString: data.map(wire.Secret),
        wire.Text: text,
        wire.Name: name | st.just(""),
        wire.NameList: st.lists(name, max_size=5).map(tuple),
        wire.Mpint: st.integers(-(2**256), 2**256) | st.integers(0, 2 ** (8 * wire.MAX_MPINT - 1) - 1),
        wire.Rest: data,
    }
