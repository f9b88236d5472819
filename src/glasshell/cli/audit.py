"""`glasshell audit TARGET`: what is weak in a server, a capture, or a configuration file."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..errors import ConfigError, SSHError, UsageError
from ..wire import visible
from .report import report

if TYPE_CHECKING:
    from ..explain.audit import Audit

__all__ = ["main"]

UNREACHED: Final = 1
"""Nothing could be looked at: ssh-audit's status for it."""

CAPTURES: Final = ("pcap", "pcapng", "gzip", "strace")
"""Kinds of files that hold connections."""

TITLES: Final = {
    "kex": "key exchange", "host_key": "host key", "cipher": "cipher", "mac": "MAC",
    "compression": "compression",
}  # fmt: skip
OK: Final = {"good": True, "unknown": None, "weak": None, "broken": False}


def main(arguments: Sequence[str]) -> int:
    """Runs `glasshell audit`: 0 nothing weak, 1 nothing to be seen, 2 weak, 3 broken, 255 bad usage."""
    said = _parser().parse_args(list(arguments))
    notes: list[str] = []
    try:
        audits = list(_look(said, notes))
    except UsageError:
        raise
    except SSHError as error:
        report(error, "audit")
        return UNREACHED
    if said.json:
        print(json.dumps({"audits": [audit.to_dict() for audit in audits], "notes": notes}, indent=2))
    else:
        _show(audits, notes, all_of_it=said.all)
    return max((audit.status for audit in audits), default=UNREACHED)


class _Parser(argparse.ArgumentParser):
    """Errors of usage end as everywhere in this program."""

    def error(self, message: str) -> None:  # type: ignore[override]
        raise UsageError(message, hint="glasshell audit --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="glasshell audit", description="What is weak: of a server, without logging in; of a capture's"
        " connections; of an ssh_config or sshd_config.",
        epilog="Exit status: 0 nothing weak, 1 nothing could be looked at, 2 weak, 3 broken; 255 bad usage.",
    )  # fmt: skip
    parser.add_argument("target", metavar="TARGET", help="host, host:port, [address]:port, or a file")
    parser.add_argument("-p", type=int, dest="port", default=22, metavar="PORT", help="port (22)")
    parser.add_argument("-4", dest="family", action="store_const", const=2, default=0, help="IPv4 only")
    parser.add_argument("-6", dest="family", action="store_const", const=10, help="IPv6 only")
    parser.add_argument("--timeout", type=float, default=10.0, metavar="SECONDS", help="for one look (10)")
    parser.add_argument("--config", choices=("client", "server"), help="what kind of file TARGET is")
    parser.add_argument("--all", action="store_true", help="say what is good, too")
    parser.add_argument("--json", action="store_true", help="write one JSON object")
    return parser


# ---- what to look at


def _look(said: argparse.Namespace, notes: list[str]) -> Iterator[Audit]:
    path = Path(said.target)
    if path.is_file():
        from ..capture.source import SNIFFED, sniff

        try:
            with path.open("rb") as file:
                kind = sniff(file.read(SNIFFED))
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}") from None
        if kind in CAPTURES:
            yield from _capture(path, notes)
        else:
            yield _config(path, said.config, notes)
    elif said.config or "/" in said.target:
        raise ConfigError(f"there is no file {visible(said.target)}")
    else:
        yield _server(said, notes)


def _server(said: argparse.Namespace, notes: list[str]) -> Audit:
    from ..aio.scan import scan
    from ..explain.audit import judge

    host, port = _place(said.target, said.port)
    if said.timeout <= 0:
        raise UsageError("--timeout takes seconds, more than 0")
    offer = asyncio.run(scan(host, port, seconds=said.timeout, family=said.family, told=notes.append))
    return judge(f"{host} port {port}", offer)


def _place(text: str, port: int) -> tuple[str, int]:
    """`host`, `host:port`, `[address]:port`, a bare address of IPv6."""
    host, colon, number = text.rpartition(":")
    if not colon or text.endswith("]") or ("]" not in text and ":" in host):
        host, number = text, str(port)
    host = host.removeprefix("[").removesuffix("]").rpartition("@")[2]
    if not host or host.startswith("-") or not number.isdecimal() or not 0 < int(number) < 65536:
        raise UsageError(f"'{visible(text)}' is no host[:port]")
    return host, int(number)


