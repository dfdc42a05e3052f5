"""Demo page, reference page, headers, and the development-only token route."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import httpx
import jwt
import pytest
from starlette.types import Message, Receive, Scope, Send

from gateway.app import create_app
from gateway.settings import Environment, GatewaySettings
from tests.integration.gateway.conftest import BROKER_URL, OpenGateway


def _policy(answer: httpx.Response) -> dict[str, list[str]]:
    directives = answer.headers["content-security-policy"].split("; ")
    return {words[0]: words[1:] for words in (directive.split(" ") for directive in directives)}


@pytest.mark.parametrize("path", ["/", "/docs", "/api/config", "/api/conversations", "/nope", "/healthz"])
async def test_every_response_has_the_security_headers(path: str, gateway: httpx.AsyncClient) -> None:
    answer = await gateway.get(path)
    policy = _policy(answer)
    assert policy["default-src"] == ["'none'"]
    assert policy["script-src"] == ["'self'"]
    assert policy["style-src"] == ["'self'"]
    assert policy["connect-src"] == ["'self'", BROKER_URL]
    assert policy["frame-ancestors"] == ["'self'"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


async def test_the_policy_names_the_brokers_origin_only(open_gateway: OpenGateway) -> None:
    async with open_gateway(broker_websocket_url="wss://broker.example:8084/mqtt") as gateway:
        answer = await gateway.get("/api/config")
    assert _policy(answer)["connect-src"] == ["'self'", "wss://broker.example:8084"]
    assert answer.json() == {
        "brokerUrl": "wss://broker.example:8084/mqtt",
        "topicRoot": "chat/v1",
        "development": False,
    }


async def test_the_page_is_asked_for_each_time_and_its_assets_are_kept(gateway: httpx.AsyncClient) -> None:
    page = await gateway.get("/")
    assert (page.status_code, page.headers["cache-control"]) == (200, "no-cache")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    asset = await gateway.get("/assets/index-0a1b2c3d.js")
    assert (asset.status_code, "immutable" in asset.headers["cache-control"]) == (200, True)
    again = await gateway.get("/", headers={"If-None-Match": page.headers["etag"]})
    assert again.status_code == 304


@pytest.mark.parametrize(
    "path", ["/../pyproject.toml", "/assets/../../settings.py", "/%2e%2e/app.py", "/assets"]
)
async def test_nothing_outside_the_page_is_served(path: str, gateway: httpx.AsyncClient) -> None:
    assert (await gateway.get(path)).status_code == 404


async def test_the_reference_page_asks_no_other_host(gateway: httpx.AsyncClient) -> None:
    page = await gateway.get("/docs")
    sources = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert sources
    for source in sources:
        assert source.startswith(("/docs/assets/", "/openapi.json", "data:"))
        if source.startswith("/"):
            answer = await gateway.get(source)
            assert answer.status_code == 200
    start = await gateway.get("/docs/assets/start.js")
    assert "http" not in start.text
    assert not re.search(r"<script(?![^>]*src=)", page.text)


@pytest.mark.parametrize("name", ["swagger-ui-bundle.js", "swagger-ui.css"])
async def test_a_large_file_is_sent_in_pieces(name: str, static_folder: Path) -> None:
    settings = GatewaySettings(grpc_target="127.0.0.1:1", broker_websocket_url=BROKER_URL)
    app = create_app(settings, static_folder=static_folder)
    pieces: list[int] = []

    async def measured(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_and_measure(message: Message) -> None:
            pieces.append(len(message.get("body", b"")))
            await send(message)

        await app(scope, receive, send_and_measure)

    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(measured), base_url="http://gateway"
    ) as client:
        answer = await client.get(f"/docs/assets/{name}")
    assert answer.status_code == 200
    assert len(answer.content) == int(answer.headers["content-length"]) == sum(pieces)
    assert max(pieces) <= 64 * 1024 < sum(pieces)
    assert answer.headers["content-type"].startswith(("text/javascript", "text/css"))
    assert answer.headers["cache-control"] == "public, max-age=86400"


async def test_openapi_describes_every_route_its_errors_and_the_token(gateway: httpx.AsyncClient) -> None:
    schema = (await gateway.get("/openapi.json")).json()
    assert set(schema["paths"]) == {
        "/api/conversations",
        "/api/conversations/{conversationId}",
        "/api/conversations/{conversationId}/messages",
        "/api/conversations/{conversationId}/messages/{messageId}/receipts",
        "/api/conversations/{conversationId}/changes",
        "/api/presence",
        "/api/preferences",
        "/api/dev/token",
        "/api/config",
        "/healthz",
        "/readyz",
    }
    assert schema["components"]["securitySchemes"]["userToken"]["scheme"] == "bearer"
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            assert operation["description"]
            assert "422" not in operation["responses"]
            if path.startswith(("/api/conversations", "/api/presence", "/api/preferences")):
                assert operation["security"] == [{"userToken": []}]
                assert {"200", "400", "401", "503", "504"} <= set(operation["responses"])
    message = schema["components"]["schemas"]["Message"]
    assert "senderId" in message["required"]
    assert "HTTPValidationError" not in json.dumps(schema)


async def test_the_token_route_mints_what_the_broker_and_the_service_accept(
    gateway: httpx.AsyncClient, jwt_secret: str
) -> None:
    before = int(time.time())
    answer = await gateway.post("/api/dev/token", json={"userId": "alice", "deviceId": "laptop"})
    assert answer.headers["cache-control"] == "no-store"
    claims = jwt.decode(answer.json()["token"], jwt_secret, algorithms=["HS256"])
    assert (claims["sub"], claims["cid"]) == ("alice", "alice:laptop")
    assert claims["exp"] == claims["iat"] + 3600
    assert before <= claims["iat"] <= time.time()
    assert set(claims) == {"sub", "cid", "iat", "exp"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", answer.json()["expiresAt"])


async def test_the_token_has_audience_and_issuer_when_they_are_set_and_no_device_when_none_is_named(
    open_gateway: OpenGateway, jwt_secret: str
) -> None:
    async with open_gateway(
        environment=Environment.DEVELOPMENT,
        jwt_secret=jwt_secret,
        jwt_audience="messaging",
        jwt_issuer="dev",
        token_lifetime_s=10,
    ) as gateway:
        token = (await gateway.post("/api/dev/token", json={"userId": "bob"})).json()["token"]
    claims = jwt.decode(token, jwt_secret, algorithms=["HS256"], audience="messaging", issuer="dev")
    assert claims["exp"] == claims["iat"] + 10
    assert "cid" not in claims


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"userId": "a b"},
        {"userId": ""},
        {"userId": "a", "deviceId": "a:b"},
        # Its client ids would be the service's.
        {"userId": "messaging-service"},
    ],
)
async def test_a_token_for_nobody_is_refused(body: dict[str, str], gateway: httpx.AsyncClient) -> None:
    assert (await gateway.post("/api/dev/token", json=body)).status_code == 400


async def test_in_production_there_is_no_token_route(
    open_gateway: OpenGateway, production_gateway: httpx.AsyncClient, jwt_secret: str
) -> None:
    async with open_gateway(jwt_secret=jwt_secret) as with_secret:
        for gateway in (production_gateway, with_secret):
            for method in ("POST", "GET"):
                answer = await gateway.request(method, "/api/dev/token", json={"userId": "alice"})
                assert answer.status_code in (404, 405)
                assert "token" not in answer.json()
            assert "/api/dev/token" not in (await gateway.get("/openapi.json")).json()["paths"]
