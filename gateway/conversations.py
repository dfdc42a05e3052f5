"""The routes under `/api/conversations`."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request

from gateway.authorization import CallerOfRequest
from gateway.messaging_calls import MessagingCalls
from gateway.models import (
    Conversation,
    ConversationList,
    ErrorBody,
    Message,
    MessageList,
    OpenConversationBody,
)


def _calls(request: Request) -> MessagingCalls:
    calls: MessagingCalls = request.app.state.calls
    return calls


Calls = Annotated[MessagingCalls, Depends(_calls)]
PageSize = Annotated[int, Query(alias="pageSize", ge=1, le=100)]
Cursor = Annotated[
    str, Query(max_length=512, description="`nextCursor` of the page before; empty for the first page.")
]

_NOT_FOUND = "There is no such conversation, or the caller takes no part in it: the two look the same."


def _refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    reasons = {
        400: "A parameter is missing, malformed or out of its limits.",
        401: "No token, or one that does not verify.",
        403: "The two users are not connected.",
        404: _NOT_FOUND,
        503: "The service does not answer now; the same request may succeed later.",
        504: "The service did not answer in time; the same request may succeed later.",
    }
    return {status: {"model": ErrorBody, "description": reasons[status]} for status in statuses}


router = APIRouter(
    prefix="/api/conversations",
    tags=["conversations"],
    responses=_refusals(400, 401, 503, 504),
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


@router.get("/{conversationId}", response_model_exclude_defaults=True, responses=_refusals(404))
async def get_conversation(
    conversationId: UUID,  # noqa: N803 - the name in the path
    caller: CallerOfRequest,
    calls: Calls,
) -> Conversation:
    """One conversation as the caller sees it."""
    return Conversation.of(await calls.get_conversation(caller, str(conversationId)))


@router.get("/{conversationId}/messages", responses=_refusals(404))
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


@router.post("", response_model_exclude_defaults=True, responses=_refusals(403))
async def open_conversation(
    body: OpenConversationBody, caller: CallerOfRequest, calls: Calls
) -> Conversation:
    """Opens the direct conversation with another user, or returns the one there is: idempotent."""
    return Conversation.of(await calls.open_conversation(caller, body.recipient_id))
