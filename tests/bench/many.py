"""Many connections: what an idle one holds, what a login costs a server, and how many it takes a second."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final

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


def cpu(plan: Plan) -> Iterator[Table]:
    """The server's CPU for each login and command."""
    table = Table(
        "cpu", "A server's processor time for each login and command", "ms", more=False, digits=2,
        note="Handler in the server's own process, no child, limits off on both sides; the same client of "
        "ours logs in to both, on the other processor.",
    )  # fmt: skip
    table.goals = [Goal("glasshell", "asyncssh", False, 0.5)]
    table.rows = dict(scale.logins(plan.logins, plan.rounds))
    table.clock = time.strftime("%Y-%m-%d %H:%M")
    yield table


def logins(plan: Plan) -> Iterator[Table]:
    """Logins a second of one server on one processor, sshd's beside it."""
    table = Table(
        "logins", "Logins and commands a second, the server on one processor", "a second", more=True,
        digits=0, note="The same load as above from the other processor, four at a time. sshd, its limits "
        "off, starts processes for each login, and a shell for the command: that is what one costs there.",
    )  # fmt: skip
    table.goals = [Goal("glasshell", f"sshd {version}", True, 50) for version in VERSIONS]
    with ExitStack() as stack:
        load: dict[str, tuple[scale.Role, int]] = {}
        for kind in scale.KINDS:
            server = stack.enter_context(scale.Role("serve", kind, cpu=0))
            load[kind] = _load(stack, int(server.said["port"])), plan.logins
        for version in VERSIONS:
            if reason := why_not(f"openssh-{version}"):
                table.missing[f"sshd {version}"] = reason
            else:
                load[f"sshd {version}"] = _load(stack, *_sshd(stack, version)), max(plan.logins // 20, 8)

        def work(name: str) -> dict[str, float]:
            client, count = load[name]
            began = time.perf_counter()
            assert client.ask(count) == count
            return {name: count / (time.perf_counter() - began)}

        works: list[Work] = [partial(work, name) for name in load]
        table.run(works, plan.rounds)
    yield table


def _load(stack: ExitStack, port: int, user: str = scale.USER) -> scale.Role:
    return stack.enter_context(scale.Role("log", "in", str(port), user, cpu=1))


def _sshd(stack: ExitStack, version: str) -> tuple[int, str]:
    """Port and user of an sshd on the first processor, with the keys of `scale` and the answer it expects."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="glasshell-")))
    for name, number in (("host_ed25519", HOST), ("user_ed25519", USER)):
        (folder / name).touch(0o600)
        (folder / name).write_bytes(scale._pem(number))
        (folder / f"{name}.pub").write_text(f"{scale._line(number)} {name}\n", "ascii")
    server = stack.enter_context(
        OneKey(version, Keys(folder), extra_config="MaxStartups 1000:30:1000\nForceCommand echo done")
    )
    return server.target.port, server.target.user


class OneKey(Stock):
    """sshd on the first processor."""

    KINDS = ("ed25519",)

    def _line(self, port: int) -> list[str]:
        words = super()._line(port)
        return ["taskset", "-c", "0", *words] if (os.cpu_count() or 1) > 1 else words


__all__: Final = ["cpu", "idle", "logins"]
