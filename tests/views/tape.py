"""Records made by hand: what a connection would tell of itself, message by message."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from glasshell.messages import kex as k
from glasshell.messages import transport as t
from glasshell.messages.declare import Message
from glasshell.observe.record import MessageRecord, Record, StateRecord
from glasshell.observe.redact import redact

NEWKEYS = 21


class Tape:
    """Collects records in order; `step` seconds pass before each message."""

    def __init__(self, *, step: float = 0.001) -> None:
        self.records: list[Record] = []
        self.now = 0.0
        self.step = step
        self._seq = {True: 0, False: 0}
        self._epoch = {True: 0, False: 0}

    def sent(self, *messages: Message) -> None:
        """We send these."""
        for message in messages:
            self._add(True, message)

    def received(self, *messages: Message) -> None:
        """The peer sends these."""
        for message in messages:
            self._add(False, message)

    def state(self, name: str, **facts: Any) -> None:
        """Something happens that is no message."""
        self.records.append(StateRecord(self.now, name, facts))

    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds

    def play(self, sink: Callable[[Record], None]) -> None:
        """Tells `sink` everything."""
        for record in self.records:
            sink(record)

    def _add(self, sent: bool, message: Message) -> None:
        self.now += self.step
        payload, context = message.encode(), message.CONTEXT
        length = (len(payload) + 5 + 15) // 16 * 16
        self.records.append(
            MessageRecord(
                self.now, sent, self._seq[sent], self._epoch[sent], context, payload[0],
                redact(payload, context), length, length - len(payload) - 1, length + 4,
            )
        )  # fmt: skip
        self._seq[sent] += 1
        self._epoch[sent] += payload[0] == NEWKEYS


HOST_KEY = bytes.fromhex("0000000b7373682d6564323535313900000020") + bytes(range(32))


def kexinit(**lists: tuple[str, ...]) -> t.KexInit:
    """A KEXINIT of one algorithm each, but for `lists`."""
    cipher, mac, none = ("aes128-gcm@openssh.com",), ("hmac-sha2-256",), ("none",)
    names: dict[str, tuple[str, ...]] = {
        "kex_algorithms": ("curve25519-sha256",), "server_host_key_algorithms": ("ssh-ed25519",),
        "encryption_algorithms_client_to_server": cipher, "encryption_algorithms_server_to_client": cipher,
        "mac_algorithms_client_to_server": mac, "mac_algorithms_server_to_client": mac,
        "compression_algorithms_client_to_server": none, "compression_algorithms_server_to_client": none,
        **lists,
    }  # fmt: skip
    return t.KexInit(cookie=bytes(16), **names)  # type: ignore[arg-type]


AGREED: dict[str, Any] = {
    "kex": "sntrup761x25519-sha512", "host_key": "ssh-ed25519",
    "cipher_c2s": "chacha20-poly1305@openssh.com", "cipher_s2c": "chacha20-poly1305@openssh.com",
    "mac_c2s": "<implicit>", "mac_s2c": "<implicit>", "compression_c2s": "none", "compression_s2c": "none",
    "strict": True, "ext_info": True, "guess": "", "why": {"kex": "the client's first choice"},
}  # fmt: skip

INIT = k.KexHybridInit(q_c=bytes(1190))
REPLY = k.KexHybridReply(host_key=HOST_KEY, q_s=bytes(1071), signature=HOST_KEY)
