"""pcap and pcapng in all their byte orders, resolutions and damages; tshark reads the same."""

from __future__ import annotations

import gzip
import io
import random
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glasshell.capture import containers
from glasshell.capture.containers import Packets, Secrets
from glasshell.errors import CaptureError

from . import files

A, B = b"first packet", b"the second"


def read(data: bytes) -> tuple[list[tuple[int, int, int, bytes, int] | str], list[str]]:
    """(number, nanoseconds, link, bytes, original length) of packets, text of secrets; and the problems."""
    packets = Packets(io.BytesIO(data))
    found: list[tuple[int, int, int, bytes, int] | str] = []
    for item in packets:
        if isinstance(item, Secrets):
            found.append(item.text)
        else:
            number, time, link, buffer, start, end, original = item
            found.append((number, time, link, buffer[start:end], original))
    return found, list(packets.problems)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("nano", "unit"), [(False, 1000), (True, 1)])
def test_pcap(order: str, nano: bool, unit: int) -> None:
    found, problems = read(files.pcap([A, B], order=order, nano=nano, link=101, snaplen=10))
    assert found == [(1, 7 * unit, 101, A[:10], 12), (2, 10**9 + 7 * unit, 101, B, 10)]
    assert not problems


@pytest.mark.parametrize("order", ["<", ">"])
def test_pcapng(order: str) -> None:
    found, problems = read(
        files.section(order)
        + files.interface(order=order)
        + files.enhanced(A, time=1_700_000_000_123_456, order=order, options=files.option(1, b"hello", order))
        + files.enhanced(B, time=5, order=order, original=99)
    )
    assert found == [(1, 1_700_000_000_123_456_000, 1, A, 12), (2, 5000, 1, B, 99)]
    assert not problems


def test_interfaces_have_links_and_clocks_of_their_own() -> None:
    resolutions = [(b"\x06", 1000), (b"\x09", 1), (b"\x03", 10**6), (b"\x8a", 10**9 / 1024), (b"\x0c", 0.001)]
    data = files.section() + b"".join(
        files.interface(link=100 + number, options=files.option(9, value))
        for number, (value, _) in enumerate(resolutions)
    )
    data += files.interface(options=files.option(14, (60).to_bytes(8, "little")))
    data += b"".join(files.enhanced(A, interface=number, time=4096) for number in range(6))
    found, _ = read(data)
    assert [item[2] for item in found if isinstance(item, tuple)] == [100, 101, 102, 103, 104, 1]
    times = [item[1] for item in found if isinstance(item, tuple)]
    assert times == [*(int(4096 * unit) for _, unit in resolutions), 60 * 10**9 + 4_096_000]


def test_every_section_begins_anew() -> None:
    found, problems = read(
        files.section() + files.interface(link=1) + files.interface(link=101) + files.enhanced(A, interface=1)
        + files.section(">") + files.interface(link=113, order=">") + files.enhanced(B, order=">")
        + files.enhanced(B, interface=1, order=">")
    )  # fmt: skip
    assert found == [(1, 0, 101, A, 12), (2, 0, 113, B, 10)]
    assert problems == [containers.LOST]


def test_older_and_simple_packets_secrets_and_blocks_nobody_knows() -> None:
    found, problems = read(
        files.section() + files.interface(snaplen=6) + files.block(4, b"names") + files.block(0xBAD, b"?")
        + files.secrets(b"00 SHARED_SECRET 11\n") + files.secrets(b"CLIENT_RANDOM", kind=0x544C534B)
        + files.old(A, time=3) + files.simple(B[:6], original=10) + files.simple(b"tiny")
    )  # fmt: skip
    assert found == [
        "00 SHARED_SECRET 11\n", (1, 3000, 1, A, 12), (2, 0, 1, B[:6], 10), (3, 0, 1, b"tiny", 4),
    ]  # fmt: skip
    assert not problems


def test_packed_by_gzip() -> None:
    data = files.pcap([A, B])
    assert read(gzip.compress(data)) == read(data)
    noise = files.pcap([random.Random(1).randbytes(1000)] * 100)
    found, problems = read(gzip.compress(noise, compresslevel=0)[:50_000])
    assert 40 < len(found) < 50
    assert problems[0].startswith("the file cannot be read further: ")


SMALL = (
    files.section() + files.interface() + files.secrets(b"00 11\n") + files.enhanced(A) + files.enhanced(B)
)


@pytest.mark.parametrize("size", range(len(SMALL)))
def test_cut_off_at_each_byte(size: int) -> None:
    """What is whole is read, what is not is named."""
    whole, _ = read(SMALL)
    try:
        found, problems = read(SMALL[:size])
    except CaptureError:
        assert size < 4
        return
    assert found == whole[: len(found)]
    assert bool(problems) == (size not in (28, 48, 76, 120))


@pytest.mark.parametrize("size", range(24, 24 + 16 + 12))
def test_a_pcap_cut_off_at_each_byte(size: int) -> None:
    found, problems = read(files.pcap([A])[:size])
    assert (len(found), len(problems)) == ((1, 0) if size == 52 else (0, int(size > 24)))


def test_a_length_that_cannot_be_is_where_reading_stops() -> None:
    good = files.pcap([A])
    broken = good + b"\0" * 8 + b"\xff\xff\xff\x7f" * 2 + bytes(100)
    found, problems = read(broken)
    assert len(found) == 1
    (problem,) = problems
    assert problem.startswith(f"the file is damaged at byte {len(good)}")
    found, problems = read(SMALL + (6).to_bytes(4, "little") + b"\xff\xff\xff\x7f" + bytes(100))
    assert len(found) == 3
    assert problems[0].startswith(f"the file is damaged at byte {len(SMALL)}")


def test_what_is_no_capture() -> None:
    for data in (b"", b"hello", b"\x7fELF", gzip.compress(b"hello"), b"\x1f\x8b nonsense"):
        with pytest.raises(CaptureError, match=r"neither pcap nor pcapng|is empty"):
            read(data)


def mangled(data: bytes, changes: Iterable[tuple[int, int]]) -> bytes:
    changed = bytearray(data)
    for at, value in changes:
        changed[at % len(changed)] = value
    return bytes(changed)


CHANGES = st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), max_size=12)


@given(st.one_of(st.binary(max_size=300), CHANGES.map(lambda changes: mangled(SMALL, changes)),
                 CHANGES.map(lambda changes: mangled(gzip.compress(SMALL, mtime=0), changes)),
                 CHANGES.map(lambda changes: mangled(files.pcap([A, B]), changes))))  # fmt: skip
def test_nothing_a_file_holds_raises_anything_else(data: bytes) -> None:
    try:
        found, _ = read(data)
    except CaptureError:
        return
    assert sum(len(item[3]) for item in found if isinstance(item, tuple)) <= 10_000


class Endless(io.RawIOBase):
    """A file that says of every block that it is 2 GB, and has them."""

    def __init__(self, start: bytes) -> None:
        self.start = start
        self.handed = 0

    def read(self, size: int = -1) -> bytes:
        assert size >= 0
        self.handed += size
        start, self.start = self.start[:size], self.start[size:]
        return start or bytes(size)


def test_memory_is_bounded_whatever_a_length_says() -> None:
    for start in (files.pcap([]) + b"\0" * 8 + b"\0\0\0\x40" * 2, files.section() + b"\x06\0\0\0\0\0\0\x40"):
        file = Endless(start)
        assert list(Packets(file)) == []  # type: ignore[arg-type]
        assert file.handed < 3 * containers.CHUNK
