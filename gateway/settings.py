"""All settings of the gateway: read once from the environment, checked at start."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

_PREFIX = "MESSAGING_GATEWAY_"


class Environment(StrEnum):
    """Where the gateway runs; `development` opens the token route."""

    PRODUCTION = "production"
    DEVELOPMENT = "development"


class LogLevel(StrEnum):
    """Least severe level that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def _websocket_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"ws", "wss"} or not parts.hostname:
        raise ValueError("must be a URL that begins with ws:// or wss://")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("must have neither user, query nor fragment")
    # The URL becomes a source of the Content-Security-Policy, where these end one.
    if any(character in value for character in " ;,'\"\r\n"):
        raise ValueError("must not contain spaces, quotes, commas or semicolons")
    return value


_ORIGIN = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:(?P<port>[1-9][0-9]{0,4}))?"
)
_DEFAULT_PORTS = frozenset({("http", "80"), ("https", "443")})


def _separated(value: object) -> object:
    """The entries of a list with commas; space around them and empty ones do not count."""
    if not isinstance(value, str):
        return value
    return tuple(entry for each in value.split(",") if (entry := each.strip()))


def _origin(value: str) -> str:
    """As browsers send it, for it is compared as a whole: RFC 6454, 6.2."""
    match = _ORIGIN.fullmatch(value)
    if match is None or int(match["port"] or 0) > 65_535:
        raise ValueError(
            "each must be scheme://host or scheme://host:port, in lower case, without anything more"
        )
    if (match["scheme"], match["port"]) in _DEFAULT_PORTS:
        raise ValueError("browsers leave the scheme's own port out: leave it out")
    return value


Origins = Annotated[
    tuple[Annotated[str, AfterValidator(_origin)], ...], NoDecode, BeforeValidator(_separated)
]
"""Of web pages, with commas between them."""


class GatewaySettings(BaseSettings):
    """Environment variables `MESSAGING_GATEWAY_*`; unset ones have the defaults below."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, frozen=True)

    environment: Environment = Environment.PRODUCTION
    log_level: LogLevel = LogLevel.INFO

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65_535)] = 8080

    grpc_target: Annotated[str, StringConstraints(min_length=1)]
    """The messaging service, `host:port`; several instances as `dns:///name:port` or `ipv4:a:port,b:port`."""
    grpc_deadline_ms: Annotated[int, Field(ge=1, le=60_000)] = 5_000
    """For every call to the service."""
    shutdown_grace_s: Annotated[int, Field(ge=1, le=60)] = 8
    """How long SIGTERM waits for requests in progress."""

    request_deadline_s: Annotated[int, Field(ge=1, le=300)] = 10
    """For a request's headers, counted from the connection or the answer before, and again for its body; also
    how long a client may take nothing of its answer."""
    connections_limit: Annotated[int, Field(ge=1, le=1_000_000)] = 1_000
    """More are answered `BUSY` and closed. Each needs a descriptor, and two while it gets a file; a process
    often has 1,024."""
    allowed_origins: Origins = ()
    """Whose web pages may call the API, besides the gateway's own: `https://a.example,http://localhost:3000`.
    Never all: `*` is refused."""

    broker_websocket_url: Annotated[str, AfterValidator(_websocket_url)]
    """Where the page connects; its address as browsers see it."""
    topic_root: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$")] = "chat/v1"

    jwt_secret: SecretStr | None = None
    """Signs the development tokens (HS256); needed in development only."""
    jwt_audience: str | None = None
    jwt_issuer: str | None = None
    token_lifetime_s: Annotated[int, Field(ge=1, le=86_400)] = 3_600
    """Of development tokens."""

    @model_validator(mode="after")
    def _has_key(self) -> Self:
        if self.is_development and (self.jwt_secret is None or len(self.jwt_secret.get_secret_value()) < 32):
            raise ValueError(f"{_PREFIX}JWT_SECRET must have at least 32 characters in development")
        return self

    @property
    def is_development(self) -> bool:
        """Whether the development-only routes exist."""
        return self.environment is Environment.DEVELOPMENT


def describe_faults(error: ValidationError) -> str:
    """One line a setting, by its environment name, without the values: some are secrets."""
    lines = ["The gateway cannot start; these settings are missing or wrong:"]
    for detail in error.errors(include_url=False, include_context=False, include_input=False):
        name = "".join(f"{_PREFIX}{str(part).upper()}: " for part in detail["loc"][:1])
        lines.append(f"  {name}{detail['msg'].removeprefix('Value error, ')}")
    return "\n".join(lines)
