"""All settings of the service: read once from the environment, checked at start."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self

from limits import parse_many
from pydantic import (
    AfterValidator,
    Field,
    PostgresDsn,
    RedisDsn,
    SecretStr,
    StringConstraints,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

Port = Annotated[int, Field(ge=1, le=65_535)]


def _one_rate_limit(text: str) -> str:
    try:
        (limit,) = parse_many(text)
    except ValueError:
        raise ValueError("must be one limit such as '2000 per 10 seconds'") from None
    if limit.amount < 1:
        raise ValueError("must allow at least one")
    return text


RateLimitText = Annotated[str, AfterValidator(_one_rate_limit)]
"""In the notation of `limits`: `2000 per 10 seconds`, `100/minute`."""


class Environment(StrEnum):
    """Where the service runs; `development` opens gRPC reflection."""

    PRODUCTION = "production"
    DEVELOPMENT = "development"


class JwtAlgorithm(StrEnum):
    """The one algorithm that tokens are verified with."""

    HS256 = "HS256"
    RS256 = "RS256"
    ES256 = "ES256"


class LogLevel(StrEnum):
    """Least severe level that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Settings(BaseSettings):
    """Environment variables `MESSAGING_*`; unset ones have the defaults below."""

    model_config = SettingsConfigDict(env_prefix="MESSAGING_", frozen=True)

    environment: Environment = Environment.PRODUCTION
    log_level: LogLevel = LogLevel.INFO

    database_url: PostgresDsn
    database_pool_size: Annotated[int, Field(ge=2, le=100)] = 8
    redis_url: RedisDsn

    broker_host: str = "127.0.0.1"
    broker_port: Port = 1883
    broker_socket: Path | None = None
    """The broker's unix socket, where both run on one machine: in the place of host and port."""
    broker_client_id: Annotated[
        str, StringConstraints(pattern=r"^messaging-service:[A-Za-z0-9._@-]{1,60}$")
    ] = "messaging-service:bridge"
    """Stable, so that the broker keeps the session of an instance that restarts. Of the instances with the
    same id one is active, by the lease of this name; the others stand by."""
    lease_limit_s: Annotated[float, Field(ge=1, le=60)] = 3.0
    """For how long the active instance may be silent (stopped, its host gone) before a standby takes over.
    One that ends is followed at once."""
    broker_publishers: Annotated[int, Field(ge=1, le=64)] = 4
    """Links beside the session that messages go out on. Mosquitto 2.0 reads one packet a link each time
    that it looks at all of its WebSocket clients, so a few links spare it most of that."""
    broker_receive_maximum: Annotated[int, Field(ge=1, le=65_535)] = 4_096
    """Commands in flight between broker and service: the back-pressure."""
    broker_session_expiry_s: Annotated[int, Field(ge=0)] = 86_400
    topic_root: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$")] = "chat/v1"

    jwt_algorithm: JwtAlgorithm = JwtAlgorithm.HS256
    jwt_secret: SecretStr | None = None
    jwt_public_key_file: Path | None = None
    jwt_audience: str | None = None
    jwt_issuer: str | None = None
    service_token_file: Path | None = None
    """The service's own JWT (sub `messaging-service`, role `service`), read anew at
    every use; with HS256 it may be left out and the service signs its own."""

    connections_target: str = "127.0.0.1:50052"
    connections_deadline_ms: Annotated[int, Field(ge=1, le=60_000)] = 200
    connections_cache_local_s: Annotated[float, Field(gt=0, le=3_600)] = 60.0
    """In memory; never longer than what is left of the shared answer's time, so it adds nothing to it."""
    connections_cache_shared_s: Annotated[int, Field(ge=1, le=3_600)] = 60
    connections_cache_negative_s: Annotated[int, Field(ge=1, le=600)] = 10

    grpc_host: str = "127.0.0.1"
    grpc_port: Port = 50051
    http_host: str = "127.0.0.1"
    http_port: Port = 8081
    """`/healthz`, `/readyz`, `/metrics`."""

    presence_lease_s: Annotated[float, Field(ge=0.5, le=600)] = 60.0
    """How long a device is believed to be here after its last heartbeat; clients send three in that time."""
    presence_sweep_s: Annotated[float, Field(ge=0.05, le=60)] = 1.0
    """How often expired leases are looked for."""

    sends_limit: RateLimitText = "2000 per 10 seconds"
    """`sendMessage` of one user, all instances together; more are refused with RATE_LIMITED."""
    commands_limit: RateLimitText = "5000 per 10 seconds"
    """All other commands of one user together, and its writing gRPC calls."""
    waiting_limit: Annotated[int, Field(ge=1, le=65_535)] | None = None
    """Messages that may wait for their commit at once, half of them of one user; more are refused with
    BUSY. Unset: a quarter of the receive maximum, so that three times of what can be committed is
    still read and refused: acknowledgements are in order, those of refusals wait behind the commits."""
    batch_limit: Annotated[int, Field(ge=1, le=5_000)] = 512
    """Messages in one commit at the most."""
    shutdown_grace_s: Annotated[float, Field(gt=0, le=60)] = 8.0
    """How long SIGTERM waits for work in progress."""

    @model_validator(mode="after")
    def _has_keys(self) -> Self:
        if self.jwt_algorithm is JwtAlgorithm.HS256:
            if self.jwt_secret is None or len(self.jwt_secret.get_secret_value()) < 32:
                raise ValueError("MESSAGING_JWT_SECRET must have at least 32 characters with HS256")
            return self
        for name in ("jwt_public_key_file", "service_token_file"):
            path: Path | None = getattr(self, name)
            if path is None or not path.is_file():
                raise ValueError(f"MESSAGING_{name.upper()} must name a file with {self.jwt_algorithm}")
        return self

    @property
    def waiting_limit_in_force(self) -> int:
        """`waiting_limit`, or what follows from the receive maximum."""
        return self.waiting_limit or max(1, self.broker_receive_maximum // 4)

    @property
    def jwt_key(self) -> str:
        """What tokens are verified with: the shared secret or the public key's PEM text."""
        if self.jwt_secret is not None and self.jwt_algorithm is JwtAlgorithm.HS256:
            return self.jwt_secret.get_secret_value()
        assert self.jwt_public_key_file is not None
        return self.jwt_public_key_file.read_text()
