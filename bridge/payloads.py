"""The JSON of commands and events: validation of what comes in, encoding of what goes out."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated, Any, Never, Self, TypedDict, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import to_json

from service.domain.errors import ErrorCode, Rejected, Rejection
from service.domain.ids import USER_ID, ConversationId
from service.domain.message import MAX_TEXT_CHARACTERS, Message
from service.domain.preferences import Preferences
from service.domain.presence import Presence, PresenceState
from service.use_cases.mark_position import Marked
from service.use_cases.ports import HistoryMessage
from service.use_cases.relay_typing import EXPIRES_S, TypingSignal
from service.use_cases.sync_conversation import MAX_CHANGES, SyncPage

MAX_PAYLOAD_BYTES = 32 * 1024

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

P = TypeVar("P", bound=BaseModel)

_USER_ID = StringConstraints(pattern=f"^{USER_ID.pattern}$")


class _Payload(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel, extra="ignore", strict=True, hide_input_in_errors=True
    )


class _CommandPayload(_Payload):
    """What every command may carry: an id that its answer repeats."""

    request_id: Annotated[str, Field(max_length=128)] | None = None


class SendMessagePayload(_CommandPayload):
    """`sendMessage`: exactly one of conversation and recipient."""

    conversation_id: UUID | None = None
    recipient_id: Annotated[str, _USER_ID] | None = None
    client_message_id: UUID
    text: Annotated[str, Field(min_length=1, max_length=MAX_TEXT_CHARACTERS)]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.conversation_id is None) == (self.recipient_id is None):
            raise ValueError("give either conversationId or recipientId")
        # PostgreSQL's text type has no place for it.
        if "\0" in self.text:
            raise ValueError("text contains the character U+0000")
        return self


class MarkPayload(_CommandPayload):
    """What both marks have in common."""

    conversation_id: UUID


class MarkAsDeliveredPayload(MarkPayload):
    """`markAsDelivered`: up to and including this message."""

    message_id: UUID


class MarkAsReadPayload(MarkPayload):
    """`markAsRead`: up to and including this message; implies delivered."""

    last_read_message_id: UUID


class SyncPayload(_CommandPayload):
    """`sync`: what follows a position; limits are the use case's."""

    conversation_id: UUID
    after_seq: Annotated[int, Field(ge=0, lt=2**63)]
    limit: Annotated[int, Field(ge=1, le=MAX_CHANGES)] = MAX_CHANGES


class TypingPayload(_CommandPayload):
    """`typing`: repeated while it lasts."""

    conversation_id: UUID
    is_typing: bool


class PresencePayload(_CommandPayload):
    """`presence`: what one MQTT session of a device says of itself."""

    state: Annotated[PresenceState, Field(strict=False)]
    session_id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,64}$")]


class SetPreferencesPayload(_CommandPayload):
    """`setPreferences`: at least one of them."""

    read_receipts: bool | None = None
    invisible: bool | None = None

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if self.read_receipts is None and self.invisible is None:
            raise ValueError("give readReceipts or invisible")
        return self


class ConnectionChange(_Payload):
    """Data of the platform event `connections.changed`."""

    user_id_a: Annotated[str, _USER_ID]
    user_id_b: Annotated[str, _USER_ID]


class ConnectionsChangedEvent(_Payload):
    """The CloudEvents envelope (1.0, JSON format) of `connections.changed`."""

    id: Annotated[str, Field(min_length=1)]
    data: ConnectionChange


def parse(model: type[P], payload: bytes) -> P:
    """Validates a payload; raises `Rejected`: PAYLOAD_TOO_LARGE or INVALID_PAYLOAD.

    The words of the rejection name fields and rules, never values.
    """
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise Rejected(ErrorCode.PAYLOAD_TOO_LARGE, f"more than {MAX_PAYLOAD_BYTES} bytes")
    try:
        # The validator's parser takes NaN and Infinity for numbers; JSON has neither.
        # `in` would first try to take the bytes for a number, for more than the search costs.
        if payload.find(b"NaN") >= 0 or payload.find(b"Infinity") >= 0:
            json.loads(payload, parse_constant=_refuse_constant)
        parsed: P = model.__pydantic_validator__.validate_json(payload)
        return parsed
    except ValidationError as error:
        raise Rejected(ErrorCode.INVALID_PAYLOAD, _describe(error)) from None
    except (ValueError, RecursionError):
        raise Rejected(ErrorCode.INVALID_PAYLOAD, "payload: not JSON") from None


def _refuse_constant(name: str) -> Never:
    raise ValueError(f"{name} is not JSON")


def _describe(error: ValidationError) -> str:
    words = []
    for detail in error.errors(include_url=False, include_context=False, include_input=False):
        place = ".".join(str(part) for part in detail["loc"]) or "payload"
        reason = (
            "not JSON" if detail["type"] == "json_invalid" else _REASONS.get(detail["type"], detail["msg"])
        )
        words.append(f"{place}: {reason}")
    return "; ".join(words[:5])


