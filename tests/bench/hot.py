"""The data path in memory: what one 32 KiB packet costs above its cipher, and what watching costs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from glasshell.crypto.registry import Kind, find, make_opener, make_sealer
from glasshell.events import ChannelOffered
from glasshell.messages.connection import SessionOpen
from glasshell.observe.hub import Hub
from glasshell.policy import Policy
from glasshell.testing.pair import Pair, Side
from glasshell.views.jsonl import JsonLines
from glasshell.views.timeline import Timeline
from glasshell.wire import Secret

PACKET = 32 * 1024
TRANSFERS = 40
ROUNDS = 5
READ = 256 * 1024


@dataclass
class Cost:
    """Microseconds for one packet: sending and receiving, and sealing and opening alone."""

    send: float
    receive: float
    seal: float
    open: float


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
    count, wire = 400, len(packet) + sealer.tag_size
    out = bytearray(count * wire)
    view = memoryview(out)
    began = time.perf_counter()
    for seq in range(count):
        sealer.seal_into(seq, packet, view[seq * wire : (seq + 1) * wire])
    sealed = time.perf_counter()
    at = 0
    for seq in range(count):
        length = opener.packet_length(seq, out, at)
        opener.open(seq, out, at, length)
        at += 4 + length + opener.tag_size
    return (sealed - began) / count, (time.perf_counter() - sealed) / count


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
        began = time.perf_counter()
        packets += theirs.send(data) / PACKET
        wire = memoryview(pair.server.data_to_send(pair.now))
        sent = time.perf_counter()
        for at in range(0, len(wire), READ):
            pair.client.receive_data(wire[at : at + READ], pair.now)
            mine.read_chunks()
            pair.client.events()
        receiving += time.perf_counter() - sent
        sending += sent - began
        pair.server.receive_data(pair.client.data_to_send(pair.now), pair.now)
        pair.server.events()
    return sending / packets, receiving / packets


def measure(name: str) -> Cost:
    """The medians of some rounds."""
    rounds = [(*transfer(name), *primitives(name)) for _ in range(ROUNDS + 1)][1:]
    return Cost(*(statistics.median(column) * 1e6 for column in zip(*rounds, strict=True)))


def watching() -> dict[str, float]:
    """How many times as long receiving takes with one sink, AES-GCM."""
    name = Policy.client().ciphers[0]
    sinks: dict[str, Callable[[], Hub]] = {
        "timeline": lambda: Hub(Timeline()),
        "JSON lines": lambda: Hub(JsonLines(lambda line: None)),
    }
    found: dict[str, list[float]] = {each: [] for each in sinks}
    for _ in range(ROUNDS):
        plain = transfer(name)[1]
        for each, hub in sinks.items():
            found[each].append(transfer(name, hub)[1] / plain)
    return {each: statistics.median(ratios) for each, ratios in found.items()}
