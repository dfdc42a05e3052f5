"""A connection for a few prepared statements that are run again and again, as cheaply as libpq allows.

psycopg's cursors wait for the socket to take a query and then for the answer, and register
and drop the socket with the event loop each time. Here it stays registered and a query is
written at once. That is a third of a commit's time when messages come one by one.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import psycopg
from psycopg.adapt import Transformer
from psycopg.errors import ReadOnlySqlTransaction
from psycopg.pq import ExecStatus, Format
from psycopg.pq.abc import PGconn, PGresult

from service.cancellation import notice_cancellation
from service.storage.arrays import Packed, PackedArray

_ENDS_BY_ITSELF_S = 0.5
"""So long a statement whose caller is gone may go on: to end it costs the server a connection, and several
round trips, where its answer is one away."""
_LONGEST_USE_S = 8.0
"""The server ends a slow statement itself; a server that has stopped cannot."""
_QUICK_S = 0.005
"""What a statement takes that finds its rows in memory, with as much again for a busy machine."""

LOST = (psycopg.OperationalError, ReadOnlySqlTransaction)
"""After these errors a connection is of no use. One to a server that only reads is one to a standby, which a
new connection may not reach any more, or to a server whose operator has no room left."""

Parameter = Packed | PackedArray


class DirectConnection:
    """Runs prepared statements, one after the other; connects when it must."""

    def __init__(
        self,
        url: str,
        statements: Mapping[str, str],
        *,
        connect: Mapping[str, Any],
        on_closed: Callable[[], None] = lambda: None,
    ) -> None:
        """`statements` are SQL with `$1`, `$2`, ... by name; `connect` is for psycopg.

        `on_closed` hears at once when a connection is lost or closed.
        """
        self._url = url
        self._statements = statements
        self._connect = connect
        self._on_closed = on_closed
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._opening: asyncio.Task[psycopg.AsyncConnection[Any]] | None = None
        """Goes on when its caller goes away: the next one needs the connection, too."""
        self._socket = -1
        """Kept here: libpq forgets the socket of a connection that it finds lost."""
        self._trouble = select.poll()
        """Tells of what befell the socket, whatever there is to read."""
        self._turn = asyncio.Lock()
        self._free = asyncio.Event()
        """Whether no answer is outstanding; one may be whose caller is gone."""
        self._free.set()
        self._asked_at = 0.0
        self._limit: asyncio.TimerHandle | None = None
        """Looks whether the answer is late; set once for all statements that are answered before it ends."""
        self._ending: asyncio.Task[None] | None = None
        """Waits for an answer whose caller is gone; what is asked next comes after it."""
        self._answer: asyncio.Future[PGresult] | None = None
        self._result: PGresult | None = None
        self._transformer = Transformer()
        """Of the connection; kept, because it remembers how a type is read."""

    @property
    def owes_an_answer(self) -> bool:
        """Whether a statement is under way, be its caller gone or not."""
        return not self._free.is_set()

    async def open(self) -> None:
        """Connects now and not with the first statement; raises what `execute` does when that fails."""
        async with self._turn:
            await self._connected()

    async def execute(
        self,
        statement: str,
        parameters: Sequence[Parameter],
        make_row: Callable[[Sequence[Any]], Any] = tuple,
    ) -> list[Any]:
        """All rows of the statement of this name, which is a transaction of its own.

        Raises `psycopg.Error` when the server refuses or is lost, and `TimeoutError` when it does not
        answer within eight seconds; what became of the statement is not known then, nor when its caller
        is cancelled. Then the next statement waits for the answer that nobody wants any more.
        """
        async with self._turn:
            try:
                if self._ending is not None:
                    await asyncio.wait([self._ending])
                    self._ending = None
                connection = await self._connected()
                result = await self._run(connection, statement, parameters)
                if result.status != ExecStatus.TUPLES_OK:
                    raise psycopg.errors.error_from_result(result)
            except LOST:
                self.close()
                notice_cancellation()
                raise
            self._transformer.set_pgresult(result)
            return self._transformer.load_rows(0, result.ntuples, make_row)

    async def _end(self, connection: psycopg.AsyncConnection[Any]) -> None:
        """Waits for an answer whose caller is gone, and asks the server to end what takes long.

        A connection that owes it for too long is given up.
        """
        try:
            async with asyncio.timeout_at(self._asked_at + _LONGEST_USE_S):
                with suppress(TimeoutError):
                    async with asyncio.timeout(_ENDS_BY_ITSELF_S):
                        await self._free.wait()
                if not self._free.is_set():
                    await connection.cancel_safe(timeout=_LONGEST_USE_S)
                    await self._free.wait()
        except (TimeoutError, psycopg.Error):
            self.close()

    def close(self) -> None:
        """Closes the connection, under who waits for an answer, too; `execute` makes a new one."""
        if self._opening is not None:
            self._opening.cancel()
        self._fail(psycopg.OperationalError("the connection was closed"))

    def close_if_late(self) -> None:
        """Closes the connection if an answer is overdue: whoever asks next would wait for that."""
        if self.owes_an_answer and asyncio.get_running_loop().time() > self._asked_at + _ENDS_BY_ITSELF_S:
            self.close()

    def _fail(self, error: Exception) -> None:
        """Gives the connection up: if it is lost, its socket would stay readable for good."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)
        connection, self._connection = self._connection, None
        if connection is not None:
            loop = asyncio.get_running_loop()
            self._trouble.unregister(self._socket)
            loop.remove_reader(self._socket)
            loop.remove_writer(self._socket)
            connection.pgconn.finish()
            self._free.set()
            if self._limit is not None:
                self._limit.cancel()
                self._limit = None
            self._on_closed()

    async def _connected(self) -> psycopg.AsyncConnection[Any]:
        if self._connection is not None:
            return self._connection
        opening = self._opening
        if opening is None:
            opening = self._opening = asyncio.create_task(self._open(), name="open-connection")
            opening.add_done_callback(self._on_opened)
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            if opening.cancelled():
                notice_cancellation()
                raise psycopg.OperationalError("the connection was closed") from None
            raise

    def _on_opened(self, opening: asyncio.Task[psycopg.AsyncConnection[Any]]) -> None:
        if self._opening is opening:
            self._opening = None
        if not opening.cancelled():
            # Whoever waits raises it; nobody may.
            opening.exception()

    async def _open(self) -> psycopg.AsyncConnection[Any]:
        # All at once: each round trip counts where the server is far away.
        prepare = ";".join(f"PREPARE {name} AS {text}" for name, text in self._statements.items())
        async with asyncio.timeout(_LONGEST_USE_S):
            connection = await psycopg.AsyncConnection.connect(self._url, autocommit=True, **self._connect)
            try:
                await connection.execute(prepare.encode())
                notice_cancellation()
            except BaseException:
                await connection.close()
                raise
        self._socket = connection.pgconn.socket
        self._trouble.register(self._socket, select.POLLERR)
        asyncio.get_running_loop().add_reader(self._socket, self._on_readable, connection.pgconn)
        self._connection, self._transformer = connection, Transformer(connection)
        return connection

    async def _run(
        self, connection: psycopg.AsyncConnection[Any], statement: str, parameters: Sequence[Parameter]
    ) -> PGresult:
        pgconn = connection.pgconn
        loop = asyncio.get_running_loop()
        self._answer, self._result, self._asked_at = loop.create_future(), None, loop.time()
        self._free.clear()
        if self._limit is None:
            self._limit = loop.call_at(self._asked_at + _LONGEST_USE_S, self._look_at_the_time)
        try:
            pgconn.send_query_prepared(
                statement.encode(),
                [parameter.data for parameter in parameters],
                [Format.BINARY] * len(parameters),
                Format.BINARY,
            )
            self._write_on(pgconn)
            return await self._answer
        except (asyncio.CancelledError, TimeoutError):
            self._ending = asyncio.create_task(self._end(connection), name="end-statement")
            raise
        finally:
            self._answer = None

    def _look_at_the_time(self) -> None:
        self._limit = None
        if self._answer is None or self._answer.done():
            return
        loop, latest = asyncio.get_running_loop(), self._asked_at + _LONGEST_USE_S
        if loop.time() < latest:
            self._limit = loop.call_at(latest, self._look_at_the_time)
        else:
            self._answer.set_exception(TimeoutError("no answer from the database"))

    def _write_on(self, pgconn: PGconn) -> None:
        """Writes what is left of the query, now and whenever the socket takes more."""
        if pgconn.flush():
            asyncio.get_running_loop().add_writer(self._socket, self._on_writable, pgconn)

    def _on_writable(self, pgconn: PGconn) -> None:
        asyncio.get_running_loop().remove_writer(self._socket)
        try:
            self._write_on(pgconn)
        except psycopg.OperationalError as error:
            self._fail(error)

    def _on_readable(self, pgconn: PGconn) -> None:
        try:
            pgconn.consume_input()
            while True:
                if pgconn.is_busy():
                    if not self._trouble.poll(0):
                        return
                    # Reset behind a part of an answer: libuv, which tells of that once, no longer watches it.
                    pgconn.consume_input()
                    continue
                result = pgconn.get_result()
                if result is None:
                    # The whole answer is here, or there was no question.
                    self._free.set()
                    if self._answer is not None and not self._answer.done() and self._result is not None:
                        self._answer.set_result(self._result)
                    return
                self._result = result
        except psycopg.OperationalError as error:
            self._fail(error)


