"""The circuit breaker around a remote that may be down; the only user of `circuitbreaker`.

Five things differ from the library's class, each because its calls here are
concurrent and asynchronous: the clock is injected, the time left has no
rounding to seconds, one call at a time probes a half-open circuit, calls that
fail late do not prolong the open time, and a cancelled call proves nothing
(the library would take it for a success and close the circuit).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Literal

import structlog
from circuitbreaker import STATE_HALF_OPEN, STATE_OPEN, CircuitBreaker  # type: ignore[import-untyped]
from prometheus_client import Gauge

_log = structlog.get_logger()

CIRCUIT_OPEN = Gauge(
    "messaging_circuit_open", "1 while the circuit to this remote is open or half open, else 0", ["circuit"]
)


class CircuitOpen(Exception):
    """The call was not made; `retry_after` is the time until one may be, in seconds (over 0)."""

    def __init__(self, circuit: str, retry_after: float) -> None:
        super().__init__(f"circuit {circuit} is open")
        self.retry_after = retry_after


class Breaker(CircuitBreaker):  # type: ignore[misc]
    """Opens after `failures` failures in a row and lets one probe through after `recovery` seconds.

    `counts` says which errors are failures; any other error is an answer and
    closes the circuit like a success. `probe_time` is how long a probe takes
    at most, in seconds: what callers are told to wait while one is under way.
    """

    def __init__(
        self,
        name: str,
        *,
        failures: int,
        recovery: float,
        probe_time: float,
        counts: Callable[[BaseException], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(
            failure_threshold=failures,
            recovery_timeout=recovery,
            expected_exception=lambda _, error: counts(error),
            name=name,
        )
        self._failures = failures
        self._recovery = recovery
        self._probe_time = probe_time
        self._clock = clock
        self._opened_at = 0.0
        self._probing = False
        self._gauge = CIRCUIT_OPEN.labels(name)
        self._gauge.set(0)

    @property
    def open_remaining(self) -> float:
        """Seconds until an open circuit may be probed; 0 or less when it may."""
        return self._opened_at + self._recovery - self._clock()

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Judges the calls made inside by whether and how they raise.

        Raises `CircuitOpen` instead of entering while the circuit is open, or
        half open with another call probing it.
        """
        state = self.state
        if state == STATE_OPEN:
            raise CircuitOpen(self.name, self.open_remaining)
        is_probe = state == STATE_HALF_OPEN
        if is_probe and self._probing:
            raise CircuitOpen(self.name, self._probe_time)
        self._probing = self._probing or is_probe
        try:
            with self:
                yield
        finally:
            if is_probe:
                self._probing = False

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> Literal[False]:
        """Judges one call; every exception goes on to the caller."""
        if exc_type is not None and not issubclass(exc_type, Exception):
            return False
        before = self.state
        super().__exit__(exc_type, exc_value, traceback)
        if self.failure_count >= self._failures and before != STATE_OPEN:
            self._opened_at = self._clock()
        self._report(was_closed=before not in (STATE_OPEN, STATE_HALF_OPEN))
        return False

    def _report(self, *, was_closed: bool) -> None:
        """Logs and shows the changes between open and closed, once each."""
        is_closed = self.failure_count < self._failures
        if is_closed == was_closed:
            return
        self._gauge.set(0 if is_closed else 1)
        if is_closed:
            _log.info("circuit_closed", circuit=self.name)
        else:
            _log.warning("circuit_opened", circuit=self.name, failures=self.failure_count)
