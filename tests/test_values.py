"""`values.slotted` beside the standard library's `dataclass(slots=True)`: one class, declared with each."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from glasshell import values


def point(decorate: Callable[..., Any], field: Callable[..., Any], **options: Any) -> Any:
    @decorate(**options)
    class Point:
        """A point."""

        kind: ClassVar[str] = "point"
        x: int
        y: int = 2
        names: list[str] = field(default_factory=list)
        seen: int = field(default=0, init=False, compare=False)
        hidden: str = field(default="", repr=False)

        def far(self) -> int:
            return self.x + self.y

    return Point


OPTIONS = [{}, {"frozen": True}, {"eq": False}, {"kw_only": True}, {"repr": False}]


@pytest.fixture(params=OPTIONS, ids=str)
def both(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    return (
        point(dataclasses.dataclass, dataclasses.field, slots=True, **request.param),
        point(values.slotted, values.field, **request.param),
    )


def outcome(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except Exception as error:
        return type(error), str(error).replace("test_values.", "")


@pytest.mark.parametrize(
    "work",
    [
        lambda cls: repr(cls(x=1)) if cls.__repr__ is not object.__repr__ else "",
        lambda cls: (cls(x=1).y, cls(x=1).names, cls(x=1).seen, cls(x=1, y=5).far()),
        lambda cls: cls(1, 2, ["a"]).names,
        lambda cls: cls(x=1).names is cls(x=1).names,
        lambda cls: cls(),
        lambda cls: cls(x=1, z=2),
        lambda cls: cls(1, 2, [], "", 5),
        lambda cls: (cls(x=1) == cls(x=1), cls(x=1) == cls(x=2), cls(x=1) == 1, cls(x=1) != cls(x=1)),
        lambda cls: cls.__hash__ is None,
        lambda cls: hasattr(cls(x=1), "__dict__"),
        lambda cls: cls.__slots__,
        lambda cls: (cls.__match_args__, cls.kind, cls.__doc__, cls.__name__),
        lambda cls: dataclasses.replace(cls(x=1), y=7).y,
        lambda cls: dataclasses.asdict(cls(x=1)),
        lambda cls: [f.name for f in dataclasses.fields(cls)],
        lambda cls: copy.copy(cls(x=1, y=9)).y,
    ],
)
def test_the_same(both: tuple[Any, Any], work: Callable[[Any], Any]) -> None:
    theirs, ours = (outcome(lambda cls=cls: work(cls)) for cls in both)
    if isinstance(theirs, tuple) and theirs and theirs[0] in (TypeError, AttributeError):
        assert ours[0] is theirs[0]
    else:
        assert ours == theirs


@pytest.mark.parametrize("name", ["x", "other"])
def test_frozen(name: str) -> None:
    frozen = point(values.slotted, values.field, frozen=True)(x=1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(frozen, name, 2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        delattr(frozen, name)
    loose = point(values.slotted, values.field)(x=1)
    loose.x = 2
    assert loose.far() == 4
    with pytest.raises(AttributeError):
        loose.other = 2


def test_equal_values_have_one_hash() -> None:
    @values.slotted(frozen=True)
    class Pair:
        a: int
        b: str

    assert len({Pair(1, "x"), Pair(1, "x"), Pair(2, "x")}) == 2


def test_a_base_gives_its_fields() -> None:
    @values.slotted
    class Question:
        token: int = values.field(default=0, init=False)

    @values.slotted
    class Asked(Question):
        text: str

    asked = Asked("why")
    asked.token = 4
    assert repr(asked).endswith("Asked(token=4, text='why')")
    assert Asked.__slots__ == ("text",)


@values.slotted(frozen=True)
class Kept:
    """At the top of a module, where pickle finds it."""

    a: int
    b: tuple[int, ...] = ()


def test_pickled() -> None:
    assert pickle.loads(pickle.dumps(Kept(1, (2,)))) == Kept(1, (2,))


def test_replace() -> None:
    assert values.replace(Kept(1), b=(5,)) == Kept(1, (5,))
    with pytest.raises(TypeError):
        values.replace(Kept(1), c=1)


def test_what_comes_after_the_values() -> None:
    @values.slotted
    class Doubled:
        a: int
        twice: int = values.field(init=False)

        def __post_init__(self) -> None:
            self.twice = self.a * 2

    assert Doubled(4).twice == 8
