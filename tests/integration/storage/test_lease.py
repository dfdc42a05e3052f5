"""The lease on a real server that ends sessions by itself, goes away and comes back."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from structlog.testing import capture_logs

from devstack.ports import free_port
from devstack.postgresql import PostgreSQLServer
from service.storage.lease import PostgresLease
from service.storage.migrations import migrate
from service.use_cases.lease import LeaseLost
from tests.faults.proxy import FaultProxy
from tests.tcp_proxy import tcp_proxy


class Clock:
    """A monotonic clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def until_waiting(lease: PostgresLease) -> None:
    async with asyncio.timeout(10):
        while not lease.is_held_elsewhere:
            await asyncio.sleep(0.01)


async def test_the_server_takes_it_from_a_holder_that_is_silent(database_url: str) -> None:
    """As a stopped process is: nothing in it can notice or say anything."""
    silent = await PostgresLease(database_url, name="silent", limit_s=1).acquire()
    async with asyncio.timeout(10):
        next_holder = await PostgresLease(database_url, name="silent", limit_s=1).acquire()
    assert next_holder.epoch > silent.epoch
    next_holder.release()


async def test_a_holder_that_overslept_does_not_ask(database_url: str) -> None:
    clock = Clock()
    tenure = await PostgresLease(database_url, name="sleeper", limit_s=1, clock=clock).acquire()
    clock.now = 0.99
    tenure.demand()
    clock.now = 1.0
    with pytest.raises(LeaseLost, match="not renewed in time"):
        tenure.demand()
    async with asyncio.timeout(10):
        with pytest.raises(LeaseLost, match="not renewed in time"):
            await tenure.hold()
    tenure.release()


async def test_leases_of_other_names_are_not_in_the_way(database_url: str) -> None:
    tenures = [await PostgresLease(database_url, name=name, limit_s=3).acquire() for name in "ab"]
    for tenure in tenures:
        tenure.demand()
        tenure.release()


async def test_a_standby_keeps_no_snapshot(database_url: str) -> None:
    """With one, nothing that was updated since it began to wait could be cleaned away."""
    holder = await PostgresLease(database_url, name="snapshot", limit_s=3).acquire()
    standby = PostgresLease(database_url, name="snapshot", limit_s=3)
    waiting = asyncio.create_task(standby.acquire())
    await until_waiting(standby)
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        rows = await connection.execute(
            "SELECT state, backend_xmin, wait_event_type FROM pg_stat_activity "
            "WHERE application_name = 'messaging lease' AND datname = current_database()"
        )
        assert await rows.fetchall() == [("idle", None, "Client")] * 2
    waiting.cancel()
    holder.release()


async def test_while_the_server_is_away_nothing_is_lost_but_certainty(
    servers_folder: Path,
) -> None:
    server = PostgreSQLServer(servers_folder / f"lease-{uuid4().hex}", free_port(), fsync=False)
    await asyncio.to_thread(server.start)
    try:
        migrate(server.url("postgres"))
        lease = PostgresLease(server.url("postgres"), name="restarted", limit_s=1)
        tenure = await lease.acquire()
        holding = asyncio.create_task(tenure.hold())
        await asyncio.to_thread(server.kill)
        async with asyncio.timeout(10):
            while True:
                try:
                    tenure.demand()
                except LeaseLost:
                    break
                await asyncio.sleep(0.01)
        # Nobody else can have taken it: whoever has the links to the broker may go on refusing commands.
        done, _ = await asyncio.wait((holding,), timeout=2)
        assert not done
        again = asyncio.create_task(lease.acquire())
        await asyncio.to_thread(server.start)
        async with asyncio.timeout(20):
            with pytest.raises(LeaseLost):
                await holding
            assert (await again).epoch > tenure.epoch
        (await again).release()
    finally:
        server.stop()


