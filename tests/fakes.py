"""In-memory implementations of the ports, held to the same contract suites as the real ones."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from service.domain.conversation import Conversation
from service.domain.errors import ErrorCode, Rejected
from service.domain.ids import ClientMessageId, ConversationId, UserId
from service.domain.message import Draft
from service.use_cases.ports import Committed


class MemoryConversations:
    """`ConversationRepository` in a dict; `forgotten` ones must be asked for again."""

    def __init__(self) -> None:
        self.stored: dict[ConversationId, Conversation] = {}
        self.forgotten: set[ConversationId] = set()
        self.fail_next = 0

    def known(self, conversation_id: ConversationId) -> Conversation | None:
        return None if conversation_id in self.forgotten else self.stored.get(conversation_id)

    def forget(self, conversation_id: ConversationId) -> None:
        self.forgotten.add(conversation_id)

    async def find(self, conversation_id: ConversationId) -> Conversation | None:
        if self.fail_next:
            self.fail_next -= 1
            raise Rejected(ErrorCode.STORAGE_UNAVAILABLE, "told to fail", retry_after_ms=1)
        return self.stored.get(conversation_id)

    async def open(self, conversation: Conversation, activity_id: UUID) -> None:
        self.stored.setdefault(conversation.id, conversation)


class MemoryMessages:
    """`MessageWriter` in lists, one per conversation."""

    def __init__(self, conversations: MemoryConversations) -> None:
        self._conversations = conversations
        self._by_key: dict[tuple[UserId, ClientMessageId], Committed] = {}
        self._last_seq: dict[ConversationId, int] = {}
        self.batches: list[int] = []

    async def append(self, drafts: Sequence[Draft]) -> Sequence[Committed | None]:
        self.batches.append(len(drafts))
        return [self._append(draft) for draft in drafts]

    def _append(self, draft: Draft) -> Committed | None:
        if draft.key in self._by_key:
            return self._by_key[draft.key]
        if draft.conversation_id not in self._conversations.stored:
            return None
        seq = self._last_seq.get(draft.conversation_id, 0) + 1
        self._last_seq[draft.conversation_id] = seq
        row = Committed(
            id=draft.id,
            conversation_id=draft.conversation_id,
            seq=seq,
            body_hash=draft.body_hash,
            created_at=datetime.now(UTC),
        )
        self._by_key[draft.key] = row
        return row
