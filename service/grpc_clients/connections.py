"""The client of ConnectionsService: who is a first-degree connection of whom."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

import grpc
import structlog

from proto.connections.v1 import connections_pb2, connections_pb2_grpc
from service.breaker import Breaker, CircuitOpen
from service.domain.errors import ErrorCode, Rejected
from service.domain.ids import UserId
from service.grpc_clients.metrics import CONNECTIONS_FAILURES, CONNECTIONS_RPC_SECONDS

_log = structlog.get_logger()

_REMINDER_SECONDS = 60.0
"""An unchanged failure is logged again after this time, not on every lookup."""

CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    # Back within about a second once the service answers again: the library's
    # own back-off grows to 120 s, and a name is asked of DNS again after 30 s.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.dns_min_time_between_resolutions_ms", 1_000),
    # A link that died without a FIN is given up 2 s after the next unanswered write.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 2_000),
    ("grpc.keepalive_permit_without_calls", 0),
    # The service's token goes with each call; a proxy of the environment is for the outside.
    ("grpc.enable_http_proxy", 0),
)


class LookupFailure(StrEnum):
    """Why ConnectionsService gave no answer, as metrics and logs name it."""

    UNAVAILABLE = "unavailable"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    PERMISSION_DENIED = "permission_denied"
    UNAUTHENTICATED = "unauthenticated"
    OVERLOADED = "overloaded"
    DEFECTIVE = "defective"
    """INTERNAL or UNKNOWN."""
    UNEXPECTED = "unexpected"
    """A status that this contract does not know."""
    CIRCUIT_OPEN = "circuit_open"
    """Not asked: it failed too often just now."""


class ConnectionsUnavailable(Rejected):
    """`Rejected(AUTHORIZATION_UNAVAILABLE)` that also says why."""

    def __init__(self, failure: LookupFailure, message: str, *, retry_after_ms: int) -> None:
        super().__init__(ErrorCode.AUTHORIZATION_UNAVAILABLE, message, retry_after_ms=retry_after_ms)
        self.failure = failure


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fault:
    """What a gRPC status means here."""

    failure: LookupFailure
    message: str
    retry_after_ms: int = 1_000
    opens_circuit: bool = True
    """Whether the service is in trouble; if not, it is our configuration."""


_DEFECTIVE = _Fault(failure=LookupFailure.DEFECTIVE, message="ConnectionsService failed")
_UNEXPECTED = _Fault(
    failure=LookupFailure.UNEXPECTED,
    message="ConnectionsService gave no usable answer",
    retry_after_ms=5_000,
    opens_circuit=False,
)
_FAULTS: Mapping[grpc.StatusCode, _Fault] = MappingProxyType(
    {
        grpc.StatusCode.UNAVAILABLE: _Fault(
            failure=LookupFailure.UNAVAILABLE, message="ConnectionsService is not available"
        ),
        grpc.StatusCode.DEADLINE_EXCEEDED: _Fault(
            failure=LookupFailure.DEADLINE_EXCEEDED, message="ConnectionsService did not answer in time"
        ),
        grpc.StatusCode.RESOURCE_EXHAUSTED: _Fault(
            failure=LookupFailure.OVERLOADED, message="ConnectionsService is overloaded"
        ),
        grpc.StatusCode.INTERNAL: _DEFECTIVE,
        grpc.StatusCode.UNKNOWN: _DEFECTIVE,
        grpc.StatusCode.PERMISSION_DENIED: _Fault(
            failure=LookupFailure.PERMISSION_DENIED,
            message="ConnectionsService does not let this service ask",
            retry_after_ms=5_000,
            opens_circuit=False,
        ),
        grpc.StatusCode.UNAUTHENTICATED: _Fault(
            failure=LookupFailure.UNAUTHENTICATED,
            message="ConnectionsService does not accept this service's token",
            retry_after_ms=5_000,
            opens_circuit=False,
        ),
    }
)


def open_channel(target: str, credentials: grpc.ChannelCredentials | None = None) -> grpc.aio.Channel:
    """A channel to ConnectionsService at `host:port`, quick to come back; plaintext without credentials."""
    if credentials is None:
        return grpc.aio.insecure_channel(target, options=CHANNEL_OPTIONS)
    return grpc.aio.secure_channel(target, credentials, options=CHANNEL_OPTIONS)


class ConnectionsClient:
    """Asks ConnectionsService, with a deadline and a circuit breaker; caches nothing.

    `deadline` is in seconds and covers one call. `service_token` gives the
    token to present now; its errors reach the caller. More than
    `max_concurrent_calls` wait their turn before their deadline starts, so
    that a burst of new pairs after a start is not mistaken for an outage.
    The circuit opens after `failures_to_open` failures in a row for
    `recovery` seconds. The channel stays the caller's to close.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        *,
        service_token: Callable[[], str],
        deadline: float = 0.2,
        failures_to_open: int = 5,
        recovery: float = 2.0,
        max_concurrent_calls: int = 64,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stub = connections_pb2_grpc.ConnectionsServiceStub(channel)
        self._service_token = service_token
        self._deadline = deadline
        self._clock = clock
        self._turns = asyncio.Semaphore(max_concurrent_calls)
        self._breaker = Breaker(
            "connections_service",
            failures=failures_to_open,
            recovery=recovery,
            probe_time=deadline,
            counts=lambda error: isinstance(error, grpc.RpcError) and _fault_of(error).opens_circuit,
            clock=clock,
        )
        self._logged: LookupFailure | None = None
        self._logged_at = 0.0

    async def are_connected(self, user: UserId, other: UserId) -> bool:
        """Whether the two are connected now, asked on behalf of `user`.

        Raises `ConnectionsUnavailable` when the service cannot or will not say.
        """
        async with self._turns:
            token = self._service_token()
            try:
                with self._breaker.admitted():
                    connected = await self._ask(user, other, token)
            except CircuitOpen as error:
                raise _refused_by(error) from error
            except grpc.RpcError as error:
                raise self._failed(error) from error
        self._answered()
        return connected

    async def _ask(self, user: UserId, other: UserId, token: str) -> bool:
        """One call; its duration is observed under its outcome."""
        started = time.perf_counter()
        outcome = "cancelled"
        try:
            response = await self._stub.IsConnected(
                connections_pb2.IsConnectedRequest(user_id_a=user, user_id_b=other),
                timeout=self._deadline,
                metadata=(("authorization", f"Bearer {token}"), ("x-user-id", user)),
                wait_for_ready=False,
            )
            outcome = "connected" if response.are_connected else "not_connected"
            return response.are_connected
        except grpc.RpcError as error:
            outcome = _fault_of(error).failure
            raise
        finally:
            CONNECTIONS_RPC_SECONDS.labels(outcome).observe(time.perf_counter() - started)

    def _failed(self, error: grpc.RpcError) -> ConnectionsUnavailable:
        """Counts and logs a failed call; only its status, for details are foreign text."""
        fault = _fault_of(error)
        CONNECTIONS_FAILURES.labels(fault.failure).inc()
        now = self._clock()
        if fault.failure != self._logged or now - self._logged_at >= _REMINDER_SECONDS:
            self._logged, self._logged_at = fault.failure, now
            log = _log.warning if fault.opens_circuit else _log.error
            log("connections_lookup_failed", failure=fault.failure.value, status=_status_of(error).name)
        return ConnectionsUnavailable(fault.failure, fault.message, retry_after_ms=fault.retry_after_ms)

    def _answered(self) -> None:
        """Logs the end of a run of failures."""
        if self._logged is not None:
            _log.info("connections_lookups_answered_again", after=self._logged.value)
            self._logged = None


def _refused_by(error: CircuitOpen) -> ConnectionsUnavailable:
    """The open circuit's answer: come back when it may be probed."""
    CONNECTIONS_FAILURES.labels(LookupFailure.CIRCUIT_OPEN).inc()
    return ConnectionsUnavailable(
        LookupFailure.CIRCUIT_OPEN,
        "ConnectionsService is not available",
        retry_after_ms=math.ceil(error.retry_after * 1_000),
    )


def _status_of(error: grpc.RpcError) -> grpc.StatusCode:
    """The status of a failed call, UNKNOWN for one that ended without any."""
    return error.code() if isinstance(error, grpc.aio.AioRpcError) else grpc.StatusCode.UNKNOWN


def _fault_of(error: grpc.RpcError) -> _Fault:
    return _FAULTS.get(_status_of(error), _UNEXPECTED)
