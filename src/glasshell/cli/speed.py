"""`glasshell speed`: how fast this machine does each key exchange, signature, cipher and MAC, by our code.

Ciphers run as a connection runs them: the payload is padded, sealed, taken apart and opened again. Time is
the processor's, as with openssl-speed(1), so that other programs do not count.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

from ..errors import UsageError

if TYPE_CHECKING:
    from ..crypto.registry import CipherAlgorithm, KexAlgorithm, MacAlgorithm
    from ..transport.packets import Outbound

__all__ = ["GROUPS", "Result", "candidates", "main", "parser", "versions"]

LARGE: Final = 32 * 1024
"""Bytes of a channel's data in a full packet."""
SMALL: Final = 64
"""Bytes of a payload as typing makes them."""

GROUPS: Final = {
    "kex": ("key exchange", ("init", "respond", "finish"), "op/s"),
    "signatures": ("signature", ("sign", "verify"), "op/s"),
    "ciphers": ("cipher", ("seal 32K", "open 32K", "seal 64", "open 64"), "MB/s, packets/s"),
    "macs": ("MAC", ("32K", "64"), "MB/s, tags/s"),
}
"""Group -> what its rows are, what is measured of each, and in which units."""

Clock = Callable[[], float]


@dataclass(slots=True)
class Result:
    """One row. `figures` are operations a second; `megabytes` says the same of full packets in 10^6 bytes."""

    group: str
    name: str
    note: str = ""
    figures: dict[str, float] = field(default_factory=dict)

    @property
    def megabytes(self) -> dict[str, float]:
        """Of what is measured over full packets: 10^6 bytes of payload a second."""
        return {name: rate * LARGE / 1e6 for name, rate in self.figures.items() if name.endswith("32K")}


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    made = argparse.ArgumentParser(prog="glasshell speed", description=(__doc__ or "").partition(": ")[2])
    made.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"an algorithm, a pattern like aes256-* or one of {', '.join(GROUPS)}; without: all of them",
    )
    made.add_argument(
        "--seconds",
        type=_seconds,
        default=0.1,
        metavar="SECONDS",
        help="how long each figure is measured (0.1)",
    )
    made.add_argument("--json", action="store_true", help="exact figures, as JSON")
    return made  # fmt: skip


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value <= 600:
        raise argparse.ArgumentTypeError(f"{text!r} is not within 0 to 600 seconds")
    return value


def main(arguments: Sequence[str]) -> int:
    """Runs the command. Raises UsageError for a name that is not known."""
    options = parser().parse_args(arguments)
    chosen = list(_chosen(options.names))
    facts = versions()
    if options.json:
        rows = [_as_json(measure(options.seconds)) for measure in chosen]
        print(json.dumps({**facts, "seconds": options.seconds, "rows": rows}, indent=2))
        return 0
    for name, value in facts.items():
        text = " ".join(value) if isinstance(value, list) else value
        print(f"{name:<13} {text or 'not known'}")
    _show(measure(options.seconds) for measure in chosen)
    return 0


def versions() -> dict[str, Any]:
    """What does the work: our version and Python's, the libraries', the processor's name and features."""
    import cryptography
    from cryptography.hazmat.backends.openssl import backend

    from .. import __version__
    from ..system.cpu import cpu

    model, features = cpu()
    return {
        "glasshell": __version__, "python": f"{platform.python_implementation()} {platform.python_version()}",
        "cryptography": cryptography.__version__, "openssl": backend.openssl_version_text(),
        "cpu": model or platform.machine(), "cpu_features": list(features),
    }  # fmt: skip


def _as_json(result: Result) -> dict[str, Any]:
    return {
        "group": result.group, "name": result.name, **({"note": result.note} if result.note else {}),
        "per_second": {name: round(rate, 3) for name, rate in result.figures.items()},
        **({"megabytes_per_second": {name: round(rate, 3) for name, rate in result.megabytes.items()}}
           if result.megabytes else {}),
    }  # fmt: skip


# -- what there is

Measure = Callable[[float], Result]


def candidates() -> list[tuple[str, str, Measure]]:
    """(group, name, measure) of every row of the registry, in its order."""
    from ..crypto.registry import Kind, find, names
    from ..crypto.signatures import SIGNING_ALGORITHMS

    found: list[tuple[str, str, Measure]] = []
    for name in names(Kind.KEX):
        found.append(("kex", name, _bind(_kex, find(Kind.KEX, name))))
    for name in SIGNING_ALGORITHMS:
        found.append(("signatures", name, _bind(_signature, name)))
    for name in names(Kind.CIPHER):
        found.append(("ciphers", name, _bind(_cipher, find(Kind.CIPHER, name))))
    for name in names(Kind.MAC):
        found.append(("macs", name, _bind(_mac, find(Kind.MAC, name))))
    return found


def _bind(measure: Callable[[Any, float], Result], what: Any) -> Measure:
    return lambda seconds: measure(what, seconds)


def _chosen(wanted: Sequence[str]) -> Iterator[Measure]:
    rows = candidates()
    for word in wanted:
        if not any(_fits(word, group, name) for group, name, _ in rows):
            known = ", ".join(name for _, name, _ in rows)
            raise UsageError(f"nothing is called {word!r}", hint=f"{', '.join(GROUPS)}, or one of {known}")
    for group, name, measure in rows:
        if not wanted or any(_fits(word, group, name) for word in wanted):
            yield measure


