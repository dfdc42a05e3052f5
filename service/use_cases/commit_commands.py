"""The batch pipeline: per-user order, authorization, one commit for all that wait."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

from service.domain.conversation import Conversation
from service.domain.errors import Rejected, Rejection
from service.domain.message import Draft
from service.domain.preferences import Preferences
from service.domain.receipts import Mark
from service.use_cases.authorize import Authorize
from service.use_cases.decide_commands import Command, DecideCommands
from service.use_cases.group_commit import GroupCommit
from service.use_cases.incidents import incident
from service.use_cases.lanes import Lanes
from service.use_cases.lease import LeaseLost
from service.use_cases.mark_position import Marked, marked
from service.use_cases.ports import BatchWriter, Committed, ConversationRepository
from service.use_cases.send_message import SendCommand, Sent, drafted, sent
from service.use_cases.set_preferences import SetPreferences, SetPreferencesCommand
from service.use_cases.shedding import Shedding

Ticket = TypeVar("Ticket")
"""Whatever the front door wants back with the result; never looked at here."""

Work = TypeVar("Work", Draft, Mark)

_MARKS_GATHER_S = 0.01
"""Long enough for the marks of a moment to share a commit, too short for anybody to see."""
_MANY_MARKS, _MANY_GATHER_S = 16, 0.09
"""Where more have come than this, 1,600 a second, they gather for so much longer: a commit by itself costs as
much as twenty marks in it, and what a user moves twice is told once. Nobody sees a tenth of a second."""
_MARKS_YIELD_S = 0.01
"""So long marks wait for a message to be told: beside its commit, the two would slow each other down."""

_DECIDED_FOR_S = 0.5
"""A message that waits longer for its commit, as when the database stands still, is authorized again: a
connection that has ended stops it within a second."""

Result = Sent | Marked | Preferences | Rejection


@dataclass(slots=True)
class _Waiting(Generic[Work, Ticket]):
    """An authorized command that waits for the next commit."""

    work: Work
    conversation: Conversation
    ticket: Ticket
    since: float = 0.0
    """When a message was authorized, by the clock."""


class CommitCommands(Generic[Ticket]):
    """Takes commands and answers each exactly once, after its commit.

    `submit` never waits. A user whose authorization is not known in memory
    gets a lane: its commands queue there, in order, until the answer is in,
    while everybody else's go on. What is authorized waits for the next group
    commit: messages and marks apart, so that a receipt never delays a message.
    For what finds no room, among all that waits or in its user's lane of
    `lane_limit`, the result is BUSY at once.
    Results go to `deliver` a batch at a time, exactly one for every `submit`,
    unless the lease is lost: then `run` raises `LeaseLost`, and whoever has the
    lease answers what is left.
    """

    def __init__(
        self,
        authorize: Authorize,
        conversations: ConversationRepository,
        writer: BatchWriter,
        set_preferences: SetPreferences,
        deliver: Callable[[Sequence[tuple[Ticket, Result]]], None],
        *,
        shedding: Shedding,
        lane_limit: int,
        now_ns: Callable[[], int],
        batch_limit: int,
        is_crowded: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`is_crowded`: whether so many commands are unacknowledged that nothing should be put off."""
        self._conversations = conversations
        self._writer = writer
        self._deliver = deliver
        self._now_ns = now_ns
        self._shedding = shedding
        self._is_crowded = is_crowded
        self._clock = clock
        self._lanes: Lanes[tuple[Command, Ticket]] = Lanes(self._answer, limit=lane_limit)
        self._lost: LeaseLost | None = None
        """What a lane has found out."""
        self._lost_in_lane = asyncio.Event()
        self._told = asyncio.Event()
        """Never stays set: it wakes marks that let a message go first."""
        self._messages: GroupCommit[_Waiting[Draft, Ticket]] = GroupCommit(
            self._commit_messages, limit=batch_limit
        )
        self._marks: GroupCommit[_Waiting[Mark, Ticket]] = GroupCommit(
            self._commit_marks, limit=batch_limit, gather=self._gather_marks
        )
        self._decisions = DecideCommands(
            authorize,
            writer,
            set_preferences,
            messages_settled=self._messages.settle,
            marks_settled=self._marks.settle,
            now_ns=now_ns,
        )

    def submit(self, command: Command, ticket: Ticket) -> None:
        """Takes a command; its result reaches `deliver` with this ticket."""
        user = command.user_id
        if type(command) is SendCommand and not self._shedding.has_room(user):
            self._deliver([(ticket, self._shedding.refusal())])
            return
        if user in self._lanes:
            if self._lanes.is_full(user):
                self._deliver([(ticket, self._shedding.refusal())])
            else:
                self._lanes.add(user, (command, ticket))
            return
        decision = self._decisions.known(command)
        if decision is not None:
            self._accept(command, ticket, decision)
        else:
            self._lanes.add(user, (command, ticket))

    def message_told(self) -> None:
        """A message's events are with the broker: marks that waited for that may be committed."""
        self._told.set()
        self._told.clear()

    async def run(self) -> None:
        """Commits batches until cancelled; raises `LeaseLost`."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._messages.run(), name="messages")
                tasks.create_task(self._marks.run(), name="marks")
                tasks.create_task(self._end_with_lanes(), name="lanes")
        finally:
            self._lanes.cancel()

    async def _end_with_lanes(self) -> None:
        """Lanes are tasks of their own: what one of them finds out ends the pipeline here."""
        await self._lost_in_lane.wait()
        assert self._lost is not None
        raise self._lost

    async def _answer(self, item: tuple[Command, Ticket]) -> None:
        """Authorizes the first command of a lane; without the lease, nobody is answered any more."""
        if self._lost is not None:
            return
        command, ticket = item
        try:
            decision = self._decisions.known(command) or await self._decisions.decide(command)
        except LeaseLost as lost:
            self._lost = lost
            self._lost_in_lane.set()
            return
        try:
            self._accept(command, ticket, decision)
        except Exception:
            # What is behind it in the lane has an answer coming, too.
            self._deliver([(ticket, incident("answer", command.id))])

    def _accept(self, command: Command, ticket: Ticket, decision: Conversation | Result) -> None:
        if not isinstance(decision, Conversation):
            self._deliver([(ticket, decision)])
            return
        assert not isinstance(command, SetPreferencesCommand), "is done when it is decided"
        if isinstance(command, SendCommand):
            draft = drafted(command, decision, self._now_ns())
            self._shedding.enter(command.user_id)
            self._messages.add(_Waiting(draft, decision, ticket, self._clock()))
        else:
            self._marks.add(_Waiting(command.mark, decision, ticket))

    async def _commit_messages(self, batch: Sequence[_Waiting[Draft, Ticket]]) -> None:
        """One commit for the batch."""
        try:
            allowed = batch
            if batch[0].since < self._clock() - _DECIDED_FOR_S:
                allowed = await self._still_allowed(batch)
            if allowed:
                await self._commit_or_split(allowed)
        finally:
            self._shedding.leave([waiting.work.sender_id for waiting in batch])

    async def _still_allowed(self, batch: Sequence[_Waiting[Draft, Ticket]]) -> list[_Waiting[Draft, Ticket]]:
        """Answers those whose connection has ended while they waited; returns the others."""
        unknown = [waiting for waiting in batch if not self._decisions.is_still_known(waiting.work)]
        answers = await asyncio.gather(
            *(self._decisions.decide_again(waiting.work, waiting.conversation) for waiting in unknown)
        )
        answered = [
            (waiting, answer) for waiting, answer in zip(unknown, answers, strict=True) if answer is not None
        ]
        self._deliver([(waiting.ticket, answer) for waiting, answer in answered])
        done = {id(waiting) for waiting, _ in answered}
        return [waiting for waiting in batch if id(waiting) not in done]

    async def _commit_or_split(self, batch: Sequence[_Waiting[Draft, Ticket]]) -> None:
        """Resends of a message within the batch share the first one's row."""
        drafts: list[Draft] = []
        places: list[int] = []
        place_of: dict[object, int] = {}
        for waiting in batch:
            place = place_of.setdefault(waiting.work.key, len(drafts))
            places.append(place)
            if place == len(drafts):
                drafts.append(waiting.work)
        started = self._clock()
        try:
            rows = await self._writer.append(drafts)
        except Rejected as error:
            self._deliver([(waiting.ticket, error.rejection) for waiting in batch])
        except LeaseLost:
            raise
        except Exception:
            if len(batch) == 1:
                self._deliver([(batch[0].ticket, incident("commit", drafts[0].client_message_id))])
                return
            for half in _halves(batch):
                await self._commit_or_split(half)
        else:
            self._shedding.committed(len(batch), self._clock() - started)
            self._deliver(
                [
                    (waiting.ticket, self._sent(waiting.work, waiting.conversation, rows[place]))
                    for waiting, place in zip(batch, places, strict=True)
                ]
            )

    async def _gather_marks(self) -> None:
        """Lets marks come together, and then a message go first."""
        await asyncio.sleep(_MARKS_GATHER_S)
        if self._marks.waiting > _MANY_MARKS:
            until = self._clock() + _MANY_GATHER_S
            # Commands are acknowledged in order: what stands behind a mark waits for it, too.
            while self._clock() < until and not (self._marks.is_full or self._is_crowded()):  # noqa: ASYNC110
                await asyncio.sleep(_MARKS_GATHER_S)
        with suppress(TimeoutError):
            async with asyncio.timeout(_MARKS_YIELD_S):
                await self._told.wait()

    async def _commit_marks(self, batch: Sequence[_Waiting[Mark, Ticket]]) -> None:
        """One commit for the batch."""
        try:
            positions = await self._writer.advance([waiting.work for waiting in batch])
        except Rejected as error:
            self._deliver([(waiting.ticket, error.rejection) for waiting in batch])
        except LeaseLost:
            raise
        except Exception:
            if len(batch) == 1:
                self._deliver([(batch[0].ticket, incident("commit", batch[0].work.message_id))])
                return
            for half in _halves(batch):
                await self._commit_marks(half)
        else:
            self._deliver(
                [
                    (waiting.ticket, marked(waiting.work, waiting.conversation, position))
                    for waiting, position in zip(batch, positions, strict=True)
                ]
            )

    def _sent(self, draft: Draft, conversation: Conversation, row: Committed | None) -> Sent | Rejection:
        if row is None:
            self._conversations.forget(conversation.id)
        return sent(draft, conversation, row)


def _halves(batch: Sequence[_Waiting[Work, Ticket]]) -> tuple[Sequence[_Waiting[Work, Ticket]], ...]:
    """In order. One command must not fail its neighbours, and among many it is found in few steps."""
    middle = len(batch) // 2
    return batch[:middle], batch[middle:]
