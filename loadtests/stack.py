"""The servers that are measured: started for one benchmark, durable, on private loopback ports."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import jwt
import psycopg

from devstack.mosquitto import SYSTEM_PLUGIN, JwtOptions, MosquittoServer
from devstack.ports import LOOPBACK, free_port
from devstack.postgresql import PostgreSQLServer
from devstack.python_server import Surroundings, connections_service, messaging_service
from devstack.redis_server import RedisServer
from devstack.server_process import ServerProcess
from loadtests.newer_mosquitto import NewerMosquitto

_DATABASE = "messaging"
_ROLES = ("service", "standby")
_TOKEN_SECONDS = 6 * 3600
_UNLIMITED = {
    "MESSAGING_SENDS_LIMIT": "1000000 per 10 seconds",
    "MESSAGING_COMMANDS_LIMIT": "1000000 per 10 seconds",
}
"""Few users write as much as many do: what is measured is the service, not its limits."""
_LOG_MIB = 240


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchStack:
    """Where the running servers are: those of `make run`, without limits for one user unless asked for."""

    folder: Path
    """Everybody's data and logs."""
    mosquitto: MosquittoServer
    make_broker: Callable[[Path], MosquittoServer]
    """Another one like it, not started, with its data in this folder."""
    postgresql: PostgreSQLServer
    instances: Sequence[ServerProcess]
    """Of the service: the active one, and one that stands by and serves history with it."""
    grpc_ports: Sequence[int]
    """Of each instance."""
    jwt_secret: str
    processes: dict[str, int]
    """Process id of each server by its role."""

    def start_service(self) -> None:
        """Starts the instances, and notes their processes."""
        for role, instance in zip(_ROLES, self.instances, strict=True):
            instance.start()
            self.processes[role] = instance.pid

    def stop_service(self) -> None:
        """Stops the instances: first the one that would take the other's place."""
        for instance in reversed(self.instances):
            instance.stop()

    @property
    def grpc_port(self) -> int:
        """Where the active instance's gRPC server listens."""
        return self.grpc_ports[0]

    @property
    def database_url(self) -> str:
        """The database of the service."""
        return self.postgresql.url(_DATABASE)

    @property
    def mqtt_port(self) -> int:
        """Where the broker speaks MQTT over TCP."""
        return self.mosquitto.mqtt_port

    @property
    def websocket_port(self) -> int:
        """Where the broker speaks MQTT over WebSocket."""
        return self.mosquitto.websocket_port

    @property
    def grpc_target(self) -> str:
        """Where the active instance's gRPC server listens."""
        return f"{LOOPBACK}:{self.grpc_port}"

    def token(self, user_id: str, *, role: str | None = None) -> str:
        """A JWT as the identity provider would issue it."""
        claims: dict[str, object] = {"sub": user_id, "exp": int(time.time()) + _TOKEN_SECONDS}
        if role is not None:
            claims["role"] = role
        return jwt.encode(claims, self.jwt_secret, algorithm="HS256")


def _use_log(database_url: str) -> None:
    """Makes the database one that has been in use: its log segments exist and are used again.

    A new one makes them as it goes, and every commit waits meanwhile.
    """
    with psycopg.connect(database_url, autocommit=True) as connection:
        for _ in range(_LOG_MIB):
            connection.execute("SELECT pg_logical_emit_message(false, 'bench', repeat('x', 1024 * 1024))")
        connection.execute("CHECKPOINT")


@contextmanager
def bench_stack(
    *, mosquitto: NewerMosquitto | None = None, has_been_used: bool = False, is_limited: bool = False
) -> Iterator[BenchStack]:
    """Starts everything in a temporary folder, and stops and deletes it afterwards.

    Everybody is connected with everybody. The broker is the system's unless one is given. The
    database is new, or one whose log has been in use. The rates of a user are limited as by
    default, or not at all.
    Raises `devstack.server_process.ServerFailed` when a server does not start.
    """
    folder = Path(tempfile.mkdtemp(prefix="messaging-bench-"))
    # PostgreSQL does not run as root and must be able to enter.
    folder.chmod(0o711)
    secret = secrets.token_urlsafe(32)
    with ExitStack() as cleanup:
        cleanup.callback(shutil.rmtree, folder)

        postgresql = PostgreSQLServer(folder / "postgresql", free_port())
        redis = RedisServer(folder / "redis", free_port())

        def make_broker(data: Path) -> MosquittoServer:
            return MosquittoServer(
                data,
                free_port(),
                free_port(),
                jwt=JwtOptions(secret=secret),
                executable=str(mosquitto.executable) if mosquitto else "mosquitto",
                plugin_build=mosquitto.plugin_build if mosquitto else SYSTEM_PLUGIN,
                limits={} if is_limited else {"commands_per_second": 0},
            )

        broker = make_broker(folder / "mosquitto")
        connections = connections_service(
            folder / "connections.log", port=free_port(), everybody_is_connected=True
        )
        servers: Sequence[ServerProcess] = (redis, broker, connections, postgresql)
        for server in servers:
            cleanup.callback(server.stop)
            server.launch()
        for server in servers:
            server.wait_until_ready()
        postgresql.create_database(_DATABASE)
        if has_been_used:
            _use_log(postgresql.url(_DATABASE))
        surroundings = Surroundings(
            database_url=postgresql.url(_DATABASE),
            redis_url=redis.url,
            broker_port=broker.mqtt_port,
            broker_socket=broker.socket_path,
            connections_port=connections.program.port,
            jwt_secret=secret,
        )
        grpc_ports = [free_port() for _ in _ROLES]
        instances = [
            messaging_service(
                folder / f"{role}.log",
                surroundings,
                grpc_port=grpc_port,
                http_port=free_port(),
                extra_settings={} if is_limited else _UNLIMITED,
            )
            for role, grpc_port in zip(_ROLES, grpc_ports, strict=True)
        ]
        stack = BenchStack(
            folder=folder,
            mosquitto=broker,
            make_broker=make_broker,
            postgresql=postgresql,
            instances=instances,
            grpc_ports=grpc_ports,
            jwt_secret=secret,
            processes={
                "broker": broker.pid,
                "postgresql": postgresql.pid,
                "redis": redis.pid,
                "connections": connections.pid,
            },
        )
        cleanup.callback(stack.stop_service)
        stack.start_service()
        yield stack
