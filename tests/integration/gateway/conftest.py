"""The gateway in this process, with a real gRPC server behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from devstack.ports import free_port
from devstack.python_server import Program, PythonServer
from gateway.app import create_app
from gateway.settings import Environment, GatewaySettings
from tests.integration.gateway.in_memory_messaging import RunningService, running_service

BROKER_URL = "ws://127.0.0.1:9001"

OpenGateway = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]
RunGateway = Callable[..., AbstractAsyncContextManager[PythonServer]]


def url_of(server: PythonServer) -> str:
    """Where a gateway's process listens."""
    return f"http://127.0.0.1:{server.program.port}"


@pytest.fixture
async def service(jwt_secret: str) -> AsyncIterator[RunningService]:
    """The messaging service's part."""
    async with running_service(jwt_secret) as running:
        yield running


@pytest.fixture
def static_folder(tmp_path: Path) -> Path:
    """A built page."""
    folder = tmp_path / "static"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html><title>demo</title>")
    (folder / "assets" / "index-0a1b2c3d.js").write_text("export {};")
    return folder


@pytest.fixture
def open_gateway(service: RunningService, jwt_secret: str, static_folder: Path) -> OpenGateway:
    """Starts gateways; keyword arguments replace the settings of a production gateway."""

    @asynccontextmanager
    async def start(**changes: Any) -> AsyncIterator[httpx.AsyncClient]:
        defaults: dict[str, Any] = {"grpc_target": service.target, "broker_websocket_url": BROKER_URL}
        app = create_app(GatewaySettings(**(defaults | changes)), static_folder=static_folder)
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://gateway") as client,
        ):
            yield client

    return start


@pytest.fixture
async def gateway(open_gateway: OpenGateway, jwt_secret: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a gateway in development."""
    async with open_gateway(environment=Environment.DEVELOPMENT, jwt_secret=jwt_secret) as client:
        yield client


@pytest.fixture
async def production_gateway(open_gateway: OpenGateway) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a gateway in production."""
    async with open_gateway() as client:
        yield client


@pytest.fixture
def run_gateway(service: RunningService, jwt_secret: str, tmp_path: Path) -> RunGateway:
    """Starts gateways in development as processes; keyword arguments are further settings, `port="8080"`."""

    @asynccontextmanager
    async def start(**changes: str) -> AsyncIterator[PythonServer]:
        port = free_port()
        defaults = {
            "environment": "development",
            "log_level": "debug",
            "port": str(port),
            "grpc_deadline_ms": "1500",
            "grpc_target": service.target,
            "broker_websocket_url": BROKER_URL,
            "jwt_secret": jwt_secret,
        }
        settings = {
            f"MESSAGING_GATEWAY_{name.upper()}": value for name, value in (defaults | changes).items()
        }
        program = Program(
            name="Gateway", module="gateway", port=port, settings=settings, ready_path="/readyz"
        )
        server = PythonServer(program, tmp_path / "gateway.log")
        await asyncio.to_thread(server.start)
        try:
            yield server
        finally:
            await asyncio.to_thread(server.stop)

    return start
