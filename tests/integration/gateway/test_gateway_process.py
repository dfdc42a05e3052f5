"""`python -m gateway`: settings, logs, signals, and the reference page in a real browser."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from devstack.python_server import REPOSITORY, PythonServer
from proto.messaging.v1 import messaging_pb2
from tests.conftest import MintToken
from tests.end_to_end.browser import chromium
from tests.integration.gateway.conftest import BROKER_URL, RunGateway, url_of
from tests.integration.gateway.in_memory_messaging import CONVERSATION_ID, RunningService

GOOD = {
    "MESSAGING_GATEWAY_GRPC_TARGET": "127.0.0.1:1",
    "MESSAGING_GATEWAY_BROKER_WEBSOCKET_URL": BROKER_URL,
}


@pytest.fixture
async def gateway_process(run_gateway: RunGateway) -> AsyncIterator[PythonServer]:
    """A gateway in development as its own process."""
    async with run_gateway() as server:
        yield server


async def test_logs_are_json_and_never_hold_a_token_an_address_or_a_text(
    gateway_process: PythonServer, service: RunningService, token: MintToken, jwt_secret: str
) -> None:
    alice = token("alice")
    async with httpx.AsyncClient(base_url=url_of(gateway_process)) as client:
        headers = {"Authorization": f"Bearer {alice}"}
        minted = (await client.post("/api/dev/token", json={"userId": "bob"})).json()["token"]
        await client.get(f"/api/conversations/{CONVERSATION_ID}/messages", headers=headers)
        await client.get(f"/api/conversations?token={alice}&cursor={alice[:500]}", headers=headers)
        await client.get(f"/{alice}")
        await client.get(f"/api/conversations/{alice}", headers=headers)
        await client.request(alice[:30], "/", headers=headers)
        service.messaging.texts[0] = "a secret text"
        await client.get(f"/api/conversations/{CONVERSATION_ID}/messages", headers=headers)
        # Fails inside the gateway, which logs the defect: the service answers what no one expects.
        service.messaging.status_of_messages = messaging_pb2.MESSAGE_STATUS_UNSPECIFIED
        failed = await client.get(f"/api/conversations/{CONVERSATION_ID}/messages", headers=headers)
        assert failed.status_code == 500
        await client.post("/api/conversations", content=b'{"recipientId": "a secret text"}', headers=headers)
    await asyncio.to_thread(gateway_process.stop)
    log = gateway_process.log_file.read_text()
    for secret in (alice, alice[:30], alice.rsplit(".", 1)[1], minted, jwt_secret, "secret text"):
        assert secret not in log
    records = [json.loads(line) for line in log.splitlines()]
    assert all({"event", "level", "timestamp"} <= set(record) for record in records)
    assert [record["error"] for record in records if record["event"] == "defect"] == ["ValidationError"]
    requests = [record for record in records if record["event"] == "request"]
    assert {record["route"] for record in requests} >= {
        "/api/dev/token",
        "/api/conversations/{conversationId}/messages",
        "/api/conversations",
    }
    assert all(record["milliseconds"] >= 0 for record in requests)


async def test_sigterm_lets_a_request_finish_and_ends_cleanly(
    gateway_process: PythonServer, service: RunningService, token: MintToken
) -> None:
    service.messaging.hangs = True
    async with httpx.AsyncClient(base_url=url_of(gateway_process), timeout=20) as client:
        headers = {"Authorization": f"Bearer {token('alice')}"}
        waiting = asyncio.create_task(client.get("/api/conversations", headers=headers))
        async with asyncio.timeout(10):
            await service.messaging.entered.wait()
        stopping = asyncio.create_task(asyncio.to_thread(gateway_process.stop))
        # Its own deadline ends the request, with an answer, after SIGTERM has come.
        answer = await waiting
        await stopping
    assert answer.status_code == 504
    assert gateway_process.exit_code == 0
    assert "Traceback" not in gateway_process.log_file.read_text()


async def test_the_reference_page_works_in_a_browser_under_its_policy(
    gateway_process: PythonServer,
) -> None:
    complaints: list[str] = []
    asked: list[str] = []
    async with chromium() as browser:
        page = await browser.new_page()
        page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        await page.goto(f"{url_of(gateway_process)}/docs")
        await page.locator(".opblock-get .opblock-summary-control").first.click()
        await page.locator(".responses-table").first.wait_for()
        await page.locator("button.authorize").first.click()
        await page.get_by_text("userToken").first.wait_for()
    assert complaints == []
    assert all(url.startswith((url_of(gateway_process), "data:")) for url in asked)


def _start(settings: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gateway"],
        env={"PATH": "/usr/bin:/bin"} | settings,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_missing_settings_end_the_process_with_a_list() -> None:
    ended = _start({})
    assert ended.returncode == 2
    assert "MESSAGING_GATEWAY_GRPC_TARGET: Field required" in ended.stderr
    assert "MESSAGING_GATEWAY_BROKER_WEBSOCKET_URL: Field required" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"PORT": "0"}, "MESSAGING_GATEWAY_PORT: "),
        ({"PORT": "http"}, "MESSAGING_GATEWAY_PORT: "),
        ({"ENVIRONMENT": "staging"}, "MESSAGING_GATEWAY_ENVIRONMENT: "),
        ({"LOG_LEVEL": "all"}, "MESSAGING_GATEWAY_LOG_LEVEL: "),
        ({"GRPC_TARGET": ""}, "MESSAGING_GATEWAY_GRPC_TARGET: "),
        ({"BROKER_WEBSOCKET_URL": "http://127.0.0.1"}, "must be a URL that begins with ws:// or wss://"),
        ({"BROKER_WEBSOCKET_URL": "ws://user:pw@host"}, "must have neither user, query nor fragment"),
        ({"BROKER_WEBSOCKET_URL": "ws://host;script-src *"}, "must not contain spaces"),
        ({"REQUEST_DEADLINE_S": "0"}, "MESSAGING_GATEWAY_REQUEST_DEADLINE_S: "),
        ({"CONNECTIONS_LIMIT": "0"}, "MESSAGING_GATEWAY_CONNECTIONS_LIMIT: "),
        ({"ALLOWED_ORIGINS": "https://app.example,*"}, "MESSAGING_GATEWAY_ALLOWED_ORIGINS: each must be"),
        ({"ENVIRONMENT": "development"}, "MESSAGING_GATEWAY_JWT_SECRET must have at least 32"),
        (
            {"ENVIRONMENT": "development", "JWT_SECRET": "short-secret"},
            "MESSAGING_GATEWAY_JWT_SECRET must have at least 32",
        ),
    ],
)
def test_wrong_settings_are_named_and_not_repeated(wrong: dict[str, Any], words: str) -> None:
    ended = _start(GOOD | {f"MESSAGING_GATEWAY_{name}": value for name, value in wrong.items()})
    assert ended.returncode == 2
    assert words in ended.stderr
    assert "short-secret" not in ended.stderr
    assert "Traceback" not in ended.stderr
