"""In-memory implementations of the ports, held to the same contract suites as the real ones."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from uuid import UUID

from service.domain.conversation import Conversation
from service.domain.errors import ErrorCode, Rejected, Rejection
from service.domain.ids import ClientMessageId, ConversationId, MessageId, UserId
from service.domain.message import Draft
from service.domain.preferences import Preferences
from service.domain.receipts import Mark, Position, Positions
from service.use_cases.lease import LeaseLost
from service.use_cases.ports import Committed


class MemoryConversations:
    """`ConversationRepository` in a dict; `forgotten` ones must be asked for again, `lost` ones are gone."""

    def __init__(self) -> None:
        self.stored: dict[ConversationId, Conversation] = {}
        self.forgotten: set[ConversationId] = set()
        self.lost: set[ConversationId] = set()
        self.fail_next = 0

    def known(self, conversation_id: ConversationId) -> Conversation | None:
        return None if conversation_id in self.forgotten else self.stored.get(conversation_id)

    def forget(self, conversation_id: ConversationId) -> None:
        self.forgotten.add(conversation_id)

    async def find(self, conversation_id: ConversationId) -> Conversation | None:
        if self.fail_next:
            self.fail_next -= 1
            raise Rejected(ErrorCode.STORAGE_UNAVAILABLE, "told to fail", retry_after_ms=1)
        return self.stored.get(conversation_id) if self.is_stored(conversation_id) else None

    async def open(self, conversation: Conversation, activity_id: UUID) -> None:
        self.stored.setdefault(conversation.id, conversation)
        self.lost.discard(conversation.id)

    def is_stored(self, conversation_id: ConversationId) -> bool:
        return conversation_id in self.stored and conversation_id not in self.lost


class MemoryMessages:
    """`BatchWriter` in lists, one per conversation."""

    def __init__(self, conversations: MemoryConversations) -> None:
        self._conversations = conversations
        self._by_key: dict[tuple[UserId, int], Committed] = {}
        self._history: dict[ConversationId, list[MessageId]] = {}
        self._positions: dict[tuple[ConversationId, UserId], Positions] = {}
        self._reached: dict[tuple[ConversationId, UserId, bool, int], datetime] = {}
        self.hiding: set[UserId] = set()
        """Users who let nobody see what they read."""
        self.batches: list[int] = []
        self.lease_is_lost = False

    async def find(self, sender: UserId, key: ClientMessageId) -> Committed | None:
        return self._by_key.get((sender, key.int))

    async def append(self, drafts: Sequence[Draft]) -> Sequence[Committed | None]:
        self._demand_lease()
        self.batches.append(len(drafts))
        return [self._append(draft) for draft in drafts]

    async def advance(self, marks: Sequence[Mark]) -> Sequence[Position | None]:
        self._demand_lease()
        self.batches.append(len(marks))
        return self._advance(marks)

    def _demand_lease(self) -> None:
        if self.lease_is_lost:
            raise LeaseLost("told to be")

    def _append(self, draft: Draft) -> Committed | None:
        if draft.key in self._by_key:
            return self._by_key[draft.key]
        if not self._conversations.is_stored(draft.conversation_id):
            return None
        history = self._history.setdefault(draft.conversation_id, [])
        history.append(draft.id)
        row = Committed(
            id=draft.id,
            conversation_id=draft.conversation_id,
            seq=len(history),
            body_hash=draft.body_hash,
            created_at=datetime.now(UTC),
        )
        self._by_key[draft.key] = row
        return row

    def _advance(self, marks: Sequence[Mark]) -> Sequence[Position | None]:
        aimed = [(mark, self._seq(mark)) for mark in marks]
        before = dict(self._positions)
        for mark, seq in aimed:
            at = self._positions.get((mark.conversation_id, mark.user_id), Positions())
            if seq is not None:
                read = max(at.read_seq, seq if mark.is_read else 0)
                is_shown = read > at.read_seq and mark.user_id not in self.hiding
                self._positions[mark.conversation_id, mark.user_id] = Positions(
                    delivered_seq=max(at.delivered_seq, seq),
                    read_seq=read,
                    shown_read_seq=read if is_shown else at.shown_read_seq,
                )
        movers: set[tuple[ConversationId, UserId, bool]] = set()
        return [None if seq is None else self._position(mark, seq, before, movers) for mark, seq in aimed]

    def _position(
        self,
        mark: Mark,
        seq: int,
        before: dict[tuple[ConversationId, UserId], Positions],
        movers: set[tuple[ConversationId, UserId, bool]],
    ) -> Position:
        place = (mark.conversation_id, mark.user_id)
        old, new = before.get(place, Positions()), self._positions[place]
        was, now = (old.read_seq, new.read_seq) if mark.is_read else (old.delivered_seq, new.delivered_seq)
        moved = seq == now > was and (*place, mark.is_read) not in movers
        if moved:
            movers.add((*place, mark.is_read))
        reached_at = self._reached.setdefault((*place, mark.is_read, now), datetime.now(UTC))
        return Position(
            message_id=self._history[mark.conversation_id][now - 1],
            seq=now,
            reached_at=reached_at,
            moved=moved,
            moved_delivered=moved and seq > old.delivered_seq,
            visible=not mark.is_read or now <= new.shown_read_seq,
        )

    def _seq(self, mark: Mark) -> int | None:
        history = self._history.get(mark.conversation_id, [])
        return history.index(mark.message_id) + 1 if mark.message_id in history else None


class MemoryPreferences:
    """`PreferenceRepository` in a dict."""

    def __init__(self) -> None:
        self.stored: dict[UserId, Preferences] = {}
        self.gate: asyncio.Event | None = None
        """Changes wait for it, if there is one."""
        self.lease_is_lost = False

    async def of(self, user: UserId) -> Preferences:
        return self.stored.get(user, Preferences())

    async def change(
        self, user: UserId, *, read_receipts: bool | None, invisible: bool | None
    ) -> Preferences:
        if self.gate is not None:
            await self.gate.wait()
        if self.lease_is_lost:
            raise LeaseLost("told to be")
        old = await self.of(user)
        self.stored[user] = Preferences(
            read_receipts=old.read_receipts if read_receipts is None else read_receipts,
            invisible=old.invisible if invisible is None else invisible,
        )
        return self.stored[user]


class MemoryRateLimit:
    """`RateLimit` in a dict: `amount` in `seconds`, of which the first half passes without a question.

    Questions wait for `gate`, if there is one, and raise `failure`.
    """

    def __init__(
        self, amount: int = 10**9, seconds: float = 10.0, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._amount = amount
        self._seconds = seconds
        self._clock = clock
        self._windows: dict[UserId, tuple[float, int]] = {}
        self.gate: asyncio.Event | None = None
        self.failure: Exception | None = None

    def passes(self, user: UserId) -> bool:
        ends_at, count = self._window(user)
        if count >= self._amount // 2:
            return False
        self._windows[user] = (ends_at, count + 1)
        return True

    def refusal(self, user: UserId) -> Rejection | None:
        ends_at, count = self._window(user)
        return self._refused(ends_at) if count > self._amount else None

    async def decide(self, user: UserId) -> Rejection | None:
        if self.gate is not None:
            await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        ends_at, count = self._window(user)
        self._windows[user] = (ends_at, count + 1)
        return self._refused(ends_at) if count + 1 > self._amount else None

    def _window(self, user: UserId) -> tuple[float, int]:
        ends_at, count = self._windows.get(user, (0.0, 0))
        if ends_at <= self._clock():
            ends_at, count = self._clock() + self._seconds, 0
        return ends_at, count

    def _refused(self, ends_at: float) -> Rejection:
        delay_ms = max(1, math.ceil((ends_at - self._clock()) * 1_000))
        return Rejection(ErrorCode.RATE_LIMITED, f"more than {self._amount} in {self._seconds} s", delay_ms)
