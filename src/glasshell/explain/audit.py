"""What is weak in what one side offers: the verdicts on its algorithms, its keys, and what they come to.

`Offer` is what was seen of one side, on the wire or in a configuration file; `judge` makes findings of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from ..messages.transport import KexInit
from .verdicts import GRADES, Grade, Kind, Verdict, is_marker, key_size_verdict, verdict

__all__ = ["STATUS", "Audit", "Finding", "HostKey", "Offer", "judge", "offer_of"]

STATUS: Final = {"good": 0, "unknown": 0, "weak": 2, "broken": 3}
"""The exit status that the worst finding makes: those of ssh-audit, so that scripts need no change."""

FIELDS: Final[dict[Kind, tuple[str, ...]]] = {
    "kex": ("kex_algorithms",),
    "host_key": ("server_host_key_algorithms",),
    "cipher": ("encryption_algorithms_client_to_server", "encryption_algorithms_server_to_client"),
    "mac": ("mac_algorithms_client_to_server", "mac_algorithms_server_to_client"),
    "compression": ("compression_algorithms_client_to_server", "compression_algorithms_server_to_client"),
}
"""The name-lists of KEXINIT (RFC 4253 §7.1) by what they list."""

STRICT: Final = {"client": "kex-strict-c-v00@openssh.com", "server": "kex-strict-s-v00@openssh.com"}
MIN_GROUP: Final = 2048


@dataclass(frozen=True, slots=True)
class HostKey:
    """A host key that a server showed; `bits` 0 where its kind has no size that is known here."""

    type: str
    bits: int
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What one side offers, `names` by kind in its order. `where` says from where each list is.

    `strict` is None where a file cannot tell. `group` is the smallest group for a group exchange, in bits.
    """

    role: Literal["client", "server"]
    names: dict[Kind, tuple[str, ...]]
    software: str = ""
    strict: bool | None = None
    keys: tuple[HostKey, ...] = ()
    group: int = 0
    where: dict[Kind, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to know: how bad, about what, which name, in one sentence, and where that is from."""

    grade: Grade
    about: str
    name: str
    text: str
    source: str = ""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"grade": self.grade, "about": self.about, "name": self.name, "text": self.text,
                "source": self.source}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """The audit of one side: every verdict, and the findings beside them."""

    target: str
    offer: Offer
    verdicts: dict[Kind, tuple[Verdict, ...]]
    findings: tuple[Finding, ...]
    post_quantum: bool | None
    terrapin: tuple[str, ...]
    """The algorithms that are open to CVE-2023-48795; empty: none."""

    @property
    def grade(self) -> Grade:
        """The worst of all."""
        grades = [v.grade for each in self.verdicts.values() for v in each]
        grades += [finding.grade for finding in self.findings]
        return max(grades, key=GRADES.index, default="good")

    @property
    def status(self) -> int:
        """0 nothing weak, 2 something weak, 3 something broken."""
        return STATUS[self.grade]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "target": self.target, "role": self.offer.role, "software": self.offer.software,
            "grade": self.grade, "strict": self.offer.strict, "post_quantum": self.post_quantum,
            "terrapin": list(self.terrapin),
            "algorithms": {kind: [v.to_dict() for v in each] for kind, each in self.verdicts.items()},
            "host_keys": [{"type": k.type, "bits": k.bits or None, "fingerprint": k.fingerprint}
                          for k in self.offer.keys],
            "smallest_group": self.offer.group or None,
            "findings": [finding.to_dict() for finding in self.findings],
        }  # fmt: skip


def offer_of(
    message: KexInit, role: Literal["client", "server"], software: str = "", *,
    keys: Iterable[HostKey] = (), group: int = 0,
) -> Offer:  # fmt: skip
    """What a KEXINIT offers; both directions count as one list."""
    names: dict[Kind, tuple[str, ...]] = {}
    for kind, fields in FIELDS.items():
        every = [name for each in fields for name in getattr(message, each)]
        names[kind] = tuple(name for name in dict.fromkeys(every) if not is_marker(name))
    strict = STRICT[role] in message.kex_algorithms
    return Offer(role=role, names=names, software=software, strict=strict, keys=tuple(keys), group=group)


def judge(target: str, offer: Offer) -> Audit:
    """What is thought of all that."""
    verdicts = {kind: tuple(verdict(kind, n) for n in each) for kind, each in offer.names.items()}
    terrapin = _terrapin(offer)
    listed = "kex" in offer.names
    post_quantum = any(v.post_quantum for v in verdicts.get("kex", ())) if listed else None
    return Audit(
        target=target, offer=offer, verdicts=verdicts, post_quantum=post_quantum, terrapin=terrapin,
        findings=tuple(_findings(offer, terrapin, post_quantum)),
    )  # fmt: skip


def _terrapin(offer: Offer) -> tuple[str, ...]:
    """What of the offer is open to a prefix being cut (CVE-2023-48795), where strictness is known to lack."""
    if offer.strict is not False:
        return ()
    ciphers = offer.names.get("cipher", ())
    etm = [name for name in offer.names.get("mac", ()) if "-etm@" in name]
    chacha = [name for name in ciphers if name.startswith("chacha20-poly1305")]
    cbc = [name for name in ciphers if "-cbc" in name]
    return (*chacha, *((*cbc, *etm) if cbc and etm else ()))


def _findings(offer: Offer, terrapin: Sequence[str], post_quantum: bool | None) -> Iterable[Finding]:
    if terrapin:
        yield Finding(
            "weak", "terrapin", ", ".join(terrapin),
            "no strict key exchange: somebody in the middle can cut the first messages off unseen",
            "CVE-2023-48795",
        )  # fmt: skip
    if post_quantum is False:
        yield Finding(
            "weak", "post-quantum", "", "no key exchange that resists a quantum computer: what is recorded"
            " today may be read one day", "RFC 10042",
        )  # fmt: skip
    for key in offer.keys:
        grade, text = key_size_verdict(key.type, key.bits)
        if text:
            yield Finding(grade, "host key", f"{key.type} {key.bits} bits", text, "RFC 9142; NIST SP 800-57")
    if 0 < offer.group < MIN_GROUP:
        yield Finding("broken", "group exchange", f"{offer.group} bits",
                      "the server gives a group that is within reach (Logjam)", "RFC 8270")  # fmt: skip
    elif offer.group and offer.group < 3072:
        yield Finding("weak", "group exchange", f"{offer.group} bits",
                      f"the smallest group is worth {112 if offer.group < 3072 else 128} bits", "RFC 8270")
    yield from _software(offer)


def _software(offer: Offer) -> Iterable[Finding]:
    """Only what is sure of a version; distributions mend without a new number, and say so in the comment."""
    match = re.search(r"OpenSSH_(\d+)\.(\d+)(?:p\d+)?(?: (.*))?", offer.software)
    if match is None or offer.role != "server":
        return
    version, comment = (int(match[1]), int(match[2])), match[3] or ""
    if (8, 5) <= version <= (9, 7):
        patched = re.search(r"deb12u(\d+)", comment)
        if patched and int(patched[1]) >= 3:
            return
        note = f'; the distribution may have mended it ("{comment}")' if comment else ""
        yield Finding(
            "unknown", "software", match[0], "may be open to a race in its signal handler, by which a"
            f" stranger becomes root (regreSSHion, glibc only){note}", "CVE-2024-6387",
        )  # fmt: skip
    elif version < (7, 0):
        yield Finding("weak", "software", match[0], "a version of before 2015, long without any mending", "")
