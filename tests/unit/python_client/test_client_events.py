"""The Python client reads the events of `docs/asyncapi.yaml` and refuses others."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messaging_client import (
    CommandError,
    MalformedEvent,
    MessageDelivered,
    MessageRead,
    MessageSent,
    NewMessage,
    OtherChange,
    OtherEvent,
    Position,
    PreferencesChanged,
    PresenceChanged,
    SyncPage,
    Typing,
    decode_event,
)
from tests.asyncapi_schemas import document, published_events

_MESSAGE: dict[str, Any] = document()["components"]["messages"]["newMessage"]["examples"][0]["payload"]
_ERROR = {"code": "NOT_CONNECTED", "message": "why", "retryable": False, "command": "sendMessage"}


def _decode(name: str, payload: object) -> object:
    return decode_event(name, json.dumps(payload).encode())


_KINDS = {
    "messageSent": MessageSent,
    "newMessage": NewMessage,
    "messageDelivered": MessageDelivered,
    "messageRead": MessageRead,
    "syncPage": SyncPage,
    "typing": Typing,
    "presence": PresenceChanged,
    "preferencesChanged": PreferencesChanged,
    "error": CommandError,
}


def test_there_is_a_type_for_every_documented_event() -> None:
    assert set(_KINDS) == published_events()


@pytest.mark.parametrize("name", sorted(_KINDS))
def test_every_documented_example_is_read(name: str) -> None:
    channels = document()["channels"].values()
    (channel,) = (one for one in channels if one["address"].endswith(f"/users/{{userId}}/events/{name}"))
    for reference in channel["messages"].values():
        message = document()["components"]["messages"][reference["$ref"].rsplit("/", 1)[1]]
        for example in message["examples"]:
            assert isinstance(_decode(name, example["payload"]), _KINDS[name])


_PAGE = {
    "conversationId": "c",
    "afterSeq": 41,
    "changes": [{"type": "message", **_MESSAGE}, {"type": "reaction", "seq": 43, "emoji": "!"}],
    "positions": [{"userId": "bob", "deliveredSeq": 42, "readSeq": 7}],
    "complete": True,
}


def test_changes_of_a_page_are_what_they_would_have_been_live() -> None:
    payload = json.dumps(_PAGE).encode()
    as_author = decode_event("syncPage", payload, user_id=_MESSAGE["senderId"])
    as_other = decode_event("syncPage", payload, user_id="bob")
    assert isinstance(as_author, SyncPage)
    assert isinstance(as_other, SyncPage)
    assert isinstance(as_author.changes[0], MessageSent)
    assert as_other.changes[0] == _decode("newMessage", _MESSAGE)
    assert as_other.changes[1] == OtherChange(
        conversation_id="c", seq=43, kind="reaction", payload={"type": "reaction", "seq": 43, "emoji": "!"}
    )
    assert as_other.positions == (Position(user_id="bob", delivered_seq=42, read_seq=7),)
    assert as_other.last_seq == 43


@pytest.mark.parametrize("after", [42, 50])
def test_a_page_that_is_not_in_order_is_refused(after: int) -> None:
    with pytest.raises(MalformedEvent, match="order"):
        _decode("syncPage", {**_PAGE, "afterSeq": after})


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
    assert _decode("dance", {"isSlow": True}) == OtherEvent(name="dance", payload={"isSlow": True})


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
        ("presence", {"userId": "bob", "state": "asleep", "lastSeenAt": None}),
        ("typing", {"conversationId": "c", "userId": "bob", "isTyping": 1, "expiresInMs": 6000}),
        ("syncPage", {**_PAGE, "changes": [5]}),
        ("error", []),
        ("error", None),
    ],
)
def test_a_wrong_type_is_refused(name: str, payload: object) -> None:
    with pytest.raises(MalformedEvent):
        _decode(name, payload)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused_but_never_crash(payload: bytes) -> None:
    for name in ("newMessage", "error", "syncPage", "presence", "other"):
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
