"""Whether this user may have Kerberos tickets, told without Kerberos: who has none is not to pay for it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

__all__ = ["may_have_tickets"]

CONFIGURATION: Final = "/etc/krb5.conf"


def may_have_tickets() -> bool:
    """True where a cache is named or lies in its usual place, or the configuration names another place."""
    if "KRB5CCNAME" in os.environ or Path(f"/tmp/krb5cc_{os.getuid()}").exists():
        return True
    try:
        settings = Path(os.environ.get("KRB5_CONFIG", CONFIGURATION)).read_text("latin-1")
    except OSError:
        return False
    return "default_ccache_name" in settings
