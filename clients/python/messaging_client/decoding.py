"""How the payloads of events are read."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from itertools import pairwise
from typing import Any

from messaging_client.errors import MalformedEvent
from messaging_client.events import (
    Change,
    CommandError,
    Event,
    MessageDelivered,
    MessageRead,
    MessageSent,
    NewMessage,
    OtherChange,
    OtherEvent,
    Position,
    PreferencesChanged,
    PresenceChanged,
    PresenceState,
    SyncPage,
    Typing,
)


def decode_event(name: str, payload: bytes, *, user_id: str | None = None) -> Event:
    """The event that came on `.../events/{name}`; unknown fields are ignored.

    `user_id` is the receiving user: on a `syncPage` its own messages become
    `MessageSent`, as they do when they are told live. Raises `MalformedEvent`,
    naming the fault and never the content.
    """
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError):
        raise MalformedEvent(f"{name}: not JSON") from None
    fields = _Fields(name, value)
    decode = _DECODERS.get(name)
    if decode is not None:
        return decode(fields)
    if name == "syncPage":
        return _sync_page(fields, user_id)
    return OtherEvent(name=name, payload=value)


class _Fields:
    """A JSON object whose fields are asked for by name and type."""

    def __init__(self, name: str, value: Any) -> None:
        if not isinstance(value, dict):
            raise MalformedEvent(f"{name}: not an object")
        self.name = name
        self.value: dict[str, Any] = value

    def required(self, key: str, kind: type) -> Any:
        if key not in self.value:
            raise MalformedEvent(f"{self.name}: {key} is missing")
        value = self.value[key]
        # JSON's true is no number, though Python's is an int.
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise MalformedEvent(f"{self.name}: {key} is no {kind.__name__}")
        return value

    def optional(self, key: str, kind: type) -> Any:
        return None if self.value.get(key) is None else self.required(key, kind)

    def moment(self, key: str) -> datetime:
        try:
            return datetime.fromisoformat(self.required(key, str))
        except ValueError:
            raise MalformedEvent(f"{self.name}: {key} is not RFC 3339") from None

    def objects(self, key: str) -> list[_Fields]:
        return [_Fields(self.name, value) for value in self.required(key, list)]


def _message(fields: _Fields) -> dict[str, Any]:
    return {
        "message_id": fields.required("messageId", str),
        "conversation_id": fields.required("conversationId", str),
        "seq": fields.required("seq", int),
        "sender_id": fields.required("senderId", str),
        "text": fields.required("text", str),
        "timestamp": fields.moment("timestamp"),
        "client_message_id": fields.required("clientMessageId", str),
    }


def _message_sent(fields: _Fields) -> MessageSent:
    return MessageSent(**_message(fields), request_id=fields.optional("requestId", str))


def _mark(fields: _Fields) -> dict[str, Any]:
    return {
        "conversation_id": fields.required("conversationId", str),
        "message_id": fields.required("messageId", str),
        "seq": fields.required("seq", int),
        "user_id": fields.required("userId", str),
    }


def _message_read(fields: _Fields) -> MessageRead:
    return MessageRead(
        **_mark(fields), read_at=fields.moment("readAt"), request_id=fields.optional("requestId", str)
    )


def _typing(fields: _Fields) -> Typing:
    return Typing(
        conversation_id=fields.required("conversationId", str),
        user_id=fields.required("userId", str),
        is_typing=fields.required("isTyping", bool),
        expires_in_ms=fields.required("expiresInMs", int),
    )


def _presence(fields: _Fields) -> PresenceChanged:
    try:
        state = PresenceState(fields.required("state", str))
    except ValueError:
        raise MalformedEvent(f"{fields.name}: state is unknown") from None
    last_seen = None if fields.value.get("lastSeenAt") is None else fields.moment("lastSeenAt")
    return PresenceChanged(user_id=fields.required("userId", str), state=state, last_seen_at=last_seen)


def _preferences(fields: _Fields) -> PreferencesChanged:
    return PreferencesChanged(
        read_receipts=fields.required("readReceipts", bool),
        invisible=fields.required("invisible", bool),
        request_id=fields.optional("requestId", str),
    )


def _error(fields: _Fields) -> CommandError:
    return CommandError(
        code=fields.required("code", str),
        message=fields.required("message", str),
        retryable=fields.required("retryable", bool),
        retry_after_ms=fields.optional("retryAfterMs", int),
        command=fields.required("command", str),
        client_message_id=fields.optional("clientMessageId", str),
        request_id=fields.optional("requestId", str),
    )


def _sync_page(fields: _Fields, user_id: str | None) -> SyncPage:
    conversation_id = fields.required("conversationId", str)
    page = SyncPage(
        conversation_id=conversation_id,
        after_seq=fields.required("afterSeq", int),
        changes=tuple(_change(change, conversation_id, user_id) for change in fields.objects("changes")),
        positions=tuple(
            Position(
                user_id=position.required("userId", str),
                delivered_seq=position.required("deliveredSeq", int),
                read_seq=position.required("readSeq", int),
            )
            for position in fields.objects("positions")
        ),
        complete=fields.required("complete", bool),
        request_id=fields.optional("requestId", str),
    )
    seqs = [page.after_seq, *(change.seq for change in page.changes)]
    if any(later <= earlier for earlier, later in pairwise(seqs)):
        raise MalformedEvent(f"{fields.name}: changes are not in order")
    return page


def _change(fields: _Fields, conversation_id: str, user_id: str | None) -> Change:
    kind = fields.required("type", str)
    if kind == "message":
        message = _message(fields)
        return MessageSent(**message) if message["sender_id"] == user_id else NewMessage(**message)
    seq = fields.required("seq", int)
    return OtherChange(conversation_id=conversation_id, seq=seq, kind=kind, payload=fields.value)


_DECODERS: dict[str, Callable[[_Fields], Event]] = {
    "newMessage": lambda fields: NewMessage(**_message(fields)),
    "messageSent": _message_sent,
    "messageDelivered": lambda fields: MessageDelivered(
        **_mark(fields), delivered_at=fields.moment("deliveredAt")
    ),
    "messageRead": _message_read,
    "typing": _typing,
    "presence": _presence,
    "preferencesChanged": _preferences,
    "error": _error,
}
