"""The lease that makes one instance the active one: an advisory lock, and an epoch that it grows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

import psycopg
import structlog

from service.storage.arrays import Packed
from service.storage.direct import LOST, DirectConnection
from service.storage.fence import Fence
from service.use_cases.lease import LeaseLost

_log = structlog.get_logger(__name__)

_STATEMENTS = {
    # No row, where another session has it. Committed, and so on disk, before the new holder does anything.
    "take": """
        WITH lock AS MATERIALIZED (SELECT pg_try_advisory_lock(hashtextextended($1::text, 0)) AS is_ours)
        INSERT INTO lease AS held (name, epoch, acquired_at)
        SELECT $1::text, 1, now() FROM lock WHERE is_ours
        ON CONFLICT (name) DO UPDATE SET epoch = held.epoch + 1, acquired_at = excluded.acquired_at
        RETURNING epoch
    """,
    "renew": "SELECT 1",
}

_LOOK_EVERY_S = 0.25
"""How often a standby looks whether the lease is free, and for a database that does not answer.

It does not wait inside `pg_advisory_lock`: that statement would have a snapshot for as long as it waits,
and PostgreSQL keeps every dead row version, on all tables, that the oldest snapshot could see.
"""

_CONNECT_S = 6.0
"""For a new session, which is five round trips; the server may be a second away."""

_RENEWALS = 3
"""Renewals within the limit; all of them must fail to lose the lease."""

_UNANSWERED = (*LOST, TimeoutError)


class PostgresLease:
    """The `Lease` port on a session-level advisory lock of PostgreSQL 14 or newer.

    The lock goes with the session that holds it: at once when its process dies, and by the server's
    own hand (`idle_session_timeout`) when the holder is stopped or its host is gone and nothing was
    heard of it for `limit_s` seconds. It must reach the server itself or a pooler of sessions; one that
    pools transactions gives every statement another session.
    """

    def __init__(
        self, url: str, *, name: str, limit_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.name = name
        self._url = url
        self._limit_s = limit_s
        self._clock = clock
        self._held_elsewhere = False
        self._is_answered = True
        self._session: _LeaseSession | None = None
        """One that is open and that nobody has asked for anything."""
        milliseconds = round(limit_s * 1_000)
        options = {
            "idle_session_timeout": milliseconds,
            "statement_timeout": milliseconds,
            "synchronous_commit": "on",
            # For the statement of a holder that dies while it runs.
            "client_connection_check_interval": milliseconds,
        }
        self._connect = {
            "options": " ".join(f"-c {name}={value}" for name, value in options.items()),
            "application_name": "messaging lease",
            "connect_timeout": round(_CONNECT_S),
            "tcp_user_timeout": milliseconds,
            "keepalives_idle": 1,
            "keepalives_interval": 1,
            "keepalives_count": 2,
        }

    @property
    def is_held_elsewhere(self) -> bool:
        """See `Lease.is_held_elsewhere`."""
        return self._held_elsewhere

    async def acquire(self) -> PostgresTenure:
        """See `Lease.acquire`."""
        while True:
            await self.until_answered()
            session, self._session = self._session, None
            assert session is not None
            try:
                return await self._wait(session)
            except _UNANSWERED as error:
                session.close()
                self._note_silence(error)
            except BaseException:
                session.close()
                raise
            await asyncio.sleep(_LOOK_EVERY_S)

    async def until_answered(self) -> None:
        """Returns when the server has answered: in a new session, with which `acquire` goes on."""
        while self._session is None or self._session.closed.is_set():
            session = _LeaseSession(self._url, self._connect)
            try:
                async with asyncio.timeout(_CONNECT_S):
                    await session.open()
            except _UNANSWERED as error:
                session.close()
                self._note_silence(error)
                await asyncio.sleep(_LOOK_EVERY_S)
            except BaseException:
                session.close()
                raise
            else:
                self._session = session

    def close(self) -> None:
        """Ends what is left when nobody will `acquire` any more."""
        if self._session is not None:
            self._session.close()

    def _note_silence(self, error: Exception) -> None:
        if self._is_answered:
            _log.warning("lease_unanswered", lease=self.name, error=type(error).__name__)
        self._is_answered = self._held_elsewhere = False

    async def _wait(self, session: _LeaseSession) -> PostgresTenure:
        name = Packed(self.name.encode())
        while True:
            asked_at = self._clock()
            async with asyncio.timeout(self._limit_s):
                taken = await session.execute("take", [name])
            self._is_answered = True
            if taken:
                ((epoch,),) = taken
                self._held_elsewhere = False
                return PostgresTenure(
                    session,
                    Fence(name=self.name, epoch=epoch),
                    limit_s=self._limit_s,
                    clock=self._clock,
                    renewed_at=asked_at,
                    until_answered=self.until_answered,
                )
            self._held_elsewhere = True
            await asyncio.sleep(_LOOK_EVERY_S)


class PostgresTenure:
    """The `Tenure` port: holds the lock by keeping its session."""

    def __init__(
        self,
        session: _LeaseSession,
        fence: Fence,
        *,
        limit_s: float,
        clock: Callable[[], float],
        renewed_at: float,
        until_answered: Callable[[], Awaitable[None]],
    ) -> None:
        self.fence = fence
        """For what is to be committed in this tenure."""
        self._session = session
        self._limit_s = limit_s
        self._clock = clock
        self._renewed_at = renewed_at
        """When the last question was asked that the server has answered: its own count begins later."""
        self._until_answered = until_answered

    @property
    def epoch(self) -> int:
        """See `Tenure.epoch`."""
        return self.fence.epoch

    def demand(self) -> None:
        """See `Tenure.demand`."""
        if self._session.closed.is_set():
            raise LeaseLost("the session that holds it has ended")
        if self._clock() >= self._renewed_at + self._limit_s:
            raise LeaseLost("it was not renewed in time")

    async def hold(self) -> None:
        """See `Tenure.hold`."""
        try:
            await self._renew_for_ever()
        except _UNANSWERED as error:
            reason = type(error).__name__
        _log.warning("lease_uncertain", lease=self.fence.name, epoch=self.epoch, reason=reason)
        self._session.close()
        await self._until_answered()
        raise LeaseLost("the session that held it has ended")

    async def _renew_for_ever(self) -> None:
        """Raises `LeaseLost` where we slept too long, and what happened where the server is lost."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._limit_s / _RENEWALS):
                    await self._session.closed.wait()
            if self._session.closed.is_set():
                raise psycopg.OperationalError("the session has ended")
            # Not asked first: the server may have given the lease away long ago.
            self.demand()
            asked_at = self._clock()
            async with asyncio.timeout(self._renewed_at + self._limit_s - asked_at):
                await self._session.execute("renew", [])
            self._renewed_at = asked_at

    def release(self) -> None:
        """See `Tenure.release`."""
        self._session.close()


class _LeaseSession:
    """One session of the server; when it has ended, no other takes its place unnoticed."""

    def __init__(self, url: str, connect: dict[str, object]) -> None:
        self.closed = asyncio.Event()
        self._connection = DirectConnection(url, _STATEMENTS, connect=connect, on_closed=self.closed.set)

    async def execute(self, statement: str, parameters: Sequence[Packed]) -> list[tuple[Any, ...]]:
        """See `DirectConnection.execute`; raises `psycopg.OperationalError` once the session has ended."""
        if self.closed.is_set():
            raise psycopg.OperationalError("the session has ended")
        return await self._connection.execute(statement, parameters)

    async def open(self) -> None:
        """Begins the session, so that what is asked next takes no longer than its own round trip."""
        await self._connection.open()

    def close(self) -> None:
        """Ends the session, and the server gives up its lock."""
        self._connection.close()
