"""`/healthz`, `/readyz` and `/metrics` for operators and orchestrators."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Generator, Mapping

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

Readiness = Callable[[], Awaitable[Mapping[str, bool]]]
"""Names each part that must be there to serve, and whether it is."""


def operations_app(readiness: Readiness) -> Starlette:
    """The three routes; `/readyz` answers 503 and names what is missing."""

    async def healthz(_request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_request: Request) -> Response:
        parts = await readiness()
        return JSONResponse(dict(parts), status_code=200 if all(parts.values()) else 503)

    async def metrics(_request: Request) -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return Starlette(
        routes=[Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)]
    )


class OperationsServer(uvicorn.Server):
    """uvicorn inside our own event loop: the process's signals stay ours."""

    def __init__(self, app: Starlette, *, host: str, port: int) -> None:
        super().__init__(
            uvicorn.Config(app, host=host, port=port, log_config=None, access_log=False, lifespan="off")
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leaves SIGTERM and SIGINT to `service.app`."""
        yield
