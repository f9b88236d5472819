"""The bench itself: that it counts, compares, draws and delays rightly. Nothing here is a matter of speed."""

from __future__ import annotations

import dis
import hashlib
import math
import os
import random
import socket
import statistics
import threading
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from glasshell.observe.hub import Hub
from tests.bench import __main__ as bench
from tests.bench.counts import calls, instructions, measure
from tests.bench.line import Line, Proxy, WideLine, line, own_network, why_not
from tests.bench.page import of, page
from tests.bench.plot import plot
from tests.bench.programs import command_line, new_home, run
from tests.bench.prose import LINES
from tests.bench.reach import OURS, PEER, Plan, far, there
from tests.bench.table import MET, MISSED, Goal, Table, dump, load
from tests.interop.peers import Target
from tests.needs import absent

TRIP = 0.05
SVG = "{http://www.w3.org/2000/svg}"


def table(**rows: list[float]) -> Table:
    clock = "2026-01-02 03:04"
    return Table("trips, x", "A < B & `C`", "ms", more=False, note="A note.", rows=rows, clock=clock)


# ---- figures


def test_a_ratio_is_the_median_of_the_ratios_of_the_rounds() -> None:
    # What slows both in the second round cancels out: 1/2, 10/20, 3/4.
    found = table(ours=[1.0, 10.0, 3.0], theirs=[2.0, 20.0, 4.0])
    assert Goal("ours", "theirs", False, 0.5).found(found.rows) == 0.5
    assert Goal("ours", "", False, 3.0).found(found.rows) == 3.0


@pytest.mark.parametrize(("least", "bound", "verdict"), [
    (True, 2.0, MET), (True, 2.01, MISSED), (False, 2.0, MET), (False, 1.99, MISSED),
])  # fmt: skip
def test_a_goal_is_met_at_its_bound(least: bool, bound: float, verdict: str) -> None:
    found = table(ours=[4.0], theirs=[2.0])
    found.goals = [Goal("ours", "theirs", least, bound)]
    assert found.verdicts()[0][-1] == verdict


def test_who_is_not_installed_is_named_and_no_goal_is_met_without_them() -> None:
    found = table(ours=[4.0])
    found.missing = {"theirs": "not installed"}
    found.goals = [Goal("ours", "theirs", True, 1.0)]
    assert math.isnan(found.goals[0].found(found.rows))
    assert found.verdicts()[0][-1] == "not measured: not installed"
    assert "not installed" in page({}, [found])


def test_contenders_take_turns_and_the_first_round_does_not_count() -> None:
    order: list[str] = []

    def work(name: str) -> dict[str, float]:
        order.append(name)
        return {name: float(len(order))}

    found = table()
    found.run([lambda: work("a"), lambda: work("b")], 3)
    assert order == ["a", "b", "a", "b", "b", "a", "a", "b"]
    assert found.rows == {"a": [3.0, 6.0, 7.0], "b": [4.0, 5.0, 8.0]}


def test_figures_outlive_the_run(tmp_path: object) -> None:
    found = table(ours=[1.5], theirs=[2.5])
    found.goals = [Goal("ours", "theirs", True, 0.5)]
    assert load(dump({"Python": "3"}, [found])) == ({"Python": "3"}, [found])
    with pytest.raises(ValueError, match="not what"):
        load("[]")


def test_a_line_measured_again_replaces_its_tables_alone() -> None:
    old = [Table(key, "", "", True) for key in ("trips, a", "trips, b", "idle", "gone")]
    new = [Table("trips, a", "new", "", True)]
    assert [(each.key, each.title) for each in bench.merged(old, new)] == [("trips, a", "new"), ("idle", "")]


# ---- the page and the plot


def test_the_page_tells_every_row_and_verdict() -> None:
    found = table(ours=[1.0, 3.0, 2.0], theirs=[8.0, 4.0, 4.0])
    found.goals = [Goal("ours", "theirs", False, 0.1)]
    text = page({"Python": "3.11"}, [found])
    assert "| ours | 2.0 | 1.0–3.0 |" in text
    assert "- ours ÷ theirs: **0.50 ×**, wanted ≤ 0.1 ×: missed." in text
    assert "| Python | 3.11 |" in text
    assert "2026-01-02 03:04, 3 rounds" in text


def test_every_line_has_its_words() -> None:
    assert set(bench.LINES) == set(LINES)
    assert of(Table("trips, sshd 9.2", "", "", True)) == "trips"


