"""Sessions recorded with OpenSSH, replayed to our core: it must say the same bytes and tell the same events.

The expectation is the peer's: it derived the same keys, verified our signatures and ran the command. The
recordings are made by scripts/record_transcripts.py, with keys that served nothing else.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from glasshell.crypto.registry import Kind, names
from tests.transcripts.driver import FOLDER, NOT_OPENSSH, Session, Transcript, fixed_kex

RECORDINGS = sorted(FOLDER.glob("*.json"))


@pytest.fixture(params=RECORDINGS, ids=lambda path: path.stem)
def recording(request: pytest.FixtureRequest) -> Transcript:
    path: Path = request.param
    return Transcript.load(path)


def replay(t: Transcript, size: int = 0) -> tuple[Session, bytes]:
    """The session after all flights of the peer, in pieces of `size` bytes (0: each whole); and our bytes."""
    with fixed_kex(t, recording=False):
        session = Session(t)
        out = session.begin()
        for flight in t.flights:
            data = bytes.fromhex(flight[1:]) if flight[0] == "<" else b""
            step = size or len(data) or 1
            for start in range(0, len(data), step):
                out += session.turn(data[start : start + step])
    return session, out


def said(t: Transcript, direction: str) -> bytes:
    return b"".join(bytes.fromhex(flight[1:]) for flight in t.flights if flight[0] == direction)


@pytest.mark.parametrize("size", [0, 1, 7], ids=["whole", "bytewise", "by sevens"])
def test_replay(recording: Transcript, size: int) -> None:
    session, out = replay(recording, size)
    assert session.told == recording.events
    assert session.core.session_id.hex() == recording.session_id
    expected = said(recording, ">")
    if recording.rekey:  # another zlib may compress otherwise: compare what is sent before it begins
        assert session.before_login > 600
        expected, out = expected[: session.before_login], out[: session.before_login]
    assert out == expected


def test_each_flight_has_its_answer(recording: Transcript) -> None:
    """Nothing is said too late: what went out after each flight of the peer is what goes out now."""
    if recording.rekey:
        return
    with fixed_kex(recording, recording=False):
        session = Session(recording)
        out = session.begin()
        for flight in recording.flights:
            data = bytes.fromhex(flight[1:])
            if flight[0] == ">":
                assert out == data
                out = b""
            else:
                out += session.turn(data)
    assert out == b""


def test_the_session_did_what_it_was_for(recording: Transcript) -> None:
    assert recording.peer.startswith(("openssh-9.2: OpenSSH_9.2", "openssh-10.6: OpenSSH_10"))
    session, _ = replay(recording)
    assert "Authenticated" in session.told
    assert session.told[-1] == ("Closed NoneType" if recording.role == "client" else "Closed Disconnected")
    assert recording.events.count("HandshakeDone") == 1
    epochs = session.core.transport.inbound.epoch
    assert epochs == (2 if recording.rekey else 1)


@pytest.mark.parametrize("role", ["client", "server"])
def test_every_algorithm_has_a_recording(role: str) -> None:
    found = [Transcript.load(path).settings for path in RECORDINGS if path.stem.startswith(role)]
    for kind, setting in ((Kind.KEX, "kex"), (Kind.CIPHER, "ciphers"), (Kind.MAC, "macs"),
                          (Kind.COMPRESSION, "compression")):  # fmt: skip
        recorded = {name for settings in found for name in settings[setting]}
        assert recorded == set(names(kind)) - NOT_OPENSSH


@pytest.mark.parametrize("path", RECORDINGS[::5], ids=lambda path: path.stem)
def test_an_altered_recording_is_noticed(path: Path) -> None:
    """This test can fail: one flipped bit in any flight of the peer, and the session is another."""
    t = Transcript.load(path)
    for at, flight in enumerate(t.flights):
        if flight[0] == "<":
            altered = Transcript.load(path)
            middle = len(flight) // 2
            bit = f"{int(flight[middle], 16) ^ 1:x}"
            altered.flights[at] = flight[:middle] + bit + flight[middle + 1 :]
            session, _ = replay(altered)
            assert session.told != t.events
