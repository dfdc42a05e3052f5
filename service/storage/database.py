"""The connection pool, and the one place where psycopg's errors are translated."""

from __future__ import annotations

import asyncio
import os
import select
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import psycopg
import structlog
from psycopg.errors import ReadOnlySqlTransaction
from psycopg.pq import ConnStatus
from psycopg_pool import AsyncConnectionPool, PoolTimeout, TooManyRequests

from service.cancellation import notice_cancellation
from service.domain.errors import ErrorCode, Rejected
from service.storage.direct import LOST, DirectConnection, DirectPool
from service.storage.fence import FALLEN
from service.use_cases.lease import LeaseLost

_log = structlog.get_logger(__name__)

_LONGEST_USE_S = 8.0
"""The server ends a slow statement itself; a server that has stopped cannot."""
_RECONNECT_S = 5.0
"""The pool doubles its pauses between attempts until then; the next caller starts afresh. With more, a pause
may outlast the outage by far."""

STORAGE_RETRY_AFTER_MS = 1_000
"""What a client is told to wait when the database does not answer."""


_UNAVAILABLE = (
    *LOST,
    psycopg.InterfaceError,
    PoolTimeout,
    TooManyRequests,
    TimeoutError,
)


class StorageFault(Exception):
    """The database refused a statement: a defect, not an outage.

    Names the operation, SQLSTATE and constraint. PostgreSQL's own words are
    left out, and so is the cause: they quote the row, and rows hold messages.
    """

    def __init__(self, operation: str, sqlstate: str | None, constraint: str | None) -> None:
        super().__init__(f"{operation}: SQLSTATE {sqlstate}, constraint {constraint}")
        self.sqlstate = sqlstate


@contextmanager
def translated_errors(operation: str) -> Iterator[None]:
    """Turns "the database cannot do this now" into `Rejected(STORAGE_UNAVAILABLE)`.

    Lost and refused connections, exhausted pools, shutdowns, full disks, read-only
    servers and cancelled statements count; a fence that has fallen is a `LeaseLost`; any
    other refusal becomes a `StorageFault`.
    """
    try:
        yield
    except _UNAVAILABLE as error:
        state = getattr(error, "sqlstate", None)
        _log.warning("storage_unavailable", operation=operation, error=type(error).__name__, sqlstate=state)
        raise Rejected(
            ErrorCode.STORAGE_UNAVAILABLE,
            "the message store does not answer; try again",
            retry_after_ms=STORAGE_RETRY_AFTER_MS,
        ) from error
    except psycopg.Error as error:
        if error.sqlstate == FALLEN:
            raise LeaseLost("another instance has taken it") from None
        raise StorageFault(operation, error.sqlstate, error.diag.constraint_name) from None


_OPTIONS = " ".join(
    f"-c {setting}"
    for setting in (
        "synchronous_commit=on",
        "timezone=UTC",
        "statement_timeout=5000",
        # Ends the statement of a caller that has hung up.
        "client_connection_check_interval=1000",
    )
)

BY_INDEX = " ".join(
    f"-c {setting}"
    for setting in (
        "plan_cache_mode=force_generic_plan",
        "enable_seqscan=off",
        "enable_hashjoin=off",
        "enable_mergejoin=off",
    )
)
"""Planner settings for statements that reach few rows, all of them by index.

Such a statement is planned once for each connection, when its tables may be
nearly empty. A plan that reads a whole table is the best one then, and is kept
while the table grows.
"""


def _is_lost(connection: psycopg.AsyncConnection[Any]) -> bool:
    """Whether the other side, or the network, has ended an idle connection and said so; asks nobody."""
    readable = select.poll()
    try:
        readable.register(connection.pgconn.socket, select.POLLIN)
        while readable.poll(0):
            connection.pgconn.consume_input()
    except psycopg.OperationalError:
        return True
    return False


def _hang_up(connection: psycopg.AsyncConnection[Any]) -> None:
    """Ends a connection under who waits for an answer; cancelled, psycopg would wait ten seconds more."""
    if connection.pgconn.status == ConnStatus.OK:
        # It may have been lost in this moment.
        with suppress(OSError), socket.socket(fileno=os.dup(connection.pgconn.socket)) as shared:
            shared.shutdown(socket.SHUT_RDWR)


class Database:
    """A pool of autocommit connections.

    Every connection asks for `synchronous_commit=on`, whatever the server's
    default is: an acknowledged commit is on disk.
    """

    def __init__(self, url: str, *, size: int = 8, acquire_timeout: float = 2.0) -> None:
        self.size = size
        """Connections of the pool, those that are direct not counted."""
        self._url = url
        self._direct: list[DirectConnection | DirectPool] = []
        self._connect: dict[str, Any] = {
            "options": _OPTIONS,
            "application_name": "messaging",
            "connect_timeout": 5,
            "tcp_user_timeout": 10_000,
        }
        self._pool: AsyncConnectionPool[psycopg.AsyncConnection[Any]] = AsyncConnectionPool(
            url,
            min_size=min(2, size),
            max_size=size,
            timeout=acquire_timeout,
            open=False,
            kwargs={"autocommit": True, "prepare_threshold": 0, **self._connect},
            check=None,
            reconnect_timeout=_RECONNECT_S,
        )

    def direct(self, statements: Mapping[str, str]) -> DirectConnection:
        """A connection beside the pool for these prepared statements, planned `BY_INDEX`.

        It is made when it is used first, and closed with the pool.
        """
        connection = self._unconnected(statements)
        self._direct.append(connection)
        return connection

    def direct_pool(self, statements: Mapping[str, str], size: int) -> DirectPool:
        """Several of these, for statements that many ask for at once."""
        pool = DirectPool([self._unconnected(statements) for _ in range(size)])
        self._direct.append(pool)
        return pool

    def _unconnected(self, statements: Mapping[str, str]) -> DirectConnection:
        connect = self._connect | {"options": f"{_OPTIONS} {BY_INDEX}"}
        return DirectConnection(self._url, statements, connect=connect)

    async def open(self) -> None:
        """Starts the pool; connections are made in the background."""
        await self._pool.open(wait=False)

    async def close(self) -> None:
        """Closes every connection; those of the pool that are in use when they come back."""
        for direct in self._direct:
            direct.close()
        await self._pool.close()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """Lends a connection in autocommit mode.

        Raises `psycopg_pool.PoolTimeout` when none is free in time; one that is
        used for longer than eight seconds is hung up, a `psycopg.OperationalError`.
        `translated_errors` makes both a `Rejected(STORAGE_UNAVAILABLE)`.
        """
        while _is_lost(connection := await self._pool.getconn()):
            await self._pool.putconn(connection)  # Which makes another one in its place.
        limit = asyncio.get_running_loop().call_later(_LONGEST_USE_S, _hang_up, connection)
        try:
            yield connection
        except ReadOnlySqlTransaction:
            # The pool makes another one in its place, which may find another server.
            await connection.close()
            raise
        finally:
            limit.cancel()
            # Autocommit: there is nothing to commit, and the pool itself rolls back what is left open.
            await self._pool.putconn(connection)
            notice_cancellation()

    async def ping(self) -> None:
        """One round trip; raises `Rejected(STORAGE_UNAVAILABLE)` when there is no answer."""
        with translated_errors("ping"):
            async with self.connection() as connection:
                await connection.execute("SELECT 1")
