"""The development-only token route. In production it is not there: 404."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from http import HTTPStatus

import jwt
from fastapi import APIRouter

from gateway.errors import Refusal, RequestRefused
from gateway.models import ErrorBody, Token, TokenBody
from gateway.settings import GatewaySettings

_SERVICE_USER = "messaging-service"
"""Whose client ids the broker knows the service by: a user with one of them would take its place."""
_NOT_A_USER = Refusal(
    status=HTTPStatus.BAD_REQUEST, code="INVALID_PAYLOAD", message="userId is the service's own"
)


def development_router(settings: GatewaySettings) -> APIRouter:
    """The route that signs a token for anybody who asks."""
    assert settings.is_development
    assert settings.jwt_secret is not None
    secret = settings.jwt_secret.get_secret_value()
    router = APIRouter(prefix="/api/dev", tags=["development"])

    @router.post("/token", responses={400: {"model": ErrorBody, "description": "Not a user or device id."}})
    async def mint_token(body: TokenBody) -> Token:
        """A token for any user, for development only: this route does not exist in production."""
        if body.user_id == _SERVICE_USER:
            raise RequestRefused(_NOT_A_USER)
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
