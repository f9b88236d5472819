"""Who is turned away at the door: sshd_config(5), MaxStartups and PerSourcePenalties."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glasshell.aio.doorkeeper import OFFENCES, Doorkeeper, Limits, limits_of
from glasshell.config.parse import parse_option
from glasshell.config.sshd_config import load
from glasshell.errors import AuthenticationFailed, SSHError
from tests.aio.kit import STRANGER, connecting, run, serving

HOME, AWAY = "192.0.2.1", "192.0.2.2"


def keeper(chance: float = 0.5, **limits: object) -> Doorkeeper:
    return Doorkeeper(Limits(**limits), chance=lambda: chance)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("waiting", "dropped"),
    # "10:30:60": at 10 waiting, 30 % of new ones are dropped, linearly up to all of them at 60.
    [(9, 0), (10, 30), (35, 65), (59, 98), (60, 100)],
)
def test_random_early_drop(waiting: int, dropped: int) -> None:
    refused = 0
    for percent in range(100):
        door = keeper((percent + 0.5) / 100, begin=10, rate=30, full=60, penalties={})
        door.waiting = waiting
        refused += door.admit(HOME, 0.0) is not None
    assert refused == dropped


def test_who_has_logged_in_waits_no_more() -> None:
    door = keeper(begin=2, rate=100, full=2)
    assert door.admit(HOME, 0.0) is door.admit(HOME, 0.0) is None
    refusal = door.admit(AWAY, 0.0)
    assert refusal is not None
    assert (refusal.reason, refusal.told) == ("past MaxStartups", "Exceeded MaxStartups")
    door.left(HOME)
    assert door.admit(AWAY, 0.0) is None


def test_the_most_from_one_network() -> None:
    door = keeper(per_source=1, blocks=(24, 64))
    assert door.admit("192.0.2.1", 0.0) is None
    assert door.admit("192.0.2.200", 0.0) is not None
    assert door.admit("::ffff:192.0.2.7", 0.0) is not None  # the same network, by another name
    assert door.admit("192.0.3.1", 0.0) is None
    assert door.admit("2001:db8::1", 0.0) is None
    assert door.admit("2001:db8::ffff", 0.0) is not None
    door.left("192.0.2.1")
    assert door.admit("192.0.2.200", 0.0) is None


def test_penalties_add_up_and_end() -> None:
    """Each failure costs 5 seconds; from 15 on an address is turned away, until it has paid."""
    door = keeper()
    for _ in range(3):
        door.penalise(HOME, "authfail", 100.0)
    assert door.admit(HOME, 100.0) is None  # 15 is not beyond 15
    door.penalise(HOME, "authfail", 100.0)
    refusal = door.admit(HOME, 119.0)
    assert refusal is not None
    assert (refusal.reason, refusal.told) == ("penalty: failed authentication", "Not allowed at this time")
    assert door.admit(AWAY, 119.0) is None
    assert door.admit(HOME, 120.0) is None


def test_a_penalty_has_an_end_whatever_is_done() -> None:
    door = keeper()
    for _ in range(1000):
        door.penalise(HOME, "crash", 0.0)
    assert door.admit(HOME, 599.0) is not None
    assert door.admit(HOME, 600.0) is None


def test_who_never_pays() -> None:
    door = keeper(exempt=("192.0.2.0/24", "!192.0.2.2"))
    for address in (HOME, AWAY):
        door.penalise(address, "crash", 0.0)
    assert door.admit(HOME, 1.0) is None
    assert door.admit("198.51.100.1", 1.0) is None


def test_what_is_remembered_is_bounded() -> None:
    door = keeper(sources=(10, 10))
    for number in range(1000):
        door.penalise(f"198.51.{number // 256}.{number % 256}", "crash", 0.0)
    assert len(door._penalties[0]) == 10
    assert door.admit("203.0.113.1", 1.0) is None
    closed = keeper(sources=(1, 1), deny=(True, False))
    closed.penalise(HOME, "crash", 0.0)
    assert closed.admit("203.0.113.1", 1.0) is not None
    assert closed.admit("203.0.113.1", 91.0) is None  # the one that was remembered has paid


def test_a_full_list_shelters_nobody_who_comes_later() -> None:
    """Whoever has many addresses could otherwise fill the list once, and pay for nothing after that."""
    door = keeper(sources=(10, 10))
    for number in range(20):
        door.penalise(f"2001:db8::{number:x}", "crash", 0.0)
    assert door.admit("2001:db8::13", 1.0) is not None
    assert door.admit("2001:db8::1", 1.0) is None  # made room, as sshd_config(5) has it: "permissive"


def test_who_is_exempt_comes_in_where_a_full_list_keeps_all_out() -> None:
    closed = keeper(sources=(1, 1), deny=(True, False), exempt=(AWAY,))
    closed.penalise(HOME, "crash", 0.0)
    assert closed.admit("203.0.113.1", 1.0) is not None
    assert closed.admit(AWAY, 1.0) is None


@given(st.lists(st.tuples(st.sampled_from([HOME, AWAY, "2001:db8::1", "UNKNOWN"]), st.booleans())))
def test_the_counts_are_right_whoever_comes_and_goes(steps: list[tuple[str, bool]]) -> None:
    door = keeper(begin=5, rate=100, full=5, per_source=3)
    inside: list[str] = []
    for address, comes in steps:
        if comes and door.admit(address, 0.0) is None:
            inside.append(address)
        elif not comes and address in inside:
            inside.remove(address)
            door.left(address)
    assert door.waiting == len(inside) <= 5
    assert sum(door._by_source.values()) == len(inside)
    assert all(inside.count(address) <= 3 for address in inside)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", Limits()),
        ("MaxStartups 5:50:20", Limits(begin=5, rate=50, full=20)),
        ("PerSourcePenalties no", Limits(penalties={})),
        (
            "PerSourcePenalties authfail:1m max:2m",
            Limits(penalties={**OFFENCES, "authfail": 60.0}, longest=120.0),
        ),
        ("PerSourceMaxStartups 3\nPerSourceNetBlockSize 24:56", Limits(per_source=3, blocks=(24, 56))),
        (
            "PerSourcePenalties overflow:deny-all max-sources4:9",
            Limits(sources=(9, 65536), deny=(True, True)),
        ),
        ("PerSourcePenaltyExemptList 10.0.0.0/8,::1", Limits(exempt=("10.0.0.0/8", "::1"))),
    ],
)
def test_sshd_config(text: str, wanted: Limits) -> None:
    assert limits_of(load(map(parse_option, text.splitlines())).options) == wanted


def test_a_server_turns_away_who_has_failed_too_often() -> None:
    told: list[str] = []

    async def main() -> None:
        limits = Limits(penalties={"authfail": 10.0}, least=15.0)
        refused = lambda peer, reason: told.append(reason)  # noqa: E731
        async with serving(limits=limits, on_refused=refused) as server:
            for _ in range(2):
                with pytest.raises(AuthenticationFailed):
                    await connecting(server.port, keys=[STRANGER])
            with pytest.raises(SSHError) as caught:
                await connecting(server.port)
            assert not isinstance(caught.value, AuthenticationFailed)
            assert server.refused == 1

    run(main())
    assert told == ["penalty: failed authentication"]


@pytest.mark.parametrize(
    ("who", "reason"), [("nobody", "failed authentication"), ("scan", "without attempting")]
)
def test_what_an_end_without_a_login_was(who: str, reason: str) -> None:
    told: list[str] = []

    async def main() -> None:
        limits = Limits(penalties={"authfail": 10.0, "noauth": 10.0}, least=1.0)
        refused = lambda peer, why: told.append(why)  # noqa: E731
        async with serving(limits=limits, on_refused=refused) as server:
            if who == "nobody":
                with pytest.raises(AuthenticationFailed):
                    await connecting(server.port, user="nobody", keys=[STRANGER])
            else:
                reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
                await reader.readline()
                (connection,) = server.connections
                writer.close()
                await connection.wait_closed()
            with pytest.raises(SSHError):
                await connecting(server.port)

    run(main())
    assert reason in told[0]
