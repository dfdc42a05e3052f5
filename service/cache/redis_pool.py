"""How this process connects to Redis, whatever for."""

from __future__ import annotations

from typing import Any

from redis.asyncio import BlockingConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError


def redis_pool(url: str, *, timeout: float, max_connections: int) -> BlockingConnectionPool:
    """Connections that never retry and never wait longer than `timeout` (seconds) for anything."""
    pool: BlockingConnectionPool = BlockingConnectionPool.from_url(
        url,
        max_connections=max_connections,
        timeout=timeout,
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
    )
    # The URL's scheme has chosen a class: TCP, TLS or unix socket.
    pool.connection_class = type("Connection", (_OnUvloop, pool.connection_class), {})
    return pool


class _OnUvloop(AbstractConnection):
    """To write to a socket that the peer has reset is a `RuntimeError` on uvloop, not an `OSError`.

    The library would let it pass, and who asked would take it for a defect.
    """

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        try:
            await super().send_packed_command(command, check_health)
        except RuntimeError as error:
            raise RedisConnectionError("the socket is closed") from error
