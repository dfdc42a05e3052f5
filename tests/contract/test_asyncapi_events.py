"""What the bridge publishes about positions and changes is what `docs/asyncapi.yaml` says."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from bridge.payloads import (
    encode_position,
    encode_preferences,
    encode_presence,
    encode_sync_page,
    encode_typing,
)
from service.domain.conversation import direct_conversation
from service.domain.ids import ClientMessageId, MessageId, UserId, uuid7
from service.domain.message import MAX_TEXT_CHARACTERS, Message
from service.domain.preferences import Preferences
from service.domain.presence import Presence, PresenceState
from service.domain.receipts import Mark, Position, Positions
from service.use_cases.mark_position import Marked
from service.use_cases.relay_typing import TypingSignal
from service.use_cases.sync_conversation import SyncPage
from tests.asyncapi_schemas import validate_event
from tests.contract.conversation_reader.in_memory import on_a_page

ALICE, BOB = UserId("alice"), UserId("bob")
CONVERSATION = direct_conversation(ALICE, BOB)
AT = datetime(2025, 11, 21, 9, 30, tzinfo=UTC)


def _message(seq: int, text: str) -> Message:
    return Message(
        id=MessageId(uuid7(1_732_000_000_000_000_000 + seq * 1_000_000)),
        conversation_id=CONVERSATION.id,
        seq=seq,
        sender_id=ALICE,
        client_message_id=ClientMessageId(uuid4()),
        text=text,
        created_at=AT,
    )


def _page(messages: list[Message], *, complete: bool) -> SyncPage:
    return SyncPage(
        conversation_id=CONVERSATION.id,
        after_seq=0,
        messages=[on_a_page(message) for message in messages],
        positions={ALICE: Positions(), BOB: Positions(delivered_seq=2, read_seq=1, shown_read_seq=1)},
        complete=complete,
    )


@pytest.mark.parametrize("text", ["a", "\x01" * MAX_TEXT_CHARACTERS, "\U0001f600" * MAX_TEXT_CHARACTERS])
def test_encoded_pages_match(text: str) -> None:
    page = _page([_message(1, text), _message(2, text)], complete=False)
    validate_event("syncPage", json.loads(encode_sync_page(page, "r-1")))
    validate_event("syncPage", json.loads(encode_sync_page(_page([], complete=True), None)))


@pytest.mark.parametrize("is_read", [True, False])
@pytest.mark.parametrize("event", ["messageRead", "messageDelivered"])
def test_encoded_positions_match(event: str, is_read: bool) -> None:
    message = _message(7, "x")
    mark = Mark(conversation_id=CONVERSATION.id, user_id=BOB, message_id=message.id, is_read=is_read)
    position = Position(
        message_id=message.id, seq=7, reached_at=AT, moved=True, moved_delivered=True, visible=True
    )
    result = Marked(mark=mark, position=position, counterpart_id=ALICE)
    validate_event(event, json.loads(encode_position(result, event)))
    if event == "messageRead":
        validate_event(event, json.loads(encode_position(result, event, "r-1")))


@pytest.mark.parametrize("is_typing", [True, False])
def test_encoded_typing_matches(is_typing: bool) -> None:
    signal = TypingSignal(
        conversation_id=CONVERSATION.id, user_id=ALICE, recipient_id=BOB, is_typing=is_typing
    )
    validate_event("typing", json.loads(encode_typing(signal)))


@pytest.mark.parametrize("state", list(PresenceState))
def test_encoded_presence_matches(state: PresenceState) -> None:
    seen: list[datetime | None] = [None, AT] if state is PresenceState.OFFLINE else [None]
    for last_seen_at in seen:
        presence = Presence(user_id=BOB, state=state, last_seen_at=last_seen_at)
        validate_event("presence", json.loads(encode_presence(presence)))


@pytest.mark.parametrize("request_id", [None, "r-1"])
def test_encoded_preferences_match(request_id: str | None) -> None:
    payload = encode_preferences(Preferences(read_receipts=False, invisible=True), request_id)
    validate_event("preferencesChanged", json.loads(payload))


_CONVERSATION_ID = str(CONVERSATION.id)
_TYPING = {"conversationId": _CONVERSATION_ID, "userId": "bob", "isTyping": True, "expiresInMs": 6000}
_ONLINE = {"userId": "bob", "state": "online", "lastSeenAt": None}


@pytest.mark.parametrize(
    ("event", "payload", "valid"),
    [
        ("typing", _TYPING, True),
        ("typing", {**_TYPING, "isTyping": False}, True),
        ("typing", {**_TYPING, "expiresInMs": 60_000}, False),
        ("typing", {**_TYPING, "text": "x"}, False),
        ("presence", _ONLINE, True),
        ("presence", {**_ONLINE, "state": "offline"}, True),
        ("presence", {**_ONLINE, "state": "offline", "lastSeenAt": "2025-11-21T09:30:00.000000Z"}, True),
        ("presence", {**_ONLINE, "state": "offline", "lastSeenAt": "2025-11-21T09:30:00Z"}, False),
        ("presence", {**_ONLINE, "lastSeenAt": "2025-11-21T09:30:00.000000Z"}, False),
        ("presence", {**_ONLINE, "state": "invisible"}, False),
        ("presence", {"userId": "bob", "state": "online"}, False),
        ("presence", {**_ONLINE, "sessionId": "s"}, False),
        ("preferencesChanged", {"readReceipts": True, "invisible": False}, True),
        ("preferencesChanged", {"readReceipts": True, "invisible": False, "requestId": "r"}, True),
        ("preferencesChanged", {"readReceipts": True}, False),
    ],
)
def test_signals_and_preferences_are_described_exactly(
    event: str, payload: dict[str, Any], valid: bool
) -> None:
    try:
        validate_event(event, payload)
        described = True
    except AssertionError:
        described = False
    assert described is valid


@pytest.mark.parametrize(
    "change",
    [
        {"changes": []},
        {"complete": "no"},
        {"positions": []},
        {"afterSeq": -1},
        {"nextSeq": 3},
    ],
    ids=lambda change: "-".join(change),
)
def test_a_wrong_page_is_noticed(change: dict[str, Any]) -> None:
    payload = json.loads(encode_sync_page(_page([_message(1, "x")], complete=False), None))
    with pytest.raises(AssertionError, match="does not match"):
        validate_event("syncPage", {**payload, **change})
