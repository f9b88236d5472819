"""Round trips, distance, start-up and the price of being watched: whole programs beside each other.

Each function measures and yields its tables. A contender that is not installed is named, the rest measured.
"""

from __future__ import annotations

import itertools
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from tests.bench.line import Line, carries, line
from tests.bench.line import why_not as why_no_line
from tests.bench.programs import Stock, Took, command_line, new_home, run
from tests.bench.table import Goal, Table, Work
from tests.interop.peers import Keys, Target, why_not

MEGA: Final = 1_000_000
VERSIONS: Final = ("9.2", "10.6")
OURS: Final = "glasshell ssh"
PEER: Final = {"ssh 9.2": "openssh-9.2", "ssh 10.6": "openssh-10.6", "asyncssh": "asyncssh",
               "paramiko": "paramiko"}  # fmt: skip
PROXIED: Final = " No TUN device: this is a loopback proxy, which holds the first bytes one round trip more."


@dataclass(frozen=True)
class Plan:
    """How much is done: `rounds` of each contender, `size` megabytes of a bulk transfer, `many` idle
    connections, `logins` in a row."""

    rounds: int = 5
    size: int = 800
    many: int = 5000
    logins: int = 400


def there(table: Table, names: Sequence[str]) -> list[str]:
    """Those that are installed; the table is told of the others."""
    reasons = {name: why_not(PEER[name]) for name in names if name in PEER}
    table.missing |= {name: reason for name, reason in reasons.items() if reason}
    return [name for name in names if not reasons.get(name)]


@contextmanager
def far(version: str) -> Iterator[tuple[Line, Target, Keys]]:
    """A stock sshd at the far end of a line."""
    with tempfile.TemporaryDirectory(prefix="glasshell-") as folder, line() as between:
        keys = Keys(Path(folder))
        with Stock(version, keys, extra_config=f"ListenAddress {between.near}") as server:
            yield between, between.at(server.target), keys


def fresh(name: str, target: Target, keys: Keys, command: str, *options: str, watched: bool = False) -> Took:
    """One run of a program in a new home."""
    with new_home(target, keys) as home:
        return run(command_line(name, target, home, command, *options), home=home, watched=watched)


def usual(seconds: Callable[[], float]) -> float:
    """The median of three logins: what is taken off a transfer's time."""
    return statistics.median(seconds() for _ in range(3))


# ---- round trips


IN_TURNS: Final = f"{OURS}, Speculation=no"
CONTACTS: Final = tuple(f"{OURS}, {name} contact" for name in ("first", "second", "third"))


def trips(plan: Plan) -> Iterator[Table]:
    """Round trips from the start of a program to the exit status of `true`, at 100 ms."""
    trip = 0.1
    for version in VERSIONS:
        table = Table(
            f"trips, sshd {version}",
            f"Round trips to the exit status of `true`: sshd {version}, 100 ms away", "round trips",
            more=False, digits=2,
            note="Whole programs: the time above that of the same program on the same line without delay, "
            "divided by the round trip. sshd has its three default host keys, of which the client knows the "
            "Ed25519 one; the contacts are those of a new home." + PROXIED * bool(why_no_line()),
        )  # fmt: skip
        most = 5.2, 4.2, 3.3 if version == "10.6" else 4.2
        table.goals = [Goal(name, "", False, bound) for name, bound in zip(CONTACTS, most, strict=True)]
        if reason := why_not(f"openssh-{version}"):
            table.missing = dict.fromkeys(CONTACTS, reason)
        else:
            with far(version) as (between, target, keys):
                _trips(table, between, trip, target, keys, plan.rounds)
                between.round_trip = trip
                counted = _counted(version, target, keys)
            yield table
            yield counted
            continue
        yield table


def _trips(table: Table, between: Line, trip: float, target: Target, keys: Keys, rounds: int) -> None:
    def ours() -> dict[str, float]:
        with new_home(target, keys) as home:
            words = command_line(OURS, target, home, "true")
            return {name: run(words, home=home).seconds for name in CONTACTS}

    def in_turns() -> dict[str, float]:
        return {IN_TURNS: fresh(OURS, target, keys, "true", "-oSpeculation=no").seconds}

    def theirs(name: str) -> dict[str, float]:
        return {name: fresh(name, target, keys, "true").seconds}

    works: list[Work] = [ours, in_turns]
    works += [partial(theirs, name) for name in there(table, list(PEER))]

    fast = Table("", "", "", more=False)

    def both(work: Work) -> dict[str, float]:
        between.round_trip = 0.0
        for name, seconds in work().items():
            fast.rows.setdefault(name, []).append(seconds)
        between.round_trip = trip
        return dict(work())

    table.run([partial(both, work) for work in works], rounds)
    for name, kept in table.rows.items():
        without = statistics.median(fast.rows[name])
        table.rows[name] = [(seconds - without) / trip for seconds in kept]


def _counted(version: str, target: Target, keys: Keys) -> Table:
    """The integers that our own timelines tell of the same connections."""
    table = Table(
        f"trips, counted, {version}", f"Round trips as `--timeline` counts them: sshd {version}",
        "round trips",
        more=False, digits=0, note="The longest chain of messages each of which waited for one before, TCP's "
        "handshake included, from the connection's start to its end. A count, which no load of the machine "
        "changes.", clock=time.strftime("%Y-%m-%d %H:%M"),
    )  # fmt: skip
    with new_home(target, keys) as home:
        for name in (*CONTACTS, IN_TURNS):
            options = ("-oSpeculation=no",) if name == IN_TURNS else ()
            said = run(command_line(OURS, target, home, "true", "--timeline", *options), home=home).said
            match = re.search(r"(\d+) round trips", said)
            table.rows[name] = [float(match[1])] if match else []
    return table


