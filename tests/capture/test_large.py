"""A capture of any size is read in the memory of a small one (`make gigabyte` does it with 1 GB)."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.bench.captures import OURS, measure, write

SIZE = 80_000_000


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "large.pcapng"
    used = {}
    for size in (SIZE // 8, SIZE):
        write(path, size)
        code = OURS["records, decrypted"].replace("PATH", repr(str(path)))
        used[size] = measure([sys.executable, "-c", code])[1]
    assert used[SIZE] - used[SIZE // 8] < SIZE / 1e6 / 3
