"""Many connections: what an idle one holds, what a login costs a server, and how many it takes a second."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final

import psutil

from tests.bench import scale
from tests.bench.programs import Stock
from tests.bench.reach import VERSIONS, Plan
from tests.bench.table import Goal, Table, Work
from tests.interop.peers import Keys, why_not

HOST, USER = 1, 2
"""Which of `scale`'s keys is whose."""


def idle(plan: Plan) -> Iterator[Table]:
    """Memory of each idle, authenticated connection, on both sides."""
    found = scale.idle(plan.many)
    for side, name in enumerate(("server", "client")):
        table = Table(
            f"idle, {name}", f"{plan.many:,} idle authenticated connections: memory of each in one {name}",
            "KB", more=False,
            note="What the process grew by (resident), after a collection, divided by connections; KB are "
            "1,000 bytes. The kernel's own memory for sockets is not in it.",
        )  # fmt: skip
        table.rows = {kind: [both[side]] for kind, both in found.items()}
        table.goals = [Goal("glasshell", "", False, 20)]
        table.clock = time.strftime("%Y-%m-%d %H:%M")
        yield table


def logins(plan: Plan) -> Iterator[Table]:
    """A server's processor time for each login and command, and how many of them that makes a second."""
    cost = Table(
        "logins, cost", "A server's processor time for each login and command", "ms", more=False, digits=2,
        note="Handler in the server's own process, no child, limits off; the same client of ours logs in to "
        "all, four at a time, from the other processor. sshd's is that of all its processes, the command's "
        "shell included.",
    )  # fmt: skip
    rate = Table(
        "logins, rate", "Logins for each second of the server's processor", "logins", more=True,
        digits=0, note="The same figures, the other way round: what one processor takes when it does nothing "
        "else. (By the clock the client that makes the load would be measured.)",
    )  # fmt: skip
    cost.goals = [Goal("glasshell", "asyncssh", False, 0.5)]
    rate.goals = [Goal("glasshell", f"sshd {version}", True, 50) for version in VERSIONS]
    with ExitStack() as stack:
        ends: dict[str, tuple[scale.Role, Callable[[], float], int]] = {}
        for kind in scale.KINDS:
            server = stack.enter_context(scale.Role("serve", kind, cpu=0))
            ends[kind] = _load(stack, int(server.said["port"])), partial(_spent, server), plan.logins
        for version in VERSIONS:
            if reason := why_not(f"openssh-{version}"):
                cost.missing[f"sshd {version}"] = rate.missing[f"sshd {version}"] = reason
            else:
                daemon = _sshd(stack, version)
                client = _load(stack, daemon.target.port, daemon.target.user)
                ends[f"sshd {version}"] = client, daemon.spent, max(plan.logins // 8, 8)

        def work(name: str) -> dict[str, float]:
            client, spent, count = ends[name]
            before = spent()
            assert client.ask(count) == count
            return {name: (spent() - before) / count * 1000}

        works: list[Work] = [partial(work, name) for name in ends]
        cost.run(works, plan.rounds)
    rate.rows = {name: [1000 / each for each in kept] for name, kept in cost.rows.items()}
    rate.clock = cost.clock
    yield cost
    yield rate


def _spent(server: scale.Role) -> float:
    """Seconds of the processor that a server has taken so far, its own and the kernel's for it."""
    return float(sum(server.ask("cpu")))


def _load(stack: ExitStack, port: int, user: str = scale.USER) -> scale.Role:
    return stack.enter_context(scale.Role("log", "in", str(port), user, cpu=1))


def _sshd(stack: ExitStack, version: str) -> OneKey:
    """An sshd on the first processor, with the keys of `scale` and the answer that its client expects."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="glasshell-")))
    for name, number in (("host_ed25519", HOST), ("user_ed25519", USER)):
        (folder / name).touch(0o600)
        (folder / name).write_bytes(scale._pem(number))
        (folder / f"{name}.pub").write_text(f"{scale._line(number)} {name}\n", "ascii")
    return stack.enter_context(
        OneKey(version, Keys(folder), extra_config="MaxStartups 1000:30:1000\nForceCommand echo done")
    )


class OneKey(Stock):
    """sshd on the first processor."""

    KINDS = ("ed25519",)

    def _start(self, undo: ExitStack) -> None:
        before = set(psutil.Process().children())
        super()._start(undo)
        (self._process,) = set(psutil.Process().children()) - before

    def _line(self, port: int) -> list[str]:
        words = super()._line(port)
        return ["taskset", "-c", "0", *words] if (os.cpu_count() or 1) > 1 else words

    def spent(self) -> float:
        """Seconds of the processor, its own and of all its children that have ended: once all have."""
        while self._process.children():
            time.sleep(0.01)
        return float(sum(self._process.cpu_times()[:4]))


__all__: Final = ["idle", "logins"]
