"""A trace that was written and read back shows what the first records showed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from glasshell.errors import ConfigError
from glasshell.messages import SUBSYSTEMS
from glasshell.observe.dissect import facts, to_dict
from glasshell.observe.record import MessageRecord, StateRecord
from glasshell.observe.redact import redact
from glasshell.sftp import messages as sftp
from glasshell.testing.strategies import any_message, message_strategy
from glasshell.views.jsonl import JsonLines, plain
from glasshell.views.qlog import QlogView
from glasshell.views.replay import read_trace

MESSAGES = any_message() | st.one_of([message_strategy(cls) for cls in SUBSYSTEMS["sftp"].values()])


def again(record: Any, form: str) -> Any:
    lines: list[str] = []
    view = JsonLines(lines.append) if form == "jsonl" else QlogView(lines.append)
    view(StateRecord(0.0, "started", {"role": "client", "wall_time": 1.0, "software": "x", "version": ""}))
    view(record)
    return list(read_trace(lines, form))[-1]


@pytest.mark.parametrize("form", ["jsonl", "sqlog"])
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(message=MESSAGES, cut=st.integers(0, 400))
def test_a_message_is_shown_as_before(form: str, message: Any, cut: int) -> None:
    payload = redact(message.encode()[: max(1, cut)], message.CONTEXT)
    record = MessageRecord(1.5, True, 7, 1, message.CONTEXT, payload[0], payload, len(payload) + 9, 8, 99)
    found = again(record, form)
    assert (found.time, found.sent, found.seq, found.epoch, found.wire_length) == (1.5, True, 7, 1, 99)
    before, after = to_dict(payload, message.CONTEXT), to_dict(found.payload, message.CONTEXT)
    if "malformed" not in before and plain(before["fields"]) == before["fields"]:
        assert after == before  # else something was escaped for the file, and stays so
    assert facts(found.payload, message.CONTEXT).isprintable()


@pytest.mark.parametrize("form", ["jsonl", "sqlog"])
def test_states_are_as_before(form: str) -> None:
    record = StateRecord(2.25, "channel_open", {"channel": 1, "peer": 2, "type": "session", "window": 3})
    assert again(record, form) == record
    for name in ("negotiated", "keys_installed", "auth_request", "disconnect"):
        assert again(StateRecord(1.0, name, {"a": 1}), form).name == name


def test_sftp_has_a_context_of_its_own() -> None:
    payload = sftp.Init(3).encode()
    record = MessageRecord(0.0, True, 0, 0, "sftp", 1, payload, 0, 0, 0)
    assert again(record, "jsonl").payload == payload


@pytest.mark.parametrize("form", ["jsonl", "sqlog"])
@settings(max_examples=200)
@given(lines=st.lists(st.text(max_size=60) | st.sampled_from([
    '{"type":"header","format":"glasshell-records","schema":1}', '{"type":"message"}',
    '{"type":"state","time":1}',
    '\x1e{"file_schema":"x"}', '\x1e{"time":1,"name":"ssh:packet_sent","data":{}}', "[]", "1",
    '{"time":1,"type":"message","number":90,"context":"","direction":"sent","fields":{"x":1}}',
]), max_size=5))  # fmt: skip
def test_any_lines_are_records_or_one_error(form: str, lines: list[str]) -> None:
    try:
        list(read_trace(lines, form))
    except ConfigError as error:
        told = str(error)
    else:
        told = "read"
    assert told