_REASONS = {
    "uuid_parsing": "not a UUID",
    "model_type": "not an object",
    "missing": "missing",
    "string_pattern_mismatch": "not of the required form",
}


class Correlation(TypedDict, total=False):
    """What of a malformed command tells its sender which one the error answers."""

    client_message_id: str
    request_id: str


def correlation_of(payload: bytes) -> Correlation:
    """`clientMessageId` and `requestId` of a payload that failed validation, where it has them."""
    if len(payload) > MAX_PAYLOAD_BYTES:
        return {}
    try:
        value: Any = json.loads(payload)
    except (ValueError, RecursionError):
        return {}
    correlation: Correlation = {}
    if isinstance(value, dict):
        if _is_short_text(value.get("clientMessageId")):
            correlation["client_message_id"] = _usual_form(value["clientMessageId"])
        if _is_short_text(value.get("requestId")):
            correlation["request_id"] = value["requestId"]
    return correlation


def _usual_form(client_message_id: str) -> str:
    """As every other answer has it, unless it is no UUID."""
    try:
        return str(UUID(client_message_id))
    except ValueError:
        return client_message_id


def _is_short_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= 128 and value.isprintable()


def encode_message(message: Message, request_id: str | None = None) -> bytes:
    """The payload of `newMessage`, and of `messageSent` for the author's devices."""
    body: dict[str, Any] = {
        "messageId": message.id,
        "conversationId": message.conversation_id,
        "seq": message.seq,
        "senderId": message.sender_id,
        "text": message.text,
        "timestamp": rfc3339(message.created_at),
        "clientMessageId": message.client_message_id,
    }
    if request_id is not None:
        body["requestId"] = request_id
    return to_json(body)


def encode_sync_page(page: SyncPage, request_id: str | None) -> bytes:
    """The payload of `syncPage`."""
    body: dict[str, Any] = {
        "conversationId": page.conversation_id,
        "afterSeq": page.after_seq,
        "changes": [_change(message, page.conversation_id) for message in page.messages],
        "positions": [
            {"userId": user, "deliveredSeq": at.delivered_seq, "readSeq": at.read_seq}
            for user, at in page.positions.items()
        ],
        "complete": page.complete,
    }
    if request_id is not None:
        body["requestId"] = request_id
    return to_json(body)


def _change(message: HistoryMessage, conversation_id: ConversationId) -> dict[str, Any]:
    return {
        "type": "message",
        "messageId": message.id,
        "conversationId": conversation_id,
        "seq": message.seq,
        "senderId": message.sender_id,
        "text": message.text,
        "timestamp": rfc3339(_EPOCH + timedelta(microseconds=message.created_at_us)),
        "clientMessageId": message.client_message_id,
    }


def encode_position(result: Marked, event: str, request_id: str | None = None) -> bytes:
    """The payload of `messageDelivered` and `messageRead`."""
    position = result.position
    body: dict[str, Any] = {
        "conversationId": result.mark.conversation_id,
        "messageId": position.message_id,
        "seq": position.seq,
        "userId": result.mark.user_id,
        "readAt" if event == "messageRead" else "deliveredAt": rfc3339(position.reached_at),
    }
    if request_id is not None:
        body["requestId"] = request_id
    return to_json(body)


def encode_typing(signal: TypingSignal) -> bytes:
    """The payload of the event `typing`."""
    return to_json(
        {
            "conversationId": signal.conversation_id,
            "userId": signal.user_id,
            "isTyping": signal.is_typing,
            "expiresInMs": round(EXPIRES_S * 1_000),
        }
    )


def encode_presence(presence: Presence) -> bytes:
    """The payload of the event `presence`."""
    seen_at = presence.last_seen_at
    return to_json(
        {
            "userId": presence.user_id,
            "state": presence.state.value,
            "lastSeenAt": rfc3339(seen_at) if seen_at is not None else None,
        }
    )


def encode_preferences(preferences: Preferences, request_id: str | None) -> bytes:
    """The payload of `preferencesChanged`."""
    body: dict[str, Any] = {
        "readReceipts": preferences.read_receipts,
        "invisible": preferences.invisible,
    }
    if request_id is not None:
        body["requestId"] = request_id
    return to_json(body)


def encode_error(
    rejection: Rejection, command: str, client_message_id: str | None, request_id: str | None
) -> bytes:
    """The payload of `error`."""
    body: dict[str, Any] = {
        "code": rejection.code.value,
        "message": rejection.message,
        "retryable": rejection.retryable,
        "command": command,
    }
    if rejection.retry_after_ms is not None:
        body["retryAfterMs"] = rejection.retry_after_ms
    if client_message_id is not None:
        body["clientMessageId"] = client_message_id
    if request_id is not None:
        body["requestId"] = request_id
    return to_json(body)


@lru_cache(maxsize=64)  # A batch has one moment for all of its messages.
def rfc3339(moment: datetime) -> str:
    """UTC with microseconds and `Z` (RFC 3339)."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
