"""What users see over gRPC, on one channel that survives restarts of the service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc

from proto.messaging.v1 import messaging_pb2, messaging_pb2_grpc
from tests.conftest import MintToken

_OPTIONS = (("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 200))


class GrpcReader:
    """Reads as any user; every call waits for the service to be there."""

    def __init__(self, stub: messaging_pb2_grpc.MessagingServiceAsyncStub, token: MintToken) -> None:
        self._stub = stub
        self._token = token

    async def history(self, user_id: str, conversation_id: str) -> list[messaging_pb2.Message]:
        """Every message of the conversation, oldest first; none where there is no conversation yet."""
        messages: list[messaging_pb2.Message] = []
        cursor = ""
        while True:
            request = messaging_pb2.GetMessageHistoryRequest(
                conversation_id=conversation_id,
                page_size=100,
                cursor=cursor,
                direction=messaging_pb2.DIRECTION_NEWER,
            )
            page = await self._stub.GetMessageHistory(request, **self._call(user_id))
            messages += page.messages
            cursor = page.next_cursor
            if not cursor:
                return messages

    async def conversations(self, user_id: str) -> dict[str, messaging_pb2.Conversation]:
        """The first hundred conversations in the user's list, by id."""
        request = messaging_pb2.ListConversationsRequest(page_size=100)
        page = await self._stub.ListConversations(request, **self._call(user_id))
        assert not page.next_cursor
        return {conversation.conversation_id: conversation for conversation in page.conversations}

    async def unread(self, user_id: str, conversation_id: str) -> int:
        """The badge."""
        conversations = await self.conversations(user_id)
        return int(conversations[conversation_id].unread_count)

    async def statuses(self, user_id: str, conversation_id: str) -> list[str]:
        """SENT, DELIVERED or READ of every message, oldest first."""
        return [
            messaging_pb2.MessageStatus.Name(message.status).removeprefix("MESSAGE_STATUS_")
            for message in await self.history(user_id, conversation_id)
        ]

    def _call(self, user_id: str) -> dict[str, Any]:
        return {
            "metadata": (("authorization", f"Bearer {self._token(user_id)}"),),
            "timeout": 15,
            "wait_for_ready": True,
        }


@asynccontextmanager
async def grpc_reader(target: str, token: MintToken) -> AsyncIterator[GrpcReader]:
    """A reader of the service at `target`."""
    async with grpc.aio.insecure_channel(target, options=_OPTIONS) as channel:
        yield GrpcReader(messaging_pb2_grpc.MessagingServiceStub(channel), token)
