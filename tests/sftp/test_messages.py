"""Numbers and layouts, typed in from draft-ietf-secsh-filexfer-02 §3 to §8 and OpenSSH's PROTOCOL §4."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glasshell.errors import MalformedMessage, UsageError
from glasshell.messages import SUBSYSTEMS, Message, UnknownMessage, decode, describe, may_hide, message_name
from glasshell.observe.dissect import facts, to_dict
from glasshell.observe.redact import redact
from glasshell.sftp.messages import (
    EXTENDED_REQUESTS,
    Attrs,
    AttrsReply,
    Close,
    CopyData,
    Data,
    ExtendedRequest,
    Extension,
    Init,
    NameEntry,
    Names,
    Open,
    Read,
    StatusReply,
    Symlink,
    Version,
    Write,
)
from glasshell.testing.strategies import message_strategy

NUMBERS = """
1 INIT  2 VERSION  3 OPEN  4 CLOSE  5 READ  6 WRITE  7 LSTAT  8 FSTAT  9 SETSTAT  10 FSETSTAT
11 OPENDIR  12 READDIR  13 REMOVE  14 MKDIR  15 RMDIR  16 REALPATH  17 STAT  18 RENAME  19 READLINK
20 SYMLINK  101 STATUS  102 HANDLE  103 DATA  104 NAME  105 ATTRS  200 EXTENDED  201 EXTENDED_REPLY
"""

EXTENSIONS = {
    "posix-rename@openssh.com", "statvfs@openssh.com", "fstatvfs@openssh.com", "hardlink@openssh.com",
    "fsync@openssh.com", "lsetstat@openssh.com", "limits@openssh.com", "expand-path@openssh.com", "copy-data",
    "home-directory", "users-groups-by-id@openssh.com",
}  # fmt: skip


def test_the_packets_are_the_drafts_list() -> None:
    words = NUMBERS.split()
    expected = {int(n): f"SSH_FXP_{name}" for n, name in zip(words[::2], words[1::2], strict=True)}
    assert {number: cls.NAME for number, cls in SUBSYSTEMS["sftp"].items()} == expected
    assert set(EXTENDED_REQUESTS) == EXTENSIONS


KNOWN: list[tuple[Message, str]] = [
    (Init(3), "01 00000003"),
    (Version(3, (Extension("fsync@openssh.com", b"1"),)),
     "02 00000003 00000011 6673796e63406f70656e7373682e636f6d 00000001 31"),
    (Open(7, "/a", 0x1A, Attrs(4, permissions=0o644)),
     "03 00000007 00000002 2f61 0000001a 00000004 000001a4"),
    (Close(1, b"\0\1"), "04 00000001 00000002 0001"),
    (Read(1, b"h", 1 << 32, 32768), "05 00000001 00000001 68 0000000100000000 00008000"),
    (Write(1, b"h", 2, b"abc"), "06 00000001 00000001 68 0000000000000002 00000003 616263"),
    (Symlink(9, "t", "l"), "14 00000009 00000001 74 00000001 6c"),
    (StatusReply(2, 2, "no"), "65 00000002 00000002 00000002 6e6f 00000000"),
    (Data(2, b"xy"), "67 00000002 00000002 7879"),
    (Names(3, (NameEntry("a", "-rw a", Attrs()),)),
     "68 00000003 00000001 00000001 61 00000005 2d72772061 00000000"),
    (AttrsReply(4, Attrs(0x8000000F, 5, 1000, 1001, 0o100600, 6, 7, (Extension("k", b"v"),))),
     "69 00000004 8000000f 0000000000000005 000003e8 000003e9 00008180 00000006 00000007"
     "00000001 00000001 6b 00000001 76"),
    (ExtendedRequest(5, "copy-data", CopyData(b"r", 1, 2, b"w", 3)),
     "c8 00000005 00000009 636f70792d64617461 00000001 72 0000000000000001 0000000000000002"
     "00000001 77 0000000000000003"),
]  # fmt: skip


@pytest.mark.parametrize(("packet", "octets"), KNOWN, ids=lambda each: type(each).__name__)
def test_a_packet_is_the_bytes_of_the_draft(packet: Message, octets: str) -> None:
    payload = bytes.fromhex(octets)
    assert packet.encode() == payload
    assert decode(payload, "sftp") == packet


def test_attributes_are_there_by_their_flags() -> None:
    attrs = describe(bytes.fromhex("69 00000004 00000005 0000000000000009 000001ff"), "sftp")[2]
    assert [(f.name, f.start, f.end) for f in attrs.children] == [
        ("flags", 5, 9), ("size", 9, 17), ("permissions", 17, 21),
    ]  # fmt: skip
    with pytest.raises(MalformedMessage):
        decode(bytes.fromhex("69 00000004 00000002 000003e8"), "sftp")
    with pytest.raises(UsageError):
        Open(7, "/a", 1, Attrs(1)).encode()  # a size is announced and none is given


def test_a_number_of_sftp_is_never_one_of_ssh() -> None:
    """1 is DISCONNECT outside, 21 NEWKEYS, 60 an answer of authentication, 94 CHANNEL_DATA."""
    assert message_name(1, "sftp") == "SSH_FXP_INIT"
    for number in (21, 60, 94):
        payload = bytes((number,)) + b"\0\0\0\0\0\0\0\1x"
        assert message_name(number, "sftp") == f"message {number}"
        assert isinstance(decode(payload, "sftp"), UnknownMessage)
        assert not may_hide(number, "sftp")
        assert redact(payload, "sftp") == payload
        assert facts(payload, "sftp") == "10 bytes"


def test_the_content_of_files_is_shown_as_its_length() -> None:
    for packet in (Write(1, b"h", 2, b"s3cret"), Data(2, b"s3cret")):
        assert to_dict(packet.encode(), "sftp")["fields"]["data"] == {"length": 6}
        assert "s3cret" not in facts(packet.encode(), "sftp")


@settings(max_examples=100)
@given(data=st.data())
def test_every_packet_has_a_line_and_an_object(data: st.DataObject) -> None:
    cls = data.draw(st.sampled_from(sorted(SUBSYSTEMS["sftp"].values(), key=lambda c: c.NUMBER)))
    payload = data.draw(message_strategy(cls)).encode()
    assert facts(payload, "sftp").isprintable()
    assert to_dict(payload, "sftp")["name"] == cls.NAME
