"""The one place where refusals become gRPC statuses."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NoReturn

import grpc

from service.domain.errors import ErrorCode, Rejection

STATUS: Mapping[ErrorCode, grpc.StatusCode] = MappingProxyType(
    {
        ErrorCode.INVALID_PAYLOAD: grpc.StatusCode.INVALID_ARGUMENT,
        ErrorCode.PAYLOAD_TOO_LARGE: grpc.StatusCode.INVALID_ARGUMENT,
        ErrorCode.UNKNOWN_COMMAND: grpc.StatusCode.UNIMPLEMENTED,
        ErrorCode.UNAUTHENTICATED: grpc.StatusCode.UNAUTHENTICATED,
        ErrorCode.CONVERSATION_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
        ErrorCode.MESSAGE_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
        ErrorCode.NOT_CONNECTED: grpc.StatusCode.PERMISSION_DENIED,
        ErrorCode.IDEMPOTENCY_CONFLICT: grpc.StatusCode.ALREADY_EXISTS,
        ErrorCode.AUTHORIZATION_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
        ErrorCode.STORAGE_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
        ErrorCode.RATE_LIMITED: grpc.StatusCode.RESOURCE_EXHAUSTED,
        ErrorCode.BUSY: grpc.StatusCode.RESOURCE_EXHAUSTED,
        ErrorCode.INTERNAL: grpc.StatusCode.INTERNAL,
    }
)
"""Status of every code; a test holds it complete."""


def error_metadata(rejection: Rejection) -> tuple[tuple[str, str], ...]:
    """Trailing metadata that carries what a gRPC status cannot."""
    metadata = (
        ("error-code", rejection.code.value),
        ("error-retryable", "true" if rejection.retryable else "false"),
    )
    if rejection.retry_after_ms is None:
        return metadata
    return (*metadata, ("error-retry-after-ms", str(rejection.retry_after_ms)))


async def refuse(
    context: grpc.aio.ServicerContext[Any, Any],
    rejection: Rejection,
    status: grpc.StatusCode | None = None,
) -> NoReturn:
    """Ends the call with the rejection, under its status unless another is given."""
    await context.abort(status or STATUS[rejection.code], rejection.message, error_metadata(rejection))
    raise AssertionError("abort always raises")
