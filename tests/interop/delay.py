"""A slow line inside one machine: what is sent to `DelayLine.far` comes back to `DelayLine.near`, later.

A TUN device carries a network of two addresses. Each packet that the kernel sends into it is held for half
the round trip, its source and destination are exchanged (which leaves every checksum right, for they are
sums), and it is given back: a server that listens at `near` is reached at `far` by real TCP whose every
segment, handshake included, takes its time.
"""

from __future__ import annotations

import fcntl
import os
import select
import struct
import subprocess
import threading
import time
from collections import deque
from pathlib import Path
from typing import Final, Self

from tests.needs import absent

DEVICE: Final = Path("/dev/net/tun")
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
NETWORKS: Final = "198.18.{}.{}"
"""Of the block for measurements (RFC 2544): each device has four addresses of it."""


class DelayLine:
    """A context manager; `round_trip` is in seconds and may be changed between connections.

    `name` is the device's, `near` and `far` are its two addresses: several lines may be open at once. A
    connection passes it twice, on its way out and on its way back. The next `drop` packets are lost.
    """

    FLAGS = IFF_TUN | IFF_NO_PI

    def __init__(self, round_trip: float = 0.0) -> None:
        self.round_trip = round_trip
        self.drop = 0

    def __enter__(self) -> Self:
        if os.geteuid() != 0 or not DEVICE.exists():
            absent("a delay line needs root and /dev/net/tun")
        self._device = os.open(DEVICE, os.O_RDWR | os.O_NONBLOCK)
        try:
            request = struct.pack("16sH22x", b"gsdelay%d", self.FLAGS)
            self.name = fcntl.ioctl(self._device, TUNSETIFF, request)[:16].rstrip(b"\0").decode()
            number = int(self.name.removeprefix("gsdelay"))
            self.near, self.far = (
                NETWORKS.format(number // 64 % 256, number % 64 * 4 + place) for place in (1, 2)
            )
            for words in (f"address add {self.near}/30 dev {self.name}", f"link set {self.name} up"):
                subprocess.run(["ip", *words.split()], check=True, capture_output=True)
            self._opened()
        except (OSError, subprocess.CalledProcessError) as error:
            os.close(self._device)
            absent(f"a delay line needs a TUN device: {error}")
        self._woken, self._wake = os.pipe()
        self._thread = threading.Thread(target=self._carry)
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        os.close(self._wake)
        self._thread.join()
        os.close(self._woken)
        os.close(self._device)

    def _opened(self) -> None:
        """The device is up: the place for what a subclass asks of it."""

    def _carry(self) -> None:
        held: deque[tuple[float, bytes]] = deque()
        while True:
            wait = max(held[0][0] - time.monotonic(), 0.0) if held else None
            ready, _, _ = select.select([self._device, self._woken], [], [], wait)
            if self._woken in ready:
                return
            if self._device in ready:
                packet = os.read(self._device, 65536)
                if packet[0] >> 4 != 4:
                    continue
                if self.drop:
                    self.drop -= 1
                else:
                    back = packet[:12] + packet[16:20] + packet[12:16] + packet[20:]
                    held.append((time.monotonic() + self.round_trip / 2, back))
            while held and held[0][0] <= time.monotonic():
                os.write(self._device, held.popleft()[1])
