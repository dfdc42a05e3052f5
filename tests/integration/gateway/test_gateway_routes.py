"""REST over real gRPC: what goes in reaches the service, what the service says comes out."""

from __future__ import annotations

from typing import Any

import grpc
import httpx
import pytest

from gateway.errors import STATUS
from proto.messaging.v1 import messaging_pb2
from tests.conftest import MintToken
from tests.integration.gateway.conftest import OpenGateway
from tests.integration.gateway.in_memory_messaging import (
    CONVERSATION_ID,
    EMPTY_CONVERSATION_ID,
    MESSAGE_ID,
    Refusal,
    RunningService,
)

UNKNOWN_ID = "5f0c1d1e-0f3c-5c1b-8d3b-2a9b8f6f7aff"
ROUTES: list[tuple[str, str, dict[str, Any] | None]] = [
    ("GET", "/api/conversations", None),
    ("GET", f"/api/conversations/{CONVERSATION_ID}", None),
    ("GET", f"/api/conversations/{CONVERSATION_ID}/messages", None),
    ("POST", "/api/conversations", {"recipientId": "bob"}),
    ("GET", f"/api/conversations/{CONVERSATION_ID}/changes", None),
    ("GET", f"/api/conversations/{CONVERSATION_ID}/messages/{MESSAGE_ID}/receipts", None),
    ("GET", "/api/presence?userId=bob", None),
    ("GET", "/api/preferences", None),
    ("PATCH", "/api/preferences", {"invisible": True}),
]
each_route = pytest.mark.parametrize(("method", "path", "body"), ROUTES)


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
def alice(token: MintToken) -> dict[str, str]:
    return _bearer(token("alice"))


async def test_conversations_are_listed_page_by_page(
    gateway: httpx.AsyncClient, alice: dict[str, str]
) -> None:
    first = (await gateway.get("/api/conversations?pageSize=1", headers=alice)).json()
    rest = await gateway.get(
        "/api/conversations", params={"pageSize": 1, "cursor": first["nextCursor"]}, headers=alice
    )
    assert first["conversations"][0] == {
        "conversationId": CONVERSATION_ID,
        "kind": "direct",
        "participantIds": ["alice", "bob"],
        "lastSeq": 5,
        "lastMessage": {
            "messageId": "019342c5-7e3a-7abc-8def-000000000005",
            "conversationId": CONVERSATION_ID,
            "seq": 5,
            "senderId": "alice",
            "text": "five",
            "timestamp": "2025-11-21T09:30:05.123456Z",
            "clientMessageId": "0b8c5c3e-3c51-4a5e-9a55-000000000005",
            "status": "SENT",
        },
        "unreadCount": 2,
        "readSeq": 3,
        "positions": [{"userId": "bob", "deliveredSeq": 2, "readSeq": 1}],
        "createdAt": "2025-11-21T09:30:00.000005Z",
    }
    assert rest.json() == {
        "conversations": [
            {
                "conversationId": EMPTY_CONVERSATION_ID,
                "kind": "direct",
                "participantIds": ["alice", "bob"],
                "lastSeq": 0,
                "unreadCount": 0,
                "readSeq": 0,
                "positions": [],
                "createdAt": "2025-11-21T09:30:00.000005Z",
            }
        ],
        "nextCursor": None,
    }


