"""`glasshell watch`: every SSH connection of this machine as it comes and goes, whoever's it is.

With root and bpftrace it is told by the kernel's tracepoints, so nothing is too short to be seen; what of
that cannot be had is named, and sock_diag, asked four times a second, tells the rest. On a terminal it is a
table, in a pipe the same without colours; `--json` gives one object a line.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from ..errors import ConfigError
from .ps import port

if TYPE_CHECKING:
    from ..system.following import Event

__all__ = ["main", "parser"]


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    made = argparse.ArgumentParser(
        prog="glasshell watch",
        description="Tells of every SSH connection of this machine when it opens and closes, and of TCP's"
        " retransmits: by eBPF tracepoints (root, bpftrace), else by sock_diag.",
    )  # fmt: skip
    add = made.add_argument
    add(
        "--port",
        metavar="PORT",
        action="append",
        type=port,
        default=[],
        help="take PORT for an SSH port as well as 22 and those where an SSH server listens",
    )
    add("-n", dest="count", metavar="COUNT", type=_positive(int), help="end after so many events")
    add("--seconds", metavar="SECONDS", type=_positive(float), help="end after so long")
    add("--json", action="store_true", help="one JSON object a line")
    add("--writes", action="store_true", help="tell of each call that sent or received bytes (eBPF)")
    add("--no-ebpf", action="store_true", help="use sock_diag alone")
    add("--script", action="store_true", help="print the bpftrace script that would run, and exit")
    return made  # fmt: skip


def _positive(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = 0
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text!r} is no positive number")
        return value

    return read


def main(arguments: Sequence[str]) -> int:
    """Runs the command until it is interrupted, or as long as was asked for. Raises ConfigError."""
    options = parser().parse_args(arguments)
    if options.script:
        return _print_script(options.port)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # bpftrace shall not outlive us
    show = _as_json if options.json else _Table()
    deadline = time.monotonic() + options.seconds if options.seconds else None
    left = options.count
    with suppress(KeyboardInterrupt):
        for event in _events(options, deadline):
            show(event)
            sys.stdout.flush()
            if left is not None:
                left -= 1
                if not left:
                    break
    return 0


def _events(options: argparse.Namespace, deadline: float | None) -> Iterator[Event]:
    """What happens, until `deadline`; what cannot be had is said on standard error first."""
    from ..system.following import Polling, Traced, ssh_ports, there
    from ..system.tracing import Tracing, connections_script

    ports = ssh_ports(options.port)
    if not options.no_ebpf:
        try:
            tracing = Tracing(connections_script(), ports, leave=() if options.writes else ("writes",))
        except ConfigError as error:
            hint = f" ({error.hint})" if error.hint else ""
            _note(f"no eBPF, so sock_diag alone, four times a second: {error}{hint}")
            _note("what opens and closes in between is not seen")
        else:
            with tracing:
                for text in tracing.script.missing:
                    _note(text)
                _note(f"eBPF tells of {', '.join(tracing.script.parts)}; ports {_list(ports)}")
                yield from Traced(tracing, _note, there(ports)).events(deadline)
            return
    else:
        _note(f"sock_diag alone, four times a second; ports {_list(ports)}")
    polling = Polling(ports)
    for text in polling.notes:
        _note(text)
    yield from polling.events(deadline)


def _list(ports: Sequence[int]) -> str:
    return ", ".join(map(str, ports))


def _print_script(ports: Sequence[int]) -> int:
    from ..system.following import ssh_ports
    from ..system.tracing import connections_script, everything

    print(everything(connections_script(), ssh_ports(ports)))
    return 0


def _note(text: str) -> None:
    print(f"glasshell watch: {text}", file=sys.stderr, flush=True)


# ---- what is shown


def _as_json(event: Event) -> None:
    shown = {"time": _stamp(event.time), "event": event.kind, **event.facts}
    print(json.dumps(shown, ensure_ascii=False, separators=(",", ":")))


def _stamp(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


HEADS: Final = ("TIME", "EVENT", "DIR", "PROGRAM", "PID", "USER", "LOCAL", "PEER", "")
WIDTHS: Final = (12, 10, 3, 14, 7, 8, 21, 21, 0)
COLOURS: Final = {"open": "32", "closed": "2", "failed": "31", "retransmit": "33", "there": "36", "sent": "",
           "received": ""}  # fmt: skip


class _Table:
    """One line an event, under a heading."""

    def __init__(self) -> None:
        from ..views.screen import coloured

        self._colours = coloured(sys.stdout)
        print(
            "  ".join(f"{head:{width}}" for head, width in zip(HEADS, WIDTHS, strict=True)).rstrip(),
            flush=True,
        )

    def __call__(self, event: Event) -> None:
        facts = event.facts
        clock = datetime.fromtimestamp(event.time).strftime("%H:%M:%S.%f")[:12]
        words = (
            clock, event.kind, *(facts.get(name) or "-" for name in ("direction", "program", "pid", "user")),
            _place(facts.get("local")), _place(facts.get("peer")), _figures(event),
        )  # fmt: skip
        line = "  ".join(f"{word!s:{width}}" for word, width in zip(words, WIDTHS, strict=True)).rstrip()
        if self._colours:
            line = f"\x1b[{COLOURS[event.kind]}m{line}\x1b[m"
        print(line)


def _place(shown: Any) -> str:
    if not shown:
        return "-"
    address = f"[{shown['address']}]" if ":" in shown["address"] else shown["address"]
    return f"{address}:{shown['port']}"


def _figures(event: Event) -> str:
    from .columns import age, milliseconds, size

    facts = event.facts
    texts: list[tuple[str, Callable[[Any], str], str]] = [
        ("connect {}", milliseconds, "connect_ms"), ("{} bytes", str, "bytes"),
        ("{} sent", size, "sent"), ("{} received", size, "received"),
        ("rtt {}", milliseconds, "rtt_ms"), ("cwnd {}", str, "cwnd"), ("{}", _retransmits, "retransmits"),
        ("after {}", _seconds(age), "seconds"),
    ]  # fmt: skip
    shown = [text.format(show(facts[name])) for text, show, name in texts if facts.get(name) is not None]
    return ", ".join(shown)


def _retransmits(count: int) -> str:
    return f"{count} retransmit{'' if count == 1 else 's'}"


def _seconds(age: Callable[[float], str]) -> Callable[[float], str]:
    return lambda value: f"{value:.2f}s" if value < 60 else age(value)
