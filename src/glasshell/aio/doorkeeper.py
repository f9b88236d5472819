"""How many strangers a server lets wait at its door, and from where: MaxStartups, PerSourceMaxStartups and
PerSourcePenalties of sshd_config(5), with OpenSSH's defaults.

Who has not logged in costs memory and processor time that nobody has to answer for. Addresses and the time
come in as arguments; nothing here opens a socket or sleeps.
"""

from __future__ import annotations

import ipaddress
import random
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from ..config.options import ServerOptions
from ..keys.patterns import match_addresses
from ..values import field, slotted

__all__ = ["OFFENCES", "Doorkeeper", "Limits", "Refusal", "limits_of"]

OFFENCES: Final[dict[str, float]] = {
    "crash": 90.0, "authfail": 5.0, "noauth": 1.0, "invaliduser": 5.0, "grace-exceeded": 10.0,
    "refuseconnection": 10.0,
}  # fmt: skip
"""What a connection that ends without a login may have been, and the seconds that its address pays for it."""

_WORDS: Final[Mapping[str, str]] = {
    "crash": "caused crash", "authfail": "failed authentication",
    "noauth": "connections without attempting authentication", "invaliduser": "invalid user",
    "grace-exceeded": "exceeded LoginGraceTime", "refuseconnection": "refused connection",
}  # fmt: skip
"""OpenSSH's words for them."""

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network | str


@slotted(frozen=True, kw_only=True)
class Limits:
    """What strangers are allowed. The names are those of sshd_config(5); times are seconds.

    From `begin` connections on that wait to log in, `rate` per cent of new ones are turned away, more and
    more up to `full`, where all are. `per_source`: most from one network, whose size are the bits of `blocks`
    for IPv4 and IPv6. `penalties` are what offences cost, {} for nothing; an address pays from `least` on and
    at most `longest`; `exempt` are patterns of addresses that never pay. `sources` addresses of each family
    are remembered; beyond that the oldest are forgotten or, where `deny` says so, only the exempt come in.
    """

    begin: int = 10
    rate: int = 30
    full: int = 100
    per_source: int | None = None
    blocks: tuple[int, int] = (32, 128)
    penalties: Mapping[str, float] = field(default_factory=lambda: OFFENCES)
    least: float = 15.0
    longest: float = 600.0
    exempt: tuple[str, ...] = ()
    sources: tuple[int, int] = (65536, 65536)
    deny: tuple[bool, bool] = (False, False)


@slotted(frozen=True)
class Refusal:
    """Why somebody is turned away: for the log in OpenSSH's words, and what the client is told."""

    reason: str
    told: str


@slotted
class _Penalty:
    until: float
    reason: str
    active: bool = False


def limits_of(options: ServerOptions) -> Limits:
    """What a sshd_config says about strangers."""
    said: dict[str, float | str] = {}
    for name, value in options.per_source_penalties:
        said.setdefault(name, value)  # the first counts, as everywhere
    words = {name: value for name, value in said.items() if isinstance(value, str)}
    paid = OFFENCES | {name: value for name, value in said.items() if isinstance(value, float)}
    longest, least = paid.pop("max", 600.0), paid.pop("min", 15.0)
    four = words.get("overflow", "permissive")
    exempt = options.per_source_penalty_exempt_list
    return Limits(
        begin=options.max_startups_begin, rate=options.max_startups_rate, full=options.max_startups,
        per_source=options.per_source_max_startups, blocks=options.per_source_net_block_size,
        penalties={} if words.get("enabled") == "no" else paid, longest=longest, least=least,
        exempt=tuple(exempt.split(",")) if exempt else (),
        sources=(int(words.get("max-sources4", 65536)), int(words.get("max-sources6", 65536))),
        deny=(four == "deny-all", words.get("overflow6", four) == "deny-all"),
    )  # fmt: skip


