"""The first messages of the OpenSSH client that is installed, read by the catalogue.

What is expected is what the client was told to offer.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
from typing import IO

import pytest

from glasshell.messages import decode, kex, transport
from tests.needs import absent

OPTIONS = {
    "KexAlgorithms": "ecdh-sha2-nistp256,curve25519-sha256",
    "HostKeyAlgorithms": "ssh-ed25519,rsa-sha2-512",
    "Ciphers": "aes128-ctr,aes256-gcm@openssh.com",
    "MACs": "hmac-sha2-512,hmac-sha2-256-etm@openssh.com",
    "Compression": "no",
}


def packet(stream: IO[bytes]) -> bytes:
    """The payload of one packet in clear (RFC 4253 6)."""
    length = int.from_bytes(stream.read(4), "big")
    body = stream.read(length)
    return body[1 : length - body[0]]


@pytest.mark.interop
def test_the_first_messages_of_openssh() -> None:
    ssh = shutil.which("ssh") or absent("no ssh")
    options = [word for name, value in OPTIONS.items() for word in ("-o", f"{name}={value}")]
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)
        target = ["-p", str(server.getsockname()[1]), "-F", "none", "-o", "BatchMode=yes", "x@127.0.0.1"]
        with subprocess.Popen([ssh, *options, *target], stderr=subprocess.DEVNULL) as client:
            peer, _ = server.accept()
            with peer, peer.makefile("rb") as stream:
                peer.settimeout(20)
                assert stream.readline().startswith(b"SSH-2.0-OpenSSH_")
                first = packet_after(peer, stream)
                kexinit = decode(first)
                assert isinstance(kexinit, transport.KexInit)
                assert kexinit.encode() == first
                # our KEXINIT chooses what the client guessed, so that its first message follows
                peer.sendall(in_clear(kexinit.encode()))
                init = decode(packet(stream), "ecdh")
            client.kill()
    check(kexinit)
    assert isinstance(init, kex.KexEcdhInit)
    assert len(init.q_c) == 65, "an uncompressed point of nistp256"
    assert init.q_c[0] == 4


def check(kexinit: transport.KexInit) -> None:
    assert kexinit.kex_algorithms[:2] == ("ecdh-sha2-nistp256", "curve25519-sha256")
    assert kexinit.server_host_key_algorithms == ("ssh-ed25519", "rsa-sha2-512")
    for ciphers in (
        kexinit.encryption_algorithms_client_to_server,
        kexinit.encryption_algorithms_server_to_client,
    ):
        assert ciphers == ("aes128-ctr", "aes256-gcm@openssh.com")
    for macs in (kexinit.mac_algorithms_client_to_server, kexinit.mac_algorithms_server_to_client):
        assert macs == ("hmac-sha2-512", "hmac-sha2-256-etm@openssh.com")
    assert kexinit.compression_algorithms_client_to_server[0] == "none"
    assert kexinit.languages_client_to_server == ()
    assert not kexinit.first_kex_packet_follows
    assert kexinit.reserved == 0


def packet_after(peer: socket.socket, stream: IO[bytes]) -> bytes:
    """The peer's first packet, once it has our identification."""
    peer.sendall(b"SSH-2.0-test\r\n")
    return packet(stream)


def in_clear(payload: bytes) -> bytes:
    """One packet without encryption (RFC 4253 6)."""
    padding = 8 - (len(payload) + 5) % 8
    padding += 8 if padding < 4 else 0
    return (len(payload) + padding + 1).to_bytes(4, "big") + bytes([padding]) + payload + bytes(padding)
