"""Health, reflection, shutdown, and what callers see of the server's own trouble."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import grpc
import pytest
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from prometheus_client import REGISTRY

from devstack.ports import free_port
from service.cache.presence import RedisPresence
from service.domain.errors import ErrorCode
from service.domain.ids import ConversationId, UserId
from service.grpc_api.authentication import TokenVerifier
from service.grpc_api.messaging_service import MessagingService
from service.grpc_api.server import GrpcServer, ServerOptions
from service.storage.conversations import PostgresConversationRepository
from service.storage.database import Database
from service.storage.reads import PostgresConversationReader
from service.use_cases.ports import ConversationSummary
from tests.conftest import MintToken
from tests.contract.conversation_reader.in_memory import InMemoryConversations
from tests.integration.grpc_api.client import (
    REQUESTS,
    SERVICE,
    Client,
    assert_refused,
    connect,
    eventually,
    refusal_of,
)
from tests.integration.grpc_api.conftest import messaging_service
from tests.unit.use_cases.connected_pairs import ConnectedPairs

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class FailingReader(InMemoryConversations):
    """Has a defect whose exception quotes a message."""

    async def summary(self, user: UserId, conversation_id: ConversationId) -> ConversationSummary | None:
        raise KeyError("the text of a message")


class WaitingReader(InMemoryConversations):
    """Answers when the test lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()
        self.let_go = asyncio.Event()
        self.waiting = 0

    async def summary(self, user: UserId, conversation_id: ConversationId) -> ConversationSummary | None:
        self.waiting += 1
        self.asked.set()
        await self.let_go.wait()
        return None


@asynccontextmanager
async def serving(
    store: InMemoryConversations, verifier: TokenVerifier, token: MintToken, **options: Any
) -> AsyncIterator[tuple[GrpcServer, Client]]:
    database, presence = (
        Database("postgresql://127.0.0.1:1/none"),
        RedisPresence("redis://127.0.0.1:1", lease=60),
    )
    service = messaging_service(store, store, ConnectedPairs(), database, presence)
    server = GrpcServer(service, verifier, ServerOptions(host="127.0.0.1", port=0, **options))
    async with connect(await server.start(), token) as client:
        yield server, client
    await server.stop(0)


def health_of(client: Client) -> Any:
    return health_pb2_grpc.HealthStub(client.channel)


async def check(client: Client, service: str) -> int:
    response = await health_of(client).Check(health_pb2.HealthCheckRequest(service=service))
    return int(response.status)


