"""Sends messages: per-sender order, authorization, one commit for all that wait."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar
from uuid import uuid4

import structlog

from service.domain.conversation import Conversation
from service.domain.errors import ErrorCode, Rejected, Rejection
from service.domain.ids import ClientMessageId, ConversationId, MessageId, UserId, uuid7
from service.domain.message import Draft, Message, body_hash
from service.metrics import BATCH_SIZE, COMMIT_SECONDS, LANES
from service.use_cases.authorize_sender import NOT_FOUND, AuthorizeSender
from service.use_cases.ports import Committed, ConversationRepository, MessageWriter

Ticket = TypeVar("Ticket")
"""Whatever the front door wants back with the result; never looked at here."""

_log = structlog.get_logger(__name__)

_CONFLICT = Rejection(
    ErrorCode.IDEMPOTENCY_CONFLICT, "this clientMessageId was used before with another body"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SendCommand:
    """The wish to send: validated, not yet authorized."""

    sender_id: UserId
    target: ConversationId | str
    """A conversation's id, or the recipient's user id."""
    client_message_id: ClientMessageId
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """The message is durable: new just now, or found under its key."""

    message: Message
    recipient_id: UserId


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[Ticket]):
    """An authorized message that waits for the next commit."""

    draft: Draft
    recipient_id: UserId
    ticket: Ticket


class SendMessage(Generic[Ticket]):
    """The batch pipeline.

    `submit` never waits. A sender whose authorization is not known in memory
    gets a lane: its commands queue there, in order, until the answer is in,
    while everybody else's go on. What is authorized waits in one queue; `run`
    commits all of it at once, and what arrives meanwhile is the next batch.
    Results go to `deliver` a batch at a time, exactly one for every `submit`.
    """

    def __init__(
        self,
        authorize: AuthorizeSender,
        conversations: ConversationRepository,
        writer: MessageWriter,
        deliver: Callable[[Sequence[tuple[Ticket, Sent | Rejection]]], None],
        *,
        now_ns: Callable[[], int],
        batch_limit: int,
    ) -> None:
        self._authorize = authorize
        self._conversations = conversations
        self._writer = writer
        self._deliver = deliver
        self._now_ns = now_ns
        self._batch_limit = batch_limit
        self._lanes: dict[UserId, deque[tuple[SendCommand, Ticket]]] = {}
        self._lane_tasks: set[asyncio.Task[None]] = set()
        self._waiting: deque[_Waiting[Ticket]] = deque()
        self._wake = asyncio.Event()

    def submit(self, command: SendCommand, ticket: Ticket) -> None:
        """Takes a command; its result reaches `deliver` with this ticket."""
        lane = self._lanes.get(command.sender_id)
        if lane is not None:
            lane.append((command, ticket))
            return
        decision = self._authorize.known(command.sender_id, command.target)
        if decision is not None:
            self._accept(command, ticket, decision)
            return
        self._lanes[command.sender_id] = deque([(command, ticket)])
        task = asyncio.create_task(self._work_off(command.sender_id), name="lane")
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

    async def _work_off(self, sender: UserId) -> None:
        """Authorizes one sender's commands in order until its lane is empty."""
        lane = self._lanes[sender]
        LANES.inc()
        try:
            while lane:
                command, ticket = lane[0]
                decision = self._authorize.known(sender, command.target)
                if decision is None:
                    decision = await self._decide(command)
                lane.popleft()
                self._accept(command, ticket, decision)
        finally:
            del self._lanes[sender]
            LANES.dec()

    async def _decide(self, command: SendCommand) -> Conversation | Rejection:
        try:
            return await self._authorize.decide(command.sender_id, command.target)
        except Rejected as error:
            return error.rejection
        except Exception:
            return _incident("authorize", command.client_message_id)

    def _accept(self, command: SendCommand, ticket: Ticket, decision: Conversation | Rejection) -> None:
        if isinstance(decision, Rejection):
            self._deliver([(ticket, decision)])
            return
        draft = Draft(
            id=MessageId(uuid7(self._now_ns())),
            conversation_id=decision.id,
            sender_id=command.sender_id,
            client_message_id=command.client_message_id,
            body_hash=body_hash(decision.id, command.text),
            text=command.text,
        )
        self._waiting.append(_Waiting(draft, decision.counterpart_of(command.sender_id), ticket))
        self._wake.set()

    async def _commit(self, batch: Sequence[_Waiting[Ticket]]) -> Sequence[tuple[Ticket, Sent | Rejection]]:
        """One commit for the batch; resends within it share the first one's row."""
        firsts = {waiting.draft.key: waiting.draft for waiting in reversed(batch)}
        drafts = [waiting.draft for waiting in batch if firsts[waiting.draft.key] is waiting.draft]
        BATCH_SIZE.observe(len(drafts))
        try:
            with COMMIT_SECONDS.time():
                committed = await self._writer.append(drafts)
        except Rejected as error:
            return [(waiting.ticket, error.rejection) for waiting in batch]
        except Exception:
            if len(batch) == 1:
                return [(batch[0].ticket, _incident("append", batch[0].draft.client_message_id))]
            # One message must not fail its neighbours: find it one by one.
            return [result for waiting in batch for result in await self._commit([waiting])]
        rows = {draft.key: row for draft, row in zip(drafts, committed, strict=True)}
        return [(waiting.ticket, self._result(waiting, rows[waiting.draft.key])) for waiting in batch]

    def _result(self, waiting: _Waiting[Ticket], row: Committed | None) -> Sent | Rejection:
        draft = waiting.draft
        if row is None:
            self._conversations.forget(draft.conversation_id)
            return NOT_FOUND
        if row.body_hash != draft.body_hash:
            return _CONFLICT
        message = Message(
            id=row.id,
            conversation_id=row.conversation_id,
            seq=row.seq,
            sender_id=draft.sender_id,
            client_message_id=draft.client_message_id,
            text=draft.text,
            created_at=row.created_at,
        )
        return Sent(message=message, recipient_id=waiting.recipient_id)


def _incident(step: str, client_message_id: ClientMessageId) -> Rejection:
    """Logs the exception being handled under a new id, which the sender is told."""
    incident = uuid4()
    _log.exception("send_failed", step=step, incident=str(incident), client_message_id=str(client_message_id))
    return Rejection(ErrorCode.INTERNAL, f"the service failed (incident {incident})", 1_000)
