"""After a run: what can be read of every conversation, and every place where a canary word must not be."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import grpc
from redis.asyncio import Redis

from proto.messaging.v1 import messaging_pb2, messaging_pb2_grpc
from tests.faults.clients import User
from tests.faults.ledger import HistoryPage, Ledger, Listed, Message
from tests.faults.load import Load

_OPTIONS = (("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 200))
_AT_ONCE = 8
_PATIENCE_S, _RETRY_S = 10.0, 0.2
T = TypeVar("T")


async def collect_views(load: Load, ledger: Ledger, grpc_target: str) -> None:
    """History pages, resync pages and conversation lists, of both participants of every conversation."""
    await load.read_everything()
    await collect_histories(load, ledger, grpc_target)


async def collect_histories(load: Load, ledger: Ledger, grpc_target: str) -> None:
    """History pages and conversation lists only, which any instance can read."""
    turns = asyncio.Semaphore(_AT_ONCE)
    async with _reader(load, ledger, grpc_target) as reader:

        async def read(user: str, conversation_id: str) -> None:
            async with turns:
                await reader.history(user, conversation_id)
                await reader.conversations(user)

        async with asyncio.TaskGroup() as tasks:
            for user in load.with_conversation():
                tasks.create_task(read(user.name, user.hearing.view.conversation_id))


async def read_one_page(load: Load, user: User, grpc_target: str) -> None:
    """Reads the user's newest messages, for whoever wants to know whether reads go on.

    Raises `grpc.RpcError` when they do not.
    """
    async with _reader(load, Ledger(), grpc_target) as reader:
        await reader.page(user.name, user.hearing.view.conversation_id, "", messaging_pb2.DIRECTION_OLDER)


@asynccontextmanager
async def _reader(load: Load, ledger: Ledger, grpc_target: str) -> AsyncIterator[_Reader]:
    async with grpc.aio.insecure_channel(grpc_target, options=_OPTIONS) as channel:
        yield _Reader(messaging_pb2_grpc.MessagingServiceStub(channel), load, ledger)


class _Reader:
    """Reads as any user, over gRPC."""

    def __init__(
        self, stub: messaging_pb2_grpc.MessagingServiceAsyncStub, load: Load, ledger: Ledger
    ) -> None:
        self._stub = stub
        self._load = load
        self._ledger = ledger

    async def history(self, user: str, conversation_id: str) -> None:
        """All pages, oldest first."""
        cursor, is_last = "", False
        while not is_last:
            page = await self.page(user, conversation_id, cursor, messaging_pb2.DIRECTION_NEWER)
            self._ledger.record(
                HistoryPage(
                    at=self._ledger.now(),
                    user=user,
                    conversation_id=conversation_id,
                    messages=tuple(_message(each) for each in page.messages),
                    statuses=tuple(_status(each) for each in page.messages),
                )
            )
            cursor = page.next_cursor
            is_last = not cursor

    async def page(
        self, user: str, conversation_id: str, cursor: str, direction: messaging_pb2.Direction.ValueType
    ) -> messaging_pb2.GetMessageHistoryResponse:
        """One page, not recorded."""
        request = messaging_pb2.GetMessageHistoryRequest(
            conversation_id=conversation_id, page_size=100, cursor=cursor, direction=direction
        )
        return await _answered(lambda: self._stub.GetMessageHistory(request, **self._as(user)))

    async def conversations(self, user: str) -> None:
        """The user's list."""
        request = messaging_pb2.ListConversationsRequest(page_size=100)
        page = await _answered(lambda: self._stub.ListConversations(request, **self._as(user)))
        for conversation in page.conversations:
            self._ledger.record(
                Listed(
                    at=self._ledger.now(),
                    user=user,
                    conversation_id=conversation.conversation_id,
                    last_seq=conversation.last_seq,
                    unread=conversation.unread_count,
                    read_seq=conversation.read_seq,
                )
            )

    def _as(self, user: str) -> dict[str, Any]:
        return {
            "metadata": (("authorization", f"Bearer {self._load.tokens.mint(user)}"),),
            "timeout": 15,
            "wait_for_ready": True,
        }


async def _answered(call: Callable[[], Awaitable[T]]) -> T:
    """What a reader does: an answer that says "try again" is tried again, while a recovery may take."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return await call()
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE or time.monotonic() > deadline:
                raise
            await asyncio.sleep(_RETRY_S)


def _message(message: messaging_pb2.Message) -> Message:
    return Message(
        message_id=message.message_id,
        conversation_id=message.conversation_id,
        seq=message.seq,
        sender_id=message.sender_id,
        text=message.text,
        key=message.client_message_id,
        committed_wall=message.timestamp.ToMicroseconds() / 1e6,
    )


def _status(message: messaging_pb2.Message) -> str:
    return messaging_pb2.MessageStatus.Name(message.status).removeprefix("MESSAGE_STATUS_")


def search_logs(ledger: Ledger, folder: Path) -> int:
    """Searches all logs for canary words; returns how many bytes there were."""
    size = 0
    for file in sorted(folder.glob("*.log")):
        with file.open("rb") as lines:
            for line in lines:
                size += len(line)
                ledger.leaks(f"the log {file.name}", line)
    return size


def search_metrics(ledger: Ledger, pages: Iterable[str | None]) -> None:
    """Searches pages of `/metrics`."""
    for page in pages:
        ledger.leaks("a metrics page", (page or "").encode())


async def search_redis(ledger: Ledger, url: str) -> None:
    """Searches all keys and values of Redis."""
    async with Redis.from_url(url) as redis:
        async for key in redis.scan_iter(count=1_000):
            ledger.leaks("a Redis key", _bytes(key))
            for part in await _parts(redis, key):
                ledger.leaks("a Redis value", _bytes(part))


async def _parts(redis: Redis, key: bytes | str) -> Iterable[bytes | str]:
    """Everything that is stored under the key; nothing when it has expired meanwhile."""
    match await redis.type(key):
        case b"string":
            value = await redis.get(key)
            return [value] if value is not None else []
        case b"hash":
            return [part for pair in (await redis.hgetall(key)).items() for part in pair]
        case b"set":
            return await redis.smembers(key)
        case b"zset":
            return [member async for member, _ in redis.zscan_iter(key)]
        case b"list":
            return await redis.lrange(key, 0, -1)
        case b"none":
            return []
        case kind:
            raise AssertionError(f"a Redis key of type {kind!r}")


def _bytes(value: bytes | str) -> bytes:
    return value.encode() if isinstance(value, str) else value
