"""The directly driven connection, against a real server that refuses, hangs and goes away."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Queue
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest
import pytest_asyncio
import uvloop

from devstack.ports import free_port
from devstack.postgresql import PostgreSQLServer
from service.storage import direct
from service.storage.arrays import IntArray, Packed, TextArray
from service.storage.direct import DirectConnection
from tests.faults.proxy import Direction, FaultProxy
from tests.integration.storage.direct_statements import STATEMENTS, echo


@pytest_asyncio.fixture
async def connection(database_url: str) -> AsyncIterator[DirectConnection]:
    made = DirectConnection(database_url, STATEMENTS, connect={})
    yield made
    made.close()


async def backend(connection: DirectConnection) -> int:
    ((process_id,),) = await connection.execute("whoami", [])
    return int(process_id)


async def begin_to_sleep(
    connection: DirectConnection, seconds: bytes
) -> asyncio.Task[list[tuple[object, ...]]]:
    """A caller whose statement the server has."""
    sleeping = asyncio.create_task(connection.execute("sleep", [Packed(seconds)]))
    await asyncio.sleep(0)
    return sleeping


def terminate(database_url: str, process_id: int) -> None:
    with psycopg.connect(database_url, autocommit=True) as killer:
        killer.execute("SELECT pg_terminate_backend(%s, 5000)", (process_id,))


async def test_all_callers_get_their_own_answer(connection: DirectConnection) -> None:
    words = [f"word {number}" for number in range(50)]
    assert await asyncio.gather(*(echo(connection, word) for word in words)) == words


async def test_what_does_not_fit_into_the_socket_at_once_is_written_in_parts(
    connection: DirectConnection,
) -> None:
    texts = ["x" * 200_000 for _ in range(100)]
    rows = await connection.execute("lengths", [TextArray(texts)])
    assert rows == [(200_000,)] * 100


async def test_only_an_overdue_answer_costs_the_connection(
    connection: DirectConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await backend(connection)
    connection.close_if_late()
    sleeping = await begin_to_sleep(connection, b"0.01")
    connection.close_if_late()
    await sleeping
    assert await backend(connection) == before
    monkeypatch.setattr(direct, "_ENDS_BY_ITSELF_S", 0.0)
    sleeping = await begin_to_sleep(connection, b"30")
    connection.close_if_late()
    with pytest.raises(psycopg.OperationalError, match="closed"):
        await sleeping
    assert await backend(connection) != before


@pytest.mark.parametrize("part_bytes", [100, 1_063], ids=["in-its-row", "in-its-last-packet"])
def test_a_reset_behind_a_part_of_an_answer_is_noticed_at_once(database_url: str, part_bytes: int) -> None:
    """Both are found in the same turn of the loop, and libuv tells of such a socket only once."""
    port = urlsplit(database_url).port
    assert port is not None
    with fault_proxy_in_a_thread(port) as (proxy, call):
        connection = DirectConnection(
            database_url.replace(f":{port}/", f":{proxy.listen_port}/"), STATEMENTS, connect={}
        )

        async def reset_in_the_middle() -> None:
            assert await echo(connection, "before") == "before"
            call(lambda: proxy.reset_in(part_bytes, Direction.TO_CLIENT))
            statement = asyncio.create_task(echo(connection, "x" * 1_000))
            # The question is out after one turn; the loop stands still until the reset is there, too.
            await asyncio.sleep(0)
            wait_for(lambda: not proxy.open_connections)
            async with asyncio.timeout(direct._LONGEST_USE_S / 2):
                with pytest.raises(psycopg.OperationalError):
                    await statement
            assert await echo(connection, "after") == "after"
            connection.close()

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(reset_in_the_middle())


@contextmanager
def fault_proxy_in_a_thread(port: int) -> Iterator[tuple[FaultProxy, Callable[[Callable[[], None]], None]]]:
    """The proxy has a loop of its own; the second value runs something there, and returns when it is done."""
    proxy, loops = FaultProxy(port), Queue[asyncio.AbstractEventLoop]()
    ended = asyncio.Event()

    async def serve() -> None:
        async with proxy:
            loops.put(asyncio.get_running_loop())
            await ended.wait()

    async def run(work: Callable[[], None]) -> None:
        work()

    def call(work: Callable[[], None]) -> None:
        asyncio.run_coroutine_threadsafe(run(work), loop).result(10)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    loop = loops.get(timeout=10)
    try:
        yield proxy, call
    finally:
        call(ended.set)
        thread.join()


def wait_for(condition: Callable[[], bool]) -> None:
    """Holds up the thread, and so its loop."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


async def test_a_refused_statement_is_a_typed_error_and_the_connection_stays(
    connection: DirectConnection,
) -> None:
    before = await backend(connection)
    with pytest.raises(psycopg.errors.DivisionByZero):
        await connection.execute("divide", [IntArray([1, 0])])
    assert await backend(connection) == before


