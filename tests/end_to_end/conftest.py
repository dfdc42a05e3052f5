"""The running system, one for every test that asks for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from devstack.connections_service import ConnectionsDirectory, serve
from devstack.mosquitto import JwtOptions, MosquittoServer
from devstack.ports import free_port
from devstack.python_server import Surroundings, gateway
from devstack.server_process import ServerProcess
from tests.end_to_end.stack import PageStack, Stack, new_service


@pytest.fixture
def broker(tmp_path: Path, jwt_options: JwtOptions) -> Iterator[MosquittoServer]:
    """A Mosquitto of the test's own, so that nothing is queued from the test before."""
    server = MosquittoServer(tmp_path / "mosquitto", free_port(), free_port(), jwt=jwt_options)
    server.start()
    yield server
    server.stop()


@pytest_asyncio.fixture
async def connections() -> AsyncIterator[tuple[ConnectionsDirectory, int]]:
    """The development ConnectionsService in this process, with Alice-Bob and Bob-Carol."""
    directory = ConnectionsDirectory([("alice", "bob"), ("bob", "carol")])
    async with serve(directory) as port:
        yield directory, port


@pytest.fixture
def surroundings(
    broker: MosquittoServer,
    connections: tuple[ConnectionsDirectory, int],
    database_url: str,
    redis_url: str,
    jwt_secret: str,
) -> Surroundings:
    """The servers of this test, as the service is told of them; tests put their own in the place of one."""
    return Surroundings(
        database_url=database_url,
        redis_url=redis_url,
        broker_port=broker.mqtt_port,
        connections_port=connections[1],
        jwt_secret=jwt_secret,
    )


@pytest.fixture
def service_settings() -> Mapping[str, str]:
    """Environment variables for the service beside those of its surroundings; modules override it."""
    return {}


@asynccontextmanager
async def running(server: ServerProcess) -> AsyncIterator[None]:
    """The server runs while the block does; the event loop goes on while it starts and stops."""
    try:
        await asyncio.to_thread(server.start)
        yield
    finally:
        await asyncio.to_thread(server.stop)


@pytest_asyncio.fixture
async def stack(
    tmp_path: Path,
    broker: MosquittoServer,
    connections: tuple[ConnectionsDirectory, int],
    surroundings: Surroundings,
    service_settings: Mapping[str, str],
) -> AsyncIterator[Stack]:
    """Broker, database, Redis, ConnectionsService and service, all ready.

    The log is `service.log` in `tmp_path`.
    """
    service = new_service(tmp_path, surroundings, service_settings)
    async with running(service.process):
        yield Stack(
            mosquitto=broker,
            connections=connections[0],
            service=service,
            database_url=surroundings.database_url,
        )


@pytest_asyncio.fixture
async def page_stack(tmp_path: Path, stack: Stack, jwt_secret: str) -> AsyncIterator[PageStack]:
    """The same with the gateway, whose log is `gateway.log`; a second and a half more."""
    page = gateway(
        tmp_path / "gateway.log",
        port=free_port(),
        grpc_ports=[stack.service.grpc_port],
        broker_websocket_url=stack.mosquitto.websocket_url,
        jwt_secret=jwt_secret,
    )
    async with running(page):
        yield PageStack(
            mosquitto=stack.mosquitto,
            connections=stack.connections,
            service=stack.service,
            database_url=stack.database_url,
            gateway=page,
        )
