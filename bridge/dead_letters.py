"""Dead letters: what the service could not process, told to the platform without any of its content."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from uuid import uuid4

from pydantic_core import to_json

from bridge.payloads import rfc3339
from bridge.publisher import Publisher, publisher_of
from bridge.topics import COMMANDS, DEAD_LETTERED, Topics
from service.domain.errors import Rejection
from service.domain.ids import UserId
from service.metrics import DEAD_LETTERS

_SOURCE = "/messaging"


class DeadLetters:
    """Publishes one CloudEvent at QoS 1 for each; the payload appears as its length and digest only.

    How many there can be is bounded by the rate limits of those who cause them.
    """

    def __init__(
        self,
        topics: Topics,
        publishers: Sequence[Publisher],
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._topic = topics.platform_event(DEAD_LETTERED)
        self._publishers = publishers
        self._now = now

    def bury(
        self,
        payload: bytes,
        rejection: Rejection,
        *,
        user_id: UserId | None = None,
        command: str | None = None,
        event_type: str | None = None,
    ) -> None:
        """Queues the letter; written with the next flush, lost while there is no link.

        Without a link its cause is not acknowledged either, and comes again. `command` may be
        anything that a client made up: only the protocol's own names are told.
        """
        data: dict[str, object] = {
            "reason": rejection.code.value,
            "bytes": len(payload),
            "sha256": hashlib.sha256(payload).hexdigest(),
        }
        if user_id is not None:
            data["userId"] = user_id
        if command in COMMANDS:
            data["command"] = command
        if event_type is not None:
            data["event"] = event_type
        if rejection.incident_id is not None:
            data["incidentId"] = rejection.incident_id
        letter = {
            "specversion": "1.0",
            "id": uuid4(),
            "source": _SOURCE,
            "type": DEAD_LETTERED,
            "time": rfc3339(self._now()),
            "datacontenttype": "application/json",
            "data": data,
        }
        if publisher_of(self._publishers, user_id or "").publish(self._topic, to_json(letter)):
            DEAD_LETTERS.labels(rejection.code.value).inc()