def _fits(word: str, group: str, name: str) -> bool:
    return word == group or fnmatchcase(name, word) or name.partition("@")[0] == word


# -- measuring


def rate(work: Callable[[], object], seconds: float, clock: Clock = time.process_time) -> float:
    """How often `work` is done in a second; it is done at least once, and more often the faster it is."""
    times, done, spent = 1, 0, 0.0
    while spent < seconds:
        began = clock()
        for _ in range(times):
            work()
        passed = clock() - began
        spent, done = spent + passed, done + times
        times = max(1, min(times * 2, int(times * (seconds - spent) / passed))) if passed > 0 else times * 2
    return done / spent


def _kex(row: KexAlgorithm, seconds: float) -> Result:
    from ..crypto.groups import rfc3526

    result = Result("kex", row.name)
    arguments = ()
    if row.context == "gex":
        result.note, arguments = "2048 bits", (rfc3526(14),)  # type: ignore[assignment]
    row.factory(*arguments).init()  # a group is computed when it is first used
    client = row.factory(*arguments)
    asked = client.init()
    answer, _ = row.factory(*arguments).respond(asked)
    result.figures = {
        "init": rate(lambda: row.factory(*arguments).init(), seconds),
        "respond": rate(lambda: row.factory(*arguments).respond(asked), seconds),
        "finish": rate(lambda: client.finish(answer), seconds),
    }
    return result


def _signature(algorithm: str, seconds: float) -> Result:
    from ..crypto.signatures import PrivateKey, key_type_of

    key = PrivateKey.generate(key_type_of(algorithm) or algorithm)
    data = os.urandom(32)
    made = key.sign(algorithm, data)
    bits = f"{key.public.bits} bits" if key.public.label == "RSA" else ""
    return Result("signatures", algorithm, bits, {
        "sign": rate(lambda: key.sign(algorithm, data), seconds),
        "verify": rate(lambda: key.public.verify(algorithm, made, data), seconds),
    })  # fmt: skip


def _cipher(row: CipherAlgorithm, seconds: float) -> Result:
    from ..crypto.registry import Kind, find

    mac = None if row.aead else find(Kind.MAC, "hmac-sha2-256-etm@openssh.com")
    result = Result("ciphers", row.name, f"with {mac.name.partition('@')[0]}" if mac else "")
    for label, size in (("32K", LARGE), ("64", SMALL)):
        result.figures |= _packets(row, mac, label, size, seconds)
    order = GROUPS["ciphers"][1]
    result.figures = {name: result.figures[name] for name in order}
    return result


def _packets(
    row: CipherAlgorithm, mac: MacAlgorithm | None, label: str, size: int, seconds: float
) -> dict[str, float]:
    """Seals and opens by turns, since a packet opens only once, and in its order; both clocks are read."""
    from ..crypto.registry import make_opener, make_sealer
    from ..transport.packets import Inbound, Outbound
    from ..wire import Secret

    mac_key = os.urandom(mac.key_size if mac else 0)
    secrets = [Secret(os.urandom(row.key_size)), Secret(os.urandom(row.iv_size)), Secret(mac_key)]
    outbound, inbound = Outbound(os.urandom), Inbound()
    outbound.install(make_sealer(row, mac, *secrets), reset_seq=True)
    inbound.install(make_opener(row, mac, *secrets), reset_seq=True)
    payload = os.urandom(size)
    # As many packets as a turn of a connection moves; larger buffers would measure the system's memory.
    batch, turns = max(1, 4096 // size), 16
    sealing = opening = 0.0
    done = 0
    while sealing < seconds or opening < seconds:
        began = time.process_time()
        wires = [_sealed(outbound, payload, batch) for _ in range(turns)]
        between = time.process_time()
        for wire in wires:
            inbound.feed(wire)
            while inbound.next() is not None:
                pass
        sealing += between - began
        opening += time.process_time() - between
        done += batch * turns
    return {f"seal {label}": done / sealing, f"open {label}": done / opening}


def _sealed(outbound: Outbound, payload: bytes, times: int) -> bytes | memoryview:
    for _ in range(times):
        outbound.seal(payload)
    return outbound.take()


def _mac(row: MacAlgorithm, seconds: float) -> Result:
    from ..crypto.packet_ciphers import Mac
    from ..wire import Secret

    mac = Mac(row.hash_name, Secret(os.urandom(row.key_size)), etm=row.etm)
    head = bytes(4)
    large, small = os.urandom(LARGE), os.urandom(SMALL)
    return Result("macs", row.name, "", {
        "32K": rate(lambda: mac.tag(7, head, large), seconds),
        "64": rate(lambda: mac.tag(7, head, small), seconds),
    })  # fmt: skip


# -- what is shown


def _show(results: Iterator[Result]) -> None:
    group = ""
    for result in results:
        title, columns, unit = GROUPS[result.group]
        if result.group != group:
            group = result.group
            print(f"\n{f'{title} ({unit})':<48}" + "".join(f"{column:>10}" for column in columns))
        megabytes = result.megabytes
        figures = [_figure(megabytes.get(name, rate)) for name, rate in result.figures.items()]
        name = f"{result.name}{f'  {result.note}' if result.note else ''}"
        print(f"{name:<48}" + "".join(f"{figure:>10}" for figure in figures), flush=True)
    sys.stdout.flush()


def _figure(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"
