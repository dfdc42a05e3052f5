"""From results to publications: events for both sides, errors, and then the PUBACKs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

import structlog
from cachetools import TTLCache

from bridge.dead_letters import DeadLetters
from bridge.payloads import (
    encode_error,
    encode_message,
    encode_position,
    encode_preferences,
    encode_sync_page,
)
from bridge.publisher import Publisher, publisher_of
from bridge.refusals import RefusalLog
from bridge.session import Delivery, Session
from bridge.topics import COMMANDS as COMMAND_NAMES
from bridge.topics import Topics
from service.domain.errors import ErrorCode, Rejection
from service.domain.ids import ConversationId, UserId
from service.domain.preferences import Preferences
from service.metrics import COMMANDS, UNACKNOWLEDGED
from service.use_cases.commit_commands import Result
from service.use_cases.mark_position import Marked
from service.use_cases.send_message import Sent
from service.use_cases.sync_conversation import SyncPage

_log = structlog.get_logger(__name__)

_REFUSED_IN_NUMBERS = frozenset(
    {
        ErrorCode.RATE_LIMITED,
        ErrorCode.BUSY,
        ErrorCode.STORAGE_UNAVAILABLE,
        ErrorCode.AUTHORIZATION_UNAVAILABLE,
    }
)
"""In a flood or an outage, where everybody gets one: what is behind it has a log line of its own."""
_DEAD = frozenset(
    {
        ErrorCode.INVALID_PAYLOAD,
        ErrorCode.PAYLOAD_TOO_LARGE,
        ErrorCode.UNKNOWN_COMMAND,
        ErrorCode.INTERNAL,
    }
)
"""What fails because of the command's content, as far as anybody can tell: it becomes a dead letter."""
_MARKS = frozenset({"markAsDelivered", "markAsRead"})
_MAY_BE_DONE = frozenset({ErrorCode.STORAGE_UNAVAILABLE, ErrorCode.INTERNAL})
"""Refusals that do not say whether the commit came about."""
_MARKED_AGAIN_S, _MARKING_USERS = 600.0, 10_000
"""How long, and for how many users, a mark that may be done already is told of when it is made again."""


@dataclass(slots=True)
class Request:
    """A command on its way: what its answer needs to find its sender again."""

    delivery: Delivery
    user_id: UserId
    command: str
    request_id: str | None = None
    client_message_id: UUID | str | None = None
    """Text where the command is malformed."""