def _capture(path: Path, notes: list[str]) -> Iterator[Audit]:
    """Both sides of each connection; the same offer again is not said again."""
    from ..capture.reader import read_source
    from ..capture.source import open_source
    from ..explain.audit import HostKey, judge, offer_of
    from ..explain.story import Story
    from ..observe.seen import Seen

    stories: dict[int, Story] = {}
    with open_source(path) as source:
        reading = read_source(source)
        for item in reading:
            if isinstance(item, Seen) and (item.stream in stories or len(stories) < MAX_STREAMS):
                stories.setdefault(item.stream, Story())(item.record)
    seen: set[tuple[object, ...]] = set()
    for stream, story in stories.items():
        key = story.opening.key
        shown = [HostKey(str(key.get("type")), int(key.get("bits") or 0), str(key.get("fingerprint")))]
        for role, message, line, keys in (
            ("server", story.opening.server_kex, story.opening.server, shown if key else []),
            ("client", story.opening.client_kex, story.opening.client, []),
        ):
            if message is None:
                continue
            software = line.partition("-")[2].partition("-")[2]
            offer = offer_of(message, role, software, keys=keys)  # type: ignore[arg-type]
            same = (role, software, tuple(offer.names.items()), offer.keys)
            if same not in seen:
                seen.add(same)
                yield judge(f"stream {stream}, {role}", offer)
    notes += reading.troubles.lines
    if not seen:
        notes.append("no KEXINIT in the file: it has no SSH connection from its beginning")


MAX_STREAMS: Final = 1000
"""Most connections of a capture that are judged."""


def _config(path: Path, kind: str | None, notes: list[str]) -> Audit:
    from ..config.offers import offers_in
    from ..explain.audit import Offer, judge
    from .ssh import facts

    known = facts()
    found = offers_in(str(path), known.read, known.find, home=known.home, kind=kind)
    notes += found.notes
    offer = Offer(role=found.role, names=found.names, where=found.where)
    return judge(f"{path} ({found.role})", offer)


# ---- what is said


def _show(audits: Sequence[Audit], notes: Sequence[str], *, all_of_it: bool) -> None:
    from ..explain.steps import Step
    from ..views.checkup import Checkup
    from ..views.screen import coloured

    color = coloured(sys.stdout)
    checkup = Checkup(sys.stdout, color=color)
    for audit in audits:
        software = f": {audit.offer.software}" if audit.offer.software else ""
        checkup.lines([f"{audit.target}{software}"])
        for key in audit.offer.keys:
            text = f"{key.type} {key.bits} bits {key.fingerprint}"
            checkup.step(Step(phase="host key", ok=True, text=text))
        for finding in audit.findings:
            source = f" ({finding.source})" if finding.source else ""
            text = f"{finding.name}: {finding.text}{source}".removeprefix(": ")
            checkup.step(Step(phase=finding.about, ok=OK[finding.grade], text=text))
        good = 0
        for kind, verdicts in audit.verdicts.items():
            for v in verdicts:
                good += v.grade == "good"
                if v.grade != "good" or all_of_it:
                    text = f"{v.name}: {v.grade}, {v.reason}" + (f" ({v.source})" if v.source else "")
                    where = audit.offer.where.get(kind, "")
                    checkup.step(Step(phase=TITLES[kind], ok=OK[v.grade], text=text,
                                      details=(where,) * bool(where)))  # fmt: skip
        checkup.lines([_summary(audit, good), ""])
    checkup.lines([f"note: {note}" for note in notes])


def _summary(audit: Audit, good: int) -> str:
    strict = {True: "strict key exchange", False: "no strict key exchange", None: ""}[audit.offer.strict]
    quantum = {True: "post-quantum key exchange", False: "nothing post-quantum", None: ""}[audit.post_quantum]
    if not any(audit.verdicts.values()):
        return "  nothing to judge"
    count = f"{good} good algorithm{'' if good == 1 else 's'}"
    told = ", ".join(filter(None, (count, strict, quantum)))
    return f"  {audit.grade}: {told}"


