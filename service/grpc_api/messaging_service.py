"""The methods of `messaging.v1.MessagingService`: parse, ask the use case, encode."""

from __future__ import annotations

from typing import Any, TypeAlias

import grpc

from proto.messaging.v1 import messaging_pb2 as pb
from proto.messaging.v1 import messaging_pb2_grpc as pb_grpc
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
)
from service.use_cases.get_conversation import GetConversation
from service.use_cases.get_history import GetHistory
from service.use_cases.list_conversations import ListConversations
from service.use_cases.open_conversation import OpenConversation

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
    ) -> None:
        self._get_history = get_history
        self._list_conversations = list_conversations
        self._get_conversation = get_conversation
        self._open_conversation = open_conversation

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
        return history_response(page, next_cursor)

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
        return list_response(page.summaries, next_cursor)

    async def GetConversation(  # noqa: N802
        self, request: pb.GetConversationRequest, context: _Context
    ) -> pb.Conversation:
        """One conversation as the caller sees it."""
        conversation_id = parse_conversation_id(request.conversation_id)
        return conversation_response(await self._get_conversation(caller(), conversation_id))

    async def OpenConversation(  # noqa: N802
        self, request: pb.OpenConversationRequest, context: _Context
    ) -> pb.Conversation:
        """The direct conversation with another user, opened if it is not yet."""
        return conversation_response(await self._open_conversation(caller(), request.recipient_id))
