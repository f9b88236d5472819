"""CanonicalizeHostname: the name that a host really has, found among the user's domains (ssh_config(5))."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

from ..errors import ConfigError
from ..keys.patterns import match_list
from ..wire import visible

if TYPE_CHECKING:
    from .ssh_config import Reading

__all__ = ["address", "canonical"]


def address(text: str) -> str:
    """An IP address in its usual spelling; empty: it is none."""
    bare, sign, scope = text.partition("%")
    try:
        return f"{ip_address(bare)}{sign}{scope}"
    except ValueError:
        return ""


def canonical(reading: Reading) -> str:
    """The host to connect to. Raises ConfigError where no name is found and none may be left as it is."""
    values, host = reading.values, reading.host
    if known := address(host):
        return known
    direct = not values.get("proxy_jump") and (values.get("proxy_command") or None) is None
    if not direct and values["canonicalize_hostname"] != "always":
        return host
    # A name with a dot at its end says that it is whole.
    anchored = host.endswith(".")
    if not anchored and host.count(".") > values.get("canonicalize_max_dots", 1):
        return host
    full = [host] if anchored else [f"{host}.{domain}." for domain in values.get("canonical_domains", ())]
    for name in full:
        found = reading.facts.resolve(name)
        if found is not None:
            return _followed(reading, name.removesuffix("."), found.removesuffix("."))
    if not values.get("canonicalize_fallback_local", True):
        raise ConfigError(f'Could not resolve host "{visible(host)}"', hint="CanonicalizeFallbackLocal is no")
    return host


def _followed(reading: Reading, name: str, alias: str) -> str:
    """`name`, or the one that DNS says it is an alias of, where CanonicalizePermittedCNAMEs allows that."""
    reading.told.append(("note", {"level": "debug1", "text": f'Canonicalized hostname "{name}"'}))
    if not alias or alias.lower() == name.lower():
        return name
    for sources, targets in reading.values.get("canonicalize_permitted_cnames", ()):
        if match_list(name, sources.split(",")) and match_list(alias, targets.split(",")):
            return alias.lower()
    return name
