"""Web apps from other origins, as their browsers ask for them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from pydantic import ValidationError

from gateway.settings import GatewaySettings
from proto.messaging.v1 import messaging_pb2
from tests.conftest import MintToken
from tests.integration.gateway.conftest import BROKER_URL, OpenGateway
from tests.integration.gateway.in_memory_messaging import RunningService

APP = "https://app.example"
CONVERSATIONS = "/api/conversations"


@pytest.fixture
async def shared_gateway(open_gateway: OpenGateway) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a gateway that lets two origins in."""
    async with open_gateway(allowed_origins=(APP, "http://localhost:3000")) as client:
        yield client


def _preflight(origin: str, method: str = "POST") -> dict[str, str]:
    return {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "authorization,content-type",
    }


@pytest.mark.parametrize("origin", [APP, "http://localhost:3000"])
@pytest.mark.parametrize("method", ["GET", "PATCH", "POST"])
async def test_an_allowed_origin_may_send_a_token(
    origin: str, method: str, shared_gateway: httpx.AsyncClient
) -> None:
    answer = await shared_gateway.options(CONVERSATIONS, headers=_preflight(origin, method))
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == origin
    assert method in answer.headers["access-control-allow-methods"].split(", ")
    allowed = answer.headers["access-control-allow-headers"].lower().split(", ")
    assert {"authorization", "content-type"} <= set(allowed)
    assert int(answer.headers["access-control-max-age"]) > 0
    assert "access-control-allow-credentials" not in answer.headers
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_an_allowed_origin_may_read_the_answer_and_when_to_try_again(
    shared_gateway: httpx.AsyncClient, token: MintToken
) -> None:
    headers = {"Origin": APP, "Authorization": f"Bearer {token('alice')}"}
    answer = await shared_gateway.get(CONVERSATIONS, headers=headers)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == APP
    assert answer.headers["access-control-expose-headers"] == "Retry-After"
    assert "Origin" in answer.headers["vary"]
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("GET", CONVERSATIONS, b"", 401),
        ("GET", "/api/nothing", b"", 404),
        ("PUT", CONVERSATIONS, b"", 405),
        ("POST", CONVERSATIONS, b"[" * 20_000, 413),
    ],
)
async def test_an_allowed_origin_may_read_refusals(
    method: str, path: str, content: bytes, status: int, shared_gateway: httpx.AsyncClient
) -> None:
    answer = await shared_gateway.request(method, path, content=content, headers={"Origin": APP})
    assert answer.status_code == status
    assert answer.headers["access-control-allow-origin"] == APP


async def test_an_allowed_origin_may_read_of_defects(
    shared_gateway: httpx.AsyncClient, service: RunningService, token: MintToken
) -> None:
    # One that no answer may have.
    service.messaging.status_of_messages = messaging_pb2.MESSAGE_STATUS_UNSPECIFIED
    headers = {"Origin": APP, "Authorization": f"Bearer {token('alice')}"}
    answer = await shared_gateway.get(CONVERSATIONS, headers=headers)
    assert answer.status_code == 500
    assert answer.headers["access-control-allow-origin"] == APP


@pytest.mark.parametrize("origin", ["https://other.example", "http://app.example", f"{APP}:8443", "null"])
async def test_another_origin_gets_no_permission(
    origin: str, shared_gateway: httpx.AsyncClient, token: MintToken
) -> None:
    preflight = await shared_gateway.options(CONVERSATIONS, headers=_preflight(origin))
    assert preflight.status_code == 400
    assert "access-control-allow-origin" not in preflight.headers
    headers = {"Origin": origin, "Authorization": f"Bearer {token('alice')}"}
    answer = await shared_gateway.get(CONVERSATIONS, headers=headers)
    assert "access-control-allow-origin" not in answer.headers


async def test_no_origin_is_allowed_unless_it_is_named(gateway: httpx.AsyncClient) -> None:
    preflight = await gateway.options(CONVERSATIONS, headers=_preflight(APP))
    assert preflight.status_code == 405
    assert "access-control-allow-origin" not in preflight.headers


def _origins(value: str, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    monkeypatch.setenv("MESSAGING_GATEWAY_ALLOWED_ORIGINS", value)
    return GatewaySettings(grpc_target="127.0.0.1:1", broker_websocket_url=BROKER_URL).allowed_origins


@pytest.mark.parametrize(
    ("value", "origins"),
    [
        ("", ()),
        (APP, (APP,)),
        (f"{APP}, http://localhost:3000,", (APP, "http://localhost:3000")),
        ("http://[::1]:3000,capacitor://localhost", ("http://[::1]:3000", "capacitor://localhost")),
        ("https://app.example:80", ("https://app.example:80",)),
    ],
)
def test_origins_are_separated_by_commas(
    value: str, origins: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _origins(value, monkeypatch) == origins


@pytest.mark.parametrize(
    "value",
    [
        "*",
        f"{APP},*",
        "null",
        "app.example",
        "https://",
        "https://*.example",
        f"{APP}/",
        f"{APP}/path",
        f"{APP}?query",
        f"{APP}:443",
        f"{APP}:0",
        f"{APP}:65536",
        f"{APP}:port",
        "http://app.example:80",
        "https://user@app.example",
        "https://App.example",
        f"{APP} http://localhost:3000",
    ],
)
def test_what_no_browser_sends_as_an_origin_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValidationError):
        _origins(value, monkeypatch)
