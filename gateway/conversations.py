"""The routes under `/api/conversations`."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Query

from gateway.authorization import CallerOfRequest
from gateway.models import (
    ChangeList,
    Conversation,
    ConversationList,
    Message,
    MessageList,
    OpenConversationBody,
    Position,
    Receipt,
    ReceiptList,
)
from gateway.routing import Calls, refusals

PageSize = Annotated[int, Query(alias="pageSize", ge=1, le=100)]
Cursor = Annotated[
    str, Query(max_length=512, description="`nextCursor` of the page before; empty for the first page.")
]

AfterSeq = Annotated[
    int, Query(alias="afterSeq", ge=0, lt=2**63, description="The last known position; 0 for everything.")
]
Limit = Annotated[int, Query(ge=1, le=100, description="Messages on the page at the most.")]

router = APIRouter(
    prefix="/api/conversations",
    tags=["conversations"],
    responses=refusals(400, 401, 503, 504),
)


@router.get("", response_model_exclude_defaults=True)
async def list_conversations(
    caller: CallerOfRequest, calls: Calls, page_size: PageSize = 50, cursor: Cursor = ""
) -> ConversationList:
    """The caller's conversations, latest activity first."""
    page = await calls.list_conversations(caller, page_size=page_size, cursor=cursor)
    return ConversationList(
        conversations=[Conversation.of(each) for each in page.conversations],
        next_cursor=page.next_cursor or None,
    )


@router.get("/{conversationId}", response_model_exclude_defaults=True, responses=refusals(404))
async def get_conversation(
    conversationId: UUID,  # noqa: N803 - the name in the path
    caller: CallerOfRequest,
    calls: Calls,
) -> Conversation:
    """One conversation as the caller sees it."""
    return Conversation.of(await calls.get_conversation(caller, str(conversationId)))


@router.get("/{conversationId}/messages", responses=refusals(404))
async def get_history(
    conversationId: UUID,  # noqa: N803 - the name in the path
    caller: CallerOfRequest,
    calls: Calls,
    page_size: PageSize = 50,
    cursor: Cursor = "",
    direction: Literal["older", "newer"] = "older",
) -> MessageList:
    """One page of a conversation's messages, by position and never by clock.

    `older` walks from the newest message (or the cursor) towards the first one, `newer` the other way.
    """
    page = await calls.get_history(
        caller, str(conversationId), page_size=page_size, cursor=cursor, direction=direction
    )
    return MessageList(
        messages=[Message.of(each) for each in page.messages], next_cursor=page.next_cursor or None
    )


@router.get("/{conversationId}/changes", responses=refusals(404))
async def get_changes(
    conversationId: UUID,  # noqa: N803
    caller: CallerOfRequest,
    calls: Calls,
    after_seq: AfterSeq = 0,
    limit: Limit = 100,
) -> ChangeList:
    """What follows a position, oldest first and without a hole: the page that `sync` gives over MQTT.

    It may hold fewer messages than `limit`; while it is not `complete`, ask again after the last `seq`.
    """
    page = await calls.sync_conversation(caller, str(conversationId), after_seq=after_seq, limit=limit)
    return ChangeList(
        messages=[Message.of(each) for each in page.messages],
        positions=[Position.of(each) for each in page.positions],
        complete=page.complete,
    )


@router.get("/{conversationId}/messages/{messageId}/receipts", responses=refusals(404))
async def get_receipts(
    conversationId: UUID,  # noqa: N803
    messageId: UUID,  # noqa: N803
    caller: CallerOfRequest,
    calls: Calls,
) -> ReceiptList:
    """When the participants other than its author got and read one message.

    404 has the code `MESSAGE_NOT_FOUND` when the conversation is there and has no such message.
    """
    answer = await calls.get_receipts(caller, str(conversationId), str(messageId))
    return ReceiptList(receipts=[Receipt.of(each) for each in answer.receipts])


@router.post("", response_model_exclude_defaults=True, responses=refusals(403, 408, 413))
async def open_conversation(
    body: OpenConversationBody, caller: CallerOfRequest, calls: Calls
) -> Conversation:
    """Opens the direct conversation with another user, or returns the one there is: idempotent."""
    return Conversation.of(await calls.open_conversation(caller, body.recipient_id))
