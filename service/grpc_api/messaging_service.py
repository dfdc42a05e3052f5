"""The methods of `messaging.v1.MessagingService`: parse, ask the use case, encode."""

from __future__ import annotations

from typing import Any, TypeAlias

import grpc

from proto.messaging.v1 import messaging_pb2 as pb
from proto.messaging.v1 import messaging_pb2_grpc as pb_grpc
from service.domain.errors import Rejected
from service.domain.ids import UserId
from service.grpc_api.authentication import caller
from service.grpc_api.cursors import (
    decode_history_cursor,
    decode_list_cursor,
    encode_history_cursor,
    encode_list_cursor,
)
from service.grpc_api.encoding import (
    conversation_response,
    history_response,
    list_response,
    parse_conversation_id,
    parse_direction,
    parse_message_id,
    parse_user_ids,
    preferences_response,
    presence_response,
    receipts_response,
    sync_response,
)
from service.use_cases.get_conversation import GetConversation
from service.use_cases.get_history import GetHistory
from service.use_cases.get_message_receipts import GetMessageReceipts
from service.use_cases.get_preferences import GetPreferences
from service.use_cases.get_presence import GetPresence
from service.use_cases.list_conversations import ListConversations
from service.use_cases.open_conversation import OpenConversation
from service.use_cases.ports import RateLimit
from service.use_cases.set_preferences import SetPreferences
from service.use_cases.sync_conversation import SyncConversation

_Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class MessagingService(pb_grpc.MessagingServiceServicer):
    """Serves the caller that `authentication` found; what it raises, `calls` answers."""

    def __init__(
        self,
        *,
        get_history: GetHistory,
        list_conversations: ListConversations,
        get_conversation: GetConversation,
        open_conversation: OpenConversation,
        get_message_receipts: GetMessageReceipts,
        sync_conversation: SyncConversation,
        get_presence: GetPresence,
        get_preferences: GetPreferences,
        set_preferences: SetPreferences,
        writes: RateLimit,
    ) -> None:
        self._get_history = get_history
        self._list_conversations = list_conversations
        self._get_conversation = get_conversation
        self._open_conversation = open_conversation
        self._get_message_receipts = get_message_receipts
        self._sync_conversation = sync_conversation
        self._get_presence = get_presence
        self._get_preferences = get_preferences
        self._set_preferences = set_preferences
        self._writes = writes

    async def GetMessageHistory(  # noqa: N802
        self, request: pb.GetMessageHistoryRequest, context: _Context
    ) -> pb.GetMessageHistoryResponse:
        """One page of a conversation's messages."""
        conversation_id = parse_conversation_id(request.conversation_id)
        direction = parse_direction(request.direction)
        page = await self._get_history(
            caller(),
            conversation_id,
            page_size=request.page_size,
            direction=direction,
            after_seq=decode_history_cursor(request.cursor, conversation_id, direction),
        )
        next_cursor = ""
        if page.has_more:
            next_cursor = encode_history_cursor(conversation_id, direction, page.messages[-1].seq)
        return history_response(page, conversation_id, next_cursor)

    async def ListConversations(  # noqa: N802
        self, request: pb.ListConversationsRequest, context: _Context
    ) -> pb.ListConversationsResponse:
        """One page of the caller's conversations, latest activity first."""
        user = caller()
        page = await self._list_conversations(
            user, page_size=request.page_size, before=decode_list_cursor(request.cursor, user)
        )
        next_cursor = ""
        if page.has_more:
            next_cursor = encode_list_cursor(user, page.summaries[-1].activity_id)
        return list_response(page.summaries, next_cursor, user)

    async def GetConversation(  # noqa: N802
        self, request: pb.GetConversationRequest, context: _Context
    ) -> pb.Conversation:
        """One conversation as the caller sees it."""
        user, conversation_id = caller(), parse_conversation_id(request.conversation_id)
        return conversation_response(await self._get_conversation(user, conversation_id), user)

    async def OpenConversation(  # noqa: N802
        self, request: pb.OpenConversationRequest, context: _Context
    ) -> pb.Conversation:
        """The direct conversation with another user, opened if it is not yet."""
        user = caller()
        await self._count_write(user)
        return conversation_response(await self._open_conversation(user, request.recipient_id), user)

    async def GetMessageReceipts(  # noqa: N802
        self, request: pb.GetMessageReceiptsRequest, context: _Context
    ) -> pb.GetMessageReceiptsResponse:
        """When the participants other than its author got and read a message."""
        receipts = await self._get_message_receipts(
            caller(), parse_conversation_id(request.conversation_id), parse_message_id(request.message_id)
        )
        return receipts_response(receipts)

    async def SyncConversation(  # noqa: N802
        self, request: pb.SyncConversationRequest, context: _Context
    ) -> pb.SyncConversationResponse:
        """What follows a position: the page that `sync` gives over MQTT."""
        page = await self._sync_conversation(
            caller(),
            parse_conversation_id(request.conversation_id),
            after_seq=request.after_seq,
            limit=request.limit,
        )
        return sync_response(page)

    async def GetPresence(  # noqa: N802
        self, request: pb.GetPresenceRequest, context: _Context
    ) -> pb.GetPresenceResponse:
        """Presence of those of the users who are connected counterparts of the caller."""
        return presence_response(await self._get_presence(caller(), parse_user_ids(request.user_ids)))

    async def GetPreferences(  # noqa: N802
        self, request: pb.GetPreferencesRequest, context: _Context
    ) -> pb.Preferences:
        """What the caller lets others see."""
        return preferences_response(await self._get_preferences(caller()))

    async def SetPreferences(  # noqa: N802
        self, request: pb.SetPreferencesRequest, context: _Context
    ) -> pb.Preferences:
        """Changes what the caller lets others see."""
        user = caller()
        await self._count_write(user)
        preferences = await self._set_preferences(
            user,
            read_receipts=request.read_receipts if request.HasField("read_receipts") else None,
            invisible=request.invisible if request.HasField("invisible") else None,
        )
        return preferences_response(preferences)

    async def _count_write(self, user: UserId) -> None:
        """Raises `Rejected`: RATE_LIMITED. Reads are bounded by how many of a caller may be under way."""
        if self._writes.passes(user):
            return
        refusal = self._writes.refusal(user) or await self._writes.decide(user)
        if refusal is not None:
            raise Rejected.by(refusal)
