"""Keywords that are read and not obeyed, in one place: whoever builds one takes its row away.

What would take rights away, or say whom to trust, is refused where it asks for anything: a restriction that
is overlooked is a hole. Everything else is one warning.
"""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["CLIENT", "MATCHED", "SERVER", "Unbuilt"]


class Unbuilt(NamedTuple):
    """`nothing`: the values, as -G and -T show them, that ask for nothing; `refused`: others are an error."""

    nothing: tuple[str, ...] = ("no",)
    refused: bool = False
    text: str = "is not supported: it has no effect"


_NONE: Final = ("none", "None", "")
_REFUSED: Final = "is not supported, and would be overlooked"

CLIENT: Final[dict[str, Unbuilt]] = {
    "channeltimeout": Unbuilt(_NONE),
    "forwardx11": Unbuilt(),
    "pkcs11provider": Unbuilt(_NONE),
    "tunnel": Unbuilt(("false",)),
}
"""Keywords of ssh_config."""

SERVER: Final[dict[str, Unbuilt]] = {
    # Restrictions
    "chrootdirectory": Unbuilt(_NONE, refused=True, text=_REFUSED),
    # What stays off
    "channeltimeout": Unbuilt(_NONE),
    "hostkeyagent": Unbuilt(_NONE),
    "kerberosauthentication": Unbuilt(text="is not supported: it stays off"),
    "permittunnel": Unbuilt(text="is not supported: it stays off"),
    "permituserrc": Unbuilt(text="is not supported: it stays off"),
    "rdomain": Unbuilt(_NONE),
    "x11forwarding": Unbuilt(text="is not supported: it stays off"),
}
"""Keywords of sshd_config."""

_AGREED: Final = "is agreed upon before it is known who logs in"
_EARLY: Final = f"{_AGREED}: in a Match block it would be overlooked"
_IN_VAIN: Final = f"{_AGREED}: in a Match block it has no effect"

MATCHED: Final[dict[str, Unbuilt]] = {
    "banner": Unbuilt((), text=_IN_VAIN),
    "hostbasedacceptedalgorithms": Unbuilt((), refused=True, text=_EARLY),
    "ipqos": Unbuilt((), text=_IN_VAIN),
    "loglevel": Unbuilt((), text=_IN_VAIN),
    "pamservicename": Unbuilt((), refused=True, text=_EARLY),
    "rekeylimit": Unbuilt((), text=_IN_VAIN),
}
"""Keywords of sshd_config that are obeyed, but not in Match blocks."""
