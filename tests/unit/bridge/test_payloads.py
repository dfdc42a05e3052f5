"""What commands may say, what errors say, and what events look like."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from bridge.payloads import (
    MAX_PAYLOAD_BYTES,
    SendMessagePayload,
    correlation_of,
    encode_error,
    encode_message,
    parse,
)
from service.domain.errors import ErrorCode, Rejected, Rejection
from service.domain.ids import ClientMessageId, ConversationId, MessageId, UserId
from service.domain.message import Message

KEY = "0b0e7a1e-4c55-4f55-9e55-0a53a8b6f001"


def command(**fields: object) -> bytes:
    return json.dumps({"recipientId": "bob", "clientMessageId": KEY, "text": "hello", **fields}).encode()


def rejection(payload: bytes) -> Rejection:
    with pytest.raises(Rejected) as caught:
        parse(SendMessagePayload, payload)
    return caught.value.rejection


@pytest.mark.parametrize(
    "text",
    ["a", "😀", "שלום עולם", "e" + "\u0301" * 4_999, "x" * 5_000, "NaN and Infinity", '"quoted"\\ \u2028'],
)
def test_every_text_within_the_limits_comes_through_unchanged(text: str) -> None:
    assert parse(SendMessagePayload, command(text=text)).text == text


@pytest.mark.parametrize(
    ("payload", "place"),
    [
        (b"", "payload: not JSON"),
        (b"hello", "payload: not JSON"),
        (b"\xff\xfe", "payload: not JSON"),
        (b"[" * 20_000, "payload: not JSON"),
        (b"[]", "payload: not an object"),
        (b'"text"', "payload: not an object"),
        (b"null", "payload: not an object"),
        (command()[:-1] + b', "x": NaN}', "payload: not JSON"),
        (command()[:-1] + b', "x": -Infinity}', "payload: not JSON"),
        (command(text="?").replace(b"?", b"\\ud800"), "payload: not JSON"),
        (command(text="a\0b"), "U+0000"),
        (command(text=""), "text"),
        (command(text="x" * 5_001), "text"),
        (command(text=7), "text"),
        (command(clientMessageId="seven"), "clientMessageId: not a UUID"),
        (command(clientMessageId=7), "clientMessageId"),
        (command(recipientId="bo b"), "recipientId"),
        (command(recipientId="b/+"), "recipientId"),
        (command(recipientId="bob\n"), "recipientId"),
        (command(recipientId="x" * 65), "recipientId"),
        (command(conversationId=str(uuid4())), "either conversationId or recipientId"),
        (command(recipientId=None), "either conversationId or recipientId"),
        (command(requestId="x" * 129), "requestId"),
    ],
)
def test_malformed_commands_are_refused_by_field_and_rule(payload: bytes, place: str) -> None:
    refused = rejection(payload)
    assert refused.code is ErrorCode.INVALID_PAYLOAD
    assert place in refused.message
    assert not refused.retryable


def test_a_refusal_never_repeats_what_was_sent() -> None:
    assert "secret" not in rejection(command(clientMessageId="secret", recipientId="se cret")).message


def test_a_payload_is_too_large_by_its_bytes() -> None:
    padding = "x" * (MAX_PAYLOAD_BYTES - len(command(pad="")))
    assert parse(SendMessagePayload, command(pad=padding)).text == "hello"
    assert rejection(command(pad=padding + "x")).code is ErrorCode.PAYLOAD_TOO_LARGE


def test_unknown_fields_are_ignored() -> None:
    assert parse(SendMessagePayload, command(colour="green", senderId="mallory")).text == "hello"


def test_a_later_duplicate_key_wins_as_it_does_in_browsers() -> None:
    payload = command()[:-1] + b', "text": "second"}'
    assert parse(SendMessagePayload, payload).text == "second"


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (command(text="", requestId="r1"), {"client_message_id": KEY, "request_id": "r1"}),
        (command(text="", clientMessageId=KEY.upper()), {"client_message_id": KEY}),
        (command(clientMessageId="no UUID"), {"client_message_id": "no UUID"}),
        (command(clientMessageId=5), {}),
        (command(clientMessageId="x" * 129), {}),
        (b"not json", {}),
        (b"[" * 30_000, {}),
        (b"[1]", {}),
        (b"x" * (MAX_PAYLOAD_BYTES + 1), {}),
    ],
)
def test_an_error_names_the_command_as_far_as_it_can_be_read(
    payload: bytes, expected: dict[str, str]
) -> None:
    assert correlation_of(payload) == expected


def test_an_event_holds_the_message_and_the_order() -> None:
    message = Message(
        id=MessageId(UUID(int=1)),
        conversation_id=ConversationId(UUID(int=2)),
        seq=3,
        sender_id=UserId("alice"),
        client_message_id=ClientMessageId(UUID(int=4)),
        text="é😀",
        created_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    )
    assert json.loads(encode_message(message, "r1")) == {
        "messageId": str(UUID(int=1)),
        "conversationId": str(UUID(int=2)),
        "seq": 3,
        "senderId": "alice",
        "clientMessageId": str(UUID(int=4)),
        "text": "é😀",
        "timestamp": "2026-01-02T03:04:05.000000Z",
        "requestId": "r1",
    }


def test_an_error_tells_whether_and_when_to_try_again() -> None:
    refused = Rejection(ErrorCode.STORAGE_UNAVAILABLE, "later", 500)
    assert json.loads(encode_error(refused, "sendMessage", KEY, None)) == {
        "code": "STORAGE_UNAVAILABLE",
        "message": "later",
        "retryable": True,
        "retryAfterMs": 500,
        "command": "sendMessage",
        "clientMessageId": KEY,
    }
