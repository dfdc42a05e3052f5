"""Health, readiness and the page's configuration."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from gateway.messaging_calls import MessagingCalls
from gateway.models import Health, PageConfig
from gateway.settings import GatewaySettings

router = APIRouter(tags=["operations"])


@router.get("/healthz")
async def healthz() -> Health:
    """Whether the process answers."""
    return Health(status="ok")


@router.get("/readyz", responses={503: {"model": Health, "description": "The service does not serve now."}})
async def readyz(request: Request, response: Response) -> Health:
    """Whether the messaging service behind the gateway serves (gRPC health check)."""
    calls: MessagingCalls = request.app.state.calls
    if await calls.is_ready():
        return Health(status="ready")
    response.status_code = 503
    return Health(status="unavailable")


@router.get("/api/config")
async def page_config(request: Request) -> PageConfig:
    """What the page needs to know about its surroundings."""
    settings: GatewaySettings = request.app.state.settings
    return PageConfig(
        broker_url=settings.broker_websocket_url,
        topic_root=settings.topic_root,
        development=settings.is_development,
    )
