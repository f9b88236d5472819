"""Numbers, names and layouts, typed in from the RFCs and OpenSSH's PROTOCOL."""

from __future__ import annotations

import pytest

from glasshell.errors import MalformedMessage, UsageError
from glasshell.messages import (
    CATALOGUE,
    Message,
    Struct,
    UnknownMessage,
    auth,
    connection,
    decode,
    describe,
    family,
    kex,
    lookup,
    message_name,
    transport,
)
from glasshell.messages.connection import Mode, decode_modes, encode_modes
from glasshell.wire import Secret

# RFC 4250 4.1.2, RFC 8308 2.3 and 3.2, RFC 4419 5, RFC 5656 7.1, RFC 10042, RFC 4256 5, RFC 4462 3,
# OpenSSH PROTOCOL 1.8
NUMBERS = """
1 DISCONNECT
2 IGNORE
3 UNIMPLEMENTED
4 DEBUG
5 SERVICE_REQUEST
6 SERVICE_ACCEPT
7 EXT_INFO
8 NEWCOMPRESS
20 KEXINIT
21 NEWKEYS
30 KEXDH_INIT dh
31 KEXDH_REPLY dh
30 KEX_DH_GEX_REQUEST_OLD gex
31 KEX_DH_GEX_GROUP gex
32 KEX_DH_GEX_INIT gex
33 KEX_DH_GEX_REPLY gex
34 KEX_DH_GEX_REQUEST gex
30 KEX_ECDH_INIT ecdh
31 KEX_ECDH_REPLY ecdh
30 KEX_HYBRID_INIT hybrid
31 KEX_HYBRID_REPLY hybrid
50 USERAUTH_REQUEST
51 USERAUTH_FAILURE
52 USERAUTH_SUCCESS
53 USERAUTH_BANNER
60 USERAUTH_PK_OK publickey
60 USERAUTH_PASSWD_CHANGEREQ password
60 USERAUTH_INFO_REQUEST keyboard-interactive
61 USERAUTH_INFO_RESPONSE keyboard-interactive
60 USERAUTH_GSSAPI_RESPONSE gssapi-with-mic
61 USERAUTH_GSSAPI_TOKEN gssapi-with-mic
63 USERAUTH_GSSAPI_EXCHANGE_COMPLETE gssapi-with-mic
64 USERAUTH_GSSAPI_ERROR gssapi-with-mic
65 USERAUTH_GSSAPI_ERRTOK gssapi-with-mic
66 USERAUTH_GSSAPI_MIC gssapi-with-mic
80 GLOBAL_REQUEST
81 REQUEST_SUCCESS
82 REQUEST_FAILURE
90 CHANNEL_OPEN
91 CHANNEL_OPEN_CONFIRMATION
92 CHANNEL_OPEN_FAILURE
93 CHANNEL_WINDOW_ADJUST
94 CHANNEL_DATA
95 CHANNEL_EXTENDED_DATA
96 CHANNEL_EOF
97 CHANNEL_CLOSE
98 CHANNEL_REQUEST
99 CHANNEL_SUCCESS
100 CHANNEL_FAILURE
192 PING
193 PONG
"""


def test_the_catalogue_is_the_rfcs_lists() -> None:
    rows = [line.split() for line in NUMBERS.split("\n") if line]
    expected = {(row[2] if len(row) > 2 else "", int(row[0])): f"SSH_MSG_{row[1]}" for row in rows}
    assert {key: cls.NAME for key, cls in CATALOGUE.items()} == expected


STRING_A = b"\0\0\0\x01a"

