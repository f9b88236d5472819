"""Fingerprints of host keys in DNS (VerifyHostKeyDNS), by way of the extra `dns`.

That an answer was validated is the resolver's word, the AD bit (RFC 4035 §3.2.3), and anybody on the way to
the resolver could set it. As with OpenSSH, whose C library drops the bit otherwise, it counts only where
resolv.conf(5) says that the way is safe: `options trust-ad`.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any, Final

from ..errors import ConfigError
from ..keys.patterns import parse_address
from ..keys.sshfp import Fingerprint
from ..values import slotted

__all__ = ["Answer", "look_up", "require_library", "trusts_resolver"]

SECONDS: Final = 10.0
"""For all servers and tries together, as long as the C library waits."""

MAX_RECORDS: Final = 64
RESOLV_CONF: Final = "/etc/resolv.conf"
PORT: Final = 53


@slotted(frozen=True)
class Answer:
    """What DNS says of a host. `secure`: it was validated; `problem`: why there is no answer."""

    records: tuple[Fingerprint, ...] = ()
    secure: bool = False
    problem: str = ""


def require_library() -> None:
    """Raises ConfigError where the library that asks DNS is not installed."""
    try:
        import dns.asyncresolver  # noqa: F401
    except ImportError:
        raise ConfigError(
            "VerifyHostKeyDNS needs the library dnspython", hint="pip install glasshell[dns]"
        ) from None


def trusts_resolver(text: str, environment: str = "") -> bool:
    """Whether resolv.conf, or $RES_OPTIONS, says that the resolver's word may be taken."""
    lines = (line.split() for line in text.splitlines())
    options = {word for words in lines if words and words[0] == "options" for word in words[1:]}
    return "trust-ad" in options | set(environment.split())


async def look_up(
    host: str, *, resolv_conf: str = RESOLV_CONF, port: int = PORT, seconds: float = SECONDS
) -> Answer:
    """The SSHFP records of `host`. An address has none, and is not asked about.

    Whatever goes wrong with DNS is an answer with a `problem`. Raises ConfigError without the library.
    """
    if parse_address(host.strip("[]")) is not None:
        return Answer(problem="skipped DNS lookup for numerical hostname")
    require_library()
    import dns.exception
    import dns.flags

    try:
        trusted = trusts_resolver(_read(resolv_conf), os.environ.get("RES_OPTIONS", ""))
        async with asyncio.timeout(seconds):
            response = await _ask(host, resolv_conf, port, seconds)
    except TimeoutError:
        return Answer(problem=f"DNS lookup error: no answer within {seconds:g} seconds")
    except (dns.exception.DNSException, OSError, ValueError) as error:
        return Answer(problem=f"DNS lookup error: {_named(error)}")
    records = tuple(
        Fingerprint(each.algorithm, each.fp_type, each.fingerprint)
        for rrset in response.answer if rrset.rdtype == dns.rdatatype.SSHFP for each in rrset
    )[:MAX_RECORDS]  # fmt: skip
    secure = trusted and bool(response.flags & dns.flags.AD)
    return Answer(records, secure, "" if records else "DNS lookup error: data does not exist")


def _read(path: str) -> str:
    return Path(path).read_text("utf-8", "replace")


async def _ask(host: str, resolv_conf: str, port: int, seconds: float) -> Any:
    """The resolver's response, whole."""
    import dns.asyncresolver
    import dns.flags
    import dns.name

    resolver = dns.asyncresolver.Resolver(resolv_conf)
    resolver.port = port
    resolver.flags = dns.flags.RD | dns.flags.AD
    resolver.use_edns(0, dns.flags.DO, 1232)
    name = dns.name.from_text(host)  # whole as it is: no search list may lead to another host
    found = await resolver.resolve(name, "SSHFP", raise_on_no_answer=False, lifetime=seconds, search=False)
    return found.response


def _named(error: Exception) -> str:
    return {"NXDOMAIN": "name does not exist"}.get(type(error).__name__, str(error) or type(error).__name__)