# ---- a long path


DISTANCE: Final = 0.1


def distance(plan: Plan) -> Iterator[Table]:
    """Download at 100 ms with everybody's defaults, and the memory that it takes."""
    table = Table(
        "distance", "Download from sshd 10.6, 100 ms away, everybody's defaults", "MB/s", more=True, digits=0,
        note="Whole programs, from the request to the end; TCP's and the window's growth are included. The "
        "amount is what each moves in some seconds. The kernel's buffers may grow to "
        "128 MiB for everybody. The row of plain TCP is what this line carries, same growth included.",
    )  # fmt: skip
    table.goals = [Goal(OURS, "ssh 10.6", True, 10), Goal(OURS, "", True, 200)]
    memory = Table(
        "distance, memory", "The most memory a client took meanwhile", "MB", more=False, digits=0,
        note="Resident, the whole process. The receive budget of a client is 64 MiB.",
    )  # fmt: skip
    if reason := why_no_line() or why_not("openssh-10.6"):
        table.missing = {OURS: reason}
        yield table
        return
    sizes = {OURS: 2 * plan.size * MEGA, **dict.fromkeys(PEER, plan.size * MEGA // 10)}
    with far("10.6") as (between, target, keys):
        between.round_trip = DISTANCE

        def login(name: str) -> float:
            return fresh(name, target, keys, "true").seconds

        def work(name: str) -> dict[str, float]:
            took = fresh(name, target, keys, f"head -c {sizes[name]} /dev/zero", watched=True)
            memory.rows.setdefault(name, []).append(took.memory / MEGA)
            return {name: sizes[name] / (took.seconds - logins[name]) / MEGA}

        names = there(table, [OURS, *PEER])
        logins = {name: usual(partial(login, name)) for name in names}
        works: list[Work] = [partial(work, name) for name in names]
        table.run(works, max(plan.rounds // 2, 1), warm=False)
        memory.clock = table.clock
    table.rows["plain TCP"] = [carries(DISTANCE, sizes[OURS]) / MEGA for _ in range(max(plan.rounds // 2, 1))]
    yield table
    yield memory


# ---- start-up


def start(plan: Plan) -> Iterator[Table]:
    """`ssh host true`, whole process: without delay, and 20 and 100 ms away."""
    for trip, version in itertools.product((0.0, 0.02, 0.1), VERSIONS):
        away = f"{trip * 1000:.0f} ms away"
        table = Table(
            f"start, {away}, {version}", f"`ssh host true`, whole process: sshd {version}, {away}", "ms",
            more=False, digits=0, note="A host met before (ours: at least twice), one key, no agent. "
            "`glasshell ssh` is the installed script.",
        )  # fmt: skip
        table.goals = [Goal(OURS, f"ssh {each}", False, 1.0 if trip else 1.5) for each in VERSIONS]
        if reason := why_not(f"openssh-{version}"):
            table.missing = {OURS: reason}
            yield table
            continue
        with far(version) as (between, target, keys), new_home(target, keys) as home:
            between.round_trip = trip
            names = there(table, [OURS, *PEER])
            words = {name: command_line(name, target, home, "true") for name in names}
            for _ in range(2):
                run(words[OURS], home=home)

            table.run([partial(_whole, name, words[name], home) for name in names], 2 * plan.rounds)
        yield table


def _whole(name: str, words: list[str], home: Path) -> dict[str, float]:
    return {name: run(words, home=home).seconds * 1000}


# ---- the price of being watched


SINKS: Final = {
    "--trace FILE": ("--trace", "trace.jsonl"),
    "--trace FILE.sqlog": ("--trace", "trace.sqlog"),
    "--timeline": ("--timeline",),
    "--html FILE": ("--html", "page.html"),
    "--perfetto FILE": ("--perfetto", "trace.json"),
    "--pcap FILE": ("--pcap", "bytes.pcapng"),
    "--keylog FILE": ("--keylog", "keys"),
    "--audit-packets": ("--audit-packets",),
    "-vvv": ("-vvv",),
}
PLAIN: Final = "unwatched"


def price(plan: Plan) -> Iterator[Table]:
    """What each view costs a bulk download."""
    table = Table(
        "price", "A download from sshd 9.2 with each view", "MB/s", more=True, digits=0,
        note="`glasshell ssh` as a whole program, loopback, AES-GCM, the time of `true` with the same view "
        "taken off. `--pcap` writes every byte of the wire.",
    )  # fmt: skip
    table.goals = [Goal("--trace FILE", PLAIN, True, 0.85)]
    if reason := why_not("openssh-9.2"):
        table.missing = {PLAIN: reason}
        yield table
        return
    size = plan.size * MEGA
    with tempfile.TemporaryDirectory(prefix="glasshell-") as name:
        folder, keys = Path(name), Keys(Path(name))
        with Stock("9.2", keys) as server, new_home(server.target, keys) as home:

            def seconds(command: str, view: tuple[str, ...]) -> float:
                for path in folder.glob("view-*"):
                    path.unlink()
                options = [word if word.startswith("-") else str(folder / f"view-{word}") for word in view]
                cipher = "-oCiphers=aes128-gcm@openssh.com"
                return run(
                    command_line(OURS, server.target, home, command, cipher, *options), home=home
                ).seconds

            def work(name: str, view: tuple[str, ...]) -> dict[str, float]:
                took = seconds(f"head -c {size} /dev/zero", view) - logins[name]
                return {name: size / took / MEGA}

            views = {PLAIN: (), **SINKS}
            logins = {name: usual(partial(seconds, "true", view)) for name, view in views.items()}
            works: list[Work] = [partial(work, name, view) for name, view in views.items()]
            table.run(works, plan.rounds)
    yield table