KNOWN: list[tuple[str, Message, bytes]] = [
    ("", transport.Disconnect(11, "bye"), b"\x01\0\0\0\x0b\0\0\0\x03bye\0\0\0\0"),
    ("", transport.Ignore(b"\0\1"), b"\x02\0\0\0\x02\0\1"),
    ("", transport.Unimplemented(258), b"\x03\0\0\x01\x02"),
    ("", transport.Debug(True, "a", "en"), b"\x04\x01" + STRING_A + b"\0\0\0\x02en"),
    ("", transport.ServiceRequest("ssh-userauth"), b"\x05\0\0\0\x0cssh-userauth"),
    (
        "",
        transport.ExtInfo((transport.Extension("server-sig-algs", b"ssh-ed25519"),)),
        b"\x07\0\0\0\x01\0\0\0\x0fserver-sig-algs\0\0\0\x0bssh-ed25519",
    ),
    (
        "",
        transport.KexInit(
            bytes(range(16)),
            ("k1", "k2"),
            ("h",),
            ("c",),
            ("d",),
            ("m",),
            ("n",),
            ("none",),
            ("none", "zlib"),
            (),
            ("en",),
            True,
            0,
        ),
        b"\x14" + bytes(range(16)) + b"\0\0\0\x05k1,k2\0\0\0\x01h\0\0\0\x01c\0\0\0\x01d\0\0\0\x01m\0\0\0\x01n"
        b"\0\0\0\x04none\0\0\0\x09none,zlib\0\0\0\0\0\0\0\x02en\x01\0\0\0\0",
    ),
    ("dh", kex.KexDhInit(0x80), b"\x1e\0\0\0\x02\0\x80"),
    ("dh", kex.KexDhReply(b"K", 0x7F, b"S"), b"\x1f\0\0\0\x01K\0\0\0\x01\x7f\0\0\0\x01S"),
    ("gex", kex.KexDhGexRequest(2048, 3072, 8192), b"\x22\0\0\x08\0\0\0\x0c\0\0\0\x20\0"),
    ("gex", kex.KexDhGexGroup(23, 5), b"\x1f\0\0\0\x01\x17\0\0\0\x01\x05"),
    ("ecdh", kex.KexEcdhInit(b"Q"), b"\x1e\0\0\0\x01Q"),
    ("hybrid", kex.KexHybridReply(b"K", b"QQ", b"S"), b"\x1f\0\0\0\x01K\0\0\0\x02QQ\0\0\0\x01S"),
    (
        "",
        auth.UserauthRequest("a", "ssh-connection", "none", auth.NoneRequest()),
        b"\x32" + STRING_A + b"\0\0\0\x0essh-connection\0\0\0\x04none",
    ),
    (
        "",
        auth.UserauthRequest("a", "s", "publickey", auth.PublickeyRequest(False, "ssh-ed25519", b"B")),
        b"\x32" + STRING_A + b"\0\0\0\x01s\0\0\0\x09publickey\0\0\0\0\x0bssh-ed25519\0\0\0\x01B",
    ),
    (
        "",
        auth.UserauthRequest("a", "s", auth.HOSTBOUND, auth.HostboundRequest(True, "x", b"B", b"H", b"S")),
        b"\x32" + STRING_A + b"\0\0\0\x01s\0\0\0\x23publickey-hostbound-v00@openssh.com\x01"
        b"\0\0\0\x01x\0\0\0\x01B\0\0\0\x01H\0\0\0\x01S",
    ),
    (
        "",
        auth.UserauthRequest("a", "s", "password", auth.PasswordRequest(True, Secret("old"), Secret("new"))),
        b"\x32" + STRING_A + b"\0\0\0\x01s\0\0\0\x08password\x01\0\0\0\x03old\0\0\0\x03new",
    ),
    ("", auth.UserauthFailure(("publickey", "password"), True), b"\x33\0\0\0\x12publickey,password\x01"),
    ("", auth.UserauthSuccess(), b"\x34"),
    ("publickey", auth.UserauthPkOk("x", b"B"), b"\x3c\0\0\0\x01x\0\0\0\x01B"),
    (
        "keyboard-interactive",
        auth.UserauthInfoRequest("", "", "", (auth.Prompt("PIN: ", False), auth.Prompt("a", True))),
        b"\x3c" + bytes(12) + b"\0\0\0\x02\0\0\0\x05PIN: \0" + STRING_A + b"\x01",
    ),
    (
        "keyboard-interactive",
        auth.UserauthInfoResponse((auth.Response(Secret("1234")),)),
        b"\x3d\0\0\0\x01\0\0\0\x041234",
    ),
    (
        "",
        connection.GlobalRequest("tcpip-forward", True, connection.TcpipForward("", 0)),
        b"\x50\0\0\0\x0dtcpip-forward\x01\0\0\0\0\0\0\0\0",
    ),
    (
        "",
        connection.GlobalRequest(
            "hostkeys-00@openssh.com",
            False,
            connection.Hostkeys((connection.HostKeyBlob(b"a"), connection.HostKeyBlob(b"bc"))),
        ),
        b"\x50\0\0\0\x17hostkeys-00@openssh.com\0" + STRING_A + b"\0\0\0\x02bc",
    ),
    ("", connection.RequestSuccess(b"\0\0\x1f\x90"), b"\x51\0\0\x1f\x90"),
    (
        "",
        connection.ChannelOpen("session", 1, 2097152, 32768, connection.SessionOpen()),
        b"\x5a\0\0\0\x07session\0\0\0\x01\0\x20\0\0\0\0\x80\0",
    ),
    (
        "",
        connection.ChannelOpen("direct-tcpip", 0, 1, 2, connection.DirectTcpip("h", 80, "::1", 5)),
        b"\x5a\0\0\0\x0cdirect-tcpip\0\0\0\0\0\0\0\x01\0\0\0\x02\0\0\0\x01h\0\0\0\x50\0\0\0\x03::1\0\0\0\x05",
    ),
    (
        "",
        connection.ChannelOpen("direct-streamlocal@openssh.com", 0, 1, 2, connection.DirectStreamlocal("/s")),
        b"\x5a\0\0\0\x1edirect-streamlocal@openssh.com\0\0\0\0\0\0\0\x01\0\0\0\x02\0\0\0\x02/s\0\0\0\0\0\0\0\0",
    ),
    ("", connection.ChannelOpenConfirmation(1, 2, 3, 4), b"\x5b\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0\4"),
    ("", connection.ChannelOpenFailure(1, 2, "a"), b"\x5c\0\0\0\1\0\0\0\2" + STRING_A + b"\0\0\0\0"),
    ("", connection.ChannelWindowAdjust(1, 2), b"\x5d\0\0\0\1\0\0\0\2"),
    ("", connection.ChannelData(1, b"a"), b"\x5e\0\0\0\1" + STRING_A),
    ("", connection.ChannelExtendedData(1, 1, b"a"), b"\x5f\0\0\0\1\0\0\0\1" + STRING_A),
    (
        "",
        connection.ChannelRequest(1, "pty-req", True, connection.PtyReq("vt", 80, 24, 640, 480, b"\0")),
        b"\x62\0\0\0\1\0\0\0\x07pty-req\1\0\0\0\2vt\0\0\0\x50\0\0\0\x18\0\0\2\x80\0\0\1\xe0\0\0\0\1\0",
    ),
    (
        "",
        connection.ChannelRequest(1, "x11-req", True, connection.X11Req(False, "M", Secret("c0"), 3)),
        b"\x62\0\0\0\1\0\0\0\x07x11-req\1\0\0\0\0\1M\0\0\0\2c0\0\0\0\3",
    ),
    (
        "",
        connection.ChannelRequest(1, "exit-signal", False, connection.ExitSignal("KILL", True)),
        b"\x62\0\0\0\1\0\0\0\x0bexit-signal\0\0\0\0\4KILL\1\0\0\0\0\0\0\0\0",
    ),
    (
        "",
        connection.ChannelRequest(1, "break", True, connection.Break(500)),
        b"\x62\0\0\0\1\0\0\0\5break\1\0\0\1\xf4",
    ),
    ("", transport.Ping(b""), b"\xc0\0\0\0\0"),
    ("", transport.Pong(b"a"), b"\xc1" + STRING_A),
]


