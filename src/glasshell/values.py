"""Classes that hold values: what `dataclasses` makes of them, without its price at start-up.

    @slotted(frozen=True)
    class Rule:
        first: int
        last: int = 255
        names: list[str] = field(default_factory=list)

The standard library writes the source of half a dozen methods for each such class and compiles it while
the module is imported: a third of a millisecond, two hundred times in one `glasshell ssh`, which uses a
quarter of them. Here a class gets its slots at once, shares its comparison and its looks with all the others,
and has its `__init__` compiled when the first of its objects is made. To a type checker it is a dataclass
(PEP 681).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from inspect import get_annotations
from operator import attrgetter
from typing import Any, Final, TypeVar, dataclass_transform, overload

__all__ = ["MISSING", "Spec", "field", "replace", "slotted", "specs"]

C = TypeVar("C", bound=type)
T = TypeVar("T")

MISSING: Final[Any] = object()
"""No default."""


class Spec:
    """One field, as `field()` describes it; `metadata` is the caller's own."""

    __slots__ = ("compare", "default", "factory", "init", "metadata", "name", "repr")

    def __init__(
        self, default: Any, factory: Any = MISSING, init: bool = True, compare: bool = True,
        repr: bool = True, metadata: Any = None,
    ) -> None:  # fmt: skip
        self.name = ""
        self.default = default
        self.factory = factory
        self.init = init
        self.compare = compare
        self.repr = repr
        self.metadata = metadata


def field(
    *, default: Any = MISSING, default_factory: Any = MISSING, init: bool = True, compare: bool = True,
    repr: bool = True, metadata: Any = None,
) -> Any:  # fmt: skip
    """Says of a field what its annotation cannot; as `dataclasses.field`."""
    return Spec(default, default_factory, init, compare, repr, metadata)


@overload
def slotted(cls: C, /) -> C: ...
@overload
def slotted(
    *, frozen: bool = False, eq: bool = True, repr: bool = True, kw_only: bool = False
) -> Callable[[C], C]: ...
@dataclass_transform(field_specifiers=(field,))
def slotted(
    cls: C | None = None, /, *, frozen: bool = False, eq: bool = True, repr: bool = True,
    kw_only: bool = False,
) -> C | Callable[[C], C]:  # fmt: skip
    """Makes a class hold the values that it annotates, in slots; as `dataclasses.dataclass(slots=True)`."""

    def make(cls: C) -> C:
        return _make(cls, frozen=frozen, eq=eq, repr=repr, kw_only=kw_only)

    return make if cls is None else make(cls)


def specs(cls: type) -> tuple[Spec, ...]:
    """The fields of a class, its bases' first."""
    found: tuple[Spec, ...] = getattr(cls, "__specs__", ())
    return found


def replace(old: T, /, **changes: Any) -> T:
    """A copy with some values changed. Raises TypeError for one that there is not."""
    for spec in specs(type(old)):
        if spec.init:
            changes.setdefault(spec.name, getattr(old, spec.name))
    return type(old)(**changes)


# --- how a class is made


def _make(cls: C, *, frozen: bool, eq: bool, repr: bool, kw_only: bool) -> C:
    own = _own_specs(cls)
    inherited = specs(cls)
    fields = (*(spec for spec in inherited if spec.name not in {s.name for s in own}), *own)
    content = {name: held for name, held in cls.__dict__.items() if name not in ("__dict__", "__weakref__")}
    for spec in own:
        content.pop(spec.name, None)
    content["__slots__"] = tuple(s.name for s in own if s.name not in {i.name for i in inherited})
    content["__specs__"] = fields
    content.setdefault("__match_args__", () if kw_only else tuple(s.name for s in fields if s.init))
    content["__dataclass_fields__"] = _Fields()
    content["__getstate__"], content["__setstate__"] = _getstate, _setstate
    if repr:
        content.setdefault("__repr__", _repr)
    if eq:
        content["__compared__"] = _getter([s.name for s in fields if s.compare])
        content.setdefault("__eq__", _eq)
        content["__hash__"] = content.get("__hash__") or (_hash if frozen else None)
    if frozen:
        content["__setattr__"], content["__delattr__"] = _refuse, _refuse
    made: Any = type(cls)(cls.__name__, cls.__bases__, content)
    made.__qualname__ = cls.__qualname__
    made.__init__ = _deferred(made, frozen, kw_only)
    return made  # type: ignore[no-any-return]


