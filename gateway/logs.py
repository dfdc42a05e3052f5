"""Structured logs: one JSON object a line on standard output, never tokens or message text."""

from __future__ import annotations

import logging
import sys
import time

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.settings import LogLevel

_LEVELS = {
    LogLevel.DEBUG: logging.DEBUG,
    LogLevel.INFO: logging.INFO,
    LogLevel.WARNING: logging.WARNING,
    LogLevel.ERROR: logging.ERROR,
}
_PROBES = frozenset({"/healthz", "/readyz"})

_log = structlog.get_logger("gateway.access")


def configure_logs(level: LogLevel) -> None:
    """Sends our own logs and those of every library through one JSON renderer."""
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_logger_name,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    # Libraries say on `debug` what they send and receive: never let that through.
    root.setLevel(max(_LEVELS[level], logging.INFO))


class AccessLogMiddleware:
    """One line a request: its route, not its address, for that may hold anything.

    Headers, query and bodies never appear. Probes are logged when they fail.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 500

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        finally:
            if status != 200 or scope["path"] not in _PROBES:
                milliseconds = round((time.perf_counter() - began) * 1000, 2)
                method = scope["method"] if scope["method"].isalpha() else "?"
                _log.info(
                    "request", method=method, route=_route_of(scope), status=status, milliseconds=milliseconds
                )


def _route_of(scope: Scope) -> str:
    """The route's template, `/api/conversations/{conversationId}`; none for files and unknown addresses."""
    return getattr(scope.get("route"), "path", None) or "-"