@pytest.mark.parametrize(
    ("context", "message", "payload"), KNOWN, ids=[type(m).__name__ for _, m, _ in KNOWN]
)
def test_known_bytes(context: str, message: Message, payload: bytes) -> None:
    assert message.encode() == payload
    assert decode(payload, context) == message


def test_number_30_means_something_else_in_each_exchange() -> None:
    payload = b"\x1e\0\0\0\x01\x05"
    assert decode(payload, "dh") == kex.KexDhInit(5)
    assert decode(payload, "ecdh") == kex.KexEcdhInit(b"\x05")
    assert decode(payload, "hybrid") == kex.KexHybridInit(b"\x05")
    assert decode(b"\x1e\0\0\x08\0", "gex") == kex.KexDhGexRequestOld(2048)
    with pytest.raises(MalformedMessage):
        decode(payload, "gex")
    assert decode(payload, "password") == UnknownMessage("password", 30, payload)


def test_number_60_is_unknown_outside_its_method() -> None:
    assert lookup("", 60) is None
    assert message_name(60) == "message 60"
    assert message_name(60, "publickey") == "SSH_MSG_USERAUTH_PK_OK"
    assert auth.method_context(auth.HOSTBOUND) == "publickey"
    assert auth.method_context("password") == "password"


@pytest.mark.parametrize(
    ("number", "expected"),
    [(29, ""), (30, "kex"), (49, "kex"), (50, ""), (59, ""), (60, "auth"), (79, "auth"), (80, "")],
)
def test_family(number: int, expected: str) -> None:
    assert family(number) == expected


