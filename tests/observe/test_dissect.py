"""What people and JSON are told of a payload."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glasshell.messages import CATALOGUE, Message, auth, connection, kex, transport
from glasshell.observe.dissect import MAX_FACTS, facts, to_dict
from glasshell.testing.strategies import any_message
from glasshell.wire import Secret

ED25519 = b"\0\0\0\x0bssh-ed25519" + b"\0\0\0\x20" + bytes(32)


def request(body: Any, method: str) -> Message:
    return auth.UserauthRequest("bob", "ssh-connection", method, body)


def on_channel(name: str, body: Any, want_reply: bool = True) -> Message:
    return connection.ChannelRequest(0, name, want_reply, body)


def kexinit() -> transport.KexInit:
    return transport.KexInit(
        bytes(16), ("mlkem768x25519-sha256", "x"), ("ssh-ed25519",), ("aes128-ctr", "y"), ("aes256-ctr",),
        ("m",), ("m",), ("none",), ("none",), first_kex_packet_follows=True,
    )  # fmt: skip


LINES: list[tuple[str, str, Message]] = [
    ("", "BY_APPLICATION: disconnected by user", transport.Disconnect(11, "disconnected by user")),
    ("", "unassigned: \\033[2J", transport.Disconnect(99, "\x1b[2J")),
    ("", "ssh-userauth", transport.ServiceRequest("ssh-userauth")),
    ("", "seq=7", transport.Unimplemented(7)),
    (
        "",
        "server-sig-algs=ssh-ed25519,rsa-sha2-512 ping@openssh.com=0",
        transport.ExtInfo((
            transport.Extension("server-sig-algs", b"ssh-ed25519,rsa-sha2-512"),
            transport.Extension("ping@openssh.com", b"0"),
        )),
    ),
    (
        "",
        "kex=mlkem768x25519-sha256 hostkey=ssh-ed25519 cipher=aes128-ctr|aes256-ctr mac=m compression=none"
        " guess_follows",
        kexinit(),
    ),
    ("", "", transport.NewKeys()),
    ("ecdh", "32 bytes", kex.KexEcdhInit(bytes(32))),
    ("dh", "2048 bits", kex.KexDhInit(1 << 2047)),
    ("gex", "min=2048 n=3072 max=8192", kex.KexDhGexRequest(2048, 3072, 8192)),
    ("hybrid", "host_key=ssh-ed25519 q_s=1120 bytes signature=ssh-ed25519",
     kex.KexHybridReply(ED25519, bytes(1120), ED25519)),
    ("dh", "host_key=3 bytes f=3 bits signature=0 bytes", kex.KexDhReply(b"\xff\0\0", 5, b"")),
    ("", "bob none", request(auth.NoneRequest(), "none")),
    ("", "bob publickey ssh-ed25519 probe",
     request(auth.PublickeyRequest(False, "ssh-ed25519", ED25519), "publickey")),
    ("", "bob publickey-hostbound ssh-ed25519 signed",
     request(auth.HostboundRequest(True, "ssh-ed25519", ED25519, ED25519, b"S"), auth.HOSTBOUND)),
    ("", "bob password", request(auth.PasswordRequest(False, Secret("hunter2")), "password")),
    ("", "bob password change", request(auth.PasswordRequest(True, Secret("a"), Secret("b")), "password")),
    ("", "bob otp", request(b"hunter2", "otp")),
    ("", "publickey,password partial", auth.UserauthFailure(("publickey", "password"), True)),
    ("publickey", "ssh-ed25519", auth.UserauthPkOk("ssh-ed25519", ED25519)),
    ("keyboard-interactive", "PAM 1 prompt",
     auth.UserauthInfoRequest("PAM", "", "", (auth.Prompt("a", True),))),
    ("keyboard-interactive", "0 responses", auth.UserauthInfoResponse(())),
    ("", "tcpip-forward localhost:8080 want_reply",
     connection.GlobalRequest("tcpip-forward", True, connection.TcpipForward("localhost", 8080))),
    ("", "hostkeys-00@openssh.com ssh-ed25519",
     connection.GlobalRequest(
         "hostkeys-00@openssh.com", False, connection.Hostkeys((connection.HostKeyBlob(ED25519),)))),
    ("", "session ch=0 window=2097152 max=32768",
     connection.ChannelOpen("session", 0, 2097152, 32768, connection.SessionOpen())),
    ("", "direct-tcpip ch=1 window=2 max=3 db:5432 from 127.0.0.1:40000",
     connection.ChannelOpen("direct-tcpip", 1, 2, 3, connection.DirectTcpip("db", 5432, "127.0.0.1", 40000))),
    ("", "ch=0 sender=3 window=0 max=32768", connection.ChannelOpenConfirmation(0, 3, 0, 32768)),
    ("", "ch=0 CONNECT_FAILED: Connection refused",
     connection.ChannelOpenFailure(0, 2, "Connection refused")),
    ("", "ch=0 +2097152", connection.ChannelWindowAdjust(0, 2097152)),
    ("", "ch=0 123 bytes", connection.ChannelData(0, bytes(123))),
    ("", "ch=0 stderr 5 bytes", connection.ChannelExtendedData(0, 1, bytes(5))),
    ("", "ch=4", connection.ChannelEof(4)),
    ("", "ch=0 pty-req xterm-256color 80x24 want_reply",
     on_channel("pty-req", connection.PtyReq("xterm-256color", 80, 24, 0, 0, b"\0"))),
    ("", "ch=0 env LANG=C.UTF-8", on_channel("env", connection.Env("LANG", "C.UTF-8"), False)),
    ("", "ch=0 exec ls -la\\012 want_reply", on_channel("exec", connection.Exec("ls -la\n"))),
    ("", "ch=0 shell want_reply", on_channel("shell", connection.Shell())),
    ("", "ch=0 exit-status 3", on_channel("exit-status", connection.ExitStatus(3), False)),
    ("", "ch=0 exit-signal SEGV core_dumped",
     on_channel("exit-signal", connection.ExitSignal("SEGV", True), False)),
    ("", "ch=0 signal TERM", on_channel("signal", connection.Signal("TERM"), False)),
    ("", "ch=0 x@y 3 bytes want_reply", on_channel("x@y", b"abc")),
    ("", "5 bytes", transport.Ping(bytes(5))),
]  # fmt: skip


@pytest.mark.parametrize(
    ("context", "line", "message"), LINES, ids=[line or "nothing" for _, line, _ in LINES]
)
def test_the_facts_that_matter(context: str, line: str, message: Message) -> None:
    assert facts(message.encode(), context) == line


def test_facts_of_what_cannot_be_read() -> None:
    assert facts(b"") == "malformed: an empty payload"
    assert facts(b"\xc8abc") == "4 bytes"
    assert facts(b"\x5e\0\0\0\0\0\0\0\x05abc").startswith("malformed: SSH_MSG_CHANNEL_DATA: 5 bytes wanted")
    assert facts(b"\x5e\0").startswith("malformed: SSH_MSG_CHANNEL_DATA")
    assert facts(b"\x15x").startswith("malformed: SSH_MSG_NEWKEYS: 1 bytes too many")


def test_a_long_line_is_cut() -> None:
    line = facts(on_channel("exec", connection.Exec("x" * 1000)).encode())
    assert len(line) == MAX_FACTS
    assert line.endswith("...")


def test_to_dict_says_everything() -> None:
    message = connection.ChannelOpen("direct-tcpip", 1, 2, 3, connection.DirectTcpip("db", 5432, "::1", 9))
    assert to_dict(message.encode()) == {
        "name": "SSH_MSG_CHANNEL_OPEN",
        "number": 90,
        "clause": "RFC 4254 5.1",
        "fields": {
            "channel_type": "direct-tcpip", "sender_channel": 1, "initial_window_size": 2,
            "maximum_packet_size": 3,
            "body": {"host": "db", "port": 5432, "originator_address": "::1", "originator_port": 9},
        },
    }  # fmt: skip


@pytest.mark.parametrize(
    ("context", "message", "fields"),
    [
        ("", connection.ChannelData(1, b"secret?"), {"recipient_channel": 1, "data": {"length": 7}}),
        ("", auth.UserauthFailure(("a", "b"), False), {"methods": ["a", "b"], "partial_success": False}),
        ("dh", kex.KexDhInit(0x80), {"e": "0080"}),
        ("", transport.ExtInfo((transport.Extension("n", b"\1"),)),
         {"extensions": [{"name": "n", "value": "01"}]}),
        ("", transport.ExtInfo(()), {"extensions": []}),
        ("", transport.Debug(True, "caf\udce9\n", "en"),
         {"always_display": True, "message": "caf\\351\n", "language": "en"}),
        ("keyboard-interactive", auth.UserauthInfoResponse((auth.Response(Secret("a")),)),
         {"responses": [{"response": "<redacted>"}]}),
        ("", request(auth.PasswordRequest(False, Secret("a")), "password"),
         {"user_name": "bob", "service_name": "ssh-connection", "method_name": "password",
          "body": {"change": False, "password": "<redacted>"}}),
    ],
    ids=["content", "list", "mpint", "items", "no items", "not UTF-8", "responses", "password"],
)  # fmt: skip
def test_values_are_ready_for_json(context: str, message: Message, fields: dict[str, Any]) -> None:
    assert to_dict(message.encode(), context)["fields"] == fields


def test_to_dict_of_what_cannot_be_read() -> None:
    told = to_dict(b"\x5d\0\0\0\1\0")
    assert told["fields"] == {"recipient_channel": 1, "unparsed": "00"}
    assert "4 bytes wanted at offset 5, 1 left" in told["malformed"]
    assert to_dict(b"\xc8abc") == {
        "name": "message 200", "number": 200, "clause": "", "fields": {"unparsed": "c8616263"},
    }  # fmt: skip
    assert to_dict(b"")["malformed"] == "an empty payload"


@given(message=any_message(), data=st.data())
@settings(max_examples=200)
def test_all_messages_whole_and_broken(message: Message, data: st.DataObject) -> None:
    payload = message.encode()
    cut = data.draw(st.integers(0, len(payload)))
    for heard in (payload, payload[:cut], payload + b"\0"):
        line = facts(heard, message.CONTEXT)
        assert line.isprintable()
        assert len(line) <= MAX_FACTS
        json.dumps(to_dict(heard, message.CONTEXT), ensure_ascii=False).encode("utf-8")


@given(payload=st.binary(max_size=80), context=st.sampled_from(sorted({c for c, _ in CATALOGUE})))
@settings(max_examples=500)
def test_any_bytes_at_all(payload: bytes, context: str) -> None:
    assert facts(payload, context).isprintable()
    json.dumps(to_dict(payload, context), ensure_ascii=False).encode("utf-8")