def test_the_plot_is_a_picture_whose_bars_are_as_long_as_their_figures() -> None:
    found = table(ours=[10.0], asyncssh=[20.0])
    found.goals = [Goal("ours", "asyncssh", True, 1.0)]
    root = ElementTree.fromstring(plot([found], "3 < 4 & 5"))
    bars = {each.get("class"): float(each.get("width", "")) for each in root.iter(f"{SVG}rect")}
    assert bars["theirs"] == pytest.approx(2 * bars["ours"], rel=0.01)
    said = {each.text for each in root.iter(f"{SVG}text")}
    assert {"A < B & C", "3 < 4 & 5", "10.0", "20.0"} <= said
    marks = [each for each in root.iter(f"{SVG}path") if each.get("class") == "goal"]
    assert len(marks) == 2  # the legend's, and the row's
    height = float(root.get("height", ""))
    assert all(0 < float(each.get("y", "")) < height for each in root.iter(f"{SVG}text"))


# ---- counting


def test_instructions_are_those_that_dis_shows() -> None:
    def straight(a: int = 1) -> int:
        b = a + 2
        return b * a

    # RESUME, and what stands before it, are no events of their own kind everywhere: the difference is exact.
    def longer(a: int = 1) -> int:
        b = a + 2
        b = b - a
        return b * a

    def shown(function: object) -> int:
        return len(list(dis.get_instructions(function)))  # type: ignore[arg-type]

    assert instructions(longer) - instructions(straight) == shown(longer) - shown(straight) > 0
    assert instructions(straight) == instructions(straight)


def test_calls_into_c_are_counted() -> None:
    base = calls(lambda: None)
    assert calls(lambda: [len("a") for _ in range(7)] and None) - base == 7


def test_the_data_path_costs_the_same_each_time_and_more_when_watched() -> None:
    plain = measure()
    (sent, received), _ = plain
    # What the garbage collector finds to do beside it is another thing each time.
    assert measure()[0] == (pytest.approx(sent, rel=0.02), pytest.approx(received, rel=0.02))
    watched = measure(lambda: Hub(lambda record: None))
    assert watched[0][1] > received * 1.02
    assert watched[0][0] == pytest.approx(sent, rel=0.02)  # the sender is not watched


# ---- delaying


@contextmanager
def echo(address: str) -> Iterator[int]:
    """A server that gives back what it hears, for one connection."""
    with socket.create_server((address, 0)) as listener:

        def serve() -> None:
            peer, _ = listener.accept()
            with peer:
                while data := peer.recv(1 << 16):
                    peer.sendall(data)

        server = threading.Thread(target=serve)
        server.start()
        yield listener.getsockname()[1]
        server.join(10)
        assert not server.is_alive()


@pytest.fixture(params=["line", "proxy"])
def between(request: pytest.FixtureRequest) -> Iterator[Line]:
    if request.param == "proxy":
        with Proxy(TRIP) as proxy:
            yield proxy
        return
    if why_not():
        absent(f"a delay line {why_not()}")
    with own_network(), WideLine(TRIP) as wide:
        yield wide


def test_bytes_come_late_and_whole(between: Line) -> None:
    sent = random.Random(1).randbytes(3_000_000)
    with echo(between.near) as port:
        target = between.at(Target(port, "", (), host=between.near))
        began = time.monotonic()
        with socket.create_connection((target.host, target.port), timeout=20) as client:
            client.sendall(b"a")
            assert client.recv(1) == b"a"
            assert time.monotonic() - began >= 2 * TRIP  # TCP's handshake, and the byte's way
            began = time.monotonic()
            giver = threading.Thread(target=client.sendall, args=(sent,))
            giver.start()
            heard = bytearray()
            while len(heard) < len(sent):
                heard += client.recv(1 << 20)
            giver.join(20)
            assert time.monotonic() - began >= TRIP
    assert hashlib.sha256(heard).digest() == hashlib.sha256(sent).digest()


def test_without_the_rights_there_is_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with line() as found:
        assert isinstance(found, Proxy)


# ---- whole programs


@pytest.mark.interop
def test_every_contender_logs_in_over_the_line() -> None:
    if why_not():
        absent(f"a delay line {why_not()}")
    found = Table("", "", "", more=False)
    with far("10.6") as (between, target, keys), new_home(target, keys) as home:
        between.round_trip = TRIP
        for name in there(found, [OURS, *PEER]):
            took = run(command_line(name, target, home, "exit 0"), home=home, watched=True)
            assert took.seconds > 4 * TRIP or name == OURS, name
            assert took.processor > 0
            assert took.memory > 1_000_000
        with pytest.raises(RuntimeError, match=r"ended with 3"):
            run(command_line(OURS, target, home, "exit 3"), home=home)


def test_the_command_names_its_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["--list"]) == 0
    listed = capsys.readouterr().out
    assert all(f"\n{name}" in f"\n{listed}" for name in bench.LINES)
    with pytest.raises(SystemExit):
        bench.main(["nothing"])


def test_a_line_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    tables = bench.measure(["counts"], Plan(rounds=1))
    assert tables[0].rows["send, unwatched"][0] > 0
    assert statistics.median(tables[0].rows["receive, JSON lines"]) > tables[0].rows["receive, unwatched"][0]
    assert "instructions" in capsys.readouterr().out
