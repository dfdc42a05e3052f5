"""Who is calling: the JWT of the `authorization` metadata, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import grpc
import jwt
from cachetools import LRUCache

from service.domain.ids import UserId, is_user_id

ALGORITHMS = frozenset({"HS256", "RS256", "ES256"})
"""What a deployment may choose from; a token never chooses."""

_CALLER: ContextVar[UserId] = ContextVar("caller")


class InvalidToken(Exception):
    """The token does not verify; says why without quoting it."""


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """What a good token says."""

    user: UserId
    expires_at: float
    """Seconds since the epoch, leeway included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenVerifier:
    """Verifies end users' tokens with one algorithm and one key.

    `exp` and `sub` are required, `aud` and `iss` are checked when configured,
    and a `role` other than `user` is refused: services have no conversations.
    """

    algorithm: str
    key: str = field(repr=False)
    """The HS256 secret, or the public key as PEM text."""
    audience: str | None = None
    issuer: str | None = None
    leeway_seconds: float = 5.0

    def __post_init__(self) -> None:
        if self.algorithm not in ALGORITHMS:
            raise ValueError(f"algorithm must be one of {', '.join(sorted(ALGORITHMS))}")
        if not self.key:
            raise ValueError("key is empty")

    def verify(self, token: str) -> VerifiedToken:
        """The user whom the token names; raises `InvalidToken`."""
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self.key,
                algorithms=[self.algorithm],
                audience=self.audience,
                issuer=self.issuer,
                leeway=self.leeway_seconds,
                options={
                    "require": ["exp", "sub"],
                    "verify_aud": self.audience is not None,
                    "verify_iss": self.issuer is not None,
                },
            )
            expires_at = int(claims["exp"]) + self.leeway_seconds
        except jwt.ExpiredSignatureError:
            raise InvalidToken("the token has expired") from None
        # The header is parsed before the signature is checked, so it may hold
        # anything: nesting without end, lone surrogates, numbers beyond float.
        except (jwt.PyJWTError, ValueError, TypeError, ArithmeticError, RecursionError):
            raise InvalidToken("the token is not valid") from None
        user, role = claims["sub"], claims.get("role", "user")
        if not is_user_id(user):
            raise InvalidToken("the token's subject is not a user id")
        if role != "user":
            raise InvalidToken("the token is not a user's")
        return VerifiedToken(UserId(user), expires_at)


def caller() -> UserId:
    """The user whose call is being handled."""
    return _CALLER.get()


class Authentication:
    """Finds the caller in a call's metadata, before the request is even parsed.

    Verified tokens are remembered until they expire: a gateway sends the same one often.
    """

    def __init__(
        self, verifier: TokenVerifier, *, remembered: int = 4_096, now: Callable[[], float] = time.time
    ) -> None:
        self._verifier = verifier
        self._now = now
        self._verified: LRUCache[str, VerifiedToken] = LRUCache(remembered)

    def admit(self, call: grpc.HandlerCallDetails) -> None:
        """Makes the user of the token the `caller` of the running task; raises `InvalidToken`."""
        _CALLER.set(self._authenticate(_bearer_token(call)))

    def _authenticate(self, token: str) -> UserId:
        verified = self._verified.get(token)
        if verified is None or verified.expires_at <= self._now():
            verified = self._verifier.verify(token)
            self._verified[token] = verified
        return verified.user


def _bearer_token(call: grpc.HandlerCallDetails) -> str:
    values = [value for key, value in call.invocation_metadata or () if key == "authorization"]
    if len(values) != 1:
        raise InvalidToken("the metadata must hold one authorization")
    scheme, _, token = str(values[0]).partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise InvalidToken("the authorization must be a bearer token")
    return token
