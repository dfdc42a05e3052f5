"""What all instances know of connections, in Redis; the only module that knows how it lies there.

A key is the prefix and both user ids in sorted order with `/` between, which
occurs in no user id, and nothing else. Its value is `1`, `0`, or `?`: changed
just now, do not cache. Every value has an expiry; whatever else is found there
is not ours and is overwritten with `?`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import structlog
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from service.breaker import Breaker, CircuitOpen
from service.cache.connections import SharedAnswer
from service.cache.metrics import LOOKUPS, SHARED_FAILURES
from service.cache.pairs import Pair
from service.cache.redis_pool import redis_pool

_log = structlog.get_logger()
_T = TypeVar("_T")

_CONNECTED, _NOT_CONNECTED, _CHANGED = b"1", b"0", b"?"
_RESULTS = {_CONNECTED: "connected", _NOT_CONNECTED: "not_connected", _CHANGED: "changed"}
_FOREIGN = "foreign"
_NO_TIME_LEFT = (0, -2)
"""PTTL of a key in its last millisecond and of one that came up between the two reads."""
_FAILURES = (RedisError, TimeoutError, OSError)


class RedisConnections:
    """The shared layer of `CachedConnections`. Redis in trouble is a miss, never an error.

    All times are in seconds. `timeout` bounds each operation, connecting
    included, and before it the wait for one of `max_connections`: when many
    new pairs come at once, as after a start, those who wait longer do without
    Redis, which is not at fault. After `failures_to_open` failures in a row
    none is tried for `recovery`. `marker_ttl` must exceed the longest lookup of
    any instance (its deadline and four `timeout`s), because it is what keeps
    an answer from before a change out.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 0.1,
        positive_ttl: float = 60.0,
        negative_ttl: float = 10.0,
        marker_ttl: float = 2.0,
        key_prefix: str = "messaging:connections:",
        max_connections: int = 16,
        failures_to_open: int = 3,
        recovery: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._timeout = timeout
        self._positive_ttl = positive_ttl
        self._negative_ttl = negative_ttl
        self._marker_ttl = marker_ttl
        self._key_prefix = key_prefix
        self._clock = clock
        self._redis: Redis = Redis.from_pool(
            redis_pool(url, timeout=timeout, max_connections=max_connections)
        )
        self._breaker = Breaker(
            "redis_connections",
            failures=failures_to_open,
            recovery=recovery,
            probe_time=timeout,
            counts=lambda error: isinstance(error, _FAILURES),
            clock=clock,
        )
        self._turns = asyncio.Semaphore(max_connections)
        self._failing = False
        self._unmarked: dict[Pair, float] = {}
        """Changed pairs whose mark is not known to be set, oldest first, each
        until any answer from before the change has expired by itself."""

    async def get(self, pair: Pair) -> SharedAnswer | None:
        """What Redis knows of the pair; never from before a `mark_changed` called earlier."""
        self._drop_expired_marks()
        if pair in self._unmarked:
            LOOKUPS.labels("redis", "changed").inc()
            await self.mark_changed(pair)
            return None
        answer, result = self._interpret(await self._attempt("get", lambda: self._read(pair)))
        LOOKUPS.labels("redis", result).inc()
        if result == _FOREIGN:
            await self.mark_changed(pair)
        return answer

    async def put(self, pairs: Sequence[Pair], connected: bool) -> None:
        """Keeps the answer for each whose key holds none, and no mark of a change; one round trip."""
        value, ttl = (_CONNECTED, self._positive_ttl) if connected else (_NOT_CONNECTED, self._negative_ttl)

        async def keep() -> None:
            async with self._redis.pipeline(transaction=False) as pipeline:
                for pair in pairs:
                    pipeline.set(self._key(pair), value, nx=True, px=round(ttl * 1_000))
                await pipeline.execute()

        await self._attempt("put", keep)

    async def mark_changed(self, pair: Pair) -> None:
        """Puts the mark in the place of any answer; `get` is blind to the pair until it is there."""
        self._remember_unmarked(pair)
        marked = await self._attempt(
            "mark", lambda: self._redis.set(self._key(pair), _CHANGED, px=round(self._marker_ttl * 1_000))
        )
        if marked:
            self._unmarked.pop(pair, None)

    async def aclose(self) -> None:
        """Closes all links to Redis."""
        await self._redis.aclose()

    def _key(self, pair: Pair) -> str:
        return f"{self._key_prefix}{pair[0]}/{pair[1]}"

    async def _read(self, pair: Pair) -> tuple[int, bytes | None]:
        """Remaining time and value in one round trip; a value of another type is `b""`.

        The time is read first: should the value change in between, the answer
        is kept for the rest of the older one's time, never for too long.
        """
        key = self._key(pair)
        async with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.pttl(key)
            pipeline.get(key)
            remaining_ms, value = await pipeline.execute(raise_on_error=False)
        for reply in (remaining_ms, value):
            if isinstance(reply, ResponseError) and str(reply).startswith("WRONGTYPE"):
                return -1, b""
            if isinstance(reply, Exception):
                raise reply
        return remaining_ms, value

    @staticmethod
    def _interpret(reply: tuple[int, bytes | None] | None) -> tuple[SharedAnswer | None, str]:
        """The answer in a reply, if there is one, and the result's name in the metrics."""
        if reply is None:
            return None, "unavailable"
        remaining_ms, value = reply
        if value is None or remaining_ms in _NO_TIME_LEFT:
            return None, "miss"
        if remaining_ms < 0 or value not in _RESULTS:
            return None, _FOREIGN
        if value == _CHANGED:
            return None, _RESULTS[value]
        return SharedAnswer(connected=value == _CONNECTED, lifetime=remaining_ms / 1_000), _RESULTS[value]

    async def _attempt(self, operation: str, command: Callable[[], Awaitable[_T]]) -> _T | None:
        """The command's result, or None when Redis did not do it in time."""
        try:
            async with asyncio.timeout(self._timeout):
                await self._turns.acquire()
        except TimeoutError:
            SHARED_FAILURES.labels(operation, "busy").inc()
            return None
        try:
            return await self._ask(operation, command)
        finally:
            self._turns.release()

    async def _ask(self, operation: str, command: Callable[[], Awaitable[_T]]) -> _T | None:
        try:
            with self._breaker.admitted():
                async with asyncio.timeout(self._timeout):
                    result = await command()
        except CircuitOpen:
            SHARED_FAILURES.labels(operation, "circuit_open").inc()
            return None
        except _FAILURES as error:
            SHARED_FAILURES.labels(operation, _reason(error)).inc()
            if not self._failing:
                self._failing = True
                _log.warning("shared_connections_failing", operation=operation, reason=_reason(error))
            return None
        if self._failing:
            self._failing = False
            _log.info("shared_connections_working_again")
        return result

    def _remember_unmarked(self, pair: Pair) -> None:
        self._unmarked.pop(pair, None)
        self._unmarked[pair] = self._clock() + max(self._positive_ttl, self._negative_ttl)

    def _drop_expired_marks(self) -> None:
        now = self._clock()
        while self._unmarked:
            oldest = next(iter(self._unmarked))
            if self._unmarked[oldest] > now:
                return
            del self._unmarked[oldest]


def _reason(error: BaseException) -> str:
    """The kind of a failure, for metrics and logs; its text could hold addresses."""
    if isinstance(error, TimeoutError | RedisTimeoutError):
        return "timeout"
    if isinstance(error, RedisConnectionError | OSError):
        return "connection"
    return "response"
