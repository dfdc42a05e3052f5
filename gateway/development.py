"""The development-only token route. In production it is not there: 404."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import jwt
from fastapi import APIRouter

from gateway.models import ErrorBody, Token, TokenBody
from gateway.settings import GatewaySettings


def development_router(settings: GatewaySettings) -> APIRouter:
    """The route that signs a token for anybody who asks."""
    assert settings.is_development
    assert settings.jwt_secret is not None
    secret = settings.jwt_secret.get_secret_value()
    router = APIRouter(prefix="/api/dev", tags=["development"])

    @router.post("/token", responses={400: {"model": ErrorBody, "description": "Not a user or device id."}})
    async def mint_token(body: TokenBody) -> Token:
        """A token for any user, for development only: this route does not exist in production."""
        issued_at = int(time.time())
        expires_at = issued_at + settings.token_lifetime_s
        claims: dict[str, object] = {"sub": body.user_id, "iat": issued_at, "exp": expires_at}
        if body.device_id is not None:
            claims["cid"] = f"{body.user_id}:{body.device_id}"
        if settings.jwt_audience is not None:
            claims["aud"] = settings.jwt_audience
        if settings.jwt_issuer is not None:
            claims["iss"] = settings.jwt_issuer
        expiry = datetime.fromtimestamp(expires_at, UTC).replace(tzinfo=None)
        return Token(
            token=jwt.encode(claims, secret, algorithm="HS256"),
            expires_at=expiry.isoformat(timespec="microseconds") + "Z",
        )

    return router
