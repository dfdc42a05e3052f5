"""A MessagingService that keeps everything in memory, behind a real gRPC server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

import grpc
import jwt
from google.protobuf.timestamp_pb2 import Timestamp
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer

from proto.messaging.v1 import messaging_pb2, messaging_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]

CONVERSATION_ID = "5f0c1d1e-0f3c-5c1b-8d3b-2a9b8f6f7a01"
EMPTY_CONVERSATION_ID = "5f0c1d1e-0f3c-5c1b-8d3b-2a9b8f6f7a02"
MESSAGE_ID = "019342c5-7e3a-7abc-8def-000000000001"
BOBS_POSITION = messaging_pb2.Position(user_id="bob", delivered_seq=2, read_seq=1)
CREATED_AT = Timestamp(seconds=1_763_717_400, nanos=5_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """What the next calls are answered with."""

    status: grpc.StatusCode
    message: str
    metadata: Sequence[tuple[str, str]] = ()


class InMemoryMessaging(messaging_pb2_grpc.MessagingServiceServicer):
    """One conversation of alice and bob with five messages, one without any."""

    def __init__(self, secret: str) -> None:
        self._secret = secret
        self.authorizations: list[str] = []
        self.deadlines: list[float] = []
        self.requests: list[Any] = []
        self.refusal: Refusal | None = None
        self.hangs = False
        self.status_of_messages: messaging_pb2.MessageStatus.ValueType | None = None
        self.preferences = messaging_pb2.Preferences(read_receipts=True)
        self.entered = asyncio.Event()
        self.texts = ["one", "two \U0001f600", "مرحبا", "four\n", "five"]

    async def ListConversations(  # noqa: N802 - the contract's name
        self, request: messaging_pb2.ListConversationsRequest, context: Context
    ) -> messaging_pb2.ListConversationsResponse:
        await self._enter(request, context)
        both = [self._conversation(CONVERSATION_ID), self._conversation(EMPTY_CONVERSATION_ID)]
        start = int(request.cursor or 0)
        end = start + request.page_size
        return messaging_pb2.ListConversationsResponse(
            conversations=both[start:end], next_cursor=str(end) if end < len(both) else ""
        )

    async def GetConversation(  # noqa: N802
        self, request: messaging_pb2.GetConversationRequest, context: Context
    ) -> messaging_pb2.Conversation:
        await self._enter(request, context)
        if request.conversation_id not in (CONVERSATION_ID, EMPTY_CONVERSATION_ID):
            await self._not_found(context)
        return self._conversation(request.conversation_id)

    async def GetMessageHistory(  # noqa: N802
        self, request: messaging_pb2.GetMessageHistoryRequest, context: Context
    ) -> messaging_pb2.GetMessageHistoryResponse:
        await self._enter(request, context)
        if request.conversation_id != CONVERSATION_ID:
            await self._not_found(context)
        order = [self._message(seq) for seq in range(1, len(self.texts) + 1)]
        if request.direction != messaging_pb2.DIRECTION_NEWER:
            order.reverse()
        start = int(request.cursor or 0)
        end = start + request.page_size
        return messaging_pb2.GetMessageHistoryResponse(
            messages=order[start:end], next_cursor=str(end) if end < len(order) else ""
        )

    async def OpenConversation(  # noqa: N802
        self, request: messaging_pb2.OpenConversationRequest, context: Context
    ) -> messaging_pb2.Conversation:
        await self._enter(request, context)
        return self._conversation(EMPTY_CONVERSATION_ID)

    async def GetMessageReceipts(  # noqa: N802
        self, request: messaging_pb2.GetMessageReceiptsRequest, context: Context
    ) -> messaging_pb2.GetMessageReceiptsResponse:
        await self._enter(request, context)
        if request.conversation_id != CONVERSATION_ID:
            await self._not_found(context)
        if request.message_id != MESSAGE_ID:
            await self._abort(
                context,
                grpc.StatusCode.NOT_FOUND,
                "MESSAGE_NOT_FOUND",
                "the conversation has no such message",
            )
        receipt = messaging_pb2.Receipt(user_id="bob", delivered_at=CREATED_AT)
        return messaging_pb2.GetMessageReceiptsResponse(receipts=[receipt])

    async def SyncConversation(  # noqa: N802
        self, request: messaging_pb2.SyncConversationRequest, context: Context
    ) -> messaging_pb2.SyncConversationResponse:
        await self._enter(request, context)
        if request.conversation_id != CONVERSATION_ID:
            await self._not_found(context)
        end = min(request.after_seq + request.limit, len(self.texts))
        return messaging_pb2.SyncConversationResponse(
            messages=[self._message(seq) for seq in range(request.after_seq + 1, end + 1)],
            positions=[messaging_pb2.Position(user_id="alice"), BOBS_POSITION],
            complete=end == len(self.texts),
        )

    async def GetPresence(  # noqa: N802
        self, request: messaging_pb2.GetPresenceRequest, context: Context
    ) -> messaging_pb2.GetPresenceResponse:
        await self._enter(request, context)
        presences = [
            messaging_pb2.Presence(user_id="bob", state=messaging_pb2.PRESENCE_STATE_AWAY),
            messaging_pb2.Presence(
                user_id="carol", state=messaging_pb2.PRESENCE_STATE_OFFLINE, last_seen_at=CREATED_AT
            ),
            messaging_pb2.Presence(user_id="dave", state=messaging_pb2.PRESENCE_STATE_OFFLINE),
            messaging_pb2.Presence(user_id="erin", state=messaging_pb2.PRESENCE_STATE_ONLINE),
        ]
        return messaging_pb2.GetPresenceResponse(
            presences=[presence for presence in presences if presence.user_id in request.user_ids]
        )

    async def GetPreferences(  # noqa: N802
        self, request: messaging_pb2.GetPreferencesRequest, context: Context
    ) -> messaging_pb2.Preferences:
        await self._enter(request, context)
        return self.preferences

    async def SetPreferences(  # noqa: N802
        self, request: messaging_pb2.SetPreferencesRequest, context: Context
    ) -> messaging_pb2.Preferences:
        await self._enter(request, context)
        for field, value in request.ListFields():
            setattr(self.preferences, field.name, value)
        return self.preferences

    async def _enter(self, request: Any, context: Context) -> None:
        metadata = dict(context.invocation_metadata() or ())
        authorization = str(metadata.get("authorization", ""))
        self.authorizations.append(authorization)
        self.deadlines.append(context.time_remaining())
        self.requests.append(request)
        self.entered.set()
        if self.refusal is not None:
            await context.abort(self.refusal.status, self.refusal.message, tuple(self.refusal.metadata))
        if self.hangs:
            await asyncio.Event().wait()
        try:
            jwt.decode(authorization.removeprefix("Bearer "), self._secret, algorithms=["HS256"])
        except jwt.PyJWTError:
            await self._abort(context, grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED", "bad token")

    async def _not_found(self, context: Context) -> NoReturn:
        await self._abort(
            context, grpc.StatusCode.NOT_FOUND, "CONVERSATION_NOT_FOUND", "no such conversation"
        )

    async def _abort(self, context: Context, status: grpc.StatusCode, code: str, message: str) -> NoReturn:
        await context.abort(status, message, (("error-code", code), ("error-retryable", "false")))
        raise AssertionError("abort always raises")

    def _message(self, seq: int) -> messaging_pb2.Message:
        statuses = (
            messaging_pb2.MESSAGE_STATUS_READ,
            messaging_pb2.MESSAGE_STATUS_DELIVERED,
            messaging_pb2.MESSAGE_STATUS_SENT,
        )
        return messaging_pb2.Message(
            message_id=f"019342c5-7e3a-7abc-8def-{seq:012d}",
            conversation_id=CONVERSATION_ID,
            seq=seq,
            sender_id="alice",
            text=self.texts[seq - 1],
            timestamp=Timestamp(seconds=1_763_717_400 + seq, nanos=123_456_000),
            client_message_id=f"0b8c5c3e-3c51-4a5e-9a55-{seq:012d}",
            status=statuses[min(seq - 1, 2)] if self.status_of_messages is None else self.status_of_messages,
        )

    def _conversation(self, conversation_id: str) -> messaging_pb2.Conversation:
        conversation = messaging_pb2.Conversation(
            conversation_id=conversation_id,
            kind="direct",
            participant_ids=["alice", "bob"],
            created_at=CREATED_AT,
        )
        if conversation_id == CONVERSATION_ID:
            conversation.last_seq = len(self.texts)
            conversation.last_message.CopyFrom(self._message(len(self.texts)))
            conversation.unread_count = 2
            conversation.read_seq = 3
            conversation.positions.append(BOBS_POSITION)
        return conversation


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningService:
    """The servicer and where it is served."""

    messaging: InMemoryMessaging
    target: str
    health: HealthServicer

    async def set_serving(self, serving: bool) -> None:
        """What the health check answers from now on."""
        status = health_pb2.HealthCheckResponse
        await self.health.set("", status.SERVING if serving else status.NOT_SERVING)


@asynccontextmanager
async def running_service(secret: str) -> AsyncIterator[RunningService]:
    """A gRPC server on a free loopback port, as long as the block runs."""
    server = grpc.aio.server()
    messaging = InMemoryMessaging(secret)
    health = HealthServicer()
    messaging_pb2_grpc.add_MessagingServiceServicer_to_server(messaging, server)
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    running = RunningService(messaging=messaging, target=f"127.0.0.1:{port}", health=health)
    await running.set_serving(True)
    try:
        yield running
    finally:
        await server.stop(grace=0)