async def test_one_conversation_is_found(gateway: httpx.AsyncClient, alice: dict[str, str]) -> None:
    answer = await gateway.get(f"/api/conversations/{CONVERSATION_ID}", headers=alice)
    assert (answer.status_code, answer.json()["lastMessage"]["text"]) == (200, "five")
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("direction", "seqs"),
    [(None, [[5, 4], [3, 2], [1]]), ("older", [[5, 4], [3, 2], [1]]), ("newer", [[1, 2], [3, 4], [5]])],
)
async def test_history_is_walked_both_ways(
    direction: str | None,
    seqs: list[list[int]],
    gateway: httpx.AsyncClient,
    service: RunningService,
    alice: dict[str, str],
) -> None:
    pages: list[dict[str, Any]] = []
    params: dict[str, Any] = {"pageSize": 2} | ({} if direction is None else {"direction": direction})
    while not pages or pages[-1]["nextCursor"] is not None:
        if pages:
            params["cursor"] = pages[-1]["nextCursor"]
        url = f"/api/conversations/{CONVERSATION_ID}/messages"
        pages.append((await gateway.get(url, params=params, headers=alice)).json())
    assert [[message["seq"] for message in page["messages"]] for page in pages] == seqs
    texts = {message["seq"]: message["text"] for page in pages for message in page["messages"]}
    assert [texts[seq] for seq in range(1, 6)] == service.messaging.texts
    statuses = {message["seq"]: message["status"] for page in pages for message in page["messages"]}
    assert [statuses[seq] for seq in (1, 2, 3)] == ["READ", "DELIVERED", "SENT"]


async def test_a_conversation_is_opened(
    gateway: httpx.AsyncClient, service: RunningService, alice: dict[str, str]
) -> None:
    answer = await gateway.post("/api/conversations", json={"recipientId": "bob"}, headers=alice)
    assert answer.status_code == 200
    assert answer.json()["conversationId"] == EMPTY_CONVERSATION_ID
    assert service.messaging.requests == [messaging_pb2.OpenConversationRequest(recipient_id="bob")]


@each_route
async def test_the_callers_token_goes_on_unchanged_with_a_deadline(
    method: str,
    path: str,
    body: dict[str, Any] | None,
    gateway: httpx.AsyncClient,
    service: RunningService,
    token: MintToken,
) -> None:
    for user in ("alice", "bob"):
        minted = token(user)
        await gateway.request(method, path, json=body, headers=_bearer(minted))
        assert service.messaging.authorizations[-1] == f"Bearer {minted}"
    assert all(4 < seconds < 6 for seconds in service.messaging.deadlines)


