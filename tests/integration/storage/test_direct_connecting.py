"""How a directly driven connection is made: in few round trips, for whoever needs it, or not at all."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

import psycopg
import pytest

from service.storage.direct import DirectConnection
from tests.integration.storage.direct_statements import STATEMENTS, echo
from tests.tcp_proxy import TcpProxy, tcp_proxy


@asynccontextmanager
async def through_proxy(
    database_url: str, count: int = len(STATEMENTS)
) -> AsyncIterator[tuple[DirectConnection, TcpProxy]]:
    """One with so many statements that connects, when it is asked, through a proxy."""
    port = urlsplit(database_url).port
    assert port is not None
    async with tcp_proxy(port) as proxy:
        url = database_url.replace(f":{port}/", f":{proxy.listen_port}/")
        connection = DirectConnection(url, dict(list(STATEMENTS.items())[:count]), connect={})
        yield connection, proxy
        connection.close()


@asynccontextmanager
async def connecting(database_url: str) -> AsyncIterator[tuple[DirectConnection, TcpProxy]]:
    """The same, not answered until the proxy releases it."""
    async with through_proxy(database_url) as (connection, proxy):
        proxy.hold_answers()
        yield connection, proxy


@pytest.mark.parametrize("count", [1, len(STATEMENTS)])
async def test_a_session_begins_in_few_round_trips_however_many_statements_it_has(
    database_url: str, count: int
) -> None:
    """Encryption refused, the greeting, two of the password's proof, and all statements."""
    async with through_proxy(database_url, count) as (connection, proxy):
        await connection.open()
        assert proxy.round_trips == 5
        assert await echo(connection, "asked at once") == "asked at once"
        await connection.open()
        assert proxy.round_trips == 6


async def until_asked(proxy: TcpProxy) -> None:
    async with asyncio.timeout(10):
        while not proxy.round_trips:
            await asyncio.sleep(0.01)


async def ask_and_go_away(connection: DirectConnection, proxy: TcpProxy) -> None:
    """A caller that is cancelled while it connects, and told so."""
    gone = asyncio.create_task(connection.open())
    await until_asked(proxy)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone


async def test_a_caller_that_goes_away_leaves_what_is_being_connected_to_the_next(database_url: str) -> None:
    async with connecting(database_url) as (connection, proxy):
        await ask_and_go_away(connection, proxy)
        proxy.release_answers()
        assert await echo(connection, "next") == "next"
        assert proxy.round_trips == 6


async def test_closing_is_told_to_who_waits_for_the_connection(database_url: str) -> None:
    async with connecting(database_url) as (connection, proxy):
        waiting = [asyncio.create_task(each) for each in (connection.open(), echo(connection, "waiting"))]
        await until_asked(proxy)
        connection.close()
        with pytest.raises(psycopg.OperationalError, match="closed"):
            await waiting[0]
        proxy.release_answers()
        # Behind the one that waited, it was not under way yet.
        assert await waiting[1] == "waiting"


async def test_a_connection_that_nobody_waits_for_may_fail(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with connecting(database_url) as (connection, proxy):
        await ask_and_go_away(connection, proxy)
        proxy.cut(0)
        proxy.release_answers()
        # Whoever comes meanwhile is told so; then somebody finds it connected.
        async with asyncio.timeout(10):
            while True:
                with suppress(psycopg.OperationalError):
                    assert await echo(connection, "next") == "next"
                    break
    gc.collect()
    assert "never retrieved" not in caplog.text


async def test_nobody_to_connect_to_is_an_operational_error() -> None:
    nowhere = DirectConnection("postgresql://nobody@127.0.0.1:1/none", STATEMENTS, connect={})
    with pytest.raises(psycopg.OperationalError):
        await nowhere.execute("whoami", [])
