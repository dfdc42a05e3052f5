"""From the JSON of events to records."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from tests.faults.ledger import Message


def message_of(payload: Mapping[str, Any]) -> Message:
    """The message in `messageSent`, `newMessage` or a change of `syncPage`."""
    return Message(
        message_id=payload["messageId"],
        conversation_id=payload["conversationId"],
        seq=payload["seq"],
        sender_id=payload["senderId"],
        text=payload["text"],
        key=payload["clientMessageId"],
        committed_wall=datetime.fromisoformat(payload["timestamp"]).timestamp(),
    )


def messages_of(page: Mapping[str, Any]) -> tuple[Message, ...]:
    """The messages of a `syncPage`."""
    return tuple(message_of(change) for change in page["changes"] if change["type"] == "message")


def sync_request_id(now: float, *, final: str = "") -> str:
    """The request id of a `sync` asked for now; `final` names one that is for the ledger only."""
    return f"{final}:{now!r}"


def asked_at(page: Mapping[str, Any]) -> float:
    """When the `sync` was asked for that a page answers."""
    return float(page["requestId"].rpartition(":")[2])


def positions_of(page: Mapping[str, Any]) -> tuple[tuple[str, int, int], ...]:
    """The positions of a `syncPage`: user, delivered, read."""
    return tuple((each["userId"], each["deliveredSeq"], each["readSeq"]) for each in page["positions"])
