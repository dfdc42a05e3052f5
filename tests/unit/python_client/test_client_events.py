"""The Python client reads the events of `docs/asyncapi.yaml` and refuses others."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messaging_client import CommandError, MalformedEvent, MessageSent, NewMessage, OtherEvent, decode_event
from tests.asyncapi_schemas import document

_MESSAGE: dict[str, Any] = document()["components"]["messages"]["newMessage"]["examples"][0]["payload"]
_ERROR = {"code": "NOT_CONNECTED", "message": "why", "retryable": False, "command": "sendMessage"}


def _decode(name: str, payload: object) -> object:
    return decode_event(name, json.dumps(payload).encode())


@pytest.mark.parametrize("name", ["messageSent", "newMessage", "error"])
def test_every_documented_example_is_read(name: str) -> None:
    kinds = {"messageSent": MessageSent, "newMessage": NewMessage, "error": CommandError}
    for example in document()["components"]["messages"][name]["examples"]:
        assert isinstance(_decode(name, example["payload"]), kinds[name])


def test_fields_arrive_where_they_belong() -> None:
    event = _decode("newMessage", _MESSAGE)
    assert event == NewMessage(
        message_id=_MESSAGE["messageId"],
        conversation_id=_MESSAGE["conversationId"],
        seq=42,
        sender_id="alice",
        text="Hello Bob",
        timestamp=datetime(2025, 11, 21, 9, 30, 0, 123456, tzinfo=UTC),
        client_message_id=_MESSAGE["clientMessageId"],
    )


def test_unknown_fields_are_ignored() -> None:
    assert isinstance(_decode("newMessage", {**_MESSAGE, "reactions": []}), NewMessage)


def test_an_event_of_a_later_version_is_handed_on_as_it_is() -> None:
    assert _decode("typing", {"isTyping": True}) == OtherEvent(name="typing", payload={"isTyping": True})


@pytest.mark.parametrize("key", sorted(_MESSAGE))
def test_a_missing_field_is_named(key: str) -> None:
    with pytest.raises(MalformedEvent, match=key):
        _decode("newMessage", {name: value for name, value in _MESSAGE.items() if name != key})


@pytest.mark.parametrize(
    ("name", "payload"),
    [
        ("newMessage", {**_MESSAGE, "seq": "1"}),
        ("newMessage", {**_MESSAGE, "seq": True}),
        ("newMessage", {**_MESSAGE, "text": None}),
        ("newMessage", {**_MESSAGE, "timestamp": "yesterday"}),
        ("messageSent", {**_MESSAGE, "requestId": 5}),
        ("error", {**_ERROR, "retryable": "no"}),
        ("error", {**_ERROR, "retryAfterMs": "5"}),
        ("error", []),
        ("error", None),
    ],
)
def test_a_wrong_type_is_refused(name: str, payload: object) -> None:
    with pytest.raises(MalformedEvent):
        _decode(name, payload)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused_but_never_crash(payload: bytes) -> None:
    for name in ("newMessage", "error", "other"):
        try:
            decode_event(name, payload)
        except MalformedEvent:
            continue


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(MalformedEvent, match="not JSON"):
        decode_event("newMessage", b"[" * 100_000)


def test_the_words_of_a_refusal_hold_no_content() -> None:
    with pytest.raises(MalformedEvent) as refusal:
        _decode("newMessage", {**_MESSAGE, "text": "secret words", "seq": "secret words"})
    assert "secret" not in str(refusal.value)
