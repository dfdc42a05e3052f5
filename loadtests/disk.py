"""How long this machine's disk takes to keep something: a bound for every durable message."""

from __future__ import annotations

import os
import time
from pathlib import Path

from loadtests.results import percentile

_BLOCK = b"x" * 8_192
_FILE_BLOCKS = 2_048


def sync_times(folder: Path, *, rate: float, seconds: float) -> dict[str, float]:
    """Median and 99th percentile, in milliseconds, of writing a block and syncing it `rate` times a second.

    The file has its full size before, as PostgreSQL's log segments have.
    """
    path = folder / "disk-sync"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    times: list[float] = []
    try:
        os.write(descriptor, _BLOCK * _FILE_BLOCKS)
        os.fsync(descriptor)
        started = time.perf_counter()
        while (now := time.perf_counter()) - started < seconds:
            os.pwrite(descriptor, _BLOCK, len(times) % _FILE_BLOCKS * len(_BLOCK))
            os.fdatasync(descriptor)
            times.append(time.perf_counter() - now)
            time.sleep(max(0.0, len(times) / rate - (time.perf_counter() - started)))
    finally:
        os.close(descriptor)
        path.unlink()
    times.sort()
    return {
        "disk_sync_p50_ms": percentile(times, 0.5) * 1_000,
        "disk_sync_p99_ms": percentile(times, 0.99) * 1_000,
    }
