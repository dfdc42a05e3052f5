"""The real servers of one arena: built from a layout, started in order, their edges through proxies."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from devstack.mosquitto import JwtOptions, MosquittoServer
from devstack.ports import LOOPBACK, free_port
from devstack.postgresql import PostgreSQLServer
from devstack.python_server import PythonServer, Surroundings, messaging_service
from devstack.redis_server import RedisServer
from devstack.server_process import ServerProcess
from tests.faults.connections_control import ConnectionsControl
from tests.faults.disks import Disk, disk_for
from tests.faults.proxy import FaultProxy
from tests.faults.scenario import Edge, Layout

DATABASE = "messaging"


class DirectedMosquitto(MosquittoServer):
    """Mosquitto with some directives of its configuration changed."""

    directives: Mapping[str, str] = {}

    def prepare(self) -> None:
        """Renders the product's configuration and puts the other values in.

        Raises:
            ValueError: the configuration has no such directive.
        """
        super().prepare()
        lines = self.config_file.read_text().splitlines()
        for name, value in self.directives.items():
            places = [number for number, line in enumerate(lines) if line.startswith(f"{name} ")]
            if not places:
                raise ValueError(f"mosquitto.conf has no directive {name}")
            lines[places[0]] = f"{name} {value}"
        self.config_file.write_text("\n".join(lines) + "\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceInstance:
    """One service process and where to reach it."""

    process: PythonServer
    grpc_port: int
    http_port: int

    @property
    def grpc_target(self) -> str:
        """Where its gRPC server listens."""
        return f"{LOOPBACK}:{self.grpc_port}"


class Servers:
    """Broker, PostgreSQL, Redis, ConnectionsService and service processes; an async context manager."""

    def __init__(self, folder: Path, layout: Layout) -> None:
        self.folder = folder
        self.layout = layout
        self.jwt_secret = secrets.token_urlsafe(32)
        logs = folder / "logs"
        self.disk: Disk | None = disk_for(layout.storage, folder)
        self.mosquitto = DirectedMosquitto(
            folder / "mosquitto",
            free_port(),
            free_port(),
            jwt=JwtOptions(secret=self.jwt_secret),
            log_file=logs / "mosquitto.log",
        )
        self.mosquitto.directives = layout.broker
        self.postgresql = PostgreSQLServer(
            self.disk.database_folder if self.disk else folder / "postgresql",
            free_port(),
            log_file=logs / "postgresql.log",
        )
        self.redis = RedisServer(folder / "redis", free_port(), log_file=logs / "redis.log")
        self.connections = ConnectionsControl(folder, free_port(), free_port())
        self.services: Sequence[ServiceInstance] = ()
        self.proxies: dict[Edge, Sequence[FaultProxy]] = {}
        self._stack = AsyncExitStack()

    @property
    def websocket_port(self) -> int:
        """Where clients find the broker by WebSocket."""
        return self._client_ports()[0]

    @property
    def mqtt_port(self) -> int:
        """Where clients find the broker by TCP."""
        return self._client_ports()[1]

    @property
    def database_url(self) -> str:
        """The service's database, past any proxy."""
        return self.postgresql.url(DATABASE)

    def all(self) -> Sequence[ServerProcess]:
        """Every process."""
        services = [instance.process for instance in self.services]
        return [self.mosquitto, self.postgresql, self.redis, self.connections.process, *services]

    async def __aenter__(self) -> Servers:
        async with AsyncExitStack() as stack:
            if self.disk is not None:
                stack.callback(self.disk.close)
                await asyncio.to_thread(self.disk.open)
            # The slow one first; the others start meanwhile.
            async with asyncio.TaskGroup() as tasks:
                for server in (self.postgresql, self.mosquitto, self.redis, self.connections.process):
                    stack.push_async_callback(asyncio.to_thread, server.stop)
                    tasks.create_task(asyncio.to_thread(server.start))
            if self.disk is not None:
                await asyncio.to_thread(self.disk.adopt, self.postgresql)
            await asyncio.to_thread(self.postgresql.create_database, DATABASE)
            await self._open_proxies(stack)
            self.services = [self._service(number) for number in range(self.layout.instances)]
            for instance in self.services:
                stack.push_async_callback(asyncio.to_thread, instance.process.stop)
                await asyncio.to_thread(instance.process.start)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _open_proxies(self, stack: AsyncExitStack) -> None:
        targets = {
            Edge.CLIENT_BROKER: (self.mosquitto.websocket_port, self.mosquitto.mqtt_port),
            Edge.BROKER_SERVICE: (self.mosquitto.mqtt_port,),
            Edge.SERVICE_POSTGRESQL: (self.postgresql.port,),
            Edge.SERVICE_REDIS: (self.redis.port,),
            Edge.SERVICE_CONNECTIONS: (self.connections.port,),
        }
        for edge in self.layout.edges:
            self.proxies[edge] = [
                await stack.enter_async_context(FaultProxy(target)) for target in targets[edge]
            ]

    def _client_ports(self) -> tuple[int, int]:
        proxies = self.proxies.get(Edge.CLIENT_BROKER)
        if proxies:
            return proxies[0].listen_port, proxies[1].listen_port
        return self.mosquitto.websocket_port, self.mosquitto.mqtt_port

    def _port(self, edge: Edge, port: int) -> int:
        return self.proxies[edge][0].listen_port if edge in self.proxies else port

    def _service(self, number: int) -> ServiceInstance:
        through_proxy = Edge.BROKER_SERVICE in self.proxies
        database = self._port(Edge.SERVICE_POSTGRESQL, self.postgresql.port)
        redis = self._port(Edge.SERVICE_REDIS, self.redis.port)
        surroundings = Surroundings(
            database_url=_at_port(self.database_url, database),
            redis_url=_at_port(self.redis.url, redis),
            broker_port=self._port(Edge.BROKER_SERVICE, self.mosquitto.mqtt_port),
            broker_socket=None if through_proxy else self.mosquitto.socket_path,
            connections_port=self._port(Edge.SERVICE_CONNECTIONS, self.connections.port),
            jwt_secret=self.jwt_secret,
        )
        grpc_port, http_port = free_port(), free_port()
        log_file = self.folder / "logs" / f"service-{number}.log"
        process = messaging_service(log_file, surroundings, grpc_port=grpc_port, http_port=http_port)
        process.program = replace(
            process.program, settings={**process.program.settings, **self.layout.settings}
        )
        return ServiceInstance(process=process, grpc_port=grpc_port, http_port=http_port)


def _at_port(url: str, port: int) -> str:
    """The URL with another port."""
    before = urlsplit(url).port
    return url.replace(f":{before}/", f":{port}/")
