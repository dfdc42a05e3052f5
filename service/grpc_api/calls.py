"""What holds for every call: authenticated, counted, bounded in time, refused in one form."""

from __future__ import annotations

import asyncio
import time
from collections import Counter as Multiset
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cache
from typing import Any, TypeAlias, cast
from uuid import uuid4

import grpc
import structlog
from google.protobuf.message import DecodeError
from prometheus_client import Counter

from service.domain.errors import ErrorCode, Rejected, Rejection
from service.domain.ids import UserId
from service.grpc_api.authentication import Authentication, InvalidToken, caller
from service.grpc_api.errors import refuse
from service.grpc_api.metrics import CALL_SECONDS, CALLS

_log = structlog.get_logger(__name__)

# Strings: grpc's classes are generic in their stubs only.
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Behaviour: TypeAlias = "Callable[[Any, Context], Awaitable[Any]]"
GenericHandler: TypeAlias = "grpc.GenericRpcHandler[Any, Any]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

_CALLS_OF_ONE_USER = 64
"""At once, and in each instance: nobody alone takes the connections to the database that all share."""

_OTHER = "other"
"""Label of methods that this server does not have: their names are the callers' invention."""


class Methods(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # generic in its stubs only
    """The methods of a server, added to it as one handler.

    Generated code adds a service to this as it would to the server. What holds for every call is put around
    a method once: of interceptors the library makes a chain for each call, which is a tenth of a page's time.
    """

    def __init__(
        self,
        authentication: Authentication,
        *,
        open_services: frozenset[str],
        bounded_services: frozenset[str],
        default_deadline: float,
    ) -> None:
        """Services are given by their full names.

        Calls of all but `open_services` need a user's valid token. Those of `bounded_services` end at their
        deadline, which is `default_deadline` seconds for a call that brings none, and what they raise becomes
        a status. Of one caller 64 of them may be under way; more are refused: BUSY. The end of a deadline and
        a cancellation both cancel the handler, and with it the statement that it waits for.
        """
        self._authentication = authentication
        self._open_services = open_services
        self._bounded_services = bounded_services
        self._default_deadline = default_deadline
        self._handlers: dict[str, Handler] = {}
        self._open: set[str] = set()
        self._under_way: Multiset[UserId] = Multiset()
        """Bounded calls of each caller who has any."""

    def add_generic_rpc_handlers(self, handlers: Sequence[GenericHandler]) -> None:
        """Nothing: generated code names the same methods again in `add_registered_method_handlers`."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Handler]) -> None:
        """Adds the methods of a service. Unary ones are counted and timed."""
        for name, handler in handlers.items():
            method = f"{service}/{name}"
            if handler.unary_unary is not None:
                behaviour, parse = _behaviour(handler), handler.request_deserializer
                if service in self._bounded_services:
                    # The boundary parses the request itself, so that a broken one is refused like any other.
                    behaviour, parse = self._bounded(method, behaviour, _parser(handler)), None
                handler = grpc.unary_unary_rpc_method_handler(
                    _measured(method, behaviour), parse, handler.response_serializer
                )
            self._handlers[f"/{method}"] = handler
            if service in self._open_services:
                self._open.add(f"/{method}")

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        """What answers this call, with its caller known: the method, a refusal, or nothing if it is unknown.

        Called in the task of the call, whose context the method shares.
        """
        path = handler_call_details.method
        handler = self._handlers.get(path)
        if path not in self._open:
            try:
                self._authentication.admit(handler_call_details)
            except InvalidToken as error:
                rejection = Rejection(ErrorCode.UNAUTHENTICATED, str(error))
                return grpc.unary_unary_rpc_method_handler(_measured(self._label(path), _refusing(rejection)))
        if handler is None:
            _counter(_OTHER, grpc.StatusCode.UNIMPLEMENTED.name).inc()
        return handler

    def _label(self, path: str) -> str:
        return path[1:] if path in self._handlers else _OTHER

    def _bounded(self, method: str, behaviour: Behaviour, parse: Callable[[bytes], Any]) -> Behaviour:
        async def answer(request: bytes, context: Context) -> Any:
            user = caller()
            if self._under_way[user] >= _CALLS_OF_ONE_USER:
                await refuse(context, _TOO_MANY)
            self._under_way[user] += 1
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
            finally:
                self._under_way[user] -= 1
                if not self._under_way[user]:
                    del self._under_way[user]

        return answer


_TOO_MANY = Rejection(ErrorCode.BUSY, "too many of your calls are under way", retry_after_ms=100)
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


def _refusing(rejection: Rejection) -> Behaviour:
    async def answer(_request: bytes, context: Context) -> Any:
        await refuse(context, rejection)

    return answer


def _behaviour(handler: Handler) -> Behaviour:
    # The stubs give handlers the context of synchronous servers.
    return cast("Behaviour", handler.unary_unary)


def _parser(handler: Handler) -> Callable[[bytes], Any]:
    assert handler.request_deserializer is not None
    return handler.request_deserializer
