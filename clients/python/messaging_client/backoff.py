"""How long to wait before trying again: exponential, bounded, with jitter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

_LARGEST_EXPONENT = 32
"""Enough to reach any maximum; a client that retries for weeks must not overflow a float."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Delays that double from `initial` up to `maximum` (seconds).

    Half of each delay is random, so that clients which lost the same broker
    do not come back at the same moment.
    """

    initial: float
    maximum: float

    def __post_init__(self) -> None:
        if not 0 < self.initial <= self.maximum:
            raise ValueError("a back-off needs 0 < initial <= maximum")

    def delay(self, attempt: int, jitter: Callable[[], float], *, at_least: float = 0.0) -> float:
        """Seconds to wait after failed attempt number `attempt` (0, 1, 2, ...).

        `jitter` returns a number in [0, 1). `at_least` is what the other side
        asked for: the delay is never shorter, and is still spread out.
        """
        full = min(self.maximum, self.initial * 2.0 ** min(attempt, _LARGEST_EXPONENT))
        return max(at_least, full / 2) + jitter() * full / 2