class DirectPool:
    """Several connections for the same statements, of which one is used while all statements are quick.

    More at once only let more of them wait for a processor. One that is not over within five milliseconds
    waits for the disk or a lock: the next one begins beside it, on another connection if one is free.
    """

    def __init__(self, connections: Sequence[DirectConnection]) -> None:
        self._all = connections
        self._free = list(connections)
        """The one used last is the next."""
        self._turn = asyncio.Lock()
        self._in_turn: DirectConnection | None = None
        self._is_late = False
        """Whether the statement in turn only goes on holding up the others because no connection is free."""

    async def execute(
        self,
        statement: str,
        parameters: Sequence[Parameter],
        make_row: Callable[[Sequence[Any]], Any] = tuple,
    ) -> list[Any]:
        """See `DirectConnection.execute`; statements begin in the order of the calls."""
        await self._turn.acquire()
        connection = self._in_turn = self._free.pop()
        late = asyncio.get_running_loop().call_later(_QUICK_S, self._end_slow_turn, connection)
        try:
            return await connection.execute(statement, parameters, make_row)
        finally:
            late.cancel()
            # One that owes an answer to a caller who is gone is the last to be used again.
            self._free.insert(0 if connection.owes_an_answer else len(self._free), connection)
            if self._in_turn is connection or self._is_late:
                self._end_turn()

    def close(self) -> None:
        """See `DirectConnection.close`."""
        for connection in self._all:
            connection.close()

    def _end_slow_turn(self, connection: DirectConnection) -> None:
        if self._in_turn is connection:
            if self._free:
                self._end_turn()
            else:
                self._is_late = True

    def _end_turn(self) -> None:
        self._in_turn, self._is_late = None, False
        self._turn.release()