async def test_a_connection_that_is_ended_while_idle_is_made_again(
    connection: DirectConnection, database_url: str
) -> None:
    before = await backend(connection)
    await asyncio.to_thread(terminate, database_url, before)
    while True:
        # One statement at the most is lost with it.
        try:
            after = await backend(connection)
            break
        except psycopg.OperationalError:
            continue
    assert after != before


async def test_a_connection_that_is_ended_at_work_is_an_operational_error_and_made_again(
    connection: DirectConnection, database_url: str
) -> None:
    process_id = await backend(connection)
    sleeping = await begin_to_sleep(connection, b"30")
    await asyncio.to_thread(terminate, database_url, process_id)
    with pytest.raises(psycopg.OperationalError):
        await sleeping
    assert await echo(connection, "again") == "again"


async def test_a_cancelled_callers_answer_is_nobody_elses(connection: DirectConnection) -> None:
    await echo(connection, "first")
    sleeping = await begin_to_sleep(connection, b"0.2")
    sleeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sleeping
    assert await echo(connection, "mine") == "mine"


async def test_callers_that_go_away_leave_the_connection(connection: DirectConnection) -> None:
    """Whoever asks for more than the connection can give must not cost it its connection, too."""
    process_id = await backend(connection)
    for seconds in (b"0.05", b"0"):
        gone = [asyncio.create_task(connection.execute("sleep", [Packed(seconds)])) for _ in range(3)]
        await asyncio.sleep(0)
        for caller in gone:
            caller.cancel()
        assert all(
            isinstance(end, asyncio.CancelledError)
            for end in await asyncio.gather(*gone, return_exceptions=True)
        )
        assert await backend(connection) == process_id


async def test_a_lost_connection_that_owes_an_answer_to_nobody_is_made_again(
    connection: DirectConnection, database_url: str
) -> None:
    process_id = await backend(connection)
    sleeping = await begin_to_sleep(connection, b"30")
    sleeping.cancel()
    await asyncio.to_thread(terminate, database_url, process_id)
    assert await echo(connection, "again") == "again"


async def test_a_statement_whose_caller_is_gone_is_ended_if_it_takes_long(
    connection: DirectConnection,
) -> None:
    process_id = await backend(connection)
    sleeping = await begin_to_sleep(connection, b"30")
    sleeping.cancel()
    async with asyncio.timeout(7):
        assert await backend(connection) == process_id


async def test_who_owes_an_answer_for_too_long_is_given_up_though_its_callers_go_earlier(
    connection: DirectConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(direct, "_LONGEST_USE_S", 0.5)
    process_id = await backend(connection)
    os.kill(process_id, signal.SIGSTOP)
    try:
        answer = None
        while answer is None:
            with suppress(TimeoutError):
                async with asyncio.timeout(0.2):
                    answer = await backend(connection)
        assert answer != process_id
    finally:
        os.kill(process_id, signal.SIGCONT)


async def test_closing_a_connection_is_told_to_who_waits_for_an_answer(connection: DirectConnection) -> None:
    await echo(connection, "first")
    sleeping = await begin_to_sleep(connection, b"30")
    connection.close()
    with pytest.raises(psycopg.OperationalError, match="closed"):
        await sleeping
    assert await echo(connection, "next") == "next"


async def test_a_server_that_does_not_answer_is_given_up(
    connection: DirectConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(direct, "_LONGEST_USE_S", 0.2)
    await echo(connection, "first")
    with pytest.raises(TimeoutError):
        await connection.execute("sleep", [Packed(b"30")])
    assert await echo(connection, "next") == "next"


async def test_a_killed_server_is_an_operational_error_until_it_is_back(servers_folder: Path) -> None:
    server = PostgreSQLServer(servers_folder / f"direct-{uuid4().hex}", free_port(), fsync=False)
    await asyncio.to_thread(server.start)
    connection = DirectConnection(server.url("postgres"), STATEMENTS, connect={})
    try:
        for is_at_work in (False, True):
            assert await echo(connection, "before") == "before"
            waiting = asyncio.create_task(
                connection.execute("sleep", [Packed(b"30" if is_at_work else b"0")])
            )
            if is_at_work:
                await asyncio.sleep(0)
            else:
                await waiting
            await asyncio.to_thread(server.kill)
            with pytest.raises(psycopg.OperationalError):
                await (waiting if is_at_work else echo(connection, "gone"))
            with pytest.raises(psycopg.OperationalError):
                await echo(connection, "gone")
            await asyncio.to_thread(server.start)
            assert await echo(connection, "after") == "after"
    finally:
        connection.close()
        server.stop()
