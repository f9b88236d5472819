"""What lengths tell of a connection that cannot be read: logins, and what the connection is used for.

The idea is Zeek's: the answers of a server before the login are few and their lengths are known.
SSH_MSG_SERVICE_ACCEPT carries 17 bytes and SSH_MSG_USERAUTH_SUCCESS one, so that under one cipher and MAC
each has one length on the wire, 16 bytes apart; SSH_MSG_USERAUTH_FAILURE names the methods that are left,
so that one server's failures are of one length. The first failure is no attempt: it answers the client's
question for the methods (RFC 4252 §5.2, `none`).

A unit is a packet where packet_length is in clear (AES-GCM, encrypt-then-MAC), else what one segment
holds. Traps: EXT_INFO may come before the acceptance (RFC 8308 §2.4) and before the first failure (OpenSSH
9.6 on); a banner (RFC 4252 §5.4) is skipped as the one answer that is much longer; after compression
was agreed on the lengths tell nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

Told = Callable[..., None]

ACCEPT: Final = 17
"""Bytes of SSH_MSG_SERVICE_ACCEPT for ssh-userauth (RFC 4253 §10)."""
SUCCESS: Final = 1
"""Bytes of SSH_MSG_USERAUTH_SUCCESS (RFC 4252 §5.1)."""
KEYSTROKE: Final = (10, 16)
"""Bytes of SSH_MSG_CHANNEL_DATA with one key stroke, and with a function key's longest sequence."""
BANNER: Final = 256
"""An answer this much longer than the acceptance is a banner, as Zeek has it."""
MAX_FAILURE: Final = 256
"""Longest failure that is believed in, in bytes on the wire."""
MIN_FAILURE: Final = 15
"""Bytes of the shortest failure that names a method, `password` being the shortest common one."""
LEFT_OUT: Final = (48, 96)
"""Bytes that OpenSSH's EXT_INFO before a failure is shorter than the one after NEWKEYS, padding included."""
ECHO_SECONDS: Final = 1.0
MAX_ECHO: Final = 1000
"""Bytes of the longest answer that counts as an echo; window adjustments have the size of key strokes too."""
MIN_KEYSTROKES: Final = 8
BULK_BYTES: Final = 100_000


class Sizes:
    """How long a payload is on the wire under one cipher and MAC, by RFC 4253 §6."""

    def __init__(self, block: int, aad: int, tag: int) -> None:
        self._block, self._aad, self._tag = max(block, 8), aad, tag

    def wire(self, payload: int, least: int = 0) -> int:
        """Bytes of the whole packet, MAC included, with the least padding that is allowed.

        RFC 4253 §6 wants 16 bytes at `least`, which hardly anybody heeds.
        """
        size = payload + 5
        padding = self._block - (size - self._aad) % self._block
        if padding < 4 or size + padding < least:
            padding += self._block
        return size + padding + self._tag


class Login:
    """Follows the answers of the server until the login has succeeded."""

    def __init__(self, tell: Told, sizes: Sizes | None) -> None:
        self._tell = tell
        self._accept = sizes.wire(ACCEPT) if sizes else 0
        self._success: tuple[int, ...] = (sizes.wire(SUCCESS), sizes.wire(SUCCESS, least=16)) if sizes else ()
        self._shortest = sizes.wire(MIN_FAILURE) if sizes else 0
        self._client_spoke = False
        self._accepted = 0
        """Length of the acceptance; 0: not seen yet."""
        self._failure = 0
        self._asking = False
        """The first request has no answer yet."""
        self._banner = 0
        """Length of the first answer, where it was too long for a failure."""
        self._banner_alone = False
        """Whether the client went on after that, without a failure."""
        self._ext_info = 0
        """Length of what the server sent before the client did: EXT_INFO."""
        self._turn: list[int] = []
        """What came before the acceptance since the client last spoke."""
        self.attempts = 0
        self.done = False
        self.succeeded: bool | None = None

    def client(self, time: float) -> None:
        """The client has sent something encrypted."""
        self._client_spoke = True
        if self._turn and not self._accepted:  # the acceptance was in one segment with EXT_INFO
            self._accepted = self._accept
        self._asking = not self._failure
        self._banner_alone = bool(self._banner) and self._asking
        self._turn.clear()

    def server(self, sizes: Sequence[int], time: float, frames: tuple[int, int]) -> None:
        """The server has sent units of these lengths."""
        for size in sizes:
            if self.done:
                return
            if self._client_spoke:
                self._answer(size, time, frames)
            else:
                self._ext_info = size

    def _answer(self, size: int, time: float, frames: tuple[int, int]) -> None:
        if not self._accepted:
            # EXT_INFO in front: longer than the acceptance, which follows in the same turn or segment.
            if self._accept and size > self._accept and not self._turn:
                self._turn.append(size)
                return
            self._accepted = size if not self._accept else self._accept
            self._success = self._success or (size - 16,)
            self._turn.clear()
            return
        if size in self._success:
            self._decided(size, time, frames)
        elif self._asking:  # the last answer of the first turn counts: EXT_INFO may stand before it
            if self._first(size):
                self._failed(size, time, frames)
        elif size == self._failure:
            self._failed(size, time, frames)
        elif self._is_rest(size, self._failure):
            self._failure = size
            self._failed(size, time, frames)

    def _is_rest(self, size: int, whole: int) -> bool:
        """Whether the first answer, `whole`, was a failure of this `size` and an EXT_INFO, in one segment.

        What OpenSSH tells in the second EXT_INFO is what it told in the first but for two extensions.
        """
        less = self._ext_info - (whole - size)
        return bool(self._ext_info) and size >= self._shortest and LEFT_OUT[0] <= less <= LEFT_OUT[1]

    def _first(self, size: int) -> bool:
        """The first answer to a request: the failure that names the methods, unless it is something else.
        True where it turns out to be the second: what looked like a banner had the first one in it."""
        if not self._banner and size - self._accepted > BANNER:
            self._banner = size
        elif size >= self._shortest:
            self._failure = size
            return self._banner_alone and self._is_rest(size, self._banner)
        return False

    def _decided(self, size: int, time: float, frames: tuple[int, int]) -> None:
        self.attempts += 1
        self.done = self.succeeded = True
        self._tell(
            "inferred", time, frames, what="authenticated", attempts=self.attempts,
            evidence=f"the server sent {size} bytes, the length of SSH_MSG_USERAUTH_SUCCESS",
        )  # fmt: skip

    def _failed(self, size: int, time: float, frames: tuple[int, int]) -> None:
        self.attempts += 1
        self.succeeded = False
        self._tell(
            "inferred", time, frames, what="authentication_failed", attempts=self.attempts,
            evidence=f"the server sent {size} bytes again, the length of its first SSH_MSG_USERAUTH_FAILURE",
        )  # fmt: skip


