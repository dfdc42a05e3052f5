"""Receipts, resync, presence and preferences over REST."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from proto.messaging.v1 import messaging_pb2
from tests.conftest import MintToken
from tests.integration.gateway.in_memory_messaging import (
    CONVERSATION_ID,
    MESSAGE_ID,
    RunningService,
)

CHANGES = f"/api/conversations/{CONVERSATION_ID}/changes"
OTHER_ID = "019342c5-7e3a-7abc-8def-000000000009"


@pytest.fixture
def alice(token: MintToken) -> dict[str, str]:
    return {"Authorization": f"Bearer {token('alice')}"}


async def test_changes_are_walked_until_complete(gateway: httpx.AsyncClient, alice: dict[str, str]) -> None:
    pages: list[dict[str, Any]] = []
    while not pages or not pages[-1]["complete"]:
        after_seq = pages[-1]["messages"][-1]["seq"] if pages else 0
        answer = await gateway.get(CHANGES, params={"afterSeq": after_seq, "limit": 2}, headers=alice)
        pages.append(answer.json())
    assert [[message["seq"] for message in page["messages"]] for page in pages] == [[1, 2], [3, 4], [5]]
    assert pages[0]["messages"][1]["text"] == "two \U0001f600"
    for page in pages:
        assert page["positions"] == [
            {"userId": "alice", "deliveredSeq": 0, "readSeq": 0},
            {"userId": "bob", "deliveredSeq": 2, "readSeq": 1},
        ]


async def test_changes_from_the_start_are_the_default(
    gateway: httpx.AsyncClient, service: RunningService, alice: dict[str, str]
) -> None:
    await gateway.get(CHANGES, headers=alice)
    await gateway.get(CHANGES, params={"afterSeq": 2**63 - 1}, headers=alice)
    requests = messaging_pb2.SyncConversationRequest
    assert service.messaging.requests == [
        requests(conversation_id=CONVERSATION_ID, after_seq=0, limit=100),
        requests(conversation_id=CONVERSATION_ID, after_seq=2**63 - 1, limit=100),
    ]


async def test_receipts_tell_what_has_not_happened_as_null(
    gateway: httpx.AsyncClient, alice: dict[str, str]
) -> None:
    path = f"/api/conversations/{CONVERSATION_ID}/messages/{MESSAGE_ID}/receipts"
    assert (await gateway.get(path, headers=alice)).json() == {
        "receipts": [{"userId": "bob", "deliveredAt": "2025-11-21T09:30:00.000005Z", "readAt": None}]
    }
    answer = await gateway.get(path.replace(MESSAGE_ID, OTHER_ID), headers=alice)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "MESSAGE_NOT_FOUND")


async def test_presence_is_asked_of_many_users_at_once(
    gateway: httpx.AsyncClient, service: RunningService, alice: dict[str, str]
) -> None:
    users = ["erin", "bob", "carol", "dave", "stranger"]
    answer = await gateway.get("/api/presence", params={"userId": users}, headers=alice)
    assert answer.json() == {
        "presences": [
            {"userId": "bob", "state": "away", "lastSeenAt": None},
            {"userId": "carol", "state": "offline", "lastSeenAt": "2025-11-21T09:30:00.000005Z"},
            {"userId": "dave", "state": "offline", "lastSeenAt": None},
            {"userId": "erin", "state": "online", "lastSeenAt": None},
        ]
    }
    assert service.messaging.requests == [messaging_pb2.GetPresenceRequest(user_ids=users)]


async def test_preferences_are_read_and_changed_one_by_one(
    gateway: httpx.AsyncClient, service: RunningService, alice: dict[str, str]
) -> None:
    path = "/api/preferences"
    assert (await gateway.get(path, headers=alice)).json() == {"readReceipts": True, "invisible": False}
    for change in ({"readReceipts": False}, {"invisible": True}, {"readReceipts": True, "invisible": False}):
        answer = await gateway.patch(path, json=change, headers=alice)
        assert answer.status_code == 200
        assert change.items() <= answer.json().items()
        assert (await gateway.get(path, headers=alice)).json() == answer.json()
    changes = [each for each in service.messaging.requests if hasattr(each, "read_receipts")]
    assert changes == [
        messaging_pb2.SetPreferencesRequest(read_receipts=False),
        messaging_pb2.SetPreferencesRequest(invisible=True),
        messaging_pb2.SetPreferencesRequest(read_receipts=True, invisible=False),
    ]


async def test_every_field_of_the_new_answers_is_described_with_an_example(
    gateway: httpx.AsyncClient,
) -> None:
    schemas = (await gateway.get("/openapi.json")).json()["components"]["schemas"]
    for name in ("Position", "Preferences", "Presence"):
        for field, description in schemas[name]["properties"].items():
            assert description.get("examples") or field == "lastSeenAt", (name, field)
