"""A call that is over leaves no statement running behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import psycopg
import pytest

from proto.messaging.v1 import messaging_pb2 as pb
from service.grpc_api.server import ServerOptions
from tests.contract.conversation_reader.seeding import PostgresSeed
from tests.integration.grpc_api.client import Client, eventually, refusal_of


@pytest.fixture
def server_options() -> ServerOptions:
    return ServerOptions(host="127.0.0.1", port=0, default_deadline=0.5)


@pytest.fixture
async def history_call(client: Client, seed: PostgresSeed) -> Callable[..., Any]:
    """Calls for a history that exists and whose conversation the server knows."""
    conversation = await seed.conversation("alice", "bob")
    await seed.messages(conversation, ["alice"])
    await client.history("alice", conversation.id)
    request = pb.GetMessageHistoryRequest(conversation_id=str(conversation.id))
    metadata = client.user("alice")

    def call(timeout: float | None = None) -> Any:
        return client.stub.GetMessageHistory(request, metadata=metadata, timeout=timeout)

    return call


@asynccontextmanager
async def locked_messages(url: str) -> AsyncIterator[None]:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await connection.execute("LOCK TABLE message IN ACCESS EXCLUSIVE MODE")
        yield
        await connection.rollback()


def waiting_statements(seed: PostgresSeed, expected: int) -> Callable[[], Awaitable[bool]]:
    async def condition() -> bool:
        cursor = await seed.connection.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND state <> 'idle' AND pid <> pg_backend_pid()"
            " AND query LIKE '%FROM message%'"
        )
        return await cursor.fetchone() == (expected,)

    return condition


async def test_the_clients_deadline_ends_the_statement(
    history_call: Callable[..., Any], seed: PostgresSeed, database_url: str
) -> None:
    async with locked_messages(database_url):
        refusal = await refusal_of(history_call(timeout=0.3))
        assert refusal.status is grpc.StatusCode.DEADLINE_EXCEEDED
        await eventually(waiting_statements(seed, 0))
    assert len((await history_call()).messages) == 1


async def test_a_cancelled_call_ends_its_statement(
    history_call: Callable[..., Any], seed: PostgresSeed, database_url: str
) -> None:
    async with locked_messages(database_url):
        call = history_call(timeout=30)
        await eventually(waiting_statements(seed, 1))
        assert call.cancel()
        await eventually(waiting_statements(seed, 0))
    assert len((await history_call()).messages) == 1


async def test_a_call_without_a_deadline_gets_the_servers(
    history_call: Callable[..., Any], seed: PostgresSeed, database_url: str
) -> None:
    async with locked_messages(database_url):
        refusal = await refusal_of(history_call())
        assert refusal.status is grpc.StatusCode.DEADLINE_EXCEEDED
        assert refusal.message == "no answer within the deadline"
        assert refusal.metadata["error-retryable"] == "true"
        await eventually(waiting_statements(seed, 0))
    assert len((await history_call()).messages) == 1


async def test_a_client_may_wait_longer_than_the_servers_default(
    history_call: Callable[..., Any], seed: PostgresSeed, database_url: str
) -> None:
    async with locked_messages(database_url):
        patient = asyncio.ensure_future(history_call(timeout=30))
        refusal = await refusal_of(history_call())
        assert refusal.status is grpc.StatusCode.DEADLINE_EXCEEDED
    assert len((await patient).messages) == 1


async def test_many_late_calls_leave_every_connection_usable(
    history_call: Callable[..., Any], seed: PostgresSeed, database_url: str
) -> None:
    async with locked_messages(database_url):
        # More than the pool holds: some wait for a connection, the others for the lock.
        refusals = await asyncio.gather(*(refusal_of(history_call(timeout=0.3)) for _ in range(20)))
        assert {refusal.status for refusal in refusals} == {grpc.StatusCode.DEADLINE_EXCEEDED}
        await eventually(waiting_statements(seed, 0))
    pages = await asyncio.gather(*(history_call(timeout=10) for _ in range(20)))
    assert all(len(page.messages) == 1 for page in pages)
