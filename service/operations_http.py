"""`/healthz`, `/readyz` and `/metrics` for operators and orchestrators."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Generator, Mapping
from dataclasses import dataclass

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

_LONGEST_FAREWELL_S = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """Whether an instance serves, and as what."""

    parts: Mapping[str, bool]
    """Each part that must be there to serve, and whether it is."""
    role: str
    """`active`, or `standby` for an instance that serves gRPC only."""


def operations_app(readiness: Callable[[], Awaitable[Readiness]]) -> Starlette:
    """The three routes; `/readyz` says which parts are there, and answers 503 when one is missing."""

    async def healthz(_request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_request: Request) -> Response:
        now = await readiness()
        body = {**now.parts, "role": now.role}
        return JSONResponse(body, status_code=200 if all(now.parts.values()) else 503)

    async def metrics(_request: Request) -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return Starlette(
        routes=[Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)]
    )


class OperationsServer(uvicorn.Server):
    """uvicorn inside our own event loop: the process's signals stay ours."""

    def __init__(self, app: Starlette, *, host: str, port: int) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                host=host,
                port=port,
                log_config=None,
                access_log=False,
                lifespan="off",
                # Whoever has not read its answer by then keeps nothing from ending.
                timeout_graceful_shutdown=_LONGEST_FAREWELL_S,
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leaves SIGTERM and SIGINT to `service.app`."""
        yield
