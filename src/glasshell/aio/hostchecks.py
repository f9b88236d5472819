"""What ssh_config(5) can ask for beside known_hosts before a host is trusted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Literal

from ..crypto.registry import AUTHORITY_ALGORITHMS
from ..values import field, slotted

if TYPE_CHECKING:
    from ..config.client_options import ClientOptions

__all__ = ["USUAL", "HostChecks", "checks_of"]


@slotted(frozen=True, kw_only=True)
class HostChecks:
    """The keywords that bear on whom to trust, each with its default."""

    revoked: tuple[str, ...] = ()
    """RevokedHostKeys: files of keys, or key revocation lists."""
    command: str = ""
    """KnownHostsCommand, before its tokens are replaced by `tokens`."""
    tokens: Mapping[str, str] = field(default_factory=dict)
    address: bool = False
    """CheckHostIP."""
    dns: Literal["yes", "ask", "no"] = "no"
    """VerifyHostKeyDNS."""
    any_localhost: bool = False
    """NoHostAuthenticationForLocalhost."""
    picture: bool = False
    """VisualHostKey."""
    fingerprint_hash: str = "sha256"
    authority_algorithms: tuple[str, ...] = AUTHORITY_ALGORITHMS
    """CASignatureAlgorithms."""


USUAL: Final = HostChecks()


def checks_of(options: ClientOptions) -> HostChecks:
    """What the command line and the files ask for."""
    return HostChecks(
        revoked=options.revoked_host_keys, command=options.known_hosts_command or "", tokens=options.tokens,
        address=options.check_host_ip, dns=options.verify_host_key_dns,
        any_localhost=options.no_host_authentication_for_localhost, picture=options.visual_host_key,
        fingerprint_hash=options.fingerprint_hash.lower(),
        authority_algorithms=options.ca_signature_algorithms or AUTHORITY_ALGORITHMS,
    )  # fmt: skip
