"""AuthenticationMethods against a model that works on the words of the file, as sshd_config(5) tells it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glasshell.auth.steps import Step, Steps, read_lists
from glasshell.errors import ConfigError

METHODS = ("publickey", "gssapi-with-mic", "password", "keyboard-interactive", "hostbased")
NAMES = ("publickey", "password", "keyboard-interactive", "keyboard-interactive:pam",
         "keyboard-interactive:bsdauth", "hostbased")  # fmt: skip
PASSED = tuple(Step(*name.split(":")) for name in NAMES)

lists = st.lists(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4).map(",".join), max_size=4)
enabled_ones = st.sets(st.sampled_from(METHODS), min_size=1).map(
    lambda chosen: tuple(method for method in METHODS if method in chosen)
)


class Words:
    """The lists as the words they are: the head of each is cut off when it fits what was passed."""

    def __init__(self, enabled: tuple[str, ...], words: list[str]) -> None:
        self.open = not words
        self.enabled = enabled
        self.words = [w for w in words if all(n.partition(":")[0] in enabled for n in w.split(","))]

    def may(self, step: Step) -> bool:
        if step.method not in self.enabled:
            return False
        wanted = (step.method, f"{step.method}:{step.submethod}")
        return self.open or any(word.split(",")[0] in wanted for word in self.words)

    def take(self, step: Step) -> bool:
        """Whether the login is done now."""
        if self.open:
            return True
        wanted = (step.method, f"{step.method}:{step.submethod}")
        for index, word in enumerate(self.words):
            head, _, rest = word.partition(",")
            if head in wanted:
                self.words[index] = rest
        return "" in self.words

    def listed(self) -> tuple[str, ...]:
        heads = {word.split(",")[0].partition(":")[0] for word in self.words}
        return tuple(method for method in self.enabled if self.open or method in heads)


@given(enabled_ones, lists, st.lists(st.sampled_from(PASSED), max_size=6))
def test_model(enabled: tuple[str, ...], words: list[str], tries: list[Step]) -> None:
    model = Words(enabled, words)
    if words and not model.words:
        with pytest.raises(ConfigError, match="No AuthenticationMethods left"):
            Steps(enabled, read_lists(words))
        return
    steps = Steps(enabled, read_lists(words))
    passed: list[Step] = []
    for step in tries:
        assert steps.following(passed) == model.listed()
        assert steps.allows(step, passed) == model.may(step)
        if model.may(step):
            passed.append(step)
            done = model.take(step)
            assert steps.complete(passed) == done
            if done:
                return
    assert not steps.complete(passed)


def test_the_manuals_own_example() -> None:
    """sshd_config(5): "publickey,password publickey,keyboard-interactive"."""
    steps = Steps(METHODS, read_lists(["publickey,password", "publickey,keyboard-interactive"]))
    assert steps.following() == ("publickey",)
    assert steps.following([Step("publickey")]) == ("password", "keyboard-interactive")
    assert not steps.complete([Step("publickey")])
    assert steps.complete([Step("publickey"), Step("keyboard-interactive", "pam")])


def test_a_submethod_is_another_one() -> None:
    steps = Steps(METHODS, read_lists(["keyboard-interactive:bsdauth"]))
    assert steps.following() == ("keyboard-interactive",)
    assert not steps.allows(Step("keyboard-interactive", "pam"))
    assert not steps.complete([Step("keyboard-interactive", "pam")])


def test_nothing_passed_is_no_login() -> None:
    assert not Steps(METHODS).complete([])
    assert not Steps(METHODS, read_lists(["publickey"])).complete([])


def test_none_is_never_listed() -> None:
    steps = Steps((*METHODS, "none"), read_lists(["none", "publickey"]))
    assert steps.following() == ("publickey",)
    assert steps.allows(Step("none"))


@pytest.mark.parametrize("words", [["any"], []])
def test_any_single_method(words: list[str]) -> None:
    assert read_lists(words) == ()


@pytest.mark.parametrize("word", ["", "publickey,", ",publickey", "publickey,,password", "publickey:"])
def test_an_empty_method(word: str) -> None:
    with pytest.raises(ConfigError, match="empty method"):
        read_lists([word])


def test_lists_with_a_disabled_method_are_passed_over_and_named() -> None:
    steps = Steps(("publickey",), read_lists(["publickey,password", "publickey"]))
    assert steps.disabled == ("publickey,password",)
    assert steps.complete([Step("publickey")])
