"""The data path in memory: the processor time of one 32 KiB packet, and of its cipher alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from glasshell.crypto.registry import Kind, find, make_opener, make_sealer
from glasshell.events import ChannelOffered
from glasshell.messages.connection import SessionOpen
from glasshell.observe.hub import Hub
from glasshell.policy import Policy
from glasshell.testing.pair import Pair, Side
from glasshell.wire import Secret

PACKET = 32 * 1024
TRANSFERS = 40
COUNT, TURN = 640, 64
"""Packets sealed alone, and how many of them in one buffer: a transfer has 2 MiB at a time."""
READ = 256 * 1024


def ciphers() -> Iterator[str]:
    """The default ciphers, a MAC's cost included where they need one."""
    yield from Policy.client().ciphers


def primitives(name: str) -> tuple[float, float]:
    """Seconds to seal and to open one packet, nothing else."""
    cipher, mac = find(Kind.CIPHER, name), find(Kind.MAC, Policy.client().macs[0])
    key, iv, mac_key = Secret(bytes(64)[: cipher.key_size]), Secret(bytes(cipher.iv_size)), Secret(bytes(32))
    sealer, opener = make_sealer(cipher, mac, key, iv, mac_key), make_opener(cipher, mac, key, iv, mac_key)
    size = PACKET + 16 - cipher.block_size * (sealer.aad_length == 0)
    packet = size.to_bytes(4, "big") + bytes(size)
    wire = len(packet) + sealer.tag_size
    out = bytearray(TURN * wire)
    view = memoryview(out)
    sealing = opening = 0.0
    for first in range(0, COUNT, TURN):
        began = time.thread_time()
        for each in range(TURN):
            sealer.seal_into(first + each, packet, view[each * wire : (each + 1) * wire])
        sealed, at = time.thread_time(), 0
        for each in range(TURN):
            length = opener.packet_length(first + each, out, at)
            opener.open(first + each, out, at, length)
            at += 4 + length + opener.tag_size
        sealing += sealed - began
        opening += time.thread_time() - sealed
    return sealing / COUNT, opening / COUNT


def transfer(name: str, hub: Callable[[], Hub] | None = None) -> tuple[float, float]:
    """Seconds to send and to receive one packet, from `Channel.send` to `Channel.read_chunks`."""
    hubs: dict[Side, Hub] = {"client": hub()} if hub else {}
    pair = Pair(Policy.client(ciphers=(name,)), answers={ChannelOffered: lambda q: True}, hubs=hubs)
    pair.run()
    mine = pair.client.mux.open("session", SessionOpen())
    pair.run()
    theirs = pair.told("server", ChannelOffered)[0].channel
    data = memoryview(bytes(1 << 21))
    sending = receiving = 0.0
    packets = 0
    for _ in range(TRANSFERS):
        began = time.thread_time()
        packets += theirs.send(data) / PACKET
        wire = memoryview(pair.server.data_to_send(pair.now))
        sent = time.thread_time()
        for at in range(0, len(wire), READ):
            pair.client.receive_data(wire[at : at + READ], pair.now)
            mine.read_chunks()
            pair.client.events()
        receiving += time.thread_time() - sent
        sending += sent - began
        pair.server.receive_data(pair.client.data_to_send(pair.now), pair.now)
        pair.server.events()
    return sending / packets, receiving / packets