class Traffic:
    """What the connection is used for: somebody types, or much is moved."""

    def __init__(self, sizes: dict[bool, Sizes]) -> None:
        self._sizes = sizes
        self._typed_at: float | None = None
        self.units = {True: 0, False: 0}
        self.bytes = {True: 0, False: 0}
        self.keystrokes = self.echoes = 0
        self._gaps: Counter[int] = Counter()
        self._last_stroke: float | None = None

    def take(self, sent: bool, sizes: Sequence[int], time: float) -> None:
        """Units of these lengths; `sent` is the client's."""
        self.units[sent] += len(sizes)
        self.bytes[sent] += sum(sizes)
        if sent:
            self._typed_at = None
            if len(sizes) == 1 and self._is_keystroke(sizes[0]):
                self.keystrokes += 1
                self._typed_at = time
                self._rhythm(time)
        elif self._typed_at is not None:
            self.echoes += time - self._typed_at <= ECHO_SECONDS and sum(sizes) <= MAX_ECHO
            self._typed_at = None

    def _is_keystroke(self, size: int) -> bool:
        under = self._sizes.get(True)
        return under is not None and under.wire(KEYSTROKE[0]) <= size <= under.wire(KEYSTROKE[1])

    def _rhythm(self, time: float) -> None:
        if self._last_stroke is not None:
            self._gaps[min(round((time - self._last_stroke) * 500), 500)] += 1  # steps of 2 ms, up to 1 s
        self._last_stroke = time

    def verdict(self) -> dict[str, Any]:
        """The facts of the record `traffic`."""
        total = self.bytes[True] + self.bytes[False]
        typed = self.keystrokes >= MIN_KEYSTROKES and self.echoes * 2 >= self.keystrokes
        if typed and self.keystrokes * 2 >= self.units[True]:
            kind = "interactive"
            evidence = (
                f"{self.keystrokes} of the client's {self.units[True]} packets have the size of a key stroke,"
                f" {self.echoes} of them were answered within a second{self._obfuscated()}"
            )
        elif total >= BULK_BYTES:
            up = self.bytes[True] > self.bytes[False]
            whom = "server" if up else "client"
            kind, evidence = "bulk", f"{self.bytes[up]} bytes to the {whom} of {total} in all"
        else:
            kind, evidence = "other", f"{total} bytes, {self.keystrokes} packets of the size of a key stroke"
        return {
            "kind": kind, "evidence": evidence, "keystrokes": self.keystrokes, "echoes": self.echoes,
            "sent_bytes": self.bytes[True], "received_bytes": self.bytes[False],
        }  # fmt: skip

    def _obfuscated(self) -> str:
        """OpenSSH 9.5 on sends key strokes in a beat of 20 ms, true ones and chaff (ssh_config(5))."""
        beat = sum(self._gaps[step] for step in (9, 10, 11))
        most = sum(self._gaps.values())
        return ", in a beat of 20 ms (ObscureKeystrokeTiming)" if most and beat * 4 >= most * 3 else ""
