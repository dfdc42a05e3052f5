"""Gives a client that was away everything that changed since the position it knows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from service.domain.errors import ErrorCode, Rejected
from service.domain.ids import ConversationId, UserId
from service.domain.receipts import Positions
from service.use_cases.authorize import Authorize
from service.use_cases.ports import ConversationReader, Direction, HistoryMessage

MAX_CHANGES = 100
MAX_TEXT_BYTES = 192 * 1024
"""Texts on one page at the most, as JSON spells them: with its frame, the page's event fits in
the 256 KiB that the broker lets through."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncPage:
    """What follows a position, oldest first and without a hole."""

    conversation_id: ConversationId
    after_seq: int
    messages: Sequence[HistoryMessage]
    positions: Mapping[UserId, Positions]
    complete: bool
    """Whether the newest change is on this page; otherwise ask again after its last `seq`."""


class SyncConversation:
    """Pages for participants; to everybody else the conversation does not exist."""

    def __init__(self, authorize: Authorize, reader: ConversationReader) -> None:
        self._authorize = authorize
        self._reader = reader

    async def __call__(
        self, caller: UserId, conversation_id: ConversationId, *, after_seq: int, limit: int
    ) -> SyncPage:
        """The page after `after_seq` (0: from the start), `limit` changes at the most (0: as many as fit).

        Raises `Rejected`: INVALID_PAYLOAD for a negative position or a limit
        outside 0..100, CONVERSATION_NOT_FOUND or STORAGE_UNAVAILABLE.
        """
        if after_seq < 0:
            raise Rejected(ErrorCode.INVALID_PAYLOAD, "afterSeq is negative")
        if not 0 <= limit <= MAX_CHANGES:
            raise Rejected(ErrorCode.INVALID_PAYLOAD, f"limit is not between 1 and {MAX_CHANGES}")
        await self._authorize.participation(caller, conversation_id)
        page = await self._reader.history(
            conversation_id,
            limit=limit or MAX_CHANGES,
            direction=Direction.NEWER,
            after_seq=after_seq,
        )
        messages = _within_budget(page.messages)
        return SyncPage(
            conversation_id=conversation_id,
            after_seq=after_seq,
            messages=messages,
            positions={
                user: at if user == caller else at.seen_by_others() for user, at in page.positions.items()
            },
            complete=not page.has_more and len(messages) == len(page.messages),
        )


def _within_budget(messages: Sequence[HistoryMessage]) -> Sequence[HistoryMessage]:
    """The first messages whose texts fit on one page; at least one, so that every page moves on."""
    total = 0
    for count, message in enumerate(messages):
        total += len(json.dumps(message.text, ensure_ascii=False).encode())
        if total > MAX_TEXT_BYTES and count:
            return messages[:count]
    return messages
