"""What all routes to the messaging service have in common."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Request

from gateway.messaging_calls import MessagingCalls
from gateway.models import ErrorBody


def _calls(request: Request) -> MessagingCalls:
    calls: MessagingCalls = request.app.state.calls
    return calls


Calls = Annotated[MessagingCalls, Depends(_calls)]

_REASONS = {
    400: "A parameter is missing, malformed or out of its limits.",
    401: "No token, or one that does not verify.",
    403: "The two users are not connected.",
    404: "There is no such conversation, or the caller takes no part in it: the two look the same.",
    408: "The body was not complete in time.",
    413: "The body is larger than any request needs.",
    503: "The service does not answer now, or too many connect (`BUSY`); the same request may succeed later.",
    504: "The service did not answer in time; the same request may succeed later.",
}


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """How these statuses are described in OpenAPI."""
    return {status: {"model": ErrorBody, "description": _REASONS[status]} for status in statuses}
