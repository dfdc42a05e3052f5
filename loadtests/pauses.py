"""How often this machine stops a process that has work: a bound for every tail latency."""

from __future__ import annotations

import time

_LEAST_S = 0.001


def pauses(seconds: float) -> dict[str, float]:
    """Pauses of a millisecond or more in a second of reading the clock, and the longest one.

    A process that never waits should have none. On a virtual machine its host gives the processor to others
    meanwhile, which no other figure shows.
    """
    count, longest = 0, 0.0
    started = last = time.perf_counter()
    while last - started < seconds:
        now = time.perf_counter()
        if now - last >= _LEAST_S:
            count += 1
            longest = max(longest, now - last)
        last = now
    return {"machine_pauses_per_second": count / seconds, "longest_pause_ms": longest * 1_000}
