"""The directory under contract, on fakes and on the real adapters."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest

from devstack.connections_service import serve
from service.cache.connections import CachedConnections, ConnectionSource, SharedConnections
from service.cache.redis_connections import RedisConnections
from service.grpc_clients.connections import ConnectionsClient, open_channel
from service.use_cases.ports import ConnectionDirectory
from tests.contract.connections.doubles import (
    Clock,
    MemoryShared,
    MemorySource,
    ScriptedConnections,
    ScriptedService,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The directory under test and the world around it."""

    directory: ConnectionDirectory
    script: ScriptedConnections
    clock: Clock


@pytest.fixture(params=["memory", "memory+shared", "grpc", "grpc+redis"])
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    """A directory with nothing in its caches; held answers are released at the end."""
    script, clock = ScriptedConnections(), Clock()
    async with AsyncExitStack() as cleanup:
        source: ConnectionSource = MemorySource(script)
        if request.param.startswith("grpc"):
            port = await cleanup.enter_async_context(serve(ScriptedService(script)))
            channel = await cleanup.enter_async_context(open_channel(f"127.0.0.1:{port}"))
            source = ConnectionsClient(channel, service_token=lambda: "token", deadline=5.0, clock=clock)
        shared: SharedConnections | None = None
        if request.param == "memory+shared":
            shared = MemoryShared(clock)
        elif request.param == "grpc+redis":
            shared = redis = RedisConnections(request.getfixturevalue("redis_url"), timeout=5.0, clock=clock)
            cleanup.push_async_callback(redis.aclose)
        directory = CachedConnections(source, shared, clock=clock)
        cleanup.push_async_callback(directory.aclose)
        cleanup.callback(script.release)
        yield Subject(directory=directory, script=script, clock=clock)
