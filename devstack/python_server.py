"""Our own programs as child processes: the service, the gateway, the ConnectionsService."""

from __future__ import annotations

import http.client
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from devstack.ports import LOOPBACK, accepts_connections
from devstack.server_process import ServerProcess

REPOSITORY = Path(__file__).parent.parent

DEMO_CONNECTIONS = (("alice", "bob"), ("bob", "carol"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What to run; `port` and `ready_path` say how to see that it is ready."""

    name: str
    module: str
    port: int
    arguments: Sequence[str] = ()
    #: Environment variables on top of the caller's.
    settings: Mapping[str, str] = field(default_factory=dict)
    ready_path: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """The servers that the messaging service needs, and the secret they share."""

    database_url: str
    redis_url: str
    broker_port: int
    broker_socket: Path | None = None
    connections_port: int
    jwt_secret: str


class PythonServer(ServerProcess):
    """`python -m module`, ready when its port accepts or, with a `ready_path`, answers 200."""

    def __init__(self, program: Program, log_file: Path) -> None:
        super().__init__(program.name, log_file)
        self.program = program

    def command(self) -> Sequence[str]:
        """The module, run by our own interpreter."""
        return [sys.executable, "-m", self.program.module, *self.program.arguments]

    def environment(self) -> dict[str, str]:
        """The caller's environment, so that `MESSAGING_LOG_LEVEL=debug make run` works, and the settings."""
        return {**os.environ, **self.program.settings, "PYTHONUNBUFFERED": "1"}

    def working_folder(self) -> Path:
        """The checkout, where the modules are."""
        return REPOSITORY

    def is_ready(self) -> bool:
        """Whether the port accepts, and the readiness route, where there is one, says 200."""
        if self.program.ready_path is None:
            return accepts_connections(self.program.port)
        connection = http.client.HTTPConnection(LOOPBACK, self.program.port, timeout=2)
        try:
            connection.request("GET", self.program.ready_path)
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


def connections_service(log_file: Path, *, port: int, everybody_is_connected: bool = False) -> PythonServer:
    """The development ConnectionsService, with the demo users, or with everybody connected."""
    who = [f"--connected={a}:{b}" for a, b in DEMO_CONNECTIONS]
    program = Program(
        name="ConnectionsService",
        module="devstack.connections_service",
        port=port,
        arguments=[f"--port={port}", *(["--everybody"] if everybody_is_connected else who)],
    )
    return PythonServer(program, log_file)


def messaging_service(
    log_file: Path,
    surroundings: Surroundings,
    *,
    grpc_port: int,
    http_port: int,
    extra_settings: Mapping[str, str] | None = None,
) -> PythonServer:
    """The messaging service in development mode; `extra_settings` are further environment variables."""
    settings = {
        **(extra_settings or {}),
        "MESSAGING_ENVIRONMENT": "development",
        "MESSAGING_DATABASE_URL": surroundings.database_url,
        "MESSAGING_REDIS_URL": surroundings.redis_url,
        "MESSAGING_BROKER_HOST": LOOPBACK,
        "MESSAGING_BROKER_PORT": str(surroundings.broker_port),
        "MESSAGING_CONNECTIONS_TARGET": f"{LOOPBACK}:{surroundings.connections_port}",
        "MESSAGING_JWT_ALGORITHM": "HS256",
        "MESSAGING_JWT_SECRET": surroundings.jwt_secret,
        "MESSAGING_GRPC_HOST": LOOPBACK,
        "MESSAGING_GRPC_PORT": str(grpc_port),
        "MESSAGING_HTTP_HOST": LOOPBACK,
        "MESSAGING_HTTP_PORT": str(http_port),
    }
    if surroundings.broker_socket is not None:
        settings["MESSAGING_BROKER_SOCKET"] = str(surroundings.broker_socket)
    program = Program(
        name="Messaging service", module="service", port=http_port, settings=settings, ready_path="/readyz"
    )
    return PythonServer(program, log_file)


def gateway(
    log_file: Path, *, port: int, grpc_ports: Sequence[int], broker_websocket_url: str, jwt_secret: str
) -> PythonServer:
    """The gateway in development mode, with the demo page and the token route, before all instances."""
    settings = {
        "MESSAGING_GATEWAY_ENVIRONMENT": "development",
        "MESSAGING_GATEWAY_HOST": LOOPBACK,
        "MESSAGING_GATEWAY_PORT": str(port),
        "MESSAGING_GATEWAY_GRPC_TARGET": "ipv4:" + ",".join(f"{LOOPBACK}:{each}" for each in grpc_ports),
        "MESSAGING_GATEWAY_BROKER_WEBSOCKET_URL": broker_websocket_url,
        "MESSAGING_GATEWAY_JWT_SECRET": jwt_secret,
    }
    program = Program(name="Gateway", module="gateway", port=port, settings=settings, ready_path="/readyz")
    return PythonServer(program, log_file)
