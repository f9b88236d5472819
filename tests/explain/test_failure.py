"""Explanations from records alone: what no server can be made to do, captures, records of no sense."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import glasshell.explain
from glasshell.capture.reader import read_source
from glasshell.capture.source import open_source
from glasshell.errors import CannotConnect, Disconnected, SSHError
from glasshell.explain.failure import PHASES, RULES, Story, explain, explain_story
from glasshell.explain.rules import say
from glasshell.messages.transport import Disconnect
from glasshell.observe.record import STATES, MessageRecord, Record, StateRecord
from glasshell.observe.seen import Seen

CLIENT = StateRecord(0.0, "started", {"role": "client"})


def states(*told: tuple[str, dict[str, Any]]) -> list[Record]:
    return [CLIENT, *(StateRecord(0.0, name, facts) for name, facts in told)]


CONNECTED = ("connected", {"address": "192.0.2.1", "port": 22, "local_address": "192.0.2.9", "local_port": 4})
NAMED = ("identification_received", {"line": "SSH-2.0-OpenSSH_9.2p1", "protocol": "2.0", "software": "x"})
SENT = ("identification_sent", {"line": "SSH-2.0-glasshell", "length": 18})
KEYS = ("kex_done", {"first": True})


@pytest.mark.parametrize(
    ("why", "name"),
    [
        ("Connection refused", "tcp-refused"), ("Connection timed out", "tcp-timeout"),
        ("No route to host", "tcp-host-unreachable"), ("Network is unreachable", "tcp-network-unreachable"),
        ("Permission denied", "tcp-forbidden"), ("Cannot assign requested address", "tcp-bind"),
        ("Connection reset by peer", "tcp-reset"), ("Something else", "tcp-failed"),
    ],
)  # fmt: skip
def test_the_kernels_words(why: str, name: str) -> None:
    failed = ("connect_failed", {"host": "h", "address": "192.0.2.1", "port": 22, "error": why})
    found = explain(states(failed), CannotConnect("no"))
    assert found is not None
    assert found.rule == name


def test_addresses_that_fail_differently() -> None:
    told = [("2001:db8::1", "Network is unreachable"), ("192.0.2.1", "Connection refused")]
    facts = [{"host": "h", "address": address, "port": 22, "error": why} for address, why in told]
    found = explain(states(*(("connect_failed", each) for each in facts)), CannotConnect("no"))
    assert found is not None
    assert found.rule == "tcp-failed"
    assert "2001:db8::1: Network is unreachable; 192.0.2.1: Connection refused" in found.what


@pytest.mark.parametrize(
    ("why", "name"),
    [("Name or service not known", "name-unknown"), ("Address family not supported", "no-address-of-family"),
     ("Temporary failure in name resolution", "dns-unreachable")],
)  # fmt: skip
def test_the_resolvers_words(why: str, name: str) -> None:
    found = explain(states(), CannotConnect(f"Could not resolve hostname h: {why}"))
    assert found is not None
    assert found.rule == name


def test_a_login_that_ended_at_the_servers_deadline() -> None:
    """120 s are LoginGraceTime's default (sshd_config(5))."""
    login = ("auth_methods", {"methods": ("password",), "partial": False})
    records = states(CONNECTED, SENT, NAMED, KEYS, login)
    lost = {"type": "ConnectionLost", "text": "closed", "hint": "", "clause": ""}
    found = explain([*records, StateRecord(120.1, "eof", {}), StateRecord(120.1, "error", lost)])
    assert found is not None
    assert found.rule == "login-timeout"
    assert "after 120 s" in found.what


def test_a_disconnect_in_the_login() -> None:
    message = MessageRecord(1.0, False, 9, 1, "", 1, Disconnect(2, "Bye.").encode(), 0, 0, 0)
    records = [*states(CONNECTED, SENT, NAMED, KEYS), message]
    found = explain(records, Disconnected("x", reason=2, description="Bye."))
    assert found is not None
    assert found.rule == "login-disconnected"
    assert '"Bye."' in found.what


def test_questions_that_nobody_answered() -> None:
    """RFC 4256 3.4: a client may give up where its user does not answer."""
    skipped = {"what": "keyboard-interactive", "reason": "the prompts were not answered"}
    told = (
        ("auth_methods", {"methods": ("keyboard-interactive",), "partial": False}),
        ("auth_next", {"method": "keyboard-interactive", "remaining": ()}),
        ("auth_skipped", skipped), ("auth_exhausted", {}),
    )  # fmt: skip
    found = explain(states(CONNECTED, SENT, NAMED, KEYS, *told), SSHError("Permission denied"))
    assert found is not None
    assert found.rule == "nobody-answered"
    assert "by keyboard-interactive" in found.what


