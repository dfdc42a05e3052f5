"""The closed list of errors that a command or a call can be answered with."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID


class ErrorCode(StrEnum):
    """Every code a client can ever see, on MQTT and on gRPC alike."""

    INVALID_PAYLOAD = "INVALID_PAYLOAD"
    """Not JSON, not an object, or a field is missing, malformed or out of its limits."""
    PAYLOAD_TOO_LARGE = "PAYLOAD_TOO_LARGE"
    """More than 32 KiB."""
    UNKNOWN_COMMAND = "UNKNOWN_COMMAND"
    """The topic names no command of this protocol version."""
    UNAUTHENTICATED = "UNAUTHENTICATED"
    """No token, or one that does not verify (gRPC and REST; the broker refuses such clients itself)."""
    CONVERSATION_NOT_FOUND = "CONVERSATION_NOT_FOUND"
    """No such conversation, or one that the caller takes no part in: the two look the same."""
    MESSAGE_NOT_FOUND = "MESSAGE_NOT_FOUND"
    """The conversation has no such message."""
    NOT_CONNECTED = "NOT_CONNECTED"
    """Sender and recipient are not first-degree connections."""
    IDEMPOTENCY_CONFLICT = "IDEMPOTENCY_CONFLICT"
    """The `clientMessageId` was used before with another body; the original stays."""
    AUTHORIZATION_UNAVAILABLE = "AUTHORIZATION_UNAVAILABLE"
    """Whether the two are connected cannot be found out now; nothing was stored."""
    STORAGE_UNAVAILABLE = "STORAGE_UNAVAILABLE"
    """The database does not answer now; resending the same key is safe."""
    RATE_LIMITED = "RATE_LIMITED"
    """This user asked for more than one may in a time; nothing was done, try again when the time is over."""
    BUSY = "BUSY"
    """Too much waits at the service, or of this user's; nothing was done, try again a little later."""
    INTERNAL = "INTERNAL"
    """A defect of the service, logged with the id that the message names."""


RETRYABLE: frozenset[ErrorCode] = frozenset(
    {
        ErrorCode.AUTHORIZATION_UNAVAILABLE,
        ErrorCode.STORAGE_UNAVAILABLE,
        ErrorCode.RATE_LIMITED,
        ErrorCode.BUSY,
        ErrorCode.INTERNAL,
    }
)
"""Codes after which the same command may succeed unchanged."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a command or call was refused, in words for the caller.

    `message` never contains message text or tokens. `retry_after_ms` is set
    only on retryable codes, `incident_id` where the log tells of a defect under it.
    """

    code: ErrorCode
    message: str
    retry_after_ms: int | None = None
    incident_id: UUID | None = None

    @property
    def retryable(self) -> bool:
        """Whether the same command may succeed later, unchanged."""
        return self.code in RETRYABLE


class Rejected(Exception):
    """Raised by use cases and ports; carries the `Rejection` for the caller."""

    def __init__(self, code: ErrorCode, message: str, *, retry_after_ms: int | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.rejection = Rejection(code, message, retry_after_ms)

    @classmethod
    def by(cls, rejection: Rejection) -> Rejected:
        """The exception for a rejection that was decided elsewhere."""
        return cls(rejection.code, rejection.message, retry_after_ms=rejection.retry_after_ms)
