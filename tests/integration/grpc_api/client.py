"""How the tests call the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

from proto.messaging.v1 import messaging_pb2 as pb
from proto.messaging.v1 import messaging_pb2_grpc as pb_grpc
from service.domain.errors import ErrorCode
from service.grpc_api.errors import STATUS
from tests.conftest import MintToken

AUDIENCE = "messaging"
SERVICE = "/messaging.v1.MessagingService/"

REQUESTS: dict[str, Message] = {
    "GetMessageHistory": pb.GetMessageHistoryRequest(conversation_id="e9ac7fbd-4806-57bb-9371-0299e3f8f28d"),
    "ListConversations": pb.ListConversationsRequest(),
    "GetConversation": pb.GetConversationRequest(conversation_id="e9ac7fbd-4806-57bb-9371-0299e3f8f28d"),
    "OpenConversation": pb.OpenConversationRequest(recipient_id="bob"),
    "GetMessageReceipts": pb.GetMessageReceiptsRequest(
        conversation_id="e9ac7fbd-4806-57bb-9371-0299e3f8f28d",
        message_id="019342c5-7e3a-7abc-8def-0123456789ab",
    ),
    "SyncConversation": pb.SyncConversationRequest(conversation_id="e9ac7fbd-4806-57bb-9371-0299e3f8f28d"),
    "GetPresence": pb.GetPresenceRequest(user_ids=["bob"]),
    "GetPreferences": pb.GetPreferencesRequest(),
    "SetPreferences": pb.SetPreferencesRequest(read_receipts=False),
}
"""A request for every method of the service."""

Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """All that a caller can see of a refused call."""

    status: grpc.StatusCode
    message: str
    metadata: dict[str, str]


class Client:
    """Calls as any user, or with any metadata."""

    def __init__(self, channel: grpc.aio.Channel, token: MintToken) -> None:
        self.channel = channel
        self.stub: Any = pb_grpc.MessagingServiceStub(channel)
        self._token = token

    def user(self, user_id: str) -> Metadata:
        """Metadata with a good token of the user."""
        return (("authorization", f"Bearer {self._token(user_id, aud=AUDIENCE)}"),)

    async def call(self, method: str, request: bytes, metadata: Metadata | None = None) -> bytes:
        """Calls any method with any bytes."""
        channel: Any = self.channel
        response: bytes = await channel.unary_unary(method)(request, metadata=metadata)
        return response

    async def history(
        self, user_id: str, conversation_id: object, **fields: Any
    ) -> pb.GetMessageHistoryResponse:
        request = pb.GetMessageHistoryRequest(conversation_id=str(conversation_id), **fields)
        response: pb.GetMessageHistoryResponse = await self.stub.GetMessageHistory(
            request, metadata=self.user(user_id)
        )
        return response

    async def conversations(self, user_id: str, **fields: Any) -> pb.ListConversationsResponse:
        response: pb.ListConversationsResponse = await self.stub.ListConversations(
            pb.ListConversationsRequest(**fields), metadata=self.user(user_id)
        )
        return response

    async def conversation(self, user_id: str, conversation_id: object) -> pb.Conversation:
        request = pb.GetConversationRequest(conversation_id=str(conversation_id))
        response: pb.Conversation = await self.stub.GetConversation(request, metadata=self.user(user_id))
        return response

    async def open(self, user_id: str, recipient_id: str) -> pb.Conversation:
        request = pb.OpenConversationRequest(recipient_id=recipient_id)
        response: pb.Conversation = await self.stub.OpenConversation(request, metadata=self.user(user_id))
        return response

    async def receipts(
        self, user_id: str, conversation_id: object, message_id: object
    ) -> pb.GetMessageReceiptsResponse:
        request = pb.GetMessageReceiptsRequest(
            conversation_id=str(conversation_id), message_id=str(message_id)
        )
        response: pb.GetMessageReceiptsResponse = await self.stub.GetMessageReceipts(
            request, metadata=self.user(user_id)
        )
        return response

    async def sync(self, user_id: str, conversation_id: object, **fields: Any) -> pb.SyncConversationResponse:
        request = pb.SyncConversationRequest(conversation_id=str(conversation_id), **fields)
        response: pb.SyncConversationResponse = await self.stub.SyncConversation(
            request, metadata=self.user(user_id)
        )
        return response

    async def presence(self, user_id: str, *user_ids: str) -> pb.GetPresenceResponse:
        response: pb.GetPresenceResponse = await self.stub.GetPresence(
            pb.GetPresenceRequest(user_ids=user_ids), metadata=self.user(user_id)
        )
        return response

    async def preferences(self, user_id: str) -> pb.Preferences:
        response: pb.Preferences = await self.stub.GetPreferences(
            pb.GetPreferencesRequest(), metadata=self.user(user_id)
        )
        return response

    async def set_preferences(self, user_id: str, **fields: bool) -> pb.Preferences:
        response: pb.Preferences = await self.stub.SetPreferences(
            pb.SetPreferencesRequest(**fields), metadata=self.user(user_id)
        )
        return response


@asynccontextmanager
async def connect(port: int, token: MintToken) -> AsyncIterator[Client]:
    """A client of the server on a loopback port."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Client(channel, token)


async def refusal_of(call: Awaitable[object]) -> Refusal:
    """What a call that must be refused is told."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    error = refused.value
    # Pairs in truth, whatever the stubs say.
    trailing: Any = error.trailing_metadata() or ()
    metadata = {str(key): str(value) for key, value in trailing}
    return Refusal(error.code(), error.details() or "", metadata)


async def assert_refused(call: Awaitable[object], code: ErrorCode) -> Refusal:
    """Checks that status and metadata of the refusal are those of the error code."""
    refusal = await refusal_of(call)
    assert refusal.metadata.get("error-code") == code.value, refusal
    assert refusal.status is STATUS[code]
    return refusal


async def eventually(condition: Callable[[], Awaitable[bool]], *, within: float = 5.0) -> None:
    """Waits until the condition holds; raises `TimeoutError` after `within` seconds."""
    async with asyncio.timeout(within):
        while not await condition():
            await asyncio.sleep(0.01)
