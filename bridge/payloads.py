"""The JSON of commands and events: validation of what comes in, encoding of what goes out."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated, Any, Never, Self, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import to_json

from service.domain.errors import ErrorCode, Rejected, Rejection
from service.domain.ids import USER_ID
from service.domain.message import MAX_TEXT_CHARACTERS, Message

MAX_PAYLOAD_BYTES = 32 * 1024

P = TypeVar("P", bound=BaseModel)

_USER_ID = StringConstraints(pattern=f"^{USER_ID.pattern}$")


class _Payload(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel, extra="ignore", strict=True, frozen=True, hide_input_in_errors=True
    )


class SendMessagePayload(_Payload):
    """`sendMessage`: exactly one of conversation and recipient."""

    conversation_id: UUID | None = None
    recipient_id: Annotated[str, _USER_ID] | None = None
    client_message_id: UUID
    text: Annotated[str, Field(min_length=1, max_length=MAX_TEXT_CHARACTERS)]
    request_id: Annotated[str, Field(max_length=128)] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.conversation_id is None) == (self.recipient_id is None):
            raise ValueError("give either conversationId or recipientId")
        # PostgreSQL's text type has no place for it.
        if "\0" in self.text:
            raise ValueError("text contains the character U+0000")
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
        if b"NaN" in payload or b"Infinity" in payload:
            json.loads(payload, parse_constant=_refuse_constant)
        return model.model_validate_json(payload)
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


def correlation_of(payload: bytes) -> dict[str, str]:
    """`clientMessageId` and `requestId` of a payload that failed validation, where it has them.

    They tell the sender which of its commands the error answers.
    """
    if len(payload) > MAX_PAYLOAD_BYTES:
        return {}
    try:
        value: Any = json.loads(payload)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(value, dict):
        return {}
    return {
        name: value[name]
        for name in ("clientMessageId", "requestId")
        if isinstance(value.get(name), str) and len(value[name]) <= 128 and value[name].isprintable()
    }


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


def encode_error(rejection: Rejection, command: str, correlation: dict[str, str]) -> bytes:
    """The payload of `error`."""
    body: dict[str, Any] = {
        "code": rejection.code.value,
        "message": rejection.message,
        "retryable": rejection.retryable,
        "command": command,
        **correlation,
    }
    if rejection.retry_after_ms is not None:
        body["retryAfterMs"] = rejection.retry_after_ms
    return to_json(body)


def rfc3339(moment: datetime) -> str:
    """UTC with microseconds and `Z` (RFC 3339)."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