class Doorkeeper:
    """Knows who waits, and who has misbehaved lately. One for all of a server's connections."""

    def __init__(self, limits: Limits, *, chance: Callable[[], float] = random.random) -> None:
        """`chance` gives numbers from 0 to below 1."""
        self.limits = limits
        self.waiting = 0
        """Connections that have not logged in."""
        self._chance = chance
        self._by_source: Counter[Network] = Counter()
        self._penalties: tuple[dict[Network, _Penalty], dict[Network, _Penalty]] = ({}, {})
        self._looked = [float("-inf")] * 2

    def admit(self, address: str, now: float) -> Refusal | None:
        """Lets a connection from `address` in, until `left` is called for it; or says why not."""
        source, family = self._source(address)
        if self._past_startups():
            return Refusal("past MaxStartups", "Exceeded MaxStartups")
        most = self.limits.per_source
        if most is not None and self._by_source[source] >= most:
            return Refusal(f"past PerSourceMaxStartups {most}", "Exceeded MaxStartups")
        if reason := self._penalised(address, source, family, now):
            return Refusal(reason, "Not allowed at this time")
        self.waiting += 1
        if most is not None:
            self._by_source[source] += 1
        return None

    def left(self, address: str) -> None:
        """One that was admitted has logged in, or is over."""
        self.waiting -= 1
        source, _ = self._source(address)
        if source in self._by_source:  # not where limits were others when it came
            self._by_source[source] -= 1
            if not self._by_source[source]:
                del self._by_source[source]

    def penalise(self, address: str, offence: str, now: float) -> None:
        """`address` pays for an offence, one of OFFENCES; what it owes adds up."""
        limits = self.limits
        seconds = limits.penalties.get(offence, 0.0)
        if not seconds or (limits.exempt and match_addresses(address, None, limits.exempt)):
            return
        source, family = self._source(address)
        known = self._penalties[family]
        penalty = known.pop(source, None)
        if penalty is None:
            if len(known) >= limits.sources[family] and limits.deny[family]:
                return  # nobody comes in meanwhile
            penalty = _Penalty(now, "")
        known[source] = penalty  # behind the others: who has misbehaved last is remembered longest
        while len(known) > limits.sources[family]:
            del known[next(iter(known))]
        penalty.until = min(max(penalty.until, now) + seconds, now + limits.longest)
        penalty.reason = _WORDS[offence]
        penalty.active = penalty.active or penalty.until - now > limits.least

    def _past_startups(self) -> bool:
        """Random early drop, as sshd's should_drop_connection."""
        limits, waiting = self.limits, self.waiting
        if waiting < limits.begin:
            return False
        if waiting >= limits.full or limits.rate == 100:
            return True
        more = (100 - limits.rate) * (waiting - limits.begin) // (limits.full - limits.begin)
        return self._chance() * 100 < limits.rate + more

    def _penalised(self, address: str, source: Network, family: int, now: float) -> str:
        limits, known = self.limits, self._penalties[family]
        if limits.exempt and match_addresses(address, None, limits.exempt):
            return ""
        if len(known) >= limits.sources[family] and limits.deny[family] and source not in known:
            self._forget(family, now)
            if len(known) >= limits.sources[family]:
                return "too many penalised addresses"
        penalty = known.get(source)
        if penalty is None:
            return ""
        if penalty.until <= now:
            del known[source]
            return ""
        return f"penalty: {penalty.reason}" if penalty.active else ""

    def _forget(self, family: int, now: float) -> None:
        """Forgets who has paid; at most once a second, as it looks at all of them."""
        if now < self._looked[family] + 1:
            return
        self._looked[family] = now
        known = self._penalties[family]
        for source in [source for source, penalty in known.items() if penalty.until <= now]:
            del known[source]

    def _source(self, address: str) -> tuple[Network, int]:
        """The network that counts as one source, and whether it is of IPv6."""
        try:
            parsed = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return address, 0
        mapped = getattr(parsed, "ipv4_mapped", None)
        parsed = mapped or parsed
        six = parsed.version == 6
        return ipaddress.ip_network(f"{parsed}/{self.limits.blocks[six]}", strict=False), int(six)
