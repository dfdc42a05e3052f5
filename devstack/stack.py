"""The servers of `make run`, and what starts, watches and stops them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from devstack.mosquitto import JwtOptions, MosquittoServer, build_plugin
from devstack.ports import LOOPBACK, usual_or_free_port
from devstack.postgresql import PostgreSQLServer
from devstack.progress import Progress
from devstack.python_server import PythonServer, Surroundings, connections_service, gateway, messaging_service
from devstack.redis_server import RedisServer
from devstack.run_folder import RunFolder
from devstack.server_process import ServerFailed, ServerProcess

DATABASE = "messaging"
_POLL_SECONDS = 0.05


class StopRequested(Exception):
    """Somebody asked for an end while the stack started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """The loopback ports of one stack: the usual ones where they are free."""

    gateway: int = field(default_factory=lambda: usual_or_free_port(8080))
    websocket: int = field(default_factory=lambda: usual_or_free_port(9001))
    mqtt: int = field(default_factory=lambda: usual_or_free_port(1883))
    grpc: int = field(default_factory=lambda: usual_or_free_port(50051))
    service_http: int = field(default_factory=lambda: usual_or_free_port(8081))
    standby_grpc: int = field(default_factory=lambda: usual_or_free_port(50061))
    standby_http: int = field(default_factory=lambda: usual_or_free_port(8091))
    connections: int = field(default_factory=lambda: usual_or_free_port(50052))
    postgresql: int = field(default_factory=lambda: usual_or_free_port(5432))
    redis: int = field(default_factory=lambda: usual_or_free_port(6379))

    @property
    def instances(self) -> Sequence[tuple[int, int]]:
        """gRPC and HTTP port of each instance of the service."""
        return (self.grpc, self.service_http), (self.standby_grpc, self.standby_http)


class Stack:
    """All servers, in the order in which they start; they stop in the reverse one."""

    def __init__(self, folder: RunFolder, progress: Progress, *, stop_requested: Callable[[], bool]) -> None:
        self.ports = Ports()
        self._folder = folder
        self._progress = progress
        self._stop_requested = stop_requested
        self._started: list[ServerProcess] = []
        self._has_served: dict[ServerProcess, bool] = {}
        """The instances of the service, and whether they were ready since their start."""

    @property
    def page_url(self) -> str:
        """Where the demo page is."""
        return f"http://{LOOPBACK}:{self.ports.gateway}/"

    @property
    def instance_ids(self) -> Sequence[int]:
        """Process ids of the service's instances, the first active one first."""
        return [instance.pid for instance in self._has_served]

    def start(self) -> None:
        """Starts everything; what has started when this raises still runs, for `stop`.

        Raises:
            ServerFailed: a server did not start.
            StopRequested: it was told to stop meanwhile.
        """
        secret = self._folder.jwt_secret()
        with self._progress.step("Broker plugin built"):
            build_plugin()
        postgresql, redis, mosquitto = self._servers(secret)
        connections = self._connections()
        # They start beside PostgreSQL, which takes longest and needs none of them.
        for server in (redis, mosquitto, connections):
            self._launch(server)
        self._start(postgresql, self.ports.postgresql)
        self._start(redis, self.ports.redis)
        self._start(mosquitto, self.ports.mqtt, self.ports.websocket)
        self._start(connections, self.ports.connections)
        if not postgresql.has_database(DATABASE):
            postgresql.create_database(DATABASE)
        surroundings = self._surroundings(postgresql, redis, mosquitto, secret)
        page = self._gateway(mosquitto.websocket_url, secret)
        # The first instance applies the migrations before it is ready, and is the active one.
        first, standby = (
            messaging_service(
                self._folder.log_file(f"service-{number}"),
                surroundings,
                grpc_port=grpc_port,
                http_port=http_port,
            )
            for number, (grpc_port, http_port) in enumerate(self.ports.instances, start=1)
        )
        self._start_instance(first, self.ports.instances[0])
        self._launch(page)
        self._start_instance(standby, self.ports.instances[1])
        self._start(page, self.ports.gateway)

    def watch(self) -> None:
        """Returns when a stop is requested; an instance of the service that has ended is started again.

        Raises:
            ServerFailed: another server has ended by itself, or an instance before it was ready again.
        """
        while not self._stop_requested():
            for server in self._started:
                if not server.is_running:
                    self._start_again(server)
                elif not self._has_served.get(server, True):
                    self._has_served[server] = server.is_ready()
            time.sleep(_POLL_SECONDS)

    def _start_again(self, server: ServerProcess) -> None:
        """Only an instance of the service: the other one serves meanwhile."""
        if not self._has_served.get(server, False):
            raise ServerFailed(f"{server.name} {server.ending()}.{server.quoted_log()}")
        self._progress.say(f"  {server.name} {server.ending()}; the other one serves, and it starts again.")
        server.launch()
        self._folder.remember(server)
        self._has_served[server] = False

    def stop(self) -> None:
        """Stops what runs, last started first."""
        while self._started:
            server = self._started.pop()
            if server.is_running:
                with self._progress.step(f"{server.name} stopped"):
                    server.stop()

    def _servers(self, secret: str) -> tuple[PostgreSQLServer, RedisServer, MosquittoServer]:
        data, log_file, ports = self._folder.path, self._folder.log_file, self.ports
        return (
            PostgreSQLServer(data / "postgresql", ports.postgresql, log_file=log_file("postgresql")),
            RedisServer(data / "redis", ports.redis, log_file=log_file("redis")),
            MosquittoServer(
                data / "mosquitto",
                ports.mqtt,
                ports.websocket,
                jwt=JwtOptions(secret=secret),
                log_file=log_file("mosquitto"),
            ),
        )

    def _connections(self) -> PythonServer:
        return connections_service(self._folder.log_file("connections"), port=self.ports.connections)

    def _surroundings(
        self, postgresql: PostgreSQLServer, redis: RedisServer, mosquitto: MosquittoServer, secret: str
    ) -> Surroundings:
        return Surroundings(
            database_url=postgresql.url(DATABASE),
            redis_url=redis.url,
            broker_port=self.ports.mqtt,
            broker_socket=mosquitto.socket_path,
            connections_port=self.ports.connections,
            jwt_secret=secret,
        )

    def _gateway(self, broker_websocket_url: str, secret: str) -> PythonServer:
        return gateway(
            self._folder.log_file("gateway"),
            port=self.ports.gateway,
            grpc_ports=[grpc_port for grpc_port, _ in self.ports.instances],
            broker_websocket_url=broker_websocket_url,
            jwt_secret=secret,
        )

    def _launch(self, server: ServerProcess) -> None:
        self._check_stop()
        server.launch()
        self._started.append(server)
        self._folder.remember(server)

    def _start(self, server: ServerProcess, *ports: int) -> None:
        """Launches it unless that is done, and waits until it is ready."""
        with self._progress.step(server.name, ", ".join(f"{LOOPBACK}:{port}" for port in ports)):
            if server not in self._started:
                self._launch(server)
            server.wait_until_ready(at_each_poll=self._check_stop)

    def _start_instance(self, instance: ServerProcess, ports: Sequence[int]) -> None:
        self._start(instance, *ports)
        self._has_served[instance] = True

    def _check_stop(self) -> None:
        if self._stop_requested():
            raise StopRequested
