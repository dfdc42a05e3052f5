"""The calls to the messaging service: the only module that knows its gRPC contract's stubs."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gateway.errors import RequestRefused, refusal_of
from proto.messaging.v1 import messaging_pb2, messaging_pb2_grpc

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")

# Every method may be asked twice: they read, or they say what is to be so in the end.
_ASK_AGAIN = {
    "methodConfig": [
        {
            "name": [{"service": messaging_pb2.DESCRIPTOR.services_by_name["MessagingService"].full_name}],
            "retryPolicy": {
                "maxAttempts": 3,
                "initialBackoff": "0.05s",
                "maxBackoff": "0.2s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}

_OPTIONS = (
    # An instance that has just died fails the calls that it was given: another one answers them.
    ("grpc.service_config", json.dumps(_ASK_AGAIN)),
    # Every instance of the service can be asked, also one that stands by: all that the target names, in turn.
    ("grpc.lb_policy_name", "round_robin"),
    # A service that restarts is found again within a second, not after the default's 20 s and more.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # The target is the platform's own; a proxy of the environment is for the outside.
    ("grpc.enable_http_proxy", 0),
)

_READINESS_SECONDS = 1.0

_DIRECTIONS = {
    "older": messaging_pb2.DIRECTION_OLDER,
    "newer": messaging_pb2.DIRECTION_NEWER,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """On whose behalf a call is made: the token goes on unchanged."""

    authorization: str
    """`Bearer <token>`; never logged."""

    def __repr__(self) -> str:
        return "Caller(...)"


class MessagingCalls:
    """The service's methods; each raises `RequestRefused` with what the service said."""

    def __init__(self, target: str, *, deadline: float) -> None:
        """`deadline` in seconds holds for every call."""
        self._channel = grpc.aio.insecure_channel(target, options=_OPTIONS)
        self._stub = messaging_pb2_grpc.MessagingServiceStub(self._channel)
        self._health = health_pb2_grpc.HealthStub(self._channel)
        self._deadline = deadline

    async def close(self) -> None:
        """Ends the connection; calls in progress are cancelled."""
        await self._channel.close(grace=None)

    async def is_ready(self) -> bool:
        """Whether the service says that it serves."""
        try:
            answer = await self._health.Check(
                health_pb2.HealthCheckRequest(service=""), timeout=_READINESS_SECONDS
            )
        except grpc.aio.AioRpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    async def list_conversations(
        self, caller: Caller, *, page_size: int, cursor: str
    ) -> messaging_pb2.ListConversationsResponse:
        """The caller's conversations, latest activity first."""
        request = messaging_pb2.ListConversationsRequest(page_size=page_size, cursor=cursor)
        return await self._call(self._stub.ListConversations, request, caller)

    async def get_conversation(self, caller: Caller, conversation_id: str) -> messaging_pb2.Conversation:
        """One conversation as the caller sees it."""
        request = messaging_pb2.GetConversationRequest(conversation_id=conversation_id)
        return await self._call(self._stub.GetConversation, request, caller)

    async def get_history(
        self, caller: Caller, conversation_id: str, *, page_size: int, cursor: str, direction: str
    ) -> messaging_pb2.GetMessageHistoryResponse:
        """One page of messages; `direction` is `older` or `newer`."""
        request = messaging_pb2.GetMessageHistoryRequest(
            conversation_id=conversation_id,
            page_size=page_size,
            cursor=cursor,
            direction=_DIRECTIONS[direction],
        )
        return await self._call(self._stub.GetMessageHistory, request, caller)

    async def open_conversation(self, caller: Caller, recipient_id: str) -> messaging_pb2.Conversation:
        """Opens the direct conversation with a user, or finds the one there is."""
        request = messaging_pb2.OpenConversationRequest(recipient_id=recipient_id)
        return await self._call(self._stub.OpenConversation, request, caller)

    async def get_receipts(
        self, caller: Caller, conversation_id: str, message_id: str
    ) -> messaging_pb2.GetMessageReceiptsResponse:
        """When the participants other than its author got and read a message."""
        request = messaging_pb2.GetMessageReceiptsRequest(
            conversation_id=conversation_id, message_id=message_id
        )
        return await self._call(self._stub.GetMessageReceipts, request, caller)

    async def sync_conversation(
        self, caller: Caller, conversation_id: str, *, after_seq: int, limit: int
    ) -> messaging_pb2.SyncConversationResponse:
        """What follows a position, oldest first."""
        request = messaging_pb2.SyncConversationRequest(
            conversation_id=conversation_id, after_seq=after_seq, limit=limit
        )
        return await self._call(self._stub.SyncConversation, request, caller)

    async def get_presence(
        self, caller: Caller, user_ids: Sequence[str]
    ) -> messaging_pb2.GetPresenceResponse:
        """Presence of those of the users who are connected with the caller."""
        request = messaging_pb2.GetPresenceRequest(user_ids=user_ids)
        return await self._call(self._stub.GetPresence, request, caller)

    async def get_preferences(self, caller: Caller) -> messaging_pb2.Preferences:
        """What the caller lets others see."""
        return await self._call(self._stub.GetPreferences, messaging_pb2.GetPreferencesRequest(), caller)

    async def set_preferences(
        self, caller: Caller, *, read_receipts: bool | None, invisible: bool | None
    ) -> messaging_pb2.Preferences:
        """Changes what is not None."""
        request = messaging_pb2.SetPreferencesRequest(read_receipts=read_receipts, invisible=invisible)
        return await self._call(self._stub.SetPreferences, request, caller)

    async def _call(
        self, method: Callable[..., Awaitable[_Response]], request: _Request, caller: Caller
    ) -> _Response:
        metadata = (("authorization", caller.authorization),)
        try:
            return await method(request, metadata=metadata, timeout=self._deadline)
        except grpc.aio.AioRpcError as error:
            raise RequestRefused(refusal_of(error)) from error
