"""Puts the gateway together."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway import conversations, operations, pages, people
from gateway.development import development_router
from gateway.errors import Refusal, RequestRefused
from gateway.logs import AccessLogMiddleware
from gateway.messaging_calls import MessagingCalls
from gateway.models import ErrorBody, ErrorDetail
from gateway.response_headers import ResponseHeadersMiddleware
from gateway.settings import GatewaySettings

_log = structlog.get_logger("gateway")

_LARGEST_BODY = 16 * 1024
"""Bytes; the largest request holds a few ids."""
_TOO_LARGE = Refusal(
    status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    code="PAYLOAD_TOO_LARGE",
    message=f"the body has more than {_LARGEST_BODY} bytes",
)
_DEFECT = Refusal(
    status=HTTPStatus.INTERNAL_SERVER_ERROR,
    code="INTERNAL",
    message="a defect of the gateway",
    retryable=True,
)

_DESCRIPTION = """Conversations, history, receipts, resync, presence and preferences for HTTP clients.

Messages are sent and received over MQTT (`docs/asyncapi.yaml`). Every request under `/api/conversations`,
`/api/presence` and `/api/preferences` carries the end user's JWT, `Authorization: Bearer <token>`; it goes
to the messaging service unchanged. In development, `POST /api/dev/token` makes one."""


def create_app(settings: GatewaySettings, *, static_folder: Path = pages.STATIC_FOLDER) -> FastAPI:
    """The ASGI application; it connects to the service when it is started."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        calls = MessagingCalls(settings.grpc_target, deadline=settings.grpc_deadline_ms / 1000)
        app.state.calls = calls
        try:
            yield
        finally:
            await calls.close()

    app = FastAPI(
        title="Messaging gateway",
        version="1",
        description=_DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.settings = settings
    app.include_router(conversations.router)
    app.include_router(people.router)
    if settings.is_development:
        app.include_router(development_router(settings))
    app.include_router(operations.router)
    app.include_router(pages.router)
    if static_folder.is_dir():
        app.mount("/", pages.page_files(static_folder), name="page")
    else:
        _log.warning("no_page", reason="the demo page is not built: make web")
    _describe_without_422(app)
    app.add_exception_handler(RequestRefused, _answer_refused)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http_error)
    # The outermost comes last: what goes wrong further in still gets its headers and its line.
    app.add_middleware(BodyLimitMiddleware)
    app.add_middleware(DefectMiddleware)
    app.add_middleware(ResponseHeadersMiddleware, broker_websocket_url=settings.broker_websocket_url)
    app.add_middleware(AccessLogMiddleware)
    return app


def _describe_without_422(app: FastAPI) -> None:
    """Takes the framework's own answer to invalid requests out of OpenAPI: ours is 400 with `ErrorBody`."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = generate()
            for operations_of_path in schema["paths"].values():
                for operation in operations_of_path.values():
                    operation["responses"].pop("422", None)
            for name in ("HTTPValidationError", "ValidationError"):
                schema["components"]["schemas"].pop(name, None)
        return app.openapi_schema or {}

    app.openapi = openapi  # type: ignore[method-assign] # the way that FastAPI documents


def error_response(refusal: Refusal) -> JSONResponse:
    """The one form of all refusals."""
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
    body = ErrorBody(error=detail).model_dump(by_alias=True, exclude_none=True)
    return JSONResponse(body, status_code=refusal.status, headers=headers)


async def _answer_refused(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestRefused)
    return error_response(error.refusal)


async def _answer_invalid(_request: Request, error: Exception) -> JSONResponse:
    """400 that names fields and rules, never values."""
    assert isinstance(error, RequestValidationError)
    words = []
    for fault in error.errors():
        place = ".".join(str(part) for part in fault["loc"] if part not in ("body", "query", "path"))
        reason = "not JSON" if fault["type"] == "json_invalid" else fault["msg"]
        words.append(f"{'body' if fault['type'] == 'json_invalid' or not place else place}: {reason}")
    return error_response(
        Refusal(status=HTTPStatus.BAD_REQUEST, code="INVALID_PAYLOAD", message="; ".join(words[:5]))
    )


async def _answer_http_error(_request: Request, error: Exception) -> JSONResponse:
    """404, 405 and their like, from the framework."""
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    if status == _TOO_LARGE.status:
        return error_response(_TOO_LARGE)
    if status in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED):
        return error_response(
            Refusal(status=status, code="UNKNOWN_COMMAND", message="there is no such route")
        )
    code = "INVALID_PAYLOAD" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "INTERNAL"
    return error_response(Refusal(status=status, code=code, message=status.phrase))


class BodyLimitMiddleware:
    """Refuses what is too large without reading it: the framework reads a body before it knows the caller."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if int(declared) > _LARGEST_BODY:
            await error_response(_TOO_LARGE)(scope, receive, send)
            return
        received = 0

        async def receive_and_count() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > _LARGEST_BODY:
                raise HTTPException(_TOO_LARGE.status)
            return message

        await self._app(scope, receive_and_count, send)


class DefectMiddleware:
    """Answers 500 without details, which are in the log, when a route fails unexpectedly.

    The framework's own place for this lies outside all other middleware.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        started = False

        async def send_and_note(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        except Exception as error:
            if scope["type"] != "http" or started:
                raise
            _log.error("defect", error=type(error).__name__, exc_info=error)
            await error_response(_DEFECT)(scope, receive, send)
