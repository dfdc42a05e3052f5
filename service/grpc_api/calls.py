"""What holds for every call of ours: counted, bounded in time, refused in one form."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any, TypeAlias, cast
from uuid import uuid4

import grpc
import structlog
from google.protobuf.message import DecodeError
from prometheus_client import Counter

from service.domain.errors import ErrorCode, Rejected, Rejection
from service.grpc_api.errors import refuse
from service.grpc_api.metrics import CALL_SECONDS, CALLS

_log = structlog.get_logger(__name__)

# Strings: grpc's classes are generic in their stubs only.
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Behaviour: TypeAlias = "Callable[[Any, Context], Awaitable[Any]]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Continuation: TypeAlias = "Callable[[grpc.HandlerCallDetails], Awaitable[Handler]]"

_OTHER = "other"
"""Label of methods that this server does not have: their names are the callers' invention."""


class _WrappedHandlers:
    """What an interceptor made of the handler of each method: made once and not for every call."""

    def __init__(self) -> None:
        self._made: dict[str, tuple[Handler, Handler]] = {}

    def of(self, method: str, handler: Handler, make: Callable[[], Handler]) -> Handler:
        """What `make` makes; called again when the method's handler is another one, as for a refusal."""
        made = self._made.get(method)
        if made is None or made[0] is not handler:
            made = self._made[method] = (handler, make())
        return made[1]


class MetricsInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in its stubs only
    """Counts and times unary calls; `methods` are the full names that get a label."""

    def __init__(self, methods: frozenset[str]) -> None:
        self._methods = methods
        self._handlers = _WrappedHandlers()

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler:
        """Puts the clock around whatever will answer the call."""
        method = handler_call_details.method.lstrip("/")
        label = method if method in self._methods else _OTHER
        handler: Handler | None = await continuation(handler_call_details)
        if handler is None:
            _counter(label, grpc.StatusCode.UNIMPLEMENTED.name).inc()
        if handler is None or handler.unary_unary is None:
            return handler  # type: ignore[return-value]  # None: no such method
        return self._handlers.of(
            label,
            handler,
            lambda: grpc.unary_unary_rpc_method_handler(
                _measured(label, _behaviour(handler)),
                handler.request_deserializer,
                handler.response_serializer,
            ),
        )


class BoundaryInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in its stubs only
    """Ends calls of `methods` at their deadline and turns exceptions into statuses.

    A call that brings no deadline gets `default_deadline` seconds. The end of
    a deadline and a cancellation both cancel the handler, and with it the
    statement that it waits for.
    """

    def __init__(self, methods: frozenset[str], *, default_deadline: float) -> None:
        self._methods = methods
        self._default_deadline = default_deadline
        self._handlers = _WrappedHandlers()

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler:
        """Puts the boundary around the method's handler."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method.lstrip("/")
        if method not in self._methods:
            return handler
        return self._handlers.of(
            method,
            handler,
            lambda: grpc.unary_unary_rpc_method_handler(
                self._bounded(method, _behaviour(handler), _parser(handler)),
                # The boundary parses the request itself, so that a broken one is refused like any other.
                None,
                handler.response_serializer,
            ),
        )

    def _bounded(self, method: str, behaviour: Behaviour, parse: Callable[[bytes], Any]) -> Behaviour:
        async def answer(request: bytes, context: Context) -> Any:
            # grpc itself cancels at the client's deadline.
            limit = self._default_deadline if context.time_remaining() is None else None
            try:
                async with asyncio.timeout(limit) as deadline:
                    return await behaviour(parse(request), context)
            except Rejected as error:
                await refuse(context, error.rejection)
            except DecodeError:
                await refuse(context, _UNREADABLE)
            except Exception as error:
                if isinstance(error, TimeoutError) and deadline.expired():
                    await refuse(context, _TOO_SLOW, grpc.StatusCode.DEADLINE_EXCEEDED)
                await refuse(context, _incident(method))

        return answer


_TOO_SLOW = Rejection(ErrorCode.STORAGE_UNAVAILABLE, "no answer within the deadline")
_UNREADABLE = Rejection(ErrorCode.INVALID_PAYLOAD, "the request is not the message of this method")


def _incident(method: str) -> Rejection:
    """Logs the exception being handled under a new id, which is all that the caller is told."""
    incident = str(uuid4())
    _log.exception("grpc_call_failed", method=method, incident=incident)
    return Rejection(ErrorCode.INTERNAL, f"the service failed (incident {incident})")


@cache
def _counter(label: str, code: str) -> Counter:
    return CALLS.labels(label, code)


def _measured(label: str, behaviour: Behaviour) -> Behaviour:
    duration = CALL_SECONDS.labels(label)

    async def answer(request: Any, context: Context) -> Any:
        began = time.perf_counter()
        code = grpc.StatusCode.OK.name
        try:
            return await behaviour(request, context)
        except asyncio.CancelledError:
            remaining = context.time_remaining()
            late = remaining is not None and remaining <= 0
            code = (grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED).name
            raise
        except Exception:
            # Refusals set their code before they raise; anything else, grpc answers with UNKNOWN.
            refused: object = context.code()
            code = (refused if isinstance(refused, grpc.StatusCode) else grpc.StatusCode.UNKNOWN).name
            raise
        finally:
            _counter(label, code).inc()
            duration.observe(time.perf_counter() - began)

    return answer


def _behaviour(handler: Handler) -> Behaviour:
    # The stubs give handlers the context of synchronous servers.
    return cast("Behaviour", handler.unary_unary)


def _parser(handler: Handler) -> Callable[[bytes], Any]:
    assert handler.request_deserializer is not None
    return handler.request_deserializer
