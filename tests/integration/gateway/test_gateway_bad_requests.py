"""Requests that never reach the service."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from tests.conftest import MintToken
from tests.integration.gateway.in_memory_messaging import CONVERSATION_ID, RunningService


@pytest.fixture
def alice(token: MintToken) -> dict[str, str]:
    return {"Authorization": f"Bearer {token('alice')}"}


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/api/conversations?pageSize=0", None),
        ("GET", "/api/conversations?pageSize=101", None),
        ("GET", "/api/conversations?pageSize=many", None),
        ("GET", f"/api/conversations?cursor={'x' * 513}", None),
        ("GET", "/api/conversations/not-a-uuid", None),
        ("GET", f"/api/conversations/{CONVERSATION_ID}/messages?direction=sideways", None),
        ("GET", f"/api/conversations/{CONVERSATION_ID}/changes?afterSeq=-1", None),
        ("GET", f"/api/conversations/{CONVERSATION_ID}/changes?afterSeq={2**63}", None),
        ("GET", f"/api/conversations/{CONVERSATION_ID}/changes?limit=0", None),
        ("GET", f"/api/conversations/{CONVERSATION_ID}/changes?limit=101", None),
        ("GET", f"/api/conversations/{CONVERSATION_ID}/messages/secret/receipts", None),
        ("GET", "/api/presence", None),
        ("GET", "/api/presence?userId=secret/b", None),
        ("GET", "/api/presence?userId=", None),
        ("GET", "/api/presence?" + "&".join(["userId=bob"] * 101), None),
        ("PATCH", "/api/preferences", b"{}"),
        ("PATCH", "/api/preferences", b"[]"),
        ("PATCH", "/api/preferences", b'{"invisible": "secret"}'),
        ("PATCH", "/api/preferences", b'{"readReceipts": 1}'),
        ("PATCH", "/api/preferences", b'{"readReceipts": null}'),
        ("POST", "/api/conversations", b"not JSON"),
        ("POST", "/api/conversations", b"[]"),
        ("POST", "/api/conversations", b"{}"),
        ("POST", "/api/conversations", b'{"recipientId": "a/b"}'),
        ("POST", "/api/conversations", b'{"recipientId": "secret\\u0000"}'),
        ("POST", "/api/conversations", b'{"recipientId": "\\ud800"}'),
        ("POST", "/api/conversations", b"\xff\xfe"),
        ("POST", "/api/conversations", b"[" * 10_000),
    ],
)
async def test_bad_requests_get_400_that_quotes_nothing(
    method: str,
    path: str,
    body: bytes | None,
    gateway: httpx.AsyncClient,
    service: RunningService,
    alice: dict[str, str],
) -> None:
    headers = alice | {"Content-Type": "application/json"}
    answer = await gateway.request(method, path, content=body, headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "INVALID_PAYLOAD"
    assert answer.json()["error"]["retryable"] is False
    assert "secret" not in answer.text
    assert service.messaging.requests == []


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_a_body_that_is_too_large_is_not_read_whoever_sends_it(
    is_chunked: bool, gateway: httpx.AsyncClient
) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"[" * 1_024

    content = chunks() if is_chunked else b"[" * 20 * 1_024
    answer = await gateway.post("/api/conversations", content=content)
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "PAYLOAD_TOO_LARGE"
    assert answer.headers["x-content-type-options"] == "nosniff"
