"""Refusals as HTTP: one body, one map from gRPC."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType
from typing import cast

import grpc
from fastapi.responses import JSONResponse

from gateway.models import ErrorBody, ErrorDetail

STATUS: Mapping[grpc.StatusCode, HTTPStatus] = MappingProxyType(
    {
        grpc.StatusCode.CANCELLED: HTTPStatus.SERVICE_UNAVAILABLE,
        grpc.StatusCode.UNKNOWN: HTTPStatus.INTERNAL_SERVER_ERROR,
        grpc.StatusCode.INVALID_ARGUMENT: HTTPStatus.BAD_REQUEST,
        grpc.StatusCode.DEADLINE_EXCEEDED: HTTPStatus.GATEWAY_TIMEOUT,
        grpc.StatusCode.NOT_FOUND: HTTPStatus.NOT_FOUND,
        grpc.StatusCode.ALREADY_EXISTS: HTTPStatus.CONFLICT,
        grpc.StatusCode.PERMISSION_DENIED: HTTPStatus.FORBIDDEN,
        grpc.StatusCode.RESOURCE_EXHAUSTED: HTTPStatus.TOO_MANY_REQUESTS,
        grpc.StatusCode.FAILED_PRECONDITION: HTTPStatus.CONFLICT,
        grpc.StatusCode.ABORTED: HTTPStatus.CONFLICT,
        grpc.StatusCode.OUT_OF_RANGE: HTTPStatus.BAD_REQUEST,
        grpc.StatusCode.UNIMPLEMENTED: HTTPStatus.NOT_IMPLEMENTED,
        grpc.StatusCode.INTERNAL: HTTPStatus.INTERNAL_SERVER_ERROR,
        grpc.StatusCode.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS: HTTPStatus.INTERNAL_SERVER_ERROR,
        grpc.StatusCode.UNAUTHENTICATED: HTTPStatus.UNAUTHORIZED,
    }
)
"""HTTP status of every gRPC status; a test holds it complete."""

_PASSING = frozenset(
    {
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNAVAILABLE,
    }
)
"""What may go away by itself, when the service has said nothing about it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a request was refused, with a code of the protocol's closed list."""

    status: HTTPStatus
    code: str
    message: str
    retryable: bool = False
    retry_after_ms: int | None = None


class RequestRefused(Exception):
    """Ends a request with a refusal."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(f"{refusal.code}: {refusal.message}")
        self.refusal = refusal


def unauthenticated(message: str) -> RequestRefused:
    """401, with a reason that quotes nothing of the token."""
    return RequestRefused(Refusal(status=HTTPStatus.UNAUTHORIZED, code="UNAUTHENTICATED", message=message))


def error_response(refusal: Refusal, *, ends_connection: bool = False) -> JSONResponse:
    """The one form of all refusals; `ends_connection` closes the connection after it."""
    detail = ErrorDetail(
        code=refusal.code,
        message=refusal.message,
        retryable=refusal.retryable,
        retry_after_ms=refusal.retry_after_ms,
    )
    headers = {}
    if refusal.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if refusal.retry_after_ms is not None:
        headers["Retry-After"] = str(math.ceil(refusal.retry_after_ms / 1000))
    if ends_connection:
        headers["Connection"] = "close"
    body = ErrorBody(error=detail).model_dump(by_alias=True, exclude_none=True)
    return JSONResponse(body, status_code=refusal.status, headers=headers)


def refusal_of(error: grpc.aio.AioRpcError) -> Refusal:
    """What the service said; or, where only the channel speaks, that the service does not answer.

    The channel's own words stay inside: they name addresses.
    """
    # The stubs know it as an opaque object; it iterates over pairs.
    trailing = cast(Iterable[tuple[str, str | bytes]], error.trailing_metadata() or ())
    metadata = {key: value for key, value in trailing if isinstance(value, str)}
    status = STATUS[error.code()]
    code = metadata.get("error-code")
    if code is None:
        return Refusal(
            status=status,
            code="INTERNAL",
            message="the messaging service does not answer",
            retryable=error.code() in _PASSING,
        )
    delay = metadata.get("error-retry-after-ms", "")
    return Refusal(
        status=status,
        code=code,
        message=error.details() or code,
        retryable=metadata.get("error-retryable") == "true",
        retry_after_ms=int(delay) if delay.isdecimal() else None,
    )
