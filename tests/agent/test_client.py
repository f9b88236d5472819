"""The agent protocol: numbers of RFC 9987, hostile answers, and a real ssh-agent."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glasshell.agent.client import (
    Identity,
    parse_identities,
    parse_signature,
    request_identities,
    sign_request,
    take_frame,
)
from glasshell.crypto.signatures import PrivateKey
from glasshell.errors import LimitExceeded, MalformedMessage, PeerError, ProtocolViolation, RequestFailed
from glasshell.keys.openssh import dump_private_key
from glasshell.wire import string, uint32
from tests.needs import absent

KEY = PrivateKey.generate("ssh-ed25519")


def test_requests() -> None:
    assert request_identities() == bytes.fromhex("00000001 0b")
    assert sign_request(b"B", b"DD", "ssh-ed25519").hex(" ", 1) == (
        "00 00 00 10 0d 00 00 00 01 42 00 00 00 02 44 44 00 00 00 00"
    )
    assert sign_request(b"", b"", "rsa-sha2-256")[-4:] == uint32(2)
    assert sign_request(b"", b"", "rsa-sha2-512")[-4:] == uint32(4)


def test_frames() -> None:
    stream = string(b"one") + string(b"two")
    buffer = bytearray()
    frames = []
    for byte in stream:
        buffer.append(byte)
        while (frame := take_frame(buffer)) is not None:
            frames.append(frame)
    assert (frames, buffer) == ([b"one", b"two"], b"")
    largest = bytearray(uint32(256 * 1024) + bytes(256 * 1024))
    assert take_frame(largest) == bytes(256 * 1024)
    for size in (256 * 1024 + 1, 2**32 - 1):
        with pytest.raises(LimitExceeded):
            take_frame(bytearray(uint32(size)))
    with pytest.raises(MalformedMessage):
        take_frame(bytearray(4))


def test_answers() -> None:
    answer = b"\x0c" + uint32(2) + string(KEY.public.blob) + string(b"me") + string(b"odd") + string(b"\xff")
    assert parse_identities(answer) == (
        Identity(KEY.public.blob, "me", KEY.public),
        Identity(b"odd", "\udcff", None),
    )
    signature = KEY.sign("ssh-ed25519", b"data")
    assert parse_signature(b"\x0e" + string(signature), "ssh-ed25519") == signature


@pytest.mark.parametrize("number", [n for n in range(256) if n not in (5, 28)])
def test_every_other_answer_is_refused(number: int) -> None:
    if number != 12:
        with pytest.raises(ProtocolViolation):
            parse_identities(bytes([number]) + uint32(0))
    if number != 14:
        with pytest.raises(ProtocolViolation):
            parse_signature(bytes([number]), "ssh-ed25519")


def test_failures() -> None:
    for number in (5, 28):
        with pytest.raises(RequestFailed):
            parse_identities(bytes([number]))
        with pytest.raises(RequestFailed):
            parse_signature(bytes([number]), "ssh-ed25519")
    with pytest.raises(LimitExceeded):
        parse_identities(b"\x0c" + uint32(2**32 - 1))
    answer = b"\x0c" + uint32(1) + string(KEY.public.blob) + string(b"me")
    for length in range(len(answer)):
        with pytest.raises(MalformedMessage):
            parse_identities(answer[:length])
    with pytest.raises(MalformedMessage):
        parse_identities(answer + b"\0")


def test_a_weaker_signature_is_refused() -> None:
    """An agent that does not know the flags answers with SHA-1."""
    with pytest.raises(ProtocolViolation, match="ssh-rsa"):
        parse_signature(b"\x0e" + string(string(b"ssh-rsa") + string(bytes(256))), "rsa-sha2-512")


@given(st.binary(max_size=80))
def test_any_answer_is_read_or_a_peer_error(data: bytes) -> None:
    for message in (data, b"\x0c" + data, b"\x0e" + data, b"\x0c" + uint32(1) + data, b"\x0e" + string(data)):
        with contextlib.suppress(PeerError, RequestFailed):
            parse_identities(message)
        with contextlib.suppress(PeerError, RequestFailed):
            parse_signature(message, "ssh-ed25519")
    with contextlib.suppress(PeerError):
        take_frame(bytearray(data))


# ---- a real one


@pytest.fixture
def ssh_agent(tmp_path: Path) -> Iterator[Path]:
    if not (shutil.which("ssh-agent") and shutil.which("ssh-add")):
        absent("ssh-agent is not installed")
    path = tmp_path / "agent"
    agent = subprocess.run(["ssh-agent", "-a", path], capture_output=True, text=True, check=True)
    process = agent.stdout.partition("SSH_AGENT_PID=")[2].partition(";")[0]
    yield path
    subprocess.run(["ssh-agent", "-k"], env={**os.environ, "SSH_AGENT_PID": process}, capture_output=True)


def ask(path: Path, request: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(path))
        connection.sendall(request)
        buffer = bytearray()
        while (message := take_frame(buffer)) is None:
            received = connection.recv(4096)
            assert received
            buffer += received
        return message


def test_real_agent(ssh_agent: Path, private_key: PrivateKey, tmp_path: Path) -> None:
    assert parse_identities(ask(ssh_agent, request_identities())) == ()
    path = tmp_path / "key"
    path.touch(0o600)
    path.write_bytes(dump_private_key(private_key))
    environment = {**os.environ, "SSH_AUTH_SOCK": str(ssh_agent)}
    subprocess.run(["ssh-add", path], env=environment, check=True, capture_output=True)
    (identity,) = parse_identities(ask(ssh_agent, request_identities()))
    assert (identity.key, identity.comment) == (private_key.public, private_key.comment)
    for algorithm in private_key.public.algorithms:
        answer = ask(ssh_agent, sign_request(identity.blob, b"data", algorithm))
        assert private_key.public.verify(algorithm, parse_signature(answer, algorithm), b"data")
    with pytest.raises(RequestFailed):
        parse_signature(ask(ssh_agent, sign_request(KEY.public.blob, b"", "ssh-ed25519")), "ssh-ed25519")