@each_route
@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer", "Bearer ", "Basic YTpi", "Bearer a b", "Bearer \xe9", "Bearer a,b"]
)
async def test_without_a_token_no_route_reaches_the_service(
    method: str,
    path: str,
    body: dict[str, Any] | None,
    authorization: str | None,
    gateway: httpx.AsyncClient,
    service: RunningService,
) -> None:
    headers = [] if authorization is None else [(b"Authorization", authorization.encode("latin-1"))]
    answer = await gateway.request(method, path, json=body, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["error"]["code"] == "UNAUTHENTICATED"
    assert service.messaging.requests == []


@each_route
async def test_a_token_that_the_service_refuses_gives_401(
    method: str, path: str, body: dict[str, Any] | None, gateway: httpx.AsyncClient
) -> None:
    answer = await gateway.request(method, path, json=body, headers=_bearer("e30.e30.bad"))
    assert answer.status_code == 401
    assert answer.json() == {"error": {"code": "UNAUTHENTICATED", "message": "bad token", "retryable": False}}


async def test_two_authorization_headers_are_refused(
    gateway: httpx.AsyncClient, service: RunningService, token: MintToken
) -> None:
    headers = [("Authorization", f"Bearer {token('alice')}"), ("Authorization", f"Bearer {token('bob')}")]
    assert (await gateway.get("/api/conversations", headers=headers)).status_code == 401
    assert service.messaging.requests == []


@pytest.mark.parametrize(
    ("status", "code", "retryable", "expected"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_PAYLOAD", False, 400),
        (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED", False, 401),
        (grpc.StatusCode.PERMISSION_DENIED, "NOT_CONNECTED", False, 403),
        (grpc.StatusCode.NOT_FOUND, "CONVERSATION_NOT_FOUND", False, 404),
        (grpc.StatusCode.NOT_FOUND, "MESSAGE_NOT_FOUND", False, 404),
        (grpc.StatusCode.ALREADY_EXISTS, "IDEMPOTENCY_CONFLICT", False, 409),
        (grpc.StatusCode.UNAVAILABLE, "AUTHORIZATION_UNAVAILABLE", True, 503),
        (grpc.StatusCode.UNAVAILABLE, "STORAGE_UNAVAILABLE", True, 503),
        (grpc.StatusCode.INTERNAL, "INTERNAL", True, 500),
    ],
)
async def test_refusals_of_the_service_come_out_with_their_code(
    status: grpc.StatusCode,
    code: str,
    retryable: bool,
    expected: int,
    gateway: httpx.AsyncClient,
    service: RunningService,
    alice: dict[str, str],
) -> None:
    metadata = (("error-code", code), ("error-retryable", str(retryable).lower()))
    service.messaging.refusal = Refusal(status=status, message="the reason", metadata=metadata)
    for method, path, body in ROUTES:
        answer = await gateway.request(method, path, json=body, headers=alice)
        assert answer.status_code == expected
        assert answer.json() == {"error": {"code": code, "message": "the reason", "retryable": retryable}}


async def test_when_to_come_back_is_passed_on(
    gateway: httpx.AsyncClient, service: RunningService, alice: dict[str, str]
) -> None:
    service.messaging.refusal = Refusal(
        status=grpc.StatusCode.UNAVAILABLE,
        message="later",
        metadata=(
            ("error-code", "STORAGE_UNAVAILABLE"),
            ("error-retryable", "true"),
            ("error-retry-after-ms", "1200"),
        ),
    )
    answer = await gateway.get("/api/conversations", headers=alice)
    assert answer.headers["retry-after"] == "2"
    assert answer.json()["error"]["retryAfterMs"] == 1200


def test_every_grpc_status_has_an_http_status() -> None:
    assert set(STATUS) == set(grpc.StatusCode) - {grpc.StatusCode.OK}


async def test_a_service_that_is_away_gives_a_retryable_503_that_names_no_address(
    open_gateway: OpenGateway, alice: dict[str, str]
) -> None:
    async with open_gateway(grpc_target="127.0.0.1:1") as gateway:
        answer = await gateway.get("/api/conversations", headers=alice)
        assert (await gateway.get("/readyz")).status_code == 503
        assert (await gateway.get("/healthz")).status_code == 200
    assert answer.status_code == 503
    assert answer.json()["error"]["retryable"] is True
    assert "127.0.0.1" not in answer.text


async def test_a_service_that_hangs_is_given_up_at_the_deadline(
    open_gateway: OpenGateway, service: RunningService, alice: dict[str, str]
) -> None:
    service.messaging.hangs = True
    async with open_gateway(grpc_deadline_ms=100) as gateway:
        answer = await gateway.get("/api/conversations", headers=alice)
    assert (answer.status_code, answer.json()["error"]["retryable"]) == (504, True)


async def test_readiness_is_the_services(gateway: httpx.AsyncClient, service: RunningService) -> None:
    assert (await gateway.get("/readyz")).json() == {"status": "ready"}
    await service.set_serving(False)
    answer = await gateway.get("/readyz")
    assert (answer.status_code, answer.json()) == (503, {"status": "unavailable"})


async def test_stranger_and_unknown_conversation_look_the_same(
    gateway: httpx.AsyncClient, alice: dict[str, str]
) -> None:
    for rest in ("", "/messages", "/changes", f"/messages/{MESSAGE_ID}/receipts"):
        answer = await gateway.get(f"/api/conversations/{UNKNOWN_ID}{rest}", headers=alice)
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "CONVERSATION_NOT_FOUND"


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/nope", 404), ("DELETE", "/api/config", 405)]
)
async def test_unknown_routes_answer_in_the_same_form(
    method: str, path: str, status: int, gateway: httpx.AsyncClient
) -> None:
    answer = await gateway.request(method, path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, "UNKNOWN_COMMAND")
