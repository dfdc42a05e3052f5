"""What users did in a time, counted by `limits`: in Redis for all instances, in memory for this one.

The only module that counts with that library. Its counter is a fixed window, which begins
with the first count under a key: in Redis `messaging:rates:LIMITER/{limit}/{user}/...`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
from limits import RateLimitItem
from limits.aio.storage import MemoryStorage, RedisStorage
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from service.breaker import Breaker, CircuitOpen
from service.cache.metrics import RATE_COUNT_FAILURES
from service.cache.redis_pool import redis_pool

_log = structlog.get_logger(__name__)
_T = TypeVar("_T")

_UNREACHABLE = (RedisConnectionError, RedisTimeoutError, TimeoutError, OSError)
_FAILURES = (RedisError, TimeoutError, OSError)

_TTL_ROUNDING_S = 0.5
"""Redis gives a time to live in whole seconds, rounded: with this it never seems to end too early."""


class RateCounts:
    """Counts under a limit and a name. Redis in trouble is None, never an error.

    `timeout` bounds each question, in seconds, connecting included; after `failures_to_open`
    questions in a row that Redis did not answer none is asked for `recovery` seconds.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 0.1,
        key_prefix: str = "messaging:rates",
        max_connections: int = 8,
        failures_to_open: int = 3,
        recovery: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._timeout = timeout
        self._pool = redis_pool(url, timeout=timeout, max_connections=max_connections)
        self._shared = RedisStorage(
            f"async+{url}",
            implementation="redispy",
            key_prefix=key_prefix,
            connection_pool=self._pool,  # type: ignore[arg-type]  # documented, and not in its annotation
        )
        self._local = MemoryStorage()
        self._breaker = Breaker(
            "redis_rate_counts",
            failures=failures_to_open,
            recovery=recovery,
            probe_time=timeout,
            counts=lambda error: isinstance(error, _UNREACHABLE),
            clock=clock,
        )
        self._failing = False

    async def add_here(self, limit: RateLimitItem, *name: str, count: int) -> int:
        """Adds to this process's count and returns it."""
        return await self._local.incr(limit.key_for(*name), limit.get_expiry(), count)

    async def add_everywhere(self, limit: RateLimitItem, *name: str, count: int) -> int | None:
        """Adds to the count of all instances and returns it; None when Redis did not answer in time."""
        key = limit.key_for(*name)
        return await self._attempt(lambda: self._shared.incr(key, limit.get_expiry(), count))

    async def remaining_everywhere(self, limit: RateLimitItem, *name: str) -> float | None:
        """Seconds until the count of all instances starts anew; None when Redis did not answer in time."""
        ends_at = await self._attempt(lambda: self._shared.get_expiry(limit.key_for(*name)))
        # The library makes a moment by the wall clock of the time left.
        return None if ends_at is None else ends_at - time.time() + _TTL_ROUNDING_S

    async def aclose(self) -> None:
        """Closes all links to Redis."""
        await self._pool.aclose()

    async def _attempt(self, command: Callable[[], Awaitable[_T]]) -> _T | None:
        try:
            with self._breaker.admitted():
                async with asyncio.timeout(self._timeout):
                    result = await command()
        except CircuitOpen:
            RATE_COUNT_FAILURES.labels("circuit_open").inc()
            return None
        except _FAILURES as error:
            reason = "unreachable" if isinstance(error, _UNREACHABLE) else "response"
            RATE_COUNT_FAILURES.labels(reason).inc()
            if not self._failing:
                self._failing = True
                # The kind only: an error's text could hold addresses.
                _log.warning("rate_counts_failing", error=type(error).__name__)
            return None
        if self._failing:
            self._failing = False
            _log.info("rate_counts_working_again")
        return result