def test_a_generic_message_is_found_in_any_context() -> None:
    assert lookup("gex", 1) is transport.Disconnect


def test_an_empty_payload_is_malformed() -> None:
    with pytest.raises(MalformedMessage):
        decode(b"")
    assert describe(b"") == ()


@pytest.mark.parametrize(
    "message",
    [
        connection.ChannelRequest(0, "pty-req", True, connection.Shell()),
        connection.ChannelOpen("new@example.com", 0, 0, 0, connection.SessionOpen()),
        connection.ChannelWindowAdjust(0, 1 << 32),
        connection.ChannelWindowAdjust(-1, 0),
        transport.KexInit(b"short", (), (), (), (), (), (), (), ()),
        auth.UserauthRequest("a", "s", "publickey", auth.PublickeyRequest(True, "x", b"B")),
        auth.UserauthRequest("a", "s", "password", auth.PasswordRequest(False, "not a Secret")),  # type: ignore[arg-type]
        transport.ServiceRequest("é"),
    ],
    ids=repr,
)
def test_what_does_not_fit_is_our_own_mistake(message: Message) -> None:
    with pytest.raises(UsageError):
        message.encode()


def test_a_body_without_a_declaration_stays_bytes() -> None:
    payload = b"\x62\0\0\0\1\0\0\0\x0bx@a.example\1\xff\xfe"
    message = decode(payload)
    assert message == connection.ChannelRequest(1, "x@a.example", True, b"\xff\xfe")
    assert isinstance(message, Struct)
    assert message.encode() == payload


def test_a_count_that_cannot_be_is_refused_before_the_loop() -> None:
    with pytest.raises(MalformedMessage, match="4294967295 items"):
        decode(b"\x07\xff\xff\xff\xff" + bytes(10))


def test_the_hot_headers_agree_with_the_declarations() -> None:
    data = connection.ChannelData(7, b"abc").encode()
    assert connection.CHANNEL_DATA_HEADER.unpack_from(data) == (94, 7, 3)
    assert data[connection.CHANNEL_DATA_HEADER.size :] == b"abc"
    extended = connection.ChannelExtendedData(7, 1, b"abc").encode()
    assert connection.EXTENDED_DATA_HEADER.unpack_from(extended) == (95, 7, 1, 3)
    assert extended[connection.EXTENDED_DATA_HEADER.size :] == b"abc"
    adjust = connection.ChannelWindowAdjust(7, 9).encode()
    assert connection.WINDOW_ADJUST_HEADER.unpack(adjust) == (93, 7, 9)
    formats = [
        connection.CHANNEL_DATA_HEADER,
        connection.EXTENDED_DATA_HEADER,
        connection.WINDOW_ADJUST_HEADER,
    ]
    assert [header.format for header in formats] == [">BII", ">BIII", ">BII"]


def test_terminal_modes() -> None:
    # ECHO off, IUTF8 on, 38,400 baud out: RFC 4254 8, RFC 8160 2.2
    raw = b"\x35\0\0\0\0\x2a\0\0\0\x01\x81\0\0\x96\0\0"
    modes = {Mode.ECHO: 0, Mode.IUTF8: 1, Mode.TTY_OP_OSPEED: 38400}
    assert encode_modes({int(op): value for op, value in modes.items()}) == raw
    assert decode_modes(raw) == modes
    assert decode_modes(b"") == {}
    assert decode_modes(b"\x9f\0\0\0\x02") == {159: 2}, "without a name, without TTY_OP_END"
    assert decode_modes(b"\x01\0\0\0\x03\xa0\xff") == {1: 3}, "160 ends the list"


@pytest.mark.parametrize("raw", [b"\x01", b"\x01\0\0\0", b"\x01\0\0\0\0" * 200])
def test_terminal_modes_cut_or_without_end(raw: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode_modes(raw)


@pytest.mark.parametrize("modes", [{0: 1}, {160: 1}, {1: -1}, {1: 1 << 32}])
def test_terminal_modes_that_cannot_be_written(modes: dict[int, int]) -> None:
    with pytest.raises(UsageError):
        encode_modes(modes)
