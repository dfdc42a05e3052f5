"""Reads one page of a user's conversations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from service.domain.ids import UserId
from service.use_cases.paging import page_limit
from service.use_cases.ports import ConversationReader, ConversationSummary


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationPage:
    """Conversations, latest activity first."""

    summaries: Sequence[ConversationSummary]
    has_more: bool


class ListConversations:
    """Pages through the caller's own conversations."""

    def __init__(self, reader: ConversationReader) -> None:
        self._reader = reader

    async def __call__(self, caller: UserId, *, page_size: int, before: UUID | None) -> ConversationPage:
        """The page of conversations whose latest activity is older than `before` (None: the first).

        Raises `Rejected`: INVALID_PAYLOAD for a page size outside 0..100, or
        STORAGE_UNAVAILABLE.
        """
        limit = page_limit(page_size)
        # One more than asked for tells whether another page follows.
        found = await self._reader.summaries(caller, limit=limit + 1, before=before)
        return ConversationPage(summaries=found[:limit], has_more=len(found) > limit)
