"""The gRPC server: its options, its interceptors, health and reflection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import grpc
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc
from grpc_reflection.v1alpha._async import ReflectionServicer

from proto.messaging.v1 import messaging_pb2, messaging_pb2_grpc
from service.grpc_api.authentication import Authentication, TokenVerifier
from service.grpc_api.calls import Methods
from service.grpc_api.messaging_service import MessagingService

_DESCRIPTOR = messaging_pb2.DESCRIPTOR.services_by_name["MessagingService"]
SERVICE: str = _DESCRIPTOR.full_name
"""The name under which health is asked, besides the empty one of the whole server."""
_HEALTH: str = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name

_OPTIONS = (
    # Requests hold a few ids; a page is at most 100 texts of 20,000 bytes.
    ("grpc.max_receive_message_length", 64 * 1024),
    ("grpc.max_send_message_length", 4 * 1024 * 1024),
    # Finds dead gateways, and lets living ones ping every ten seconds.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    # A second instance on the same port must fail, not share it silently.
    ("grpc.so_reuseport", 0),
)


class _Health(HealthServicer):  # type: ignore[misc]  # has no types
    """Answers `Check` only: a watcher needs no token, and would hold a call of the server's for ever."""

    async def Watch(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: aio.ServicerContext[Any, Any]
    ) -> None:
        """Refuses, which clients that balance by health take for healthy."""
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "ask with Check")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """Where and how the server serves."""

    host: str
    port: int
    """0 takes a free one."""
    reflection: bool = False
    """Whether callers may list the methods without a token."""
    default_deadline: float = 5.0
    """Seconds for a call that brings no deadline of its own."""
    maximum_calls: int = 1_000
    """Calls at once; more are refused with RESOURCE_EXHAUSTED."""


class GrpcServer:
    """Serves a `MessagingService` on one address, without TLS.

    Health says NOT_SERVING until `set_serving(True)`.
    """

    def __init__(self, service: MessagingService, verifier: TokenVerifier, options: ServerOptions) -> None:
        self._service = service
        self._verifier = verifier
        self._options = options
        self._health = _Health()
        self._server: aio.Server | None = None

    async def start(self) -> int:
        """Binds and serves; returns the port, which matters when 0 was asked for.

        Raises `RuntimeError` when the address cannot be bound.
        """
        open_services = {_HEALTH}
        if self._options.reflection:
            open_services.add(reflection.SERVICE_NAME)
        methods = Methods(
            Authentication(self._verifier),
            open_services=frozenset(open_services),
            bounded_services=frozenset({SERVICE}),
            default_deadline=self._options.default_deadline,
        )
        # To generated code it is a server.
        registrar = cast("aio.Server", methods)
        messaging_pb2_grpc.add_MessagingServiceServicer_to_server(self._service, registrar)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, registrar)
        if self._options.reflection:
            reflected = ReflectionServicer((SERVICE, _HEALTH, reflection.SERVICE_NAME))
            reflection_pb2_grpc.add_ServerReflectionServicer_to_server(reflected, registrar)
        server = aio.server(
            handlers=(methods,), options=_OPTIONS, maximum_concurrent_rpcs=self._options.maximum_calls
        )
        await self.set_serving(False)
        port = server.add_insecure_port(f"{self._options.host}:{self._options.port}")
        await server.start()
        self._server = server
        return port

    async def set_serving(self, serving: bool) -> None:
        """Sets what the health service answers; after `stop` began it stays NOT_SERVING."""
        status = health_pb2.HealthCheckResponse.SERVING
        if not serving:
            status = health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", SERVICE):
            await self._health.set(name, status)

    async def stop(self, grace_seconds: float) -> None:
        """Takes no new calls, waits for those under way, and cancels what is left after the grace."""
        await self._health.enter_graceful_shutdown()
        if self._server is not None:
            await self._server.stop(grace_seconds)
