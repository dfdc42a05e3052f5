"""Takes the bearer token from the request; whether it is good, the service says."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from gateway.errors import unauthenticated
from gateway.messaging_calls import Caller

# RFC 6750, 2.1; also what gRPC metadata can carry.
_TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]+=*")
_MAX_CHARACTERS = 8_000
"""gRPC's limit for all metadata of a call is 8 KiB."""

_bearer = HTTPBearer(
    scheme_name="userToken",
    bearerFormat="JWT",
    description="The end user's JWT, the same that is the password at the broker.",
    auto_error=False,
)


def _caller(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Caller:
    if len(request.headers.getlist("authorization")) > 1:
        raise unauthenticated("the request has more than one Authorization header")
    if credentials is None:
        raise unauthenticated("the request needs the header Authorization: Bearer <token>")
    token = credentials.credentials
    if len(token) > _MAX_CHARACTERS or _TOKEN.fullmatch(token) is None:
        raise unauthenticated("the token is malformed")
    return Caller(authorization=f"Bearer {token}")


CallerOfRequest = Annotated[Caller, Depends(_caller)]
"""The caller, for a route's signature; refuses requests without a token with 401."""
