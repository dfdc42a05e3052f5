"""The events of `docs/asyncapi.yaml` as types, and how they are read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from messaging_client.errors import MalformedEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMessage:
    """The other participant wrote; durable."""

    message_id: str
    conversation_id: str
    seq: int
    """Position in the conversation, the only order."""
    sender_id: str
    text: str
    timestamp: datetime
    """Commit time, for display only."""
    client_message_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageSent:
    """This user wrote, on this device or another one; durable."""

    message_id: str
    conversation_id: str
    seq: int
    """Position in the conversation, the only order."""
    sender_id: str
    text: str
    timestamp: datetime
    """Commit time, for display only."""
    client_message_id: str
    request_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandError:
    """A command of this user, from this device or another one, was refused."""

    code: str
    message: str
    retryable: bool
    retry_after_ms: int | None = None
    command: str
    client_message_id: str | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherEvent:
    """An event that this version of the client has no type for."""

    name: str
    payload: dict[str, Any]


Event = NewMessage | MessageSent | CommandError | OtherEvent


def decode_event(name: str, payload: bytes) -> Event:
    """The event that came on `.../events/{name}`; unknown fields are ignored.

    Raises `MalformedEvent`, naming the fault and never the content.
    """
    try:
        fields = json.loads(payload)
    except (ValueError, RecursionError):
        raise MalformedEvent(f"{name}: not JSON") from None
    if not isinstance(fields, dict):
        raise MalformedEvent(f"{name}: not an object")
    try:
        return _from_fields(name, fields)
    except KeyError as error:
        raise MalformedEvent(f"{name}: {error.args[0]} is missing") from None


def _from_fields(name: str, fields: dict[str, Any]) -> Event:
    if name == "newMessage":
        return NewMessage(**_message_fields(name, fields))
    if name == "messageSent":
        return MessageSent(
            **_message_fields(name, fields), request_id=_optional(name, fields, "requestId", str)
        )
    if name == "error":
        return CommandError(
            code=_required(name, fields, "code", str),
            message=_required(name, fields, "message", str),
            retryable=_required(name, fields, "retryable", bool),
            retry_after_ms=_optional(name, fields, "retryAfterMs", int),
            command=_required(name, fields, "command", str),
            client_message_id=_optional(name, fields, "clientMessageId", str),
            request_id=_optional(name, fields, "requestId", str),
        )
    return OtherEvent(name=name, payload=fields)


def _message_fields(name: str, fields: dict[str, Any]) -> dict[str, Any]:
    timestamp = _required(name, fields, "timestamp", str)
    try:
        moment = datetime.fromisoformat(timestamp)
    except ValueError:
        raise MalformedEvent(f"{name}: timestamp is not RFC 3339") from None
    return {
        "message_id": _required(name, fields, "messageId", str),
        "conversation_id": _required(name, fields, "conversationId", str),
        "seq": _required(name, fields, "seq", int),
        "sender_id": _required(name, fields, "senderId", str),
        "text": _required(name, fields, "text", str),
        "timestamp": moment,
        "client_message_id": _required(name, fields, "clientMessageId", str),
    }


def _required(name: str, fields: dict[str, Any], key: str, kind: type) -> Any:
    value = fields[key]
    # JSON's true is no number, though Python's is an int.
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise MalformedEvent(f"{name}: {key} is no {kind.__name__}")
    return value


def _optional(name: str, fields: dict[str, Any], key: str, kind: type) -> Any:
    return None if fields.get(key) is None else _required(name, fields, key, kind)
