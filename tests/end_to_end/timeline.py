"""One conversation as a client sees it: messages by `seq`, and how far both participants are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MESSAGE_FIELDS = (
    "messageId",
    "conversationId",
    "seq",
    "senderId",
    "text",
    "timestamp",
    "clientMessageId",
)


@dataclass(slots=True)
class Timeline:
    """Takes events in any order and any number of times; knows whether one is missing."""

    messages: dict[int, dict[str, Any]] = field(default_factory=dict)
    head: int = 0
    """Up to here nothing is missing."""
    delivered: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    read: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    @property
    def has_gap(self) -> bool:
        """Whether something behind the head is known, so that what lies between is missing."""
        return len(self.messages) > self.head

    def take(self, payload: Mapping[str, Any]) -> None:
        """A message out of whatever event; raises `AssertionError` if `seq` names another one already."""
        message = {name: payload[name] for name in MESSAGE_FIELDS}
        known = self.messages.setdefault(message["seq"], message)
        assert known == message, f"two messages at position {message['seq']}"
        while self.head + 1 in self.messages:
            self.head += 1

    def move(self, user_id: str, *, delivered: int, read: int) -> None:
        """A position as some event tells it; older news than what is known changes nothing."""
        self.read[user_id] = max(self.read[user_id], read)
        self.delivered[user_id] = max(self.delivered[user_id], delivered, read)

    def in_order(self) -> list[dict[str, Any]]:
        """Every message up to the head."""
        return [self.messages[seq] for seq in range(1, self.head + 1)]

    def texts(self) -> list[str]:
        """Their texts."""
        return [message["text"] for message in self.in_order()]
