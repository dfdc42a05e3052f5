"""The client of ConnectionsService against the development service on a real gRPC link."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import grpc
import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from devstack.connections_service import Call, ConnectionsDirectory, is_serving, serve
from devstack.ports import free_port
from service.domain.errors import ErrorCode
from service.domain.ids import UserId
from service.grpc_clients.connections import (
    ConnectionsClient,
    ConnectionsUnavailable,
    LookupFailure,
    open_channel,
)
from tests.contract.connections.doubles import PATIENCE_SECONDS, Clock

ALICE, BOB, CAROL = UserId("alice"), UserId("bob"), UserId("carol")


@dataclass(slots=True)
class World:
    """A client, the service it asks, and the clock of its circuit breaker."""

    client: ConnectionsClient
    service: ConnectionsDirectory
    clock: Clock
    tokens: list[str] = field(default_factory=lambda: ["service-token"])


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """A client of a service that knows alice and bob; a deadline long enough to never pass by itself."""
    service, clock, tokens = ConnectionsDirectory([("alice", "bob")]), Clock(), ["service-token"]
    async with serve(service) as port, open_channel(f"127.0.0.1:{port}") as channel:
        client = ConnectionsClient(channel, service_token=lambda: tokens[-1], deadline=5.0, clock=clock)
        yield World(client=client, service=service, clock=clock, tokens=tokens)


async def failure_of(client: ConnectionsClient) -> ConnectionsUnavailable:
    """The error that the client answers with."""
    with pytest.raises(ConnectionsUnavailable) as caught:
        await client.are_connected(ALICE, BOB)
    assert caught.value.rejection.code is ErrorCode.AUTHORIZATION_UNAVAILABLE
    assert caught.value.rejection.retry_after_ms is not None
    return caught.value


def failures(kind: LookupFailure) -> float:
    return REGISTRY.get_sample_value("messaging_connections_failures_total", {"failure": kind.value}) or 0.0


def rpcs(outcome: str) -> float:
    return REGISTRY.get_sample_value("messaging_connections_rpc_seconds_count", {"outcome": outcome}) or 0.0


async def test_it_tells_connections_from_strangers(world: World) -> None:
    connected, not_connected = rpcs("connected"), rpcs("not_connected")
    assert await world.client.are_connected(ALICE, BOB) is True
    assert await world.client.are_connected(BOB, ALICE) is True
    assert await world.client.are_connected(ALICE, CAROL) is False
    assert (rpcs("connected"), rpcs("not_connected")) == (connected + 2, not_connected + 1)


async def test_a_proxy_of_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    async with (
        serve(ConnectionsDirectory([("alice", "bob")])) as port,
        open_channel(f"127.0.0.1:{port}") as channel,
    ):
        client = ConnectionsClient(channel, service_token=lambda: "service-token", deadline=5.0)
        assert await client.are_connected(ALICE, BOB)
        assert await asyncio.to_thread(is_serving, port)


async def test_the_service_token_of_now_and_the_acting_user_are_forwarded(world: World) -> None:
    await world.client.are_connected(ALICE, BOB)
    world.tokens.append("renewed-token")
    await world.client.are_connected(BOB, ALICE)
    assert list(world.service.calls) == [
        Call(("alice", "bob"), "alice", "Bearer service-token"),
        Call(("bob", "alice"), "bob", "Bearer renewed-token"),
    ]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, LookupFailure.UNAVAILABLE),
        (grpc.StatusCode.DEADLINE_EXCEEDED, LookupFailure.DEADLINE_EXCEEDED),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, LookupFailure.OVERLOADED),
        (grpc.StatusCode.INTERNAL, LookupFailure.DEFECTIVE),
        (grpc.StatusCode.UNKNOWN, LookupFailure.DEFECTIVE),
    ],
)
async def test_trouble_of_the_service_is_told_apart_and_opens_the_circuit(
    world: World, status: grpc.StatusCode, kind: LookupFailure
) -> None:
    world.service.failure = status
    before = failures(kind)
    for _ in range(5):
        assert (await failure_of(world.client)).failure is kind
    assert failures(kind) == before + 5
    assert (await failure_of(world.client)).failure is LookupFailure.CIRCUIT_OPEN
    assert len(world.service.calls) == 5


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (grpc.StatusCode.PERMISSION_DENIED, LookupFailure.PERMISSION_DENIED),
        (grpc.StatusCode.UNAUTHENTICATED, LookupFailure.UNAUTHENTICATED),
        (grpc.StatusCode.UNIMPLEMENTED, LookupFailure.UNEXPECTED),
    ],
)
async def test_a_configuration_fault_is_logged_as_error_once_and_never_opens_the_circuit(
    world: World, status: grpc.StatusCode, kind: LookupFailure
) -> None:
    world.service.failure = status
    before = failures(kind)
    with capture_logs() as logs:
        for _ in range(20):
            assert (await failure_of(world.client)).failure is kind
    assert failures(kind) == before + 20
    assert len(world.service.calls) == 20
    assert [(entry["log_level"], entry["failure"], entry["status"]) for entry in logs] == [
        ("error", kind.value, status.name)
    ]


async def test_a_lasting_fault_is_logged_again_every_minute_and_its_end_once(world: World) -> None:
    world.service.failure = grpc.StatusCode.PERMISSION_DENIED
    with capture_logs() as logs:
        await failure_of(world.client)
        world.clock.advance(59)
        await failure_of(world.client)
        world.clock.advance(1)
        await failure_of(world.client)
        world.service.failure = None
        await world.client.are_connected(ALICE, BOB)
        await world.client.are_connected(ALICE, BOB)
    assert [entry["event"] for entry in logs] == [
        "connections_lookup_failed",
        "connections_lookup_failed",
        "connections_lookups_answered_again",
    ]


async def test_no_token_and_no_foreign_text_reaches_logs_or_errors(world: World) -> None:
    world.service.failure = grpc.StatusCode.UNAUTHENTICATED
    with capture_logs() as logs:
        error = await failure_of(world.client)
    for text in (repr(logs), str(error)):
        assert "service-token" not in text
        assert "told to fail" not in text


async def test_an_open_circuit_refuses_at_once_until_a_probe_succeeds(world: World) -> None:
    world.service.failure = grpc.StatusCode.UNAVAILABLE
    for _ in range(5):
        await failure_of(world.client)
    world.clock.advance(0.75)
    refused = await failure_of(world.client)
    assert refused.failure is LookupFailure.CIRCUIT_OPEN
    assert refused.rejection.retry_after_ms == 1_250
    world.service.failure = None
    world.clock.advance(1.25)
    assert await world.client.are_connected(ALICE, BOB) is True
    assert await world.client.are_connected(ALICE, BOB) is True


async def test_an_answer_later_than_the_deadline_is_told_as_such() -> None:
    service = ConnectionsDirectory([("alice", "bob")])
    service.delay_seconds = 60.0
    async with serve(service) as port, open_channel(f"127.0.0.1:{port}") as channel:
        client = ConnectionsClient(channel, service_token=lambda: "token", deadline=0.05)
        assert (await failure_of(client)).failure is LookupFailure.DEADLINE_EXCEEDED


async def test_a_service_that_accepts_and_never_answers_costs_one_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as black_hole:
        async with open_channel(f"127.0.0.1:{black_hole.getsockname()[1]}") as channel:
            client = ConnectionsClient(channel, service_token=lambda: "token", deadline=0.05)
            async with asyncio.timeout(PATIENCE_SECONDS):
                assert (await failure_of(client)).failure is LookupFailure.DEADLINE_EXCEEDED


async def test_more_askers_than_turns_are_all_answered(world: World) -> None:
    async with AsyncExitStack() as cleanup:
        port = await cleanup.enter_async_context(serve(ConnectionsDirectory([("alice", "bob")])))
        channel = await cleanup.enter_async_context(open_channel(f"127.0.0.1:{port}"))
        client = ConnectionsClient(
            channel, service_token=lambda: "token", deadline=5.0, max_concurrent_calls=2
        )
        answers = await asyncio.gather(*(client.are_connected(ALICE, BOB) for _ in range(50)))
    assert answers == [True] * 50


async def test_it_works_again_within_seconds_after_the_service_came_back() -> None:
    port, clock = free_port(), Clock()
    async with open_channel(f"127.0.0.1:{port}") as channel:
        client = ConnectionsClient(channel, service_token=lambda: "token", deadline=1.0, clock=clock)
        async with serve(ConnectionsDirectory([("alice", "bob")]), port=port):
            assert await client.are_connected(ALICE, BOB) is True
        assert (await failure_of(client)).failure is LookupFailure.UNAVAILABLE
        async with serve(ConnectionsDirectory([("alice", "bob")]), port=port):
            async with asyncio.timeout(PATIENCE_SECONDS):
                await until_ready(channel)
            assert await client.are_connected(ALICE, BOB) is True


async def until_ready(channel: grpc.aio.Channel) -> None:
    """Returns when the channel has a link."""
    while (state := channel.get_state(try_to_connect=True)) is not grpc.ChannelConnectivity.READY:
        await channel.wait_for_state_change(state)


async def test_an_error_of_the_token_source_reaches_the_caller(world: World) -> None:
    def missing() -> str:
        raise FileNotFoundError("service token file")

    async with serve(world.service) as port, open_channel(f"127.0.0.1:{port}") as channel:
        client = ConnectionsClient(channel, service_token=missing)
        with pytest.raises(FileNotFoundError):
            await client.are_connected(ALICE, BOB)