async def test_it_is_not_taken_at_a_server_that_only_reads(database_url: str) -> None:
    name = psycopg.conninfo.conninfo_to_dict(database_url)["dbname"]
    elsewhere = psycopg.conninfo.make_conninfo(database_url, dbname="postgres")
    setting = "default_transaction_read_only"
    lease = PostgresLease(database_url, name="patient", limit_s=3)
    async with await psycopg.AsyncConnection.connect(elsewhere, autocommit=True) as connection:
        await connection.execute(f"ALTER DATABASE {name} SET {setting} = on")
        with capture_logs() as logs:
            acquiring = asyncio.create_task(lease.acquire())
            async with asyncio.timeout(10):
                while not logs:
                    await asyncio.sleep(0.01)
        assert logs[0]["event"] == "lease_unanswered"
        await connection.execute(f"ALTER DATABASE {name} RESET {setting}")
    async with asyncio.timeout(10):
        (await acquiring).release()


async def test_it_is_taken_held_lost_and_taken_again_from_far_away(database_url: str) -> None:
    """A new session is many round trips; only those for the lock itself must come within the limit."""
    port = int(str(psycopg.conninfo.conninfo_to_dict(database_url)["port"]))
    async with FaultProxy(port) as proxy:
        proxy.delay(0.2, 0.1, chance=random.Random(1))
        url = database_url.replace(f":{port}/", f":{proxy.listen_port}/")
        lease = PostgresLease(url, name="far", limit_s=3)
        async with asyncio.timeout(30):
            tenure = await lease.acquire()
            holding = asyncio.create_task(tenure.hold())
            # One renewal goes well.
            done, _ = await asyncio.wait((holding,), timeout=2)
            assert not done
            tenure.demand()
            proxy.reset()
            with pytest.raises(LeaseLost):
                await holding
            again = await lease.acquire()
            assert again.epoch > tenure.epoch
            again.release()


async def test_the_session_in_which_the_server_answers_again_is_the_next_holders(database_url: str) -> None:
    """Another one would be as many round trips again, and all wait for them."""
    port = int(str(psycopg.conninfo.conninfo_to_dict(database_url)["port"]))
    async with FaultProxy(port) as proxy:
        url = database_url.replace(f":{port}/", f":{proxy.listen_port}/")
        lease = PostgresLease(url, name="resumed", limit_s=3)
        tenure = await lease.acquire()
        async with asyncio.timeout(10):
            holding = asyncio.create_task(tenure.hold())
            proxy.reset()
            with pytest.raises(LeaseLost):
                await holding
            answered_in = await lease_sessions(database_url)
            again = await lease.acquire()
        assert again.epoch > tenure.epoch
        assert len(answered_in) == 1
        assert await lease_sessions(database_url) == answered_in
        again.release()


async def test_a_lease_that_nobody_takes_any_more_leaves_no_session(database_url: str) -> None:
    lease = PostgresLease(database_url, name="closed", limit_s=3)
    await lease.until_answered()
    assert await lease_sessions(database_url)
    lease.close()
    async with asyncio.timeout(2):
        while await lease_sessions(database_url):
            await asyncio.sleep(0.01)


async def lease_sessions(database_url: str) -> list[int]:
    """Their process ids on the server."""
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        rows = await connection.execute(
            "SELECT pid FROM pg_stat_activity "
            "WHERE application_name = 'messaging lease' AND datname = current_database()"
        )
        return [pid for (pid,) in await rows.fetchall()]


async def test_a_server_that_does_not_answer_is_given_up_in_time(database_url: str) -> None:
    port = psycopg.conninfo.conninfo_to_dict(database_url)["port"]
    async with tcp_proxy(int(str(port))) as proxy:
        url = database_url.replace(f":{port}/", f":{proxy.listen_port}/")
        tenure = await PostgresLease(url, name="hanging", limit_s=1).acquire()
        holding = asyncio.create_task(tenure.hold())
        proxy.hold_answers()
        async with asyncio.timeout(10):
            next_holder = await PostgresLease(database_url, name="hanging", limit_s=1).acquire()
        with pytest.raises(LeaseLost):
            tenure.demand()
        proxy.release_answers()
        async with asyncio.timeout(10):
            with pytest.raises(LeaseLost):
                await holding
    next_holder.release()
