"""The gateway in this process, with a real gRPC server behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.app import create_app
from gateway.settings import Environment, GatewaySettings
from tests.integration.gateway.in_memory_messaging import RunningService, running_service

BROKER_URL = "ws://127.0.0.1:9001"

OpenGateway = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


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