def test_an_error_that_no_rule_knows_is_no_success() -> None:
    found = explain(states(CONNECTED), SSHError("something new"))
    assert found is not None
    assert (found.rule, found.what) == ("unexplained", "something new")


def test_nothing_failed() -> None:
    assert explain(states(CONNECTED, SENT, NAMED)) is None
    assert explain([]) is None


# ---- captures


@pytest.mark.parametrize(
    ("name", "rules"),
    [
        ("zeek__get-to-ssh-server.pcap", {"client-no-ssh": 1}),
        # A program that guesses passwords, eleven times in vain by Zeek's own baseline.
        ("zeek__sshguess.pcap", {"login-inferred": 11}),
    ],
)
def test_captures(name: str, rules: dict[str, int], shared: Path) -> None:
    stories: dict[int, Story] = {}
    with open_source(shared / "captures" / name) as source:
        for item in read_source(source):
            if isinstance(item, Seen):
                stories.setdefault(item.stream, Story())(item.record)
    found = [each.rule for story in stories.values() if (each := explain_story(story))]
    assert {each: found.count(each) for each in found} == rules


# ---- the table


def test_every_line_of_every_rule_can_be_said() -> None:
    """A line that names a fact which no code gives would never be said, and nobody would miss it."""
    folder = Path(glasshell.explain.__file__).parent
    source = "".join(path.read_text("utf-8") for path in folder.glob("*.py"))
    given_facts = set(re.findall(r'"(\w+)":', source))
    for each in RULES.values():
        lines = [each.what, *each.user, *each.admin]
        lines += [line for cause in each.causes for line in ((cause,) if isinstance(cause, str) else cause)]
        for line in lines:
            named = set(re.findall(r"\{(\w+)\}", line)) | set(re.findall(r"\[!?(\w+)\]", line))
            assert named <= given_facts, (each.name, line)


def test_names_are_unique() -> None:
    assert len(RULES) == sum(len(phase.rules) for phase in PHASES)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("a {x} b", "a 1 b"),
        ("a {y}", ""),
        ("[x]yes", "yes"),
        ("[!x]no", ""),
        ("[!y][x]{x}", "1"),
        ("{no}", ""),
    ],
)
def test_the_language_of_lines(line: str, said: str) -> None:
    assert say(line, {"x": "1", "y": ""}) == said


MESSAGES = st.builds(
    lambda time, sent, context, payload: MessageRecord(
        time, sent, 0, 0, context, payload[0], payload, len(payload), 0, 0
    ),
    st.floats(0, 9), st.booleans(), st.sampled_from(["", "publickey", "password"]),
    st.binary(min_size=1, max_size=40),
)  # fmt: skip
STATE_RECORDS = st.sampled_from(sorted(STATES)).flatmap(
    lambda name: st.fixed_dictionaries(
        {}, optional={fact: st.text(max_size=9) for fact in STATES[name][1].split() if fact not in NUMBERS}
    ).map(lambda facts: StateRecord(1.0, name, facts))
)
NUMBERS = ("port", "local_port", "reason", "line", "bits")


@given(
    st.lists(st.one_of(MESSAGES, STATE_RECORDS), max_size=12),
    st.sampled_from([None, SSHError("x"), CannotConnect("Could not resolve hostname")]),
)
def test_no_records_raise(records: list[Record], error: SSHError | None) -> None:
    found = explain(records, error)
    if found is not None:
        assert found.rule in RULES or (found.rule == "unexplained" and found.what)
        assert 1 <= len(found.brief()) <= 3
        assert found.to_dict()["what"] == found.what


def test_a_long_story_is_bounded() -> None:
    story = Story()
    for number in range(3000):
        story(StateRecord(0.0, "preface_line", {"text": "x" * 9000}))
        story(StateRecord(0.0, "auth_skipped", {"what": f"k{number}", "reason": "r"}))
        story(StateRecord(0.0, "auth_offer", {"fingerprint": f"f{number}", "source": "s"}))
    assert all(len(each) <= 64 for each in (story.opening.preface, story.login.tries, story.login.sources))
    assert len(story.opening.preface[0]) <= 300
