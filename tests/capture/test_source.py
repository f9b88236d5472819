"""What kind of file it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glasshell.capture.source import open_source, sniff
from glasshell.capture.streams import Data, Opened
from glasshell.errors import CaptureError


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"\xd4\xc3\xb2\xa1\x02\0\x04\0", "pcap"),
        (b"\xa1\xb2\x3c\x4d\0\x02\0\x04", "pcap"),
        (b"\x0a\x0d\x0d\x0a\x1c\0\0\0", "pcapng"),
        (b"\x1f\x8b\x08\0", "gzip"),
        (b'27828 1795631142.200107 read(3, "\\x7f", 1) = 1\n', "strace"),
        (b"27828 1795631142.200107 close(8 <unfinished ...>\n", "strace"),
        (b"27828 1795631142.200107 <... close resumed>) = 0\n", "strace"),
        (b"1795631142.200107 close(3)        = 0\n", "strace"),
        (b"[pid 27828] close(3) = -1 EBADF (Bad file descriptor)\n", "strace"),
        (b'27828 execve("/usr/bin/ssh", ["ssh", "host"], 0x7ffd /* 27 vars */) = 0\n', "strace"),
        (b'{"time": 0}\n', "jsonl"),
        (b'\x1e{"file_schema": ""}\n', "sqlog"),
        (b"main(argc, argv)\n", "none"),
        (b"", "none"),
        (b"\x7fELF", "none"),
    ],
)
def test_kinds(start: bytes, kind: str) -> None:
    assert sniff(start) == kind


@given(st.binary(max_size=200))
def test_any_beginning_has_a_kind(start: bytes) -> None:
    assert sniff(start) in ("pcap", "pcapng", "gzip", "strace", "jsonl", "sqlog", "none")


def test_the_events_of_a_capture(shared: Path) -> None:
    with open_source(shared / "captures" / "secdev__ssh_ed25519.pcap") as source:
        events = list(source)
    assert isinstance(events[0], Opened)
    assert next(event.data for event in events if isinstance(event, Data)).startswith(b"SSH-2.0-")
    assert source.packets == 28
    assert not source.problems


def test_what_is_no_capture_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello\n")
    (tmp_path / "records.jsonl").write_text("{}\n")
    for name in ("text", "records.jsonl", "absent"):
        with pytest.raises(CaptureError, match=name), open_source(tmp_path / name):
            pass
    with pytest.raises(CaptureError, match="directory"), open_source(tmp_path):
        pass
