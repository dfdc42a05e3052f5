"""How large and how slow a request may be, and how many there may be at once.

The framework reads a body before it knows the caller, so these hold for everybody.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.server import ServerState

from gateway.errors import Refusal, error_response

_LARGEST_BODY = 16 * 1024
"""Bytes; the largest request holds a few ids."""
_TOO_LARGE = Refusal(
    status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    code="PAYLOAD_TOO_LARGE",
    message=f"the body has more than {_LARGEST_BODY} bytes",
)
_TOO_SLOW = Refusal(
    status=HTTPStatus.REQUEST_TIMEOUT,
    code="INVALID_PAYLOAD",
    message="the body was not complete in time",
    retryable=True,
)
_BUSY = Refusal(
    status=HTTPStatus.SERVICE_UNAVAILABLE,
    code="BUSY",
    message="the gateway has too many connections",
    retryable=True,
    retry_after_ms=1_000,
)


class BodyLimitMiddleware:
    """Reads the body before the application does; refuses what is too large or not complete in time.

    What is declared too large is not read at all. The application then gets the body in one message.
    """

    def __init__(self, app: ASGIApp, *, deadline_s: float) -> None:
        self._app = app
        self._deadline_s = deadline_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if int(declared) > _LARGEST_BODY:
            await error_response(_TOO_LARGE)(scope, receive, send)
            return
        try:
            # One deadline for the whole body: a byte now and then does not extend it.
            async with asyncio.timeout(self._deadline_s):
                first = await _whole_body(receive)
        except TimeoutError:
            await error_response(_TOO_SLOW, ends_connection=True)(scope, receive, send)
            return
        if len(first.get("body", b"")) > _LARGEST_BODY:
            await error_response(_TOO_LARGE)(scope, receive, send)
            return
        is_read = False

        async def receive_the_rest() -> Message:
            nonlocal is_read
            if is_read:
                # Only a disconnect follows, and that may take as long as the answer.
                return await receive()
            is_read = True
            return first

        await self._app(scope, receive_the_rest, send)


async def _whole_body(receive: Receive) -> Message:
    """The body in one message, cut off soon after the limit; or the disconnect that came before its end."""
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return message
        body += message.get("body", b"")
        if len(body) > _LARGEST_BODY or not message.get("more_body", False):
            return {"type": "http.request", "body": body, "more_body": False}


class ConnectionsLimitMiddleware:
    """Answers `BUSY` while the server has more connections, or requests in progress, than `limit`.

    uvicorn's own limit does so in plain text, without the headers of other answers. Its counts are
    `app.state.server_state`; without a server there are none.
    """

    def __init__(self, app: ASGIApp, *, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        # Whether the process lives is answered always: to start it again would free nothing.
        if scope["type"] == "http" and scope["path"] != "/healthz" and self._is_over(scope["app"]):
            await error_response(_BUSY, ends_connection=True)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _is_over(self, app: Starlette) -> bool:
        server: ServerState | None = getattr(app.state, "server_state", None)
        # Requests are more than connections when callers leave before they are answered.
        return server is not None and max(len(server.connections), len(server.tasks)) > self._limit
