"""One-time codes by the clock (TOTP, RFC 6238), for servers that bring their own users; those of the machine
have PAM's modules. A code is what RFC 4226 §5.3 makes of an HMAC, which is the standard library's.

    codes = TotpCodes({"ada": Totp.from_base32("JBSWY3DPEHPK3PXP")})

    async def interactive(self, user, submethods, peer):
        return codes.prompts()

    async def answers(self, user, answers, peer):
        return codes.check(user, answers, time.time())
"""

from __future__ import annotations

import base64
import hmac
import os
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final, Literal
from urllib.parse import quote

from ..errors import UsageError
from ..events import Prompts, PromptText
from ..wire import Secret

__all__ = ["Totp", "TotpCodes"]

PROMPT: Final = "Verification code: "
MIN_SECRET: Final = 10
"""Bytes: 80 bits, which widespread programs make; RFC 4226 §4 asks for 128, and would rather see 160."""


class Totp:
    """One user's codes. `window` steps before and after the present are taken too: clocks differ.

    A code serves once, and none does that is older than one that has served (RFC 6238 §5.2). At most
    `attempts` codes are looked at in each `every` seconds, right ones too; what is beyond is refused unseen
    (RFC 4226 §7.3). All of this is kept in this object: one for each user, for as long as the server runs.
    """

    def __init__(
        self, secret: Secret | bytes, *, digits: int = 6, period: int = 30, window: int = 1,
        algorithm: Literal["sha1", "sha256", "sha512"] = "sha1", attempts: int = 3, every: float = 30.0,
    ) -> None:  # fmt: skip
        """Raises UsageError for a secret of less than 80 bits, and for values that no code has."""
        self._secret = secret if isinstance(secret, Secret) else Secret(secret)
        if len(self._secret) < MIN_SECRET:
            raise UsageError(f"a secret for codes has at least {MIN_SECRET} bytes")
        if not 6 <= digits <= 8 or period < 1 or not 0 <= window <= 10 or attempts < 1:
            raise UsageError(
                "a code has 6 to 8 digits, a period of whole seconds, and a window of 0 to 10 steps"
            )
        self._digits, self._period, self._window, self._algorithm = digits, period, window, algorithm
        self._every = every
        self._last = -1
        """The newest step whose code has served."""
        self._looked: deque[float] = deque(maxlen=attempts)
        """When codes were looked at."""

    @classmethod
    def from_base32(cls, text: str, **settings: int) -> Totp:
        """From the form in which secrets are shown; spaces and case do not matter. Raises UsageError."""
        raw = text.replace(" ", "").replace("-", "").upper().rstrip("=")
        try:
            return cls(base64.b32decode(raw + "=" * (-len(raw) % 8)), **settings)  # type: ignore[arg-type]
        except ValueError:
            raise UsageError("a secret that is no base32") from None

    @classmethod
    def new(cls, **settings: int) -> Totp:
        """With a new secret of 160 bits."""
        return cls(os.urandom(20), **settings)  # type: ignore[arg-type]

    def code(self, now: float) -> str:
        """The code of the time `now` (seconds since 1970)."""
        return self._code(int(now) // self._period)

    def check(self, code: Secret | str, now: float) -> bool:
        """Whether `code` is good now; it is used up then."""
        if len(self._looked) == self._looked.maxlen and now - self._looked[0] < self._every:
            return False
        self._looked.append(now)
        given = (code.text() if isinstance(code, Secret) else code).strip().encode("utf-8", "surrogateescape")
        present = int(now) // self._period
        good = [
            step
            for step in range(max(present - self._window, 0), present + self._window + 1)
            if hmac.compare_digest(self._code(step).encode("ascii"), given) and step > self._last
        ]
        if good:
            self._last = max(good)
        return bool(good)

    def uri(self, account: str, issuer: str) -> str:
        """What an authenticator program takes, as a QR code for example. It holds the secret."""
        secret = base64.b32encode(self._secret.reveal()).decode("ascii").rstrip("=")
        label = f"{quote(issuer, safe='')}:{quote(account, safe='')}"
        return (
            f"otpauth://totp/{label}?secret={secret}&issuer={quote(issuer, safe='')}"
            f"&algorithm={self._algorithm.upper()}&digits={self._digits}&period={self._period}"
        )

    def _code(self, step: int) -> str:
        digest = hmac.digest(self._secret.reveal(), step.to_bytes(8, "big"), self._algorithm)
        offset = digest[-1] & 15
        number = int.from_bytes(digest[offset : offset + 4], "big") & 0x7FFFFFFF
        return str(number % 10**self._digits).zfill(self._digits)


class TotpCodes:
    """The codes of several users. Who has none is asked like everybody, as much work is done, and refused."""

    def __init__(self, users: Mapping[str, Totp], prompt: str = PROMPT) -> None:
        self._users = dict(users)
        self._prompt = prompt

    def prompts(self) -> Prompts:
        """The round that asks for the code; it does not depend on who is asked."""
        return Prompts((PromptText(self._prompt, False),))

    def check(self, user: str, answers: Sequence[Secret], now: float) -> bool:
        """Whether the answer to `prompts` is good for `user` now."""
        totp = self._users.get(user)
        if len(answers) != 1:
            return False
        good = (totp or Totp(os.urandom(20))).check(answers[0], now)
        return good and totp is not None
