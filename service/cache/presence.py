"""Who is there, in Redis, shared by all instances; the only module that knows how it lies there.

A user has one hash: `s:{sessionId}` is `{expiry} {state}`, `hidden` whether the
user is invisible, `told` what others were told last, `left` when the latest
session that ended was heard of last; `n:{sessionId}` is there until the session
was told who else is here. The sorted set `due` has every user of
whom something must be done, by when. Times are milliseconds since the epoch,
by the instances' clocks, whose differences a lease dwarfs. All keys carry one
hash tag, so that the scripts also work on a cluster.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeVar

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from service.breaker import Breaker, CircuitOpen
from service.cache.metrics import PRESENCE_FAILURES
from service.cache.presence_scripts import HIDE, INSPECT, REPORT, SETTLE, TAKE_DUE, WELCOME
from service.cache.redis_pool import redis_pool
from service.cancellation import notice_cancellation
from service.domain.ids import UserId
from service.domain.presence import PresenceState, state_of
from service.use_cases.presence_ports import Noted, Outlook, PresenceUnavailable, SessionReport

_log = structlog.get_logger(__name__)
_T = TypeVar("_T")

MAX_SESSIONS = 32
"""Sessions of one user at once; one more takes the place of the one heard of longest ago."""

_FAILURES = (RedisError, TimeoutError, OSError)


class RedisPresence:
    """The `PresenceStore` port on Redis. Times are in seconds.

    `lease` is how long a report holds, `retry` after how long an instance's
    unfinished work falls to any other. `timeout` bounds each operation; after
    three failures in a row none is tried for `recovery`.
    """

    def __init__(
        self,
        url: str,
        *,
        lease: float,
        retry: float = 5.0,
        timeout: float = 0.5,
        recovery: float = 1.0,
        key_prefix: str = "messaging:{presence}:",
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._lease_ms = round(lease * 1_000)
        self._retry_ms = round(retry * 1_000)
        self._timeout = timeout
        self._key_prefix = key_prefix
        self._due_key = f"{key_prefix}due"
        self._wall_clock = wall_clock
        self._redis: Redis = Redis.from_pool(redis_pool(url, timeout=timeout, max_connections=8))
        scripts = (REPORT, TAKE_DUE, INSPECT, HIDE, WELCOME, SETTLE)
        self._report, self._take_due, self._inspect, self._hide, self._welcome, self._settle = (
            self._redis.register_script(script) for script in scripts
        )
        self._breaker = Breaker(
            "redis_presence",
            failures=3,
            recovery=recovery,
            probe_time=timeout,
            counts=lambda error: isinstance(error, _FAILURES),
        )
        self._failing = False

    async def report(self, reports: Sequence[SessionReport]) -> Sequence[Noted]:
        """See `PresenceStore.report`: all in one round trip."""
        now = self._now()

        async def run() -> list[Any]:
            async with self._redis.pipeline(transaction=False) as pipeline:
                for report in reports:
                    arguments = (*self._frame(report.user_id, now), report.session_id, report.state.value)
                    await self._report(self._keys(report.user_id), (*arguments, MAX_SESSIONS), pipeline)
                return list(await pipeline.execute())

        return [
            Noted(state=PresenceState(state.decode()), is_newcomer=bool(is_newcomer), is_told=bool(is_told))
            for state, is_newcomer, is_told in await self._attempt("report", run)
        ]

    async def take_due(self, limit: int) -> Sequence[UserId]:
        """See `PresenceStore.take_due`."""
        now = self._now()
        users = await self._attempt(
            "take_due", lambda: self._take_due([self._due_key], [now, now + self._retry_ms, limit])
        )
        return [UserId(user.decode()) for user in users]

    async def inspect(self, user: UserId, *, was_shown: bool) -> Outlook:
        """See `PresenceStore.inspect`."""
        arguments = (*self._frame(user, self._now()), int(was_shown))
        real, hidden, untold, left = await self._attempt(
            "inspect", lambda: self._inspect(self._keys(user), arguments)
        )
        return Outlook(
            real=PresenceState(real.decode()),
            is_hidden=_hidden(hidden),
            untold=PresenceState(untold.decode()) if untold else None,
            left_at=_moment(left),
        )

    async def hide(self, user: UserId, hidden: bool) -> None:
        """See `PresenceStore.hide`."""
        arguments = (*self._frame(user, self._now()), int(hidden))
        await self._attempt("hide", lambda: self._hide(self._keys(user), arguments))

    async def welcome(self, user: UserId, sessions: Collection[str]) -> None:
        """See `PresenceStore.welcome`."""
        arguments = (*self._frame(user, self._now()), *sessions)
        await self._attempt("welcome", lambda: self._welcome(self._keys(user), arguments))

    async def settle(self, user: UserId, told: PresenceState) -> None:
        """See `PresenceStore.settle`."""
        arguments = (*self._frame(user, self._now()), told.value)
        await self._attempt("settle", lambda: self._settle(self._keys(user), arguments))

    async def look_up(self, users: Sequence[UserId]) -> Mapping[UserId, Outlook]:
        """See `PresenceStore.look_up`: all in one round trip."""
        now = self._now()

        async def run() -> list[dict[bytes, bytes]]:
            async with self._redis.pipeline(transaction=False) as pipeline:
                for user in users:
                    pipeline.hgetall(self._keys(user)[0])
                return list(await pipeline.execute())

        found = await self._attempt("look_up", run) if users else []
        return {user: _outlook(fields, now) for user, fields in zip(users, found, strict=True)}

    async def aclose(self) -> None:
        """Closes all links to Redis."""
        await self._redis.aclose()

    def _now(self) -> int:
        return int(self._wall_clock() * 1_000)

    def _keys(self, user: UserId) -> list[str]:
        return [f"{self._key_prefix}user:{user}", self._due_key]

    def _frame(self, user: UserId, now: int) -> tuple[str | int, ...]:
        """What every script on one user is told first."""
        return user, now, self._lease_ms, self._retry_ms

    async def _attempt(self, operation: str, command: Callable[[], Awaitable[_T]]) -> _T:
        """The command's result; raises `PresenceUnavailable`, and logs once a change."""
        try:
            with self._breaker.admitted():
                async with asyncio.timeout(self._timeout):
                    try:
                        result = await command()
                    finally:
                        notice_cancellation()
        except CircuitOpen as error:
            raise PresenceUnavailable from error
        except _FAILURES as error:
            PRESENCE_FAILURES.labels(operation).inc()
            if not self._failing:
                self._failing = True
                # The kind only: an error's text could hold addresses.
                _log.warning("presence_store_failing", operation=operation, error=type(error).__name__)
            raise PresenceUnavailable from error
        if self._failing:
            self._failing = False
            _log.info("presence_store_working_again")
        return result


def _outlook(fields: Mapping[bytes, bytes], now: int) -> Outlook:
    """What a user's hash says at `now`."""
    sessions = []
    for name, value in fields.items():
        if name.startswith(b"s:"):
            expiry, _, state = value.decode().partition(" ")
            if int(expiry) > now:
                sessions.append(PresenceState(state))
    outlook = Outlook(real=state_of(sessions), is_hidden=_hidden(fields.get(b"hidden", b"")))
    told = fields.get(b"told", b"offline").decode()
    return outlook if told == outlook.visible.value else replace(outlook, untold=outlook.visible)


def _hidden(value: bytes) -> bool | None:
    return value == b"1" if value else None


def _moment(milliseconds: bytes) -> datetime | None:
    return datetime.fromtimestamp(int(milliseconds) / 1_000, UTC) if milliseconds else None
