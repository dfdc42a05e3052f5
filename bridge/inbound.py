"""From deliveries to use cases: whose command it is, which one, and whether it is well-formed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from uuid import UUID

import structlog

from bridge.dead_letters import DeadLetters
from bridge.outbound import Outbound, Request
from bridge.payloads import (
    ConnectionsChangedEvent,
    MarkAsDeliveredPayload,
    MarkAsReadPayload,
    MarkPayload,
    PresencePayload,
    SendMessagePayload,
    SetPreferencesPayload,
    SyncPayload,
    TypingPayload,
    correlation_of,
    parse,
)
from bridge.session import Delivery
from bridge.topics import COMMANDS, CONNECTIONS_CHANGED, CommandTopic, PlatformTopic, Topics
from service.domain.errors import ErrorCode, Rejected, Rejection
from service.domain.ids import ClientMessageId, ConversationId, MessageId, UserId
from service.domain.receipts import Mark
from service.metrics import PLATFORM_EVENTS
from service.use_cases.commit_commands import CommitCommands
from service.use_cases.incidents import incident
from service.use_cases.lanes import Lanes
from service.use_cases.mark_position import MarkCommand
from service.use_cases.ports import ConnectionDirectory, RateLimit
from service.use_cases.presence_ports import SessionReport
from service.use_cases.relay_typing import RelayTyping, TypingCommand
from service.use_cases.send_message import SendCommand
from service.use_cases.set_preferences import SetPreferencesCommand
from service.use_cases.sync_conversation import SyncConversation, SyncPage
from service.use_cases.track_presence import TrackPresence

_log = structlog.get_logger(__name__)

_TOPICS_REMEMBERED = 50_000
_CONCURRENT_READS = 16
"""Pages read at once for clients that catch up; the others wait their turn."""
_SYNCS_OF_ONE_USER = 64
"""More at once are refused: a client catches up in many conversations, not in all of them at once."""
_SYNCS = 10_000
"""More at once of all users are refused: who waits for longer than that has asked again."""
_SEND = "sendMessage"
_NO_SUCH_COMMAND = Rejection(ErrorCode.UNKNOWN_COMMAND, "no such command")
_TOO_MANY_AT_ONCE = Rejection(ErrorCode.BUSY, "too many commands at once", 1_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimits:
    """What one user may ask for in a time, whatever becomes of it."""

    sends: RateLimit
    """`sendMessage`."""
    commands: RateLimit
    """All the others together, those that do not exist included."""


class Inbound:
    """Takes all deliveries of one socket read; every one gets exactly one end."""

    def __init__(
        self,
        topics: Topics,
        outbound: Outbound,
        commands: CommitCommands[Request],
        sync: SyncConversation,
        connections: ConnectionDirectory,
        limits: RateLimits,
        dead_letters: DeadLetters,
        *,
        typing: RelayTyping,
        presence: TrackPresence,
        until_writable: Callable[[], Awaitable[object]],
        lane_limit: int,
    ) -> None:
        self._topics = topics
        self._outbound = outbound
        self._pipeline = commands
        self._sync = sync
        self._connections = connections
        self._limits = limits
        self._dead_letters = dead_letters
        self._typing = typing
        self._presence = presence
        self._until_writable = until_writable
        self._parsed: dict[str, CommandTopic] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._reads = asyncio.Semaphore(_CONCURRENT_READS)
        self._syncing: Counter[UserId] = Counter()
        self._syncs = 0
        self._asking: Lanes[tuple[CommandTopic, Delivery]] = Lanes(self._ask, limit=lane_limit)
        """Users near their limits: their commands wait for the count of all instances."""
        self._commands: dict[str, Callable[[UserId, Delivery], None]] = {
            _SEND: self._on_send_message,
            "markAsDelivered": self._on_mark_as_delivered,
            "markAsRead": self._on_mark_as_read,
            "sync": self._on_sync,
            "typing": self._on_typing,
            "presence": self._on_presence,
            "setPreferences": self._on_set_preferences,
        }

    def take(self, deliveries: Sequence[Delivery]) -> None:
        """Hands every delivery on; never waits."""
        for delivery in deliveries:
            topic = self._parsed.get(delivery.topic) or self._parse(delivery.topic)
            match topic:
                case CommandTopic():
                    self._on_command(topic, delivery)
                case PlatformTopic(event_type):
                    self._on_platform_event(event_type, delivery)
                case None:
                    # The subscriptions admit no other topic from a valid user id.
                    _log.warning("delivery_outside_protocol", bytes=len(delivery.payload))
                    self._dead_letters.bury(delivery.payload, _NO_SUCH_COMMAND)
                    self._outbound.acknowledge(delivery)

    def _parse(self, name: str) -> CommandTopic | PlatformTopic | None:
        """Reads a topic name and remembers those of known commands: each comes again and again."""
        topic = self._topics.parse(name)
        if isinstance(topic, CommandTopic) and topic.command in COMMANDS:
            if len(self._parsed) >= _TOPICS_REMEMBERED:
                self._parsed.clear()
            self._parsed[name] = topic
        return topic

    def _on_command(self, topic: CommandTopic, delivery: Delivery) -> None:
        """Counts the command before anything else is done for it."""
        user_id = topic.user_id
        if user_id in self._asking:
            if self._asking.is_full(user_id):
                self._refuse(topic, delivery, _TOO_MANY_AT_ONCE)
            else:
                self._asking.add(user_id, (topic, delivery))
            return
        limit = self._limit_of(topic)
        if limit.passes(user_id):
            self._carry_out(topic, delivery)
            return
        refusal = limit.refusal(user_id)
        if refusal is not None:
            self._refuse(topic, delivery, refusal)
        else:
            self._asking.add(user_id, (topic, delivery))

    def _limit_of(self, topic: CommandTopic) -> RateLimit:
        return self._limits.sends if topic.command == _SEND else self._limits.commands

    async def _ask(self, item: tuple[CommandTopic, Delivery]) -> None:
        """Counts and carries out the first command of a lane."""
        topic, delivery = item
        limit = self._limit_of(topic)
        refusal: Rejection | None = None
        try:
            if not limit.passes(topic.user_id):
                refusal = limit.refusal(topic.user_id) or await limit.decide(topic.user_id)
        except Exception:
            refusal = incident("count", topic.user_id)
        if refusal is None:
            self._carry_out(topic, delivery)
        else:
            self._refuse(topic, delivery, refusal)

    def _carry_out(self, topic: CommandTopic, delivery: Delivery) -> None:
        handler = self._commands.get(topic.command)
        if handler is None:
            self._refuse(topic, delivery, _NO_SUCH_COMMAND)
            return
        try:
            handler(topic.user_id, delivery)
        except Rejected as error:
            self._refuse(topic, delivery, error.rejection)
        except Exception:
            # Answered like any other: unanswered, it would come back with every new link.
            self._refuse(topic, delivery, incident("take", topic.user_id))

    def _refuse(self, topic: CommandTopic, delivery: Delivery, rejection: Rejection) -> None:
        request = Request(
            delivery=delivery,
            user_id=topic.user_id,
            command=topic.command,
            **correlation_of(delivery.payload),
        )
        self._outbound.deliver([(request, rejection)])

    def _on_send_message(self, user_id: UserId, delivery: Delivery) -> None:
        payload = parse(SendMessagePayload, delivery.payload)
        target: ConversationId | str
        if payload.conversation_id is not None:
            target = ConversationId(payload.conversation_id)
        else:
            assert payload.recipient_id is not None
            target = payload.recipient_id
        request = Request(delivery, user_id, "sendMessage", payload.request_id, payload.client_message_id)
        command = SendCommand(user_id, target, ClientMessageId(payload.client_message_id), payload.text)
        self._pipeline.submit(command, request)

    def _on_mark_as_delivered(self, user_id: UserId, delivery: Delivery) -> None:
        payload = parse(MarkAsDeliveredPayload, delivery.payload)
        self._mark(user_id, delivery, payload, payload.message_id, is_read=False)

    def _on_mark_as_read(self, user_id: UserId, delivery: Delivery) -> None:
        payload = parse(MarkAsReadPayload, delivery.payload)
        self._mark(user_id, delivery, payload, payload.last_read_message_id, is_read=True)

    def _mark(
        self, user_id: UserId, delivery: Delivery, payload: MarkPayload, message_id: UUID, *, is_read: bool
    ) -> None:
        name = "markAsRead" if is_read else "markAsDelivered"
        request = Request(delivery, user_id, name, payload.request_id)
        mark = Mark(ConversationId(payload.conversation_id), user_id, MessageId(message_id), is_read)
        self._pipeline.submit(MarkCommand(mark), request)

    def _on_sync(self, user_id: UserId, delivery: Delivery) -> None:
        """Acknowledged before it is answered: it changes nothing, and who hears nothing asks again."""
        payload = parse(SyncPayload, delivery.payload)
        if self._syncing[user_id] >= _SYNCS_OF_ONE_USER or self._syncs >= _SYNCS:
            raise Rejected(ErrorCode.BUSY, "too many syncs at once", retry_after_ms=1_000)
        self._syncing[user_id] += 1
        self._syncs += 1
        self._outbound.acknowledge(delivery)
        request = Request(delivery=delivery, user_id=user_id, command="sync", request_id=payload.request_id)
        self._start(self._answer_sync(request, payload), name="sync")

    async def _answer_sync(self, request: Request, payload: SyncPayload) -> None:
        """Reads beside the pipeline: a client that catches up holds up nobody."""
        result: SyncPage | Rejection
        try:
            async with self._reads:
                # A page that cannot leave is not read: with a slow broker they would fill the memory.
                await self._until_writable()
                result = await self._sync(
                    request.user_id,
                    ConversationId(payload.conversation_id),
                    after_seq=payload.after_seq,
                    limit=payload.limit,
                )
        except Rejected as error:
            result = error.rejection
        except Exception:
            result = incident("sync", payload.conversation_id)
        finally:
            self._syncs -= 1
            self._syncing[request.user_id] -= 1
            if not self._syncing[request.user_id]:
                del self._syncing[request.user_id]
        self._outbound.deliver([(request, result)])

    def _on_typing(self, user_id: UserId, delivery: Delivery) -> None:
        """Acknowledged at once: a signal is worth no redelivery."""
        payload = parse(TypingPayload, delivery.payload)
        self._outbound.acknowledge(delivery)
        request = Request(delivery=delivery, user_id=user_id, command="typing", request_id=payload.request_id)
        command = TypingCommand(
            user_id=user_id,
            conversation_id=ConversationId(payload.conversation_id),
            is_typing=payload.is_typing,
        )
        self._typing(command, lambda rejection: self._outbound.refuse(request, rejection))

    def _on_presence(self, user_id: UserId, delivery: Delivery) -> None:
        """Acknowledged before it is stored: what is lost, the next heartbeat or the lease puts right."""
        payload = parse(PresencePayload, delivery.payload)
        report = SessionReport(user_id=user_id, session_id=payload.session_id, state=payload.state)
        self._presence.report(report)
        self._outbound.acknowledge(delivery)

    def _on_set_preferences(self, user_id: UserId, delivery: Delivery) -> None:
        payload = parse(SetPreferencesPayload, delivery.payload)
        request = Request(
            delivery=delivery, user_id=user_id, command="setPreferences", request_id=payload.request_id
        )
        command = SetPreferencesCommand(
            user_id=user_id, read_receipts=payload.read_receipts, invisible=payload.invisible
        )
        self._pipeline.submit(command, request)

    def _start(self, work: Coroutine[None, None, None], *, name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _on_platform_event(self, event_type: str, delivery: Delivery) -> None:
        """A platform event is acknowledged when its effect is there."""
        if event_type != CONNECTIONS_CHANGED:
            # Our own dead letters come by here, too: what is not read cannot make another one.
            PLATFORM_EVENTS.labels("ignored").inc()
            self._outbound.acknowledge(delivery)
            return
        try:
            event = parse(ConnectionsChangedEvent, delivery.payload)
        except Rejected as error:
            PLATFORM_EVENTS.labels("malformed").inc()
            _log.error("platform_event_malformed", type=event_type, reason=error.rejection.message)
            self._dead_letters.bury(delivery.payload, error.rejection, event_type=CONNECTIONS_CHANGED)
            self._outbound.acknowledge(delivery)
            return
        # What stands behind the event in the same read must not pass by the old answer.
        self._connections.drop(UserId(event.data.user_id_a), UserId(event.data.user_id_b))
        self._start(self._forget(event, delivery), name="connections-changed")

    async def _forget(self, event: ConnectionsChangedEvent, delivery: Delivery) -> None:
        try:
            await self._connections.forget(UserId(event.data.user_id_a), UserId(event.data.user_id_b))
            PLATFORM_EVENTS.labels("applied").inc()
            _log.info("connection_invalidated", event_id=event.id)
        except Exception:
            # Rather too little is remembered than something that is no longer true.
            self._connections.forget_everything()
            PLATFORM_EVENTS.labels("failed").inc()
            _log.exception("connection_invalidation_failed", event_id=event.id)
        self._outbound.acknowledge(delivery)
