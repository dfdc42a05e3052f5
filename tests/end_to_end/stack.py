"""The whole system for one test: real servers, the service as a process of its own."""

from __future__ import annotations

import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from devstack.connections_service import ConnectionsDirectory
from devstack.mosquitto import MosquittoServer
from devstack.ports import LOOPBACK, free_port
from devstack.python_server import PythonServer, Surroundings, messaging_service


@dataclass(slots=True, kw_only=True)
class Service:
    """The messaging service and where to reach it."""

    process: PythonServer
    grpc_port: int
    http_port: int

    @property
    def grpc_target(self) -> str:
        """Where the service's gRPC server listens."""
        return f"{LOOPBACK}:{self.grpc_port}"

    def get(self, path: str) -> str | None:
        """The body behind `path` of the operations routes, or None unless the answer is 200."""
        try:
            with urllib.request.urlopen(f"http://{LOOPBACK}:{self.http_port}{path}", timeout=5) as answer:
                body: bytes = answer.read()
                return body.decode()
        except OSError:
            return None


def new_service(
    folder: Path, surroundings: Surroundings, settings: Mapping[str, str] | None = None
) -> Service:
    """A service on free ports, not started yet; its log is `service.log` in `folder`."""
    grpc_port, http_port = free_port(), free_port()
    process = messaging_service(
        folder / "service.log",
        surroundings,
        grpc_port=grpc_port,
        http_port=http_port,
        extra_settings=settings,
    )
    return Service(process=process, grpc_port=grpc_port, http_port=http_port)


@dataclass(slots=True, kw_only=True)
class Stack:
    """What a test needs to talk to the running system."""

    mosquitto: MosquittoServer
    connections: ConnectionsDirectory
    service: Service
    database_url: str


@dataclass(slots=True, kw_only=True)
class PageStack(Stack):
    """The same with the gateway: REST, tokens and the demo page."""

    gateway: PythonServer

    @property
    def page_url(self) -> str:
        """Where the gateway serves the demo page."""
        return f"http://{LOOPBACK}:{self.gateway.program.port}"
