"""The batch pipeline: per-user order, authorization, one commit for all that wait."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar
from uuid import UUID

from service.domain.conversation import Conversation
from service.domain.errors import Rejected, Rejection
from service.domain.ids import UserId
from service.domain.message import Draft
from service.domain.preferences import Preferences
from service.domain.receipts import Mark
from service.metrics import BATCH_SIZE, COMMIT_SECONDS, LANES
from service.use_cases.authorize import NOT_CONNECTED, Authorize
from service.use_cases.incidents import incident
from service.use_cases.mark_position import MarkCommand, Marked, marked
from service.use_cases.ports import BatchWriter, Committed, ConversationRepository
from service.use_cases.send_message import SendCommand, Sent, drafted, sent
from service.use_cases.set_preferences import SetPreferences, SetPreferencesCommand

Ticket = TypeVar("Ticket")
"""Whatever the front door wants back with the result; never looked at here."""

Command = SendCommand | MarkCommand | SetPreferencesCommand
Result = Sent | Marked | Preferences | Rejection


@dataclass(slots=True)
class _Waiting(Generic[Ticket]):
    """An authorized command that waits for the next commit."""

    work: Draft | Mark
    conversation: Conversation
    ticket: Ticket


class CommitCommands(Generic[Ticket]):
    """Takes commands and answers each exactly once, after its commit.

    `submit` never waits. A user whose authorization is not known in memory
    gets a lane: its commands queue there, in order, until the answer is in,
    while everybody else's go on. What is authorized waits in one queue; `run`
    commits all of it at once, and what arrives meanwhile is the next batch.
    Results go to `deliver` a batch at a time, exactly one for every `submit`.
    """

    def __init__(
        self,
        authorize: Authorize,
        conversations: ConversationRepository,
        writer: BatchWriter,
        set_preferences: SetPreferences,
        deliver: Callable[[Sequence[tuple[Ticket, Result]]], None],
        *,
        now_ns: Callable[[], int],
        batch_limit: int,
    ) -> None:
        self._authorize = authorize
        self._conversations = conversations
        self._writer = writer
        self._set_preferences = set_preferences
        self._deliver = deliver
        self._now_ns = now_ns
        self._batch_limit = batch_limit
        self._lanes: dict[UserId, deque[tuple[Command, Ticket]]] = {}
        self._lane_tasks: set[asyncio.Task[None]] = set()
        self._waiting: deque[_Waiting[Ticket]] = deque()
        self._wake = asyncio.Event()

    def submit(self, command: Command, ticket: Ticket) -> None:
        """Takes a command; its result reaches `deliver` with this ticket."""
        lane = self._lanes.get(command.user_id)
        if lane is not None:
            lane.append((command, ticket))
            return
        decision = self._known(command)
        if decision is not None:
            self._accept(command, ticket, decision)
            return
        self._lanes[command.user_id] = deque([(command, ticket)])
        task = asyncio.create_task(self._work_off(command.user_id), name="lane")
        self._lane_tasks.add(task)
        task.add_done_callback(self._lane_tasks.discard)

    async def run(self) -> None:
        """Commits batches until cancelled."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._waiting:
                    size = min(len(self._waiting), self._batch_limit)
                    batch = [self._waiting.popleft() for _ in range(size)]
                    self._deliver(await self._commit(batch))
        finally:
            for task in self._lane_tasks:
                task.cancel()

    async def _work_off(self, user: UserId) -> None:
        """Authorizes one user's commands in order until its lane is empty."""
        lane = self._lanes[user]
        LANES.inc()
        try:
            while lane:
                command, ticket = lane[0]
                decision = self._known(command) or await self._decide(command)
                lane.popleft()
                try:
                    self._accept(command, ticket, decision)
                except Exception:
                    # What is behind it in the lane has an answer coming, too.
                    self._deliver([(ticket, incident("answer", command.id))])
        finally:
            del self._lanes[user]
            LANES.dec()

    def _known(self, command: Command) -> Conversation | Rejection | None:
        if isinstance(command, SetPreferencesCommand):
            return None
        if isinstance(command, SendCommand):
            decision = self._authorize.known(command.user_id, command.target)
            # Whoever resends what was accepted before a revocation gets the original result.
            return None if decision == NOT_CONNECTED else decision
        return self._authorize.known_participation(command.user_id, command.conversation_id)

    async def _decide(self, command: Command) -> Conversation | Result:
        try:
            if isinstance(command, SetPreferencesCommand):
                return await self._set_preferences(
                    command.user_id, read_receipts=command.read_receipts, invisible=command.invisible
                )
            if isinstance(command, SendCommand):
                return await self._decide_send(command)
            return await self._authorize.participation(command.user_id, command.conversation_id)
        except Rejected as error:
            return error.rejection
        except Exception:
            return incident("authorize", command.id)

    async def _decide_send(self, command: SendCommand) -> Conversation | Sent:
        try:
            return await self._authorize.decide(command.user_id, command.target)
        except Rejected as error:
            if error.rejection != NOT_CONNECTED:
                raise
            conversation = await self._authorize.addressed(command.user_id, command.target)
            row = await self._writer.find(command.user_id, command.client_message_id)
            if row is None or conversation is None:
                raise
            original = sent(drafted(command, conversation, self._now_ns()), conversation, row)
            if isinstance(original, Sent):
                return original
            raise

    def _accept(self, command: Command, ticket: Ticket, decision: Conversation | Result) -> None:
        if not isinstance(decision, Conversation):
            self._deliver([(ticket, decision)])
            return
        assert not isinstance(command, SetPreferencesCommand), "is done when it is decided"
        work: Draft | Mark
        if isinstance(command, SendCommand):
            work = drafted(command, decision, self._now_ns())
        else:
            work = command.mark
        self._waiting.append(_Waiting(work, decision, ticket))
        self._wake.set()

    async def _commit(self, batch: Sequence[_Waiting[Ticket]]) -> Sequence[tuple[Ticket, Result]]:
        """One commit for the batch; resends within it share the first one's row."""
        drafts: list[Draft] = []
        marks: list[Mark] = []
        place_of: dict[object, int] = {}
        for waiting in batch:
            work = waiting.work
            if type(work) is Mark:
                marks.append(work)
            elif type(work) is Draft and place_of.setdefault(work.key, len(drafts)) == len(drafts):
                drafts.append(work)
        BATCH_SIZE.observe(len(batch))
        try:
            with COMMIT_SECONDS.time():
                rows, positions = await self._writer.commit(drafts, marks)
        except Rejected as error:
            return [(waiting.ticket, error.rejection) for waiting in batch]
        except Exception:
            if len(batch) == 1:
                return [(batch[0].ticket, incident("commit", _id_of(batch[0].work)))]
            # One command must not fail its neighbours: find it one by one.
            return [result for waiting in batch for result in await self._commit([waiting])]
        position = iter(positions)
        return [
            (waiting.ticket, self._sent(waiting.work, waiting.conversation, rows[place_of[waiting.work.key]]))
            if isinstance(waiting.work, Draft)
            else (waiting.ticket, marked(waiting.work, waiting.conversation, next(position)))
            for waiting in batch
        ]

    def _sent(self, draft: Draft, conversation: Conversation, row: Committed | None) -> Sent | Rejection:
        if row is None:
            self._conversations.forget(conversation.id)
        return sent(draft, conversation, row)


def _id_of(work: Draft | Mark) -> UUID:
    """What a log line names a command by."""
    return work.client_message_id if isinstance(work, Draft) else work.message_id
