"""Puts the gateway together."""

from __future__ import annotations

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
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway import conversations, operations, pages, people
from gateway.development import development_router
from gateway.errors import Refusal, RequestRefused, error_response
from gateway.logs import AccessLogMiddleware
from gateway.messaging_calls import MessagingCalls
from gateway.request_limits import BodyLimitMiddleware, ConnectionsLimitMiddleware
from gateway.response_headers import ResponseHeadersMiddleware
from gateway.settings import GatewaySettings

_log = structlog.get_logger("gateway")

_DEFECT = Refusal(
    status=HTTPStatus.INTERNAL_SERVER_ERROR,
    code="INTERNAL",
    message="a defect of the gateway",
    retryable=True,
)

_PREFLIGHT_MAX_AGE_S = 7_200
"""How long browsers may keep what they may send; Chromium keeps nothing longer."""

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
    app.add_middleware(BodyLimitMiddleware, deadline_s=settings.request_deadline_s)
    app.add_middleware(DefectMiddleware)
    app.add_middleware(ConnectionsLimitMiddleware, limit=settings.connections_limit)
    _allow_other_origins(app, settings)
    app.add_middleware(ResponseHeadersMiddleware, broker_websocket_url=settings.broker_websocket_url)
    app.add_middleware(AccessLogMiddleware)
    return app


def _allow_other_origins(app: FastAPI, settings: GatewaySettings) -> None:
    """Lets web apps from the origins of the settings call the API; without any, nothing is added."""
    if settings.allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.allowed_origins,
            allow_methods=("GET", "PATCH", "POST"),
            allow_headers=("Authorization", "Content-Type"),
            # The token comes in a header that the app sets itself: no cookies are needed.
            allow_credentials=False,
            expose_headers=("Retry-After",),
            max_age=_PREFLIGHT_MAX_AGE_S,
        )


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
    if status in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED):
        return error_response(
            Refusal(status=status, code="UNKNOWN_COMMAND", message="there is no such route")
        )
    code = "INVALID_PAYLOAD" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "INTERNAL"
    return error_response(Refusal(status=status, code=code, message=status.phrase))


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
