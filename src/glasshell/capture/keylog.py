"""Key logs: the secrets of key exchanges, by the cookie of a KEXINIT.

    # comment
    COOKIE PRIVATE                   Wireshark 4.0: the private value of the side whose cookie it is
    COOKIE PRIVATE_KEY PRIVATE       Wireshark 4.4 on: the same, named
    COOKIE SHARED_SECRET K           K, big endian, without length and sign; of a hybrid, the string

All three fields are hexadecimal, in either case. The cookie is the 16 random bytes of the client's or of
the server's SSH_MSG_KEXINIT. Lines come from files and from the decryption secrets of a pcapng file; one
that cannot be read is named and passed over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from ..wire import Secret

Label: TypeAlias = Literal["PRIVATE_KEY", "SHARED_SECRET"]

COOKIE_SIZE: Final = 16
MAX_LINE: Final = 16_384
"""Longest line that is read, in bytes; the longest there is, of a group of 8192 bits, has some 2,100."""
MAX_SECRETS: Final = 1 << 18
"""Most secrets that are kept."""
MAX_PER_COOKIE: Final = 8
"""Most secrets that are kept, and tried, for one cookie."""
MAX_NAMED: Final = 20
"""Bad lines that are named one by one; the rest is counted."""

_LABELS: Final[dict[str, Label]] = {"PRIVATE_KEY": "PRIVATE_KEY", "SHARED_SECRET": "SHARED_SECRET"}


@dataclass(frozen=True, slots=True)
class Logged:
    """One secret: `value` is big endian bytes, `source` where it was read."""

    label: Label
    value: Secret
    source: str


class KeyLog:
    """The secrets that are known, from any number of sources."""

    def __init__(self) -> None:
        self.troubles: list[str] = []
        """Lines that could not be read, one sentence each; at most `MAX_NAMED`."""
        self.bad = 0
        """How many lines could not be read."""
        self.count = 0
        self._secrets: dict[bytes, list[Logged]] = {}

    def __len__(self) -> int:
        return self.count

    def add(self, text: bytes | str, source: str) -> None:
        """Reads the lines of `text`; LF and CR LF both end one. Raises nothing."""
        raw = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
        for number, line in enumerate(raw.split(b"\n"), 1):
            stripped = line.strip()
            if stripped and not stripped.startswith(b"#"):
                self._line(stripped, source, number)

    def find(self, *cookies: bytes) -> list[Logged]:
        """What is known of a key exchange by either side's cookie; SHARED_SECRET first, it costs least."""
        found = [each for cookie in cookies for each in self._secrets.get(cookie, ())]
        return sorted(found, key=lambda each: each.label != "SHARED_SECRET")

    def _line(self, line: bytes, source: str, number: int) -> None:
        if len(line) > MAX_LINE:
            self._bad(source, number, f"{len(line)} bytes long")
            return
        words = line.decode("ascii", "replace").split()
        label = _LABELS.get(words[1]) if len(words) == 3 else "PRIVATE_KEY" if len(words) == 2 else None
        if label is None:
            self._bad(source, number, "not `cookie secret` nor `cookie PRIVATE_KEY|SHARED_SECRET secret`")
            return
        cookie, value = _hex(words[0]), _hex(words[-1])
        if len(words[0]) != 2 * COOKIE_SIZE or not cookie:
            self._bad(source, number, "the cookie is not 32 hexadecimal digits")
        elif not value:
            self._bad(source, number, "the secret is not hexadecimal")
        else:
            self._keep(cookie, Logged(label, Secret(value), f"{source}:{number}"), number)

    def _keep(self, cookie: bytes, secret: Logged, number: int) -> None:
        known = self._secrets.setdefault(cookie, [])
        if any(each.label == secret.label and each.value == secret.value for each in known):
            return
        if self.count >= MAX_SECRETS or len(known) >= MAX_PER_COOKIE:
            self._bad(secret.source.rpartition(":")[0], number, "more secrets than are kept")
            return
        known.append(secret)
        self.count += 1

    def _bad(self, source: str, number: int, why: str) -> None:
        self.bad += 1
        if len(self.troubles) < MAX_NAMED:
            self.troubles.append(f"{source}:{number}: {why}")


def _hex(text: str) -> bytes:
    """`text` as bytes; empty where it is not hexadecimal. An odd digit stands for itself: a big integer's."""
    try:
        return bytes.fromhex(text if len(text) % 2 == 0 else "0" + text) if text.isalnum() else b""
    except ValueError:
        return b""