def _own_specs(cls: type) -> list[Spec]:
    found = []
    for name, hint in get_annotations(cls).items():
        if "ClassVar" in str(hint)[:16]:
            continue
        given = cls.__dict__.get(name, MISSING)
        spec = given if isinstance(given, Spec) else Spec(given)
        spec.name = name
        found.append(spec)
    return found


def _getter(names: list[str]) -> Callable[[Any], Any]:
    return attrgetter(*names) if names else staticmethod(_nothing)


def _nothing(_: object) -> tuple[()]:
    return ()


def _deferred(cls: Any, frozen: bool, kw_only: bool) -> Callable[..., None]:
    """The first `__init__` of a class: puts the compiled one in its place."""

    def __init__(self: Any, *values: Any, **named: Any) -> None:  # noqa: N807
        cls.__init__ = _compiled(cls, frozen, kw_only)
        cls.__init__(self, *values, **named)

    return __init__


def _compiled(cls: Any, frozen: bool, kw_only: bool) -> Callable[..., None]:
    """`__init__` with the names of the fields, as fast as one that is written by hand."""
    known: dict[str, Any] = {"_missing": MISSING}
    taken, body = ["self"], []
    if kw_only:
        taken += ["*"] * any(spec.init for spec in specs(cls))
    for spec in specs(cls):
        parameter, given = _written(spec, known)
        if spec.init:
            taken.append(parameter)
        elif given == spec.name:  # it is set later, by the class itself
            continue
        if frozen:  # the slot itself: `__setattr__` refuses
            known[f"_set_{spec.name}"] = getattr(cls, spec.name).__set__
            body.append(f" _set_{spec.name}(self, {given})")
        else:
            body.append(f" self.{spec.name} = {given}")
    if hasattr(cls, "__post_init__"):
        body.append(" self.__post_init__()")
    exec("\n".join([f"def __init__({', '.join(taken)}):", *(body or [" pass"])]), known)
    made: Callable[..., None] = known["__init__"]
    made.__qualname__ = f"{cls.__qualname__}.__init__"
    return made


def _written(spec: Spec, known: dict[str, Any]) -> tuple[str, str]:
    """The parameter of a field and the expression for its value; `known` gets the names in them."""
    name = spec.name
    if spec.default is not MISSING:
        known[f"_default_{name}"] = spec.default
        return f"{name}=_default_{name}", name if spec.init else f"_default_{name}"
    if spec.factory is not MISSING:
        known[f"_make_{name}"] = spec.factory
        made = f"_make_{name}()"
        return f"{name}=_missing", f"{made} if {name} is _missing else {name}" if spec.init else made
    return name, name


class _Fields:
    """What `dataclasses.replace`, `fields` and `asdict` look for; made when one of them does."""

    def __get__(self, _: object, owner: Any) -> dict[str, dataclasses.Field[Any]]:
        made = [(spec.name, Any, dataclasses.field(init=spec.init, repr=spec.repr)) for spec in specs(owner)]
        fields: Any = dataclasses.make_dataclass(owner.__name__, made)
        owner.__dataclass_fields__ = fields.__dataclass_fields__
        return owner.__dataclass_fields__  # type: ignore[no-any-return]


# --- what all of them share


def _repr(self: Any) -> str:
    shown = ", ".join(f"{s.name}={getattr(self, s.name)!r}" for s in specs(type(self)) if s.repr)
    return f"{type(self).__qualname__}({shown})"


def _eq(self: Any, other: Any) -> Any:
    if type(other) is not type(self):
        return NotImplemented
    return bool(self.__compared__(self) == self.__compared__(other))


def _hash(self: Any) -> int:
    return hash(self.__compared__(self))


def _refuse(self: Any, name: str, *_: object) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot change field {name!r}")


def _getstate(self: Any) -> list[Any]:
    return [getattr(self, spec.name) for spec in specs(type(self))]


def _setstate(self: Any, state: list[Any]) -> None:
    for spec, held in zip(specs(type(self)), state, strict=True):
        getattr(type(self), spec.name).__set__(self, held)
