"""A record's time is that of the socket call that carried its message."""

from __future__ import annotations

from glasshell.events import HostKeyOffered, Question
from glasshell.observe.hub import Hub
from glasshell.observe.record import MessageRecord, Record
from glasshell.policy import Policy
from glasshell.testing.pair import Pair


def test_a_message_that_waited_for_an_answer_has_the_time_at_which_it_came() -> None:
    records: list[Record] = []
    pair = Pair(Policy.client(login_grace=0), hubs={"client": Hub(records.append)}, latency=0.25)
    del pair.answers[HostKeyOffered]
    pair.run()
    ((side, question),) = pair.open
    asked_at = pair.now
    pair.advance(7.0)
    assert isinstance(question, Question)
    pair.answer(side, question, True)
    pair.run()
    newkeys = {r.sent: r.time for r in records if isinstance(r, MessageRecord) and r.number == 21}
    assert newkeys[True] == asked_at + 7.0
    assert newkeys[False] == asked_at, "the server's NEWKEYS came with its reply, before anybody was asked"


def test_a_message_is_stamped_when_it_is_handed_to_the_socket() -> None:
    records: list[Record] = []
    pair = Pair(hubs={"client": Hub(records.append)})
    pair.run()
    core = pair.client
    core.rekey(pair.now)
    seen = len(records)
    core.data_to_send(pair.now + 3.0)
    (kexinit,) = [r for r in records[seen:] if isinstance(r, MessageRecord)]
    assert (kexinit.number, kexinit.time) == (20, pair.now + 3.0)
