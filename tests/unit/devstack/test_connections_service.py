"""The development ConnectionsService over a real channel."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import AsyncIterator

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from devstack.connections_service import Call, ConnectionsDirectory, connected_pair, serve
from proto.connections.v1 import connections_pb2, connections_pb2_grpc


@pytest.fixture
def directory() -> ConnectionsDirectory:
    return ConnectionsDirectory([("alice", "bob")])


@pytest.fixture
async def channel(directory: ConnectionsDirectory) -> AsyncIterator[grpc.aio.Channel]:
    async with serve(directory) as port, grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel


async def ask(channel: grpc.aio.Channel, user_id_a: str, user_id_b: str, seconds: float = 5) -> bool:
    stub = connections_pb2_grpc.ConnectionsServiceStub(channel)
    response = await stub.IsConnected(
        connections_pb2.IsConnectedRequest(user_id_a=user_id_a, user_id_b=user_id_b),
        timeout=seconds,
        metadata=(("x-user-id", user_id_a), ("authorization", "Bearer t")),
    )
    return bool(response.are_connected)


async def test_a_pair_is_connected_both_ways(channel: grpc.aio.Channel) -> None:
    assert await ask(channel, "alice", "bob")
    assert await ask(channel, "bob", "alice")


async def test_strangers_and_oneself_are_not_connected(channel: grpc.aio.Channel) -> None:
    assert not await ask(channel, "alice", "carol")
    assert not await ask(channel, "alice", "alice")


async def test_pairs_change_while_it_serves(
    channel: grpc.aio.Channel, directory: ConnectionsDirectory
) -> None:
    directory.disconnect("bob", "alice")
    assert not await ask(channel, "alice", "bob")
    directory.connect("bob", "alice")
    assert await ask(channel, "alice", "bob")


async def test_it_remembers_who_asked_for_whom(
    channel: grpc.aio.Channel, directory: ConnectionsDirectory
) -> None:
    await ask(channel, "alice", "bob")
    assert list(directory.calls) == [Call(("alice", "bob"), "alice", "Bearer t")]


async def test_it_fails_with_the_status_it_is_told(
    channel: grpc.aio.Channel, directory: ConnectionsDirectory
) -> None:
    directory.failure = grpc.StatusCode.PERMISSION_DENIED
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await ask(channel, "alice", "bob")
    assert error.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_it_answers_as_late_as_it_is_told(
    channel: grpc.aio.Channel, directory: ConnectionsDirectory
) -> None:
    directory.delay_seconds = 30
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await ask(channel, "alice", "bob", seconds=0.05)
    assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_its_health_service_says_that_it_serves(channel: grpc.aio.Channel) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    for name in ("", "connections.v1.ConnectionsService"):
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=5)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize("text", ["alice", "alice:", ":", "alice:bob:carol", "alice:alice"])
def test_a_malformed_pair_is_refused(text: str) -> None:
    with pytest.raises(ArgumentTypeError):
        connected_pair(text)