class Outbound:
    """Queues what results call for; one write a link for a whole batch.

    Messages go out over the publishers, and the delivery is acknowledged when the
    broker has confirmed them. Everything else is a publication at QoS 0 in the session,
    with the acknowledgement behind it. A crash in between brings the command back.
    """

    def __init__(
        self,
        topics: Topics,
        session: Session,
        publishers: Sequence[Publisher],
        flush: Callable[[], None],
        dead_letters: DeadLetters,
        *,
        on_sent: Callable[[UserId, ConversationId], None],
    ) -> None:
        self._topics = topics
        self._session = session
        self._publishers = publishers
        self._flush = flush
        self._dead_letters = dead_letters
        self._refusal_log = RefusalLog()
        self._on_sent = on_sent
        self._may_have_marked: TTLCache[UserId, None] = TTLCache(_MARKING_USERS, ttl=_MARKED_AGAIN_S)
        UNACKNOWLEDGED.set_function(lambda: session.unacknowledged)

    def deliver(self, results: Sequence[tuple[Request, Result | SyncPage | Preferences]]) -> None:
        """Publishes the events of a batch, then acknowledges its commands."""
        for request, result in results:
            match result:
                case Sent():
                    self._publish_message(request, result)
                    continue  # Acknowledged when it is confirmed.
                case Marked():
                    self._publish_position(request, result)
                case SyncPage():
                    self._answer(request, "syncPage", encode_sync_page(result, request.request_id))
                case Preferences():
                    self._answer(
                        request, "preferencesChanged", encode_preferences(result, request.request_id)
                    )
                case Rejection():
                    self._publish_error(request, result)
            self._session.acknowledge(request.delivery)
        self._flush()
        # Counted when it is on its way: with cold caches that is a fortieth of a message's time.
        for command, count in Counter(
            request.command for request, result in results if not isinstance(result, Rejection)
        ).items():
            COMMANDS.labels(command, "OK").inc(count)

    def refuse(self, request: Request, rejection: Rejection) -> None:
        """Tells of a refusal after the command was acknowledged."""
        self._publish_error(request, rejection)
        self._flush()

    def acknowledge(self, delivery: Delivery) -> None:
        """Ends a delivery that calls for no answer."""
        self._session.acknowledge(delivery)
        self._flush()

    def _publish_message(self, request: Request, result: Sent) -> None:
        message = result.message
        self._on_sent(message.sender_id, message.conversation_id)
        body = encode_message(message)
        answer = body if request.request_id is None else encode_message(message, request.request_id)
        # The same link for both sides: one write, and what is said in a conversation keeps its order.
        publisher = publisher_of(self._publishers, message.conversation_id.int)
        publisher.publish(
            self._topics.event(result.recipient_id, "newMessage"), body, on_behalf_of=request.delivery
        )
        publisher.publish(
            self._topics.event(request.user_id, "messageSent"),
            answer,
            qos=0,
            correlation_data=request.delivery.correlation_data,
        )

    def _publish_position(self, request: Request, result: Marked) -> None:
        """The reader's devices always hear of a read; the counterpart of what moved and may be seen.

        A redelivered mark may have moved the position just before a crash, and one that is made again
        after an error may have moved it all the same: they are told again.
        """
        position, event = result.position, "messageRead" if result.mark.is_read else "messageDelivered"
        body = encode_position(result, event)
        if result.mark.is_read:
            answer = (
                body if request.request_id is None else encode_position(result, event, request.request_id)
            )
            self._answer(request, event, answer)
        may_be_untold = request.delivery.is_redelivery or request.user_id in self._may_have_marked
        if not position.moved and not may_be_untold:
            return
        if not position.visible:
            if not (position.moved_delivered or may_be_untold):
                return
            event, body = "messageDelivered", encode_position(result, "messageDelivered")
        self._session.publish(self._topics.event(result.counterpart_id, event), body)

    def _answer(self, request: Request, event: str, body: bytes) -> None:
        """Publishes to all devices of the user who sent the command."""
        self._session.publish(
            self._topics.event(request.user_id, event),
            body,
            correlation_data=request.delivery.correlation_data,
        )

    def _publish_error(self, request: Request, rejection: Rejection) -> None:
        # An unknown command's name is the client's text: never a label, never logged.
        command = request.command if request.command in COMMAND_NAMES else "unknown"
        COMMANDS.labels(command, rejection.code.value).inc()
        if rejection.code in _REFUSED_IN_NUMBERS:
            self._refusal_log.note(rejection.code, request.user_id)
        else:
            _log.info(
                "command_rejected",
                command=command,
                code=rejection.code.value,
                user_id=request.user_id,
                client_message_id=_loggable(request.client_message_id),
                packet_id=request.delivery.packet_id,
            )
        if rejection.code in _MAY_BE_DONE and command in _MARKS:
            self._may_have_marked[request.user_id] = None
        if rejection.code in _DEAD:
            self._dead_letters.bury(
                request.delivery.payload, rejection, user_id=request.user_id, command=request.command
            )
        self._answer(
            request,
            "error",
            encode_error(
                rejection,
                request.command,
                str(request.client_message_id) if request.client_message_id is not None else None,
                request.request_id,
            ),
        )


def _loggable(client_message_id: UUID | str | None) -> str | None:
    """The id, unless it is no UUID: then it may be anything that a user typed."""
    try:
        return str(UUID(str(client_message_id))) if client_message_id else None
    except ValueError:
        return None
