"""RFC 4253 §7.1 as a pure function: what is chosen, why in words, and what a failure says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glasshell.crypto.registry import Kind, names
from glasshell.errors import NegotiationFailed
from glasshell.messages.transport import KexInit
from glasshell.transport.negotiate import IMPLICIT, guess_is_right, negotiate

X25519, NIST, DH = "curve25519-sha256", "ecdh-sha2-nistp256", "diffie-hellman-group14-sha256"
GCM, CTR = "aes256-gcm@openssh.com", "aes256-ctr"
ETM, PLAIN = "hmac-sha2-256-etm@openssh.com", "hmac-sha2-256"


def kexinit(
    kex: tuple[str, ...] = (X25519,), host_key: tuple[str, ...] = ("ssh-ed25519",),
    ciphers: tuple[str, ...] = (GCM,), macs: tuple[str, ...] = (ETM,), **more: Any,
) -> KexInit:  # fmt: skip
    return KexInit(
        cookie=bytes(16), kex_algorithms=kex, server_host_key_algorithms=host_key,
        encryption_algorithms_client_to_server=ciphers, encryption_algorithms_server_to_client=ciphers,
        mac_algorithms_client_to_server=macs, mac_algorithms_server_to_client=macs,
        **{
            "compression_algorithms_client_to_server": ("none",),
            "compression_algorithms_server_to_client": ("none",),
            **more,
        },
    )  # fmt: skip


def test_the_first_of_the_clients_that_the_server_has() -> None:
    client = kexinit(kex=(DH, NIST, X25519), ciphers=(CTR, GCM))
    server = kexinit(kex=(X25519, NIST), ciphers=(GCM, CTR), macs=(ETM,))
    for chosen in (
        negotiate(client, server, "client", first=True),
        negotiate(server, client, "server", first=True),
    ):
        assert (chosen.kex, chosen.cipher_c2s, chosen.mac_s2c) == (NIST, CTR, ETM)
        assert chosen.compression_c2s == chosen.compression_s2c == "none"


@given(st.lists(st.sampled_from(names(Kind.KEX)), min_size=1, unique=True),
       st.lists(st.sampled_from(names(Kind.KEX)), min_size=1, unique=True))  # fmt: skip
def test_by_definition(wanted: list[str], offered: list[str]) -> None:
    client, server = kexinit(kex=tuple(wanted)), kexinit(kex=tuple(offered))
    expected = next((name for name in wanted if name in set(offered)), None)
    if expected is None:
        with pytest.raises(NegotiationFailed):
            negotiate(client, server, "client", first=True)
    else:
        assert negotiate(client, server, "client", first=True).kex == expected
        assert negotiate(server, client, "server", first=True).kex == expected


def test_each_direction_by_itself() -> None:
    client = replace(
        kexinit(ciphers=(GCM,)), encryption_algorithms_server_to_client=(CTR,),
        mac_algorithms_server_to_client=(PLAIN, ETM),
    )  # fmt: skip
    server = kexinit(ciphers=(CTR, GCM), macs=(ETM, PLAIN))
    chosen = negotiate(client, server, "client", first=True)
    assert (chosen.cipher_c2s, chosen.mac_c2s) == (GCM, IMPLICIT)
    assert (chosen.cipher_s2c, chosen.mac_s2c) == (CTR, PLAIN)


def test_no_mac_need_be_shared_where_the_cipher_is_an_aead() -> None:
    """RFC 5647 §5.1 as OpenSSH reads it: the MAC lists are not looked at."""
    chosen = negotiate(kexinit(macs=(ETM,)), kexinit(macs=("umac-64@openssh.com",)), "client", first=True)
    assert chosen.mac_c2s == chosen.mac_s2c == IMPLICIT


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"kex": (DH,)}, "key exchange method"),
        ({"host_key": ("rsa-sha2-512",)}, "host key type"),
        ({"ciphers": (CTR,)}, "cipher"),
        ({"compression_algorithms_client_to_server": ("zlib",)}, "compression method"),
    ],
)
def test_a_failure_names_the_kind_and_both_lists(change: dict[str, Any], what: str) -> None:
    ours, theirs = kexinit(), kexinit(**change)
    with pytest.raises(NegotiationFailed) as caught:
        negotiate(ours, theirs, "client", first=True)
    error = caught.value
    offer = next(iter(change.values()))
    assert error.what == what
    assert (error.theirs, len(error.ours)) == (offer, 1)
    # OpenSSH's own sentence, which scripts look for.
    assert str(error) == f"no matching {what} found. Their offer: {','.join(offer)}"
    assert error.disconnect_reason == 3


def test_a_mac_failure() -> None:
    with pytest.raises(NegotiationFailed, match="no matching MAC found"):
        negotiate(kexinit(ciphers=(CTR,)), kexinit(ciphers=(CTR,), macs=("hmac-md5",)), "client", first=True)


def test_why() -> None:
    client = kexinit(kex=(DH, NIST, X25519), ciphers=(GCM, CTR), host_key=("ssh-ed25519", "rsa-sha2-512"))
    server = kexinit(kex=(X25519, NIST), ciphers=(CTR, GCM), host_key=("ssh-ed25519",))
    why = negotiate(client, server, "client", first=True).why
    assert why["kex"] == (
        f"the client's choice 2 of 3; the server does not have {DH}; "
        f"the server would have put {X25519} first, but the client's order decides"
    )
    assert why["host_key"] == "the client's first choice and the server's first too"
    assert why["cipher_c2s"] == (
        f"the client's first choice; the server would have put {CTR} first, but the client's order decides"
    )
    assert why["mac_c2s"] == f"{GCM} authenticates its packets itself"
    directed = {f"{kind}_{way}" for kind in ("cipher", "mac", "compression") for way in ("c2s", "s2c")}
    assert set(why) == {"kex", "host_key"} | directed


def test_why_stays_short_whatever_the_peer_lists() -> None:
    """B13: a KEXINIT of 256 KiB must not become a quarter of a megabyte of prose."""
    client = kexinit(kex=(*(f"k{n}" for n in range(30_000)), X25519))
    chosen = negotiate(kexinit(), client, "server", first=True)
    assert chosen.kex == X25519
    assert "and 29984 more" in chosen.why["kex"]
    assert len(chosen.why["kex"]) < 1000


STRICT_C, STRICT_S = "kex-strict-c-v00@openssh.com", "kex-strict-s-v00@openssh.com"


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("client_marks", [(), (STRICT_C,), (STRICT_S,), (STRICT_C, "ext-info-c")])
@pytest.mark.parametrize("server_marks", [(), (STRICT_S,), (STRICT_C,), ("ext-info-s", STRICT_S)])
def test_markers(first: bool, client_marks: tuple[str, ...], server_marks: tuple[str, ...]) -> None:
    """Strict needs both, each under its own name, and counts in the first exchange alone."""
    client, server = kexinit(kex=(X25519, *client_marks)), kexinit(kex=(X25519, *server_marks))
    both = STRICT_C in client_marks and STRICT_S in server_marks
    as_client = negotiate(client, server, "client", first=first)
    as_server = negotiate(server, client, "server", first=first)
    assert as_client.strict == as_server.strict == (both and first)
    assert as_client.peer_ext_info == (first and "ext-info-s" in server_marks)
    assert as_server.peer_ext_info == (first and "ext-info-c" in client_marks)


def test_a_marker_is_never_chosen() -> None:
    marks = ("ext-info-c", "ext-info-s", STRICT_C, STRICT_S)
    with pytest.raises(NegotiationFailed) as caught:
        negotiate(kexinit(kex=marks), kexinit(kex=marks), "client", first=True)
    assert caught.value.ours == caught.value.theirs == ()


@pytest.mark.parametrize(
    ("kex", "host_key", "right"),
    [
        ((X25519, NIST), ("ssh-ed25519",), True),
        ((NIST, X25519), ("ssh-ed25519",), False),
        ((X25519,), ("rsa-sha2-512", "ssh-ed25519"), False),
    ],
)
def test_guess(kex: tuple[str, ...], host_key: tuple[str, ...], right: bool) -> None:
    """§7.1: right where the first of both lists of both sides agree, whatever else is chosen."""
    assert guess_is_right(kexinit(kex=(X25519,)), kexinit(kex=kex, host_key=host_key)) is right
