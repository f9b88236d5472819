"""What a walk through a connection comes to, step by step: each is said as soon as the records tell it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..observe.record import MessageRecord, Record, StateRecord
from .opening import LISTS, joined
from .story import Story, Try, clip
from .verdicts import is_marker, verdict

__all__ = ["Step", "Steps"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step: well (True), not (False), or well with something to know (None). `seconds`: what it took."""

    phase: str
    ok: bool | None
    text: str
    details: tuple[str, ...] = ()
    seconds: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """For JSON; the time in milliseconds."""
        took = None if self.seconds is None else round(self.seconds * 1000, 3)
        word = {True: "ok", False: "failed", None: "note"}[self.ok]
        return {"phase": self.phase, "result": word, "text": self.text, "details": list(self.details),
                "ms": took}  # fmt: skip


class Steps:
    """A sink that turns one client connection's records into steps. `story` has heard each record before."""

    def __init__(self, story: Story, tell: Callable[[Step], None]) -> None:
        self._story = story
        self._tell = tell
        self._since = 0.0
        self._begun: dict[str, float] = {}
        self._told: set[int] = set()
        self._methods_told = False

    def __call__(self, record: Record) -> None:
        """Takes one record."""
        if isinstance(record, MessageRecord):
            if record.number in (51, 52) and not record.sent:
                self._attempts(record.time)
            return
        if isinstance(record, StateRecord):
            handler = getattr(self, f"_on_{record.name}", None)
            if handler is not None:
                handler(record.facts, record.time)

    def say(self, phase: str, ok: bool | None, text: str, *details: str, now: float | None = None) -> None:
        """Tells a step; the time since the one before is its own."""
        took = None if now is None else max(0.0, now - self._since)
        if now is not None:
            self._since = now
        self._tell(Step(phase=phase, ok=ok, text=text, details=tuple(filter(None, details)), seconds=took))

    # States

    def _on_resolving(self, f: Mapping[str, Any], now: float) -> None:
        self._since = now

    def _on_resolved(self, f: Mapping[str, Any], now: float) -> None:
        addresses = [clip(each) for each in f.get("addresses", ())]
        host = clip(f.get("host", ""))
        text = "an address, no name to look up" if addresses == [host] else f"{host} is {joined(addresses)}"
        self.say("name", True, text, now=now)

    def _on_connecting(self, f: Mapping[str, Any], now: float) -> None:
        self._begun[clip(f.get("address", ""))] = now

    def _on_connect_failed(self, f: Mapping[str, Any], now: float) -> None:
        address = clip(f.get("address", ""))
        self._since = self._begun.get(address, now)
        self.say("tcp", False, f"{address} port {f.get('port')}: {clip(f.get('error', ''))}", now=now)

    def _on_connected(self, f: Mapping[str, Any], now: float) -> None:
        address = clip(f.get("address", ""))
        self._since = self._begun.get(address, now)
        self.say("tcp", True, f"{address} port {f.get('port')} answers", now=now)

    def _on_identification_received(self, f: Mapping[str, Any], now: float) -> None:
        before = [f'before it: "{line}"' for line in self._story.opening.preface[:3]]
        self.say("identification", True, clip(f.get("line", "")), *before, now=now)

    def _on_negotiated(self, f: Mapping[str, Any], now: float) -> None:
        ciphers = dict.fromkeys((f.get("cipher_c2s"), f.get("cipher_s2c")))
        macs = dict.fromkeys((f.get("mac_c2s"), f.get("mac_s2c")))
        names = (f.get("kex"), f.get("host_key"), *ciphers, *macs)
        chosen = ", ".join(str(name) for name in names if name != "<implicit>")  # the cipher's own MAC
        notes = self._notes(f)
        why = dict(f.get("why") or {})
        self.say("negotiation", None if notes else True, chosen, *notes,
                 f"key exchange: {why.get('kex', '')}", *self._offers(), now=now)  # fmt: skip

    def _notes(self, f: Mapping[str, Any]) -> list[str]:
        """What is weak in the choice."""
        found = []
        for kind, fact in (("kex", "kex"), ("host_key", "host_key"), ("cipher", "cipher_c2s"),
                           ("mac", "mac_c2s")):  # fmt: skip
            judged = verdict(kind, str(f.get(fact)))
            if judged.grade in ("weak", "broken"):
                found.append(f"{judged.name} is {judged.grade}: {judged.reason}")
        return found

    def _offers(self) -> list[str]:
        """What the server would have had besides."""
        server = self._story.opening.server_kex
        if server is None:
            return []
        return [f"the server's {word}s: {joined([n for n in getattr(server, fields[0]) if not is_marker(n)])}"
                for _, word, _, _, fields in LISTS[:4]]  # fmt: skip

    def _on_host_key_verdict(self, f: Mapping[str, Any], now: float) -> None:
        key, how, where = self._story.opening.key, str(f.get("how")), f"{f.get('file')}:{f.get('line')}"
        shown = f"{key.get('type')} {key.get('fingerprint')}"
        said = {
            "known": f"known, from {where}" if f.get("file") else "known",
            "unknown": f"not known as {f.get('host')}: ssh would ask whether it is the right one",
            "changed": f"CHANGED: {where} has {f.get('known')}",
            "revoked": f"REVOKED, by {where}",
        }.get(how, how)
        ok = None if how == "unknown" and f.get("accepted") else bool(f.get("accepted"))
        others = clip(f.get("others") or "")
        bad = [f"not readable: {line}" for line in self._story.opening.bad_lines[:3]]
        known_as = f"the same key is known as: {others}" if others else ""
        ok = None if ok and how == "changed" else ok
        self.say("host key", ok, f"{shown} {said}", known_as, *bad, now=now)

    def _on_kex_done(self, f: Mapping[str, Any], now: float) -> None:
        self._since = now

    def _on_auth_methods(self, f: Mapping[str, Any], now: float) -> None:
        if not self._methods_told:
            self._methods_told = True
            taken = ", ".join(map(clip, f.get("methods", ())))
            self.say("login", None, f"the server takes: {taken}", now=now)

    def _on_auth_skipped(self, _: Mapping[str, Any], now: float) -> None:
        self._attempts(now)

    def _attempts(self, now: float) -> None:
        """What has been answered since the last time."""
        for place, each in enumerate(self._story.login.tries):
            if each.method == "none" or each.absent or each.answer in ("", "would do"):
                continue
            if place not in self._told:
                self._told.add(place)
                ok = each.answer == "accepted" or (None if each.answer == "partial" else False)
                if each.answer.startswith("skipped") and not each.asked:
                    ok = None
                self.say("login", ok, _told(each), now=now)

    def _on_authenticated(self, f: Mapping[str, Any], now: float) -> None:
        self.say("login", True, f"logged in as {clip(f.get('user', ''))} by {clip(f.get('method', ''))}",
                 *self._story.login.remarks[:5], now=now)  # fmt: skip


def _told(each: Try) -> str:
    what = " ".join(filter(None, (each.method, each.identity, each.source)))
    answer = each.answer
    if each.asked and answer.startswith("skipped"):
        return f"{what}: the server would take it, but {answer.removeprefix('skipped: ')}"
    if each.asked and answer == "refused":
        return f"{what}: the server said it would take it, and then refused"
    return f"{what}: {answer.replace('not acceptable', 'the server does not take it')}"
