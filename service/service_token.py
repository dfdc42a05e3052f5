"""The service's own identity towards the broker and the services that it calls."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import jwt

from service.settings import Settings

SERVICE_USER: Final = "messaging-service"
_LIFETIME_S: Final = 3_600
_RENEW_BEFORE_S: Final = 600


def service_token_source(settings: Settings, now: Callable[[], float] = time.time) -> Callable[[], str]:
    """A function that returns a token which is valid for at least ten minutes.

    From `service_token_file` where that is set (whoever rotates the file keeps
    it fresh), otherwise signed here with the shared secret and kept until it
    nears its end.
    """
    file = settings.service_token_file
    if file is not None:
        return lambda: file.read_text().strip()
    token, renew_at = "", 0.0

    def signed() -> str:
        nonlocal token, renew_at
        if now() >= renew_at:
            token = _sign(settings, now())
            renew_at = now() + _LIFETIME_S - _RENEW_BEFORE_S
        return token

    return signed


def _sign(settings: Settings, now: float) -> str:
    claims: dict[str, object] = {
        "sub": SERVICE_USER,
        "role": "service",
        "iat": int(now),
        "exp": int(now) + _LIFETIME_S,
    }
    if settings.jwt_audience is not None:
        claims["aud"] = settings.jwt_audience
    if settings.jwt_issuer is not None:
        claims["iss"] = settings.jwt_issuer
    return jwt.encode(claims, settings.jwt_key, algorithm=settings.jwt_algorithm.value)
