"""A long, wide line inside one machine: real TCP whose every segment, handshake included, takes its time.

`tests.interop.delay` carries each packet of a TUN device back after half the round trip. Here the device does
as network cards do and leaves segmentation to the other end (virtio's header before each packet), so that one
read moves up to 64 KiB: the line carries more than the two processors here can encrypt. It stands in a
network namespace of its own, where TCP's buffers may grow as far as such a path needs, and where what the
kernel remembers of one run (ssthresh) does not help or hinder the next.
"""

from __future__ import annotations

import ctypes
import os
import queue
import select
import socket
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from fcntl import ioctl
from pathlib import Path
from typing import Final, Self

from tests.interop.delay import DEVICE, IFF_NO_PI, IFF_TUN, DelayLine
from tests.interop.peers import Target

IFF_VNET_HDR: Final = 0x4000
TUNSETOFFLOAD: Final = 0x400454D0
CHECKSUM, TSO4 = 0x01, 0x02
"""What the device's reader, we, takes upon itself (TUN_F_…): we hand it on, undone."""
HEAD: Final = 10
"""Bytes of struct virtio_net_hdr."""
LARGEST: Final = HEAD + 65_536
SMALL: Final = 2_048
"""Bytes below which a packet is copied, so that its buffer is free again."""
BATCH: Final = 64
NEWNET: Final = 0x40000000
BUFFERS: Final = 128 << 20
"""Bytes to which TCP may let a socket's buffer grow: twice what 100 ms at 600 MB/s hold."""
SETTINGS: Final = {
    "tcp_rmem": f"4096 131072 {BUFFERS}",
    "tcp_wmem": f"4096 16384 {BUFFERS}",
    "tcp_no_metrics_save": "1",
}


def why_not() -> str:
    """Why there can be no line here, or ""."""
    return "" if os.geteuid() == 0 and DEVICE.exists() else "needs root and /dev/net/tun"


@contextmanager
def own_network() -> Iterator[None]:
    """Everything started by this thread meanwhile lives in a network namespace of its own."""
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    if libc.unshare(NEWNET):
        raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWNET)")
    try:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        for name, value in SETTINGS.items():
            Path("/proc/sys/net/ipv4", name).write_text(value, "ascii")
        yield
    finally:
        libc.setns(home, NEWNET)
        os.close(home)


class WideLine(DelayLine):
    """A `DelayLine` for bulk. `lost` counts the packets that did not fit into the device any more."""

    FLAGS = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR

    def __init__(self, round_trip: float = 0.0) -> None:
        super().__init__(round_trip)
        self.lost = 0

    def at(self, target: Target) -> Target:
        """`target`, which listens at `near`, as it is reached through the line."""
        return replace(target, host=self.far)

    def _opened(self) -> None:
        ioctl(self._device, TUNSETOFFLOAD, CHECKSUM | TSO4)
        subprocess.run(["ip", "link", "set", self.name, "txqueuelen", "20000"], check=True)

    def _carry(self) -> None:
        held: deque[tuple[float, memoryview | bytes, bytearray | None]] = deque()
        spare: list[bytearray] = []
        while True:
            wait = max(held[0][0] - time.monotonic(), 0.0) if held else None
            ready, _, _ = select.select([self._device, self._woken], [], [], wait)
            if self._woken in ready:
                return
            for _ in range(BATCH if ready else 0):
                buffer = spare.pop() if spare else bytearray(LARGEST)
                try:
                    size = os.readv(self._device, [buffer])
                except BlockingIOError:
                    spare.append(buffer)
                    break
                if buffer[HEAD] >> 4 != 4:
                    spare.append(buffer)
                    continue
                ends = buffer[HEAD + 12 : HEAD + 20]
                buffer[HEAD + 12 : HEAD + 20] = ends[4:] + ends[:4]
                due = time.monotonic() + self.round_trip / 2
                if size < SMALL:
                    held.append((due, bytes(buffer[:size]), None))
                    spare.append(buffer)
                else:
                    held.append((due, memoryview(buffer)[:size], buffer))
            now = time.monotonic()
            while held and held[0][0] <= now:
                _, packet, used = held.popleft()
                try:
                    os.write(self._device, packet)
                except OSError:
                    self.lost += 1
                if used is not None:
                    spare.append(used)


class Proxy:
    """Without root: a proxy on the loopback that holds what passes for half the round trip.

    TCP's own handshake with it takes no time, so it holds the first bytes for one round trip more. What
    Nagle's algorithm or a delayed acknowledgement would cost on a real line does not show.
    """

    near: Final = "127.0.0.1"

    def __init__(self, round_trip: float = 0.0) -> None:
        self.round_trip = round_trip
        self._undo = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._undo.close()

    def at(self, target: Target) -> Target:
        """`target`, as it is reached through the proxy."""
        listener = self._undo.enter_context(socket.create_server((self.near, 0)))
        self._undo.callback(listener.shutdown, socket.SHUT_RDWR)
        threading.Thread(target=self._serve, args=(listener, target), daemon=True).start()
        return replace(target, port=listener.getsockname()[1])

    def _serve(self, listener: socket.socket, target: Target) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._connect, args=(client, target), daemon=True).start()

    def _connect(self, client: socket.socket, target: Target) -> None:
        time.sleep(1.5 * self.round_trip)
        server = socket.create_connection((target.host, target.port))
        for one, other in ((client, server), (server, client)):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            held: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
            first = one is client  # it has waited already
            for work in (self._take, self._give):
                threading.Thread(target=work, args=(one, other, held, first), daemon=True).start()

    def _take(
        self, one: socket.socket, _: socket.socket, held: queue.SimpleQueue[tuple[float, bytes]], waited: bool
    ) -> None:
        data = b"."
        while data:
            try:
                data = one.recv(1 << 18)
            except OSError:
                data = b""
            held.put((time.monotonic() + (0 if waited else self.round_trip / 2), data))
            waited = False

    def _give(
        self, _: socket.socket, other: socket.socket, held: queue.SimpleQueue[tuple[float, bytes]], __: bool
    ) -> None:
        with suppress(OSError):
            while True:
                due, data = held.get()
                time.sleep(max(due - time.monotonic(), 0.0))
                if not data:
                    break
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)


Line = WideLine | Proxy


@contextmanager
def line() -> Iterator[Line]:
    """The best line that there can be here."""
    if why_not():
        with Proxy() as proxy:
            yield proxy
    else:
        with own_network(), WideLine() as wide:
            yield wide


def carries(seconds: float = 0.1, size: int = 400_000_000) -> float:
    """Bytes a second that plain TCP moves over a line with this round trip, its slow start included."""
    with own_network(), WideLine(seconds) as line, socket.create_server((line.near, 0)) as listener:

        def give() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.sendall(bytes(size))

        giver = threading.Thread(target=give)
        giver.start()
        with socket.create_connection((line.far, listener.getsockname()[1])) as near:
            began, left, buffer = time.perf_counter(), size, bytearray(1 << 20)
            while left:
                left -= near.recv_into(buffer) or left
            took = time.perf_counter() - began
        giver.join()
        return size / took