async def list_services(client: Client, metadata: Any = None) -> list[str]:
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(client.channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    answers = stub.ServerReflectionInfo(iter([request]), metadata=metadata)
    return [service.name async for answer in answers for service in answer.list_services_response.service]


async def test_health_needs_no_token_and_says_whether_the_server_serves(
    verifier: TokenVerifier, token: MintToken
) -> None:
    async with serving(InMemoryConversations(), verifier, token) as (server, client):
        for name in ("", "messaging.v1.MessagingService"):
            await server.set_serving(False)
            assert await check(client, name) == NOT_SERVING
            await server.set_serving(True)
            assert await check(client, name) == SERVING
        refusal = await refusal_of(health_of(client).Check(health_pb2.HealthCheckRequest(service="other")))
        assert refusal.status is grpc.StatusCode.NOT_FOUND


async def test_a_new_server_is_not_serving_until_it_is_told_to(
    verifier: TokenVerifier, token: MintToken
) -> None:
    async with serving(InMemoryConversations(), verifier, token) as (_, client):
        assert await check(client, "") == NOT_SERVING


async def test_nobody_watches_health_for_ever(verifier: TokenVerifier, token: MintToken) -> None:
    """A watcher needs no token, and would take one of the calls that the server has at once."""
    async with serving(InMemoryConversations(), verifier, token, maximum_calls=2) as (_, client):
        for _ in range(3):
            watch = health_of(client).Watch(health_pb2.HealthCheckRequest(service=""), timeout=10)
            assert (await refusal_of(watch.read())).status is grpc.StatusCode.UNIMPLEMENTED
        assert await check(client, "") == NOT_SERVING


async def test_reflection_is_there_only_when_it_was_asked_for(
    verifier: TokenVerifier, token: MintToken
) -> None:
    async with serving(InMemoryConversations(), verifier, token, reflection=True) as (_, client):
        assert "messaging.v1.MessagingService" in await list_services(client)
    async with serving(InMemoryConversations(), verifier, token) as (_, client):
        refusal = await refusal_of(list_services(client))
        assert refusal.status is grpc.StatusCode.UNAUTHENTICATED
        refusal = await refusal_of(list_services(client, client.user("alice")))
        assert refusal.status is grpc.StatusCode.UNIMPLEMENTED


async def test_stopping_lets_calls_under_way_finish_and_takes_no_new_ones(
    verifier: TokenVerifier, token: MintToken
) -> None:
    store = WaitingReader()
    async with serving(store, verifier, token) as (server, client):
        call = asyncio.ensure_future(refusal_of(client.conversation("alice", uuid4())))
        await store.asked.wait()
        stopping = asyncio.create_task(server.stop(30))

        async def takes_no_new_calls() -> bool:
            try:
                await client.conversations("alice")
            except grpc.aio.AioRpcError as error:
                return error.code() is grpc.StatusCode.UNAVAILABLE
            return False

        await eventually(takes_no_new_calls)
        assert not call.done()
        store.let_go.set()
        assert (await call).status is grpc.StatusCode.NOT_FOUND
        async with asyncio.timeout(5):
            await stopping


async def test_stopping_cancels_what_is_under_way_when_the_grace_is_over(
    verifier: TokenVerifier, token: MintToken
) -> None:
    store = WaitingReader()
    async with serving(store, verifier, token) as (server, client):
        call = asyncio.ensure_future(refusal_of(client.conversation("alice", uuid4())))
        await store.asked.wait()
        async with asyncio.timeout(5):
            await server.stop(0.1)
        assert (await call).status in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


async def test_a_port_that_is_taken_is_an_error_at_start(
    server: tuple[GrpcServer, int], service: MessagingService, verifier: TokenVerifier
) -> None:
    second = GrpcServer(service, verifier, ServerOptions(host="127.0.0.1", port=server[1]))
    with pytest.raises(RuntimeError):
        await second.start()


async def test_a_defect_is_told_by_an_incident_that_the_log_explains(
    verifier: TokenVerifier, token: MintToken
) -> None:
    async with serving(FailingReader(), verifier, token) as (_, client):
        with structlog.testing.capture_logs() as logs:
            refusal = await assert_refused(client.conversation("alice", uuid4()), ErrorCode.INTERNAL)
    found = re.fullmatch(r"the service failed \(incident ([0-9a-f-]{36})\)", refusal.message)
    assert found is not None
    (entry,) = [entry for entry in logs if entry["event"] == "grpc_call_failed"]
    assert entry["incident"] == found[1]
    assert "text of a message" not in repr(refusal)


async def test_a_database_that_is_gone_is_unavailable_and_worth_a_retry(
    verifier: TokenVerifier, token: MintToken, connections: ConnectedPairs
) -> None:
    database = Database(f"postgresql://nobody@127.0.0.1:{free_port()}/none", acquire_timeout=0.2)
    await database.open()
    service = messaging_service(
        PostgresConversationRepository(database),
        PostgresConversationReader(database),
        connections,
        database,
        RedisPresence("redis://127.0.0.1:1", lease=60),
    )
    server = GrpcServer(service, verifier, ServerOptions(host="127.0.0.1", port=0))
    async with connect(await server.start(), token) as client:
        for method, request in REQUESTS.items():
            call = getattr(client.stub, method)(request, metadata=client.user("alice"))
            refusal = await assert_refused(call, ErrorCode.STORAGE_UNAVAILABLE)
            assert refusal.metadata["error-retryable"] == "true"
            assert int(refusal.metadata["error-retry-after-ms"]) > 0
    await server.stop(0)
    await database.close()


async def test_calls_beyond_the_limit_are_refused_and_not_queued(
    verifier: TokenVerifier, token: MintToken
) -> None:
    store = WaitingReader()
    async with serving(store, verifier, token, maximum_calls=1) as (_, client):
        call = asyncio.ensure_future(refusal_of(client.conversation("alice", uuid4())))
        await store.asked.wait()
        refusal = await refusal_of(client.conversations("alice"))
        assert refusal.status is grpc.StatusCode.RESOURCE_EXHAUSTED
        store.let_go.set()
        await call


async def test_one_caller_leaves_room_for_the_others(verifier: TokenVerifier, token: MintToken) -> None:
    store = WaitingReader()
    async with serving(store, verifier, token) as (_, client):
        calls = [asyncio.ensure_future(refusal_of(client.conversation("alice", uuid4()))) for _ in range(64)]
        while store.waiting < len(calls):
            store.asked.clear()
            await store.asked.wait()
        await assert_refused(client.conversations("alice"), ErrorCode.BUSY)
        await client.conversations("bob")
        store.let_go.set()
        await asyncio.gather(*calls)
        await client.conversations("alice")


def calls_counted(method: str, code: str) -> float:
    return REGISTRY.get_sample_value("messaging_grpc_calls_total", {"method": method, "code": code}) or 0


async def test_calls_are_counted_by_method_and_code_under_known_names_only(
    verifier: TokenVerifier, token: MintToken
) -> None:
    listing, single = f"{SERVICE}ListConversations"[1:], f"{SERVICE}GetConversation"[1:]
    expected = [
        (listing, "OK"),
        (listing, "UNAUTHENTICATED"),
        (single, "NOT_FOUND"),
        (single, "INVALID_ARGUMENT"),
        ("other", "UNAUTHENTICATED"),
        ("other", "UNIMPLEMENTED"),
    ]
    before = {labels: calls_counted(*labels) for labels in expected}
    async with serving(InMemoryConversations(), verifier, token) as (_, client):
        await client.conversations("alice")
        await refusal_of(client.stub.ListConversations(REQUESTS["ListConversations"]))
        await refusal_of(client.conversation("alice", uuid4()))
        await refusal_of(client.conversation("alice", "no id"))
        for metadata in (None, client.user("alice")):
            await refusal_of(client.call(f"{SERVICE}Secret-of-a-caller", b"", metadata))
    for labels in expected:
        assert calls_counted(*labels) == before[labels] + 1, labels
    names = {s.labels.get("method", "") for m in REGISTRY.collect() for s in m.samples}
    assert not any("Secret" in name for name in names)


async def test_a_late_call_is_counted_as_such(verifier: TokenVerifier, token: MintToken) -> None:
    method = f"{SERVICE}GetConversation"[1:]
    before = calls_counted(method, "DEADLINE_EXCEEDED")
    async with serving(WaitingReader(), verifier, token) as (_, client):
        call = client.stub.GetConversation(
            REQUESTS["GetConversation"], metadata=client.user("alice"), timeout=0.1
        )
        await refusal_of(call)

        async def counted() -> bool:
            return calls_counted(method, "DEADLINE_EXCEEDED") == before + 1

        await eventually(counted)
