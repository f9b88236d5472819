"""Keywords that are read and not obeyed, in one place: whoever builds one takes its row away.

What would take rights away, or say whom to trust, is refused where it asks for anything: a restriction that
is overlooked is a hole. Everything else is one warning.
"""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["CLIENT", "SERVER", "Unbuilt"]


class Unbuilt(NamedTuple):
    """`nothing`: the values, as -G and -T show them, that ask for nothing; `refused`: others are an error."""

    nothing: tuple[str, ...] = ("no",)
    refused: bool = False
    text: str = "is not supported: it has no effect"


_NONE: Final = ("none", "None", "")
_REFUSED: Final = "is not supported, and would be overlooked"

CLIENT: Final[dict[str, Unbuilt]] = {
    "addkeystoagent": Unbuilt(("false",)),
    "bindinterface": Unbuilt(_NONE),
    "casignaturealgorithms": Unbuilt((), refused=True, text=_REFUSED),
    "certificatefile": Unbuilt(_NONE),
    "channeltimeout": Unbuilt(_NONE),
    "checkhostip": Unbuilt(),
    "controlmaster": Unbuilt(("false",)),
    "controlpersist": Unbuilt(),
    "dynamicforward": Unbuilt(()),
    "enableescapecommandline": Unbuilt(),
    "forwardagent": Unbuilt(),
    "forwardx11": Unbuilt(),
    "gssapiauthentication": Unbuilt(),
    "gssapidelegatecredentials": Unbuilt(),
    "hostbasedauthentication": Unbuilt(),
    "knownhostscommand": Unbuilt(_NONE),
    "localcommand": Unbuilt(_NONE),
    "nohostauthenticationforlocalhost": Unbuilt(),
    "pkcs11provider": Unbuilt(_NONE),
    "proxycommand": Unbuilt(_NONE, refused=True, text="is not supported yet"),
    "proxyjump": Unbuilt(_NONE, refused=True, text="is not supported yet"),
    "revokedhostkeys": Unbuilt(_NONE, refused=True, text=_REFUSED),
    "tunnel": Unbuilt(("false",)),
    "verifyhostkeydns": Unbuilt(("false",)),
    "versionaddendum": Unbuilt(_NONE),
    "visualhostkey": Unbuilt(),
}
"""Keywords of ssh_config."""

SERVER: Final[dict[str, Unbuilt]] = {
    # Restrictions
    "casignaturealgorithms": Unbuilt((), refused=True, text=_REFUSED),
    "chrootdirectory": Unbuilt(_NONE, refused=True, text=_REFUSED),
    "match": Unbuilt((), refused=True, text="blocks are not supported yet"),
    "pubkeyauthoptions": Unbuilt(("none max-pk-ok:6",), refused=True, text=_REFUSED),
    "refuseconnection": Unbuilt(refused=True, text=_REFUSED),
    "revokedkeys": Unbuilt(_NONE, refused=True, text=_REFUSED),
    # What stays off
    "allowstreamlocalforwarding": Unbuilt(text="is not supported: it stays off"),
    "authorizedkeyscommand": Unbuilt(_NONE),
    "authorizedprincipalscommand": Unbuilt(_NONE),
    "authorizedprincipalsfile": Unbuilt(_NONE),
    "channeltimeout": Unbuilt(_NONE),
    "exposeauthinfo": Unbuilt(),
    "gssapiauthentication": Unbuilt(text="is not supported: it stays off"),
    "hostbasedauthentication": Unbuilt(text="is not supported: it stays off"),
    "hostcertificate": Unbuilt(_NONE),
    "hostkeyagent": Unbuilt(_NONE),
    "kerberosauthentication": Unbuilt(text="is not supported: it stays off"),
    "permittunnel": Unbuilt(text="is not supported: it stays off"),
    "permituserenvironment": Unbuilt(("no", "yes"), refused=True, text=_REFUSED),
    "permituserrc": Unbuilt(text="is not supported: it stays off"),
    "persourcemaxstartups": Unbuilt(_NONE),
    "rdomain": Unbuilt(_NONE),
    "trustedusercakeys": Unbuilt(_NONE),
    "unusedconnectiontimeout": Unbuilt(_NONE),
    "usedns": Unbuilt(),
    "x11forwarding": Unbuilt(text="is not supported: it stays off"),
}
"""Keywords of sshd_config."""
