"""The frozen settings of one connection: algorithms, limits, windows, rekeying.

Files and options become a `Policy` before anything connects (`glasshell.config`). Defaults are
those of 2026: strict key exchange wherever the peer has it, no SHA-1, no CBC, compression off.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal

from .crypto.registry import AUTHORITY_ALGORITHMS, Kind, Status, defaults, names
from .errors import UsageError
from .values import replace, slotted

Role = Literal["client", "server"]
Profile = Literal["modern", "compatible", "legacy"]

KIB = 1024
MIB = 1024 * KIB

CAPTURED_PACKET = 32_000
"""Most bytes of channel data in a packet that Wireshark is to follow."""


@slotted(frozen=True, kw_only=True)
class Policy:
    """Settings of one connection. Times are seconds, sizes bytes.

    `Policy.client()` and `Policy.server()` give each role's defaults; `but(**changes)` a changed
    copy. Name-lists are in order of preference (RFC 4253 §7.1).
    """

    role: Role
    kex: tuple[str, ...]
    host_key_algorithms: tuple[str, ...]
    ciphers: tuple[str, ...]
    macs: tuple[str, ...]
    compression: tuple[str, ...] = ("none",)
    pubkey_algorithms: tuple[str, ...] = ()
    """Signature algorithms taken (server) or offered (client) for user keys."""
    ca_signature_algorithms: tuple[str, ...] = AUTHORITY_ALGORITHMS
    """Those by which an authority may have signed a certificate."""

    hostbased_algorithms: tuple[str, ...] = ()
    """The same for the keys of clients' hosts; empty: as for user keys."""

    software: str = "glasshell_0.1"
    guess: bool = False
    """Client: send the first packet of the preferred key exchange with KEXINIT (RFC 4253 §7.1)."""
    eager: bool = False
    """Client: ask for what to log in with, and send it, without waiting for SERVICE_ACCEPT first."""
    early_kexinit: bool = True
    """Whether KEXINIT is sent with our identification, or only when the peer's has come."""
    allow_terrapin: bool = False
    """Whether chacha20-poly1305 or CBC with EtM may be used without strict key exchange."""

    refuse_trivial: bool = False
    """Client: whether a server that lets in without any credential is left (CVE-2021-36367)."""

    moduli: str = ""
    """Text of the system's moduli file; the groups of RFC 3526 stand in where it is empty."""
    min_rsa_bits: int = 2048

    rekey_bytes: int = 1024 * MIB
    rekey_packets: int = 1 << 31
    rekey_seconds: float | None = None
    kex_timeout: float = 120.0
    """A key exchange, the first or a later one, must end within this many seconds."""

    login_grace: float = 120.0
    """Authentication must end within this many seconds of the connection's start; 0: no limit."""
    max_auth_failures: int = 6
    max_auth_requests: int = 128

    keepalive_interval: float = 15.0
    """Seconds of silence after which the peer is asked whether it lives; 0: never."""
    keepalive_count: int = 3

    window: int = 2 * MIB
    """Receive window of a channel when it opens; it grows where the path needs more."""
    max_packet: int = 120 * KIB
    """Most bytes of channel data in a packet, both ways: what handling one costs is then little beside its
    bytes. From 128 KiB on, malloc of glibc fetches fresh pages for each."""
    receive_budget: int = 64 * MIB
    """Most bytes that all windows of a connection may have advertised, and so most that waits unread."""
    max_output: int = 4 * MIB
    """Most bytes queued towards the peer, replies and data together."""
    max_channels: int = 1000
    max_sessions: int = 10

    def but(self, **changes: Any) -> Policy:
        """A copy with some settings changed; this one where none is. Raises UsageError for an unknown one."""
        try:
            if all(getattr(self, name) == value for name, value in changes.items()):
                return self
        except AttributeError as error:
            raise UsageError(f"no such setting: {error}") from None
        try:
            return _changed(self, tuple(changes.items()))
        except TypeError:  # a value that cannot be looked up, such as a list
            return replace(self, **changes)

    def profiled(self, profile: Profile) -> Policy:
        """A copy with a named choice of algorithms.

        `modern` leaves those that no quantum computer and no change on the way gets at. `compatible` adds
        what is on request to the end of each list, `legacy` also what only old devices need: signatures and
        MACs with SHA-1, CBC. It is for one peer, and nobody's default.
        """
        if profile == "modern":
            return self.but(
                kex=tuple(n for n in self.kex if n.startswith(("mlkem", "sntrup"))),
                ciphers=tuple(n for n in self.ciphers if not n.endswith("-ctr")),
                macs=tuple(n for n in self.macs if "-etm@" in n),
            )
        added = (Status.ON_REQUEST, Status.LEGACY) if profile == "legacy" else (Status.ON_REQUEST,)
        old = (Status.LEGACY,) if profile == "legacy" else ()

        def longer(kind: Kind, known: tuple[str, ...], statuses: tuple[Status, ...]) -> tuple[str, ...]:
            more = names(kind, *statuses) if statuses else ()
            return tuple(dict.fromkeys((*known, *more)))

        return self.but(
            kex=longer(Kind.KEX, self.kex, added), ciphers=longer(Kind.CIPHER, self.ciphers, added),
            macs=longer(Kind.MAC, self.macs, added),
            host_key_algorithms=longer(Kind.HOST_KEY, self.host_key_algorithms, old),
            pubkey_algorithms=longer(Kind.HOST_KEY, self.pubkey_algorithms, old),
        )  # fmt: skip

    def for_wireshark(self) -> Policy:
        """A copy for a connection that is captured: what Wireshark needs to follow it, and nothing else.

        Packets carry at most 32,000 bytes of channel data, for Wireshark 4.6 loses a direction at the first
        packet_length beyond 32,768. A server's KEXINIT waits for the client's identification: it is from that
        one that Wireshark learns that this is SSH 2.
        """
        early = self.early_kexinit and self.role == "client"
        return self.but(max_packet=min(self.max_packet, CAPTURED_PACKET), early_kexinit=early)

    def for_processor(self, *, aes: bool) -> Policy:
        """A copy whose ciphers are in the order of their speed: without instructions for AES, ChaCha20 leads.

        An order that somebody chose stays.
        """
        if aes or self.ciphers != defaults(Kind.CIPHER, self.role):
            return self
        return self.but(ciphers=tuple(sorted(self.ciphers, key=lambda name: not name.startswith("chacha20"))))

    @classmethod
    def client(cls, **changes: Any) -> Policy:
        """The defaults of a client."""
        return cls._of_role("client").but(**changes)

    @classmethod
    def server(cls, **changes: Any) -> Policy:
        """The defaults of a server."""
        return cls._of_role("server").but(receive_budget=16 * MIB).but(**changes)

    @classmethod
    def legacy(cls, **changes: Any) -> Policy:
        """Those of a client that speaks to one old device; see `profiled`."""
        return cls._of_role("client").profiled("legacy").but(**changes)

    @classmethod
    def _of_role(cls, role: Role) -> Policy:
        return cls(
            role=role,
            kex=defaults(Kind.KEX, role),
            host_key_algorithms=defaults(Kind.HOST_KEY, role),
            ciphers=defaults(Kind.CIPHER, role),
            macs=defaults(Kind.MAC, role),
            pubkey_algorithms=defaults(Kind.HOST_KEY, "client"),
        )


@lru_cache(maxsize=64)
def _changed(policy: Policy, changes: tuple[tuple[str, Any], ...]) -> Policy:
    """The same policy with the same changes is kept once, however many connections have it."""
    return replace(policy, **dict(changes))
