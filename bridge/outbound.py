"""From results to publications: events for both sides, errors, and then the PUBACKs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

import structlog

from bridge.payloads import encode_error, encode_message
from bridge.session import Delivery, Session
from bridge.topics import Topics
from service.domain.errors import ErrorCode, Rejection
from service.domain.ids import UserId
from service.metrics import COMMANDS, UNACKNOWLEDGED
from service.use_cases.send_message import Sent

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A command on its way: what its answer needs to find its sender again."""

    delivery: Delivery
    user_id: UserId
    command: str
    correlation: dict[str, str]
    """`clientMessageId` and `requestId`, where the command has them."""


class Outbound:
    """Queues in the session what results call for; one write for a whole batch.

    A delivery is acknowledged after its events are queued, and the session
    keeps that order on the wire: a crash in between brings the command back.
    """

    def __init__(self, topics: Topics, session: Session, flush: Callable[[], None]) -> None:
        self._topics = topics
        self._session = session
        self._flush = flush

    def deliver(self, results: Sequence[tuple[Request, Sent | Rejection]]) -> None:
        """Publishes the events of a batch, then acknowledges its commands."""
        sent = 0
        for request, result in results:
            if isinstance(result, Rejection):
                self._publish_error(request, result)
            else:
                self._publish_message(request, result)
                sent += 1
            self._session.acknowledge(request.delivery)
        if sent:
            COMMANDS.labels("sendMessage", "OK").inc(sent)
        UNACKNOWLEDGED.set(self._session.unacknowledged)
        self._flush()

    def acknowledge(self, delivery: Delivery) -> None:
        """Ends a delivery that calls for no answer."""
        self._session.acknowledge(delivery)
        self._flush()

    def _publish_message(self, request: Request, result: Sent) -> None:
        message = result.message
        body = encode_message(message)
        request_id = request.correlation.get("requestId")
        self._session.publish(
            self._topics.event(message.sender_id, "messageSent"),
            body if request_id is None else encode_message(message, request_id),
            correlation_data=request.delivery.correlation_data,
        )
        self._session.publish(self._topics.event(result.recipient_id, "newMessage"), body)

    def _publish_error(self, request: Request, rejection: Rejection) -> None:
        # An unknown command's name is the client's text: never a label, never logged.
        command = "unknown" if rejection.code is ErrorCode.UNKNOWN_COMMAND else request.command
        COMMANDS.labels(command, rejection.code.value).inc()
        _log.info(
            "command_rejected",
            command=command,
            code=rejection.code.value,
            user_id=request.user_id,
            client_message_id=_loggable(request.correlation.get("clientMessageId")),
            packet_id=request.delivery.packet_id,
        )
        self._session.publish(
            self._topics.event(request.user_id, "error"),
            encode_error(rejection, request.command, request.correlation),
            correlation_data=request.delivery.correlation_data,
        )


def _loggable(client_message_id: str | None) -> str | None:
    """The id, unless it is no UUID: then it may be anything that a user typed."""
    try:
        return str(UUID(client_message_id)) if client_message_id else None
    except ValueError:
        return None
