"""The development ConnectionsService: who is connected with whom, from the command line.

It trusts every caller. Tests run it in their own process, where they change the
pairs, let it answer late or let it fail.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import NamedTuple

import grpc
import uvloop
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from devstack.ports import LOOPBACK
from proto.connections.v1 import connections_pb2, connections_pb2_grpc

_SERVICE_NAME = connections_pb2.DESCRIPTOR.services_by_name["ConnectionsService"].full_name

logger = logging.getLogger(__name__)

Pair = tuple[str, str]

_REMEMBERED_CALLS = 1_000


class Call(NamedTuple):
    """One call of `IsConnected` and its metadata, None where absent."""

    pair: Pair
    caller_id: str | None
    """`x-user-id`"""
    caller_token: str | None
    """`authorization`"""


class ConnectionsDirectory(connections_pb2_grpc.ConnectionsServiceServicer):
    """Symmetric pairs of connected users, and how the service misbehaves at the moment.

    With `everybody`, all users are connected with each other whatever the pairs.
    `delay_seconds` goes before each answer. While `failure` is set each call ends with that status.
    `calls` holds the latest calls, the newest last.
    """

    def __init__(self, pairs: Iterable[Pair] = (), *, everybody: bool = False) -> None:
        self._pairs = {frozenset(pair) for pair in pairs}
        self._everybody = everybody
        self.delay_seconds = 0.0
        self.failure: grpc.StatusCode | None = None
        self.calls: deque[Call] = deque(maxlen=_REMEMBERED_CALLS)

    def connect(self, user_id_a: str, user_id_b: str) -> None:
        """Makes the two users first-degree connections."""
        self._pairs.add(frozenset((user_id_a, user_id_b)))

    def disconnect(self, user_id_a: str, user_id_b: str) -> None:
        """Ends the connection of the two users, if there is one."""
        self._pairs.discard(frozenset((user_id_a, user_id_b)))

    def are_connected(self, user_id_a: str, user_id_b: str) -> bool:
        """Whether the two users are first-degree connections; nobody is their own."""
        connected = self._everybody or frozenset((user_id_a, user_id_b)) in self._pairs
        return connected and user_id_a != user_id_b

    async def IsConnected(  # noqa: N802 - the name of the remote procedure
        self,
        request: connections_pb2.IsConnectedRequest,
        context: grpc.aio.ServicerContext[
            connections_pb2.IsConnectedRequest, connections_pb2.IsConnectedResponse
        ],
    ) -> connections_pb2.IsConnectedResponse:
        """Answers the remote call."""
        metadata = {key: str(value) for key, value in context.invocation_metadata() or ()}
        pair = (request.user_id_a, request.user_id_b)
        self.calls.append(Call(pair, metadata.get("x-user-id"), metadata.get("authorization")))
        if self.delay_seconds:
            await asyncio.sleep(self.delay_seconds)
        if self.failure is not None:
            await context.abort(self.failure, "told to fail")
        answer = self.are_connected(*pair)
        if not answer:
            logger.info("%s and %s are not connected (asked for %s)", *pair, metadata.get("x-user-id"))
        return connections_pb2.IsConnectedResponse(are_connected=answer)


@asynccontextmanager
async def serve(
    directory: ConnectionsDirectory, *, host: str = LOOPBACK, port: int = 0
) -> AsyncIterator[int]:
    """Serves the directory and the health service while the block runs; yields the port.

    Raises:
        RuntimeError: the port is taken.
    """
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    connections_pb2_grpc.add_ConnectionsServiceServicer_to_server(directory, server)
    health_servicer = health.aio.HealthServicer()  # type: ignore[attr-defined]  # missing in grpc-stubs
    for name in ("", _SERVICE_NAME):
        await health_servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    bound = server.add_insecure_port(f"{host}:{port}")
    await server.start()
    try:
        yield bound
    finally:
        await server.stop(grace=1)


def connected_pair(text: str) -> Pair:
    """The two user ids of `alice:bob`.

    Raises:
        argparse.ArgumentTypeError: the text has another form.
    """
    user_ids = text.split(":")
    if len(user_ids) != 2 or "" in user_ids or user_ids[0] == user_ids[1]:
        raise argparse.ArgumentTypeError(f"{text!r} does not name two users as alice:bob does")
    return user_ids[0], user_ids[1]


def is_serving(port: int) -> bool:
    """Whether the health service on the loopback port says so."""
    with grpc.insecure_channel(f"{LOOPBACK}:{port}", options=[("grpc.enable_http_proxy", 0)]) as channel:
        request = health_pb2.HealthCheckRequest(service=_SERVICE_NAME)
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=2)
        except grpc.RpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


async def _run(host: str, port: int, directory: ConnectionsDirectory) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for stop_signal in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(stop_signal, stopped.set)
    async with serve(directory, host=host, port=port) as bound:
        logger.info("serving on %s:%d", host, bound)
        await stopped.wait()


def main() -> int:
    """Serves until SIGINT or SIGTERM; or, as a container's health check, asks the one that serves."""
    parser = argparse.ArgumentParser(prog="python -m devstack.connections_service", description=__doc__)
    parser.add_argument("--host", default=LOOPBACK)
    parser.add_argument("--port", type=int, default=50052)
    parser.add_argument(
        "--connected", type=connected_pair, action="append", default=[], metavar="alice:bob", dest="pairs"
    )
    parser.add_argument("--everybody", action="store_true", help="all users are connected: for load tests")
    parser.add_argument("--check", action="store_true", help="exit code 0 if one serves on the port")
    arguments = parser.parse_args()
    if arguments.check:
        return 0 if is_serving(arguments.port) else 1
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    directory = ConnectionsDirectory(arguments.pairs, everybody=arguments.everybody)
    uvloop.run(_run(arguments.host, arguments.port, directory))
    return 0


if __name__ == "__main__":
    sys.exit(main())
