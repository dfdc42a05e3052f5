"""What must be true, as a few dictionaries: the simplest system that keeps the promise."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Written:
    """A message that was acknowledged."""

    conversation_id: str
    seq: int
    sender: str
    key: str
    text: str
    message_id: str


@dataclass(slots=True)
class Conversation:
    """Two people, their messages in order, and how far each has come."""

    people: tuple[str, str]
    is_open: bool = False
    """From the first send that addressed it, even if that was refused for its key."""
    messages: list[Written] = field(default_factory=list)
    delivered: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    read: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def counterpart(self, person: str) -> str:
        """The other one."""
        first, second = self.people
        return second if person == first else first

    def mark(self, person: str, seq: int, *, is_read: bool) -> None:
        """Positions only grow, and reading implies having."""
        self.delivered[person] = max(self.delivered[person], seq)
        if is_read:
            self.read[person] = max(self.read[person], seq)

    def unread(self, person: str) -> int:
        """Messages of the other one behind the read position."""
        return sum(1 for m in self.messages if m.sender != person and m.seq > self.read[person])

    def statuses(self) -> list[str]:
        """Of every message, by how far its author's counterpart is."""
        return [self._status(message) for message in self.messages]

    def _status(self, message: Written) -> str:
        reader = self.counterpart(message.sender)
        if message.seq <= self.read[reader]:
            return "READ"
        return "DELIVERED" if message.seq <= self.delivered[reader] else "SENT"


class Model:
    """All conversations, and every key that was ever used."""

    def __init__(self, conversations: dict[str, tuple[str, str]]) -> None:
        self.conversations = {id_: Conversation(people) for id_, people in conversations.items()}
        self.by_key: dict[tuple[str, str], Written] = {}

    def of(self, person: str) -> dict[str, Conversation]:
        """The conversations that a person takes part in."""
        return {id_: made for id_, made in self.conversations.items() if person in made.people}

    def written(self) -> list[Written]:
        """Every message there is."""
        return [message for made in self.conversations.values() for message in made.messages]

    def append(self, message: Written) -> None:
        """The acknowledged message takes the next position; raises `AssertionError` if it took another."""
        conversation = self.conversations[message.conversation_id]
        conversation.is_open = True
        messages = conversation.messages
        assert message.seq == len(messages) + 1, f"position {message.seq} after {len(messages)} messages"
        assert (message.sender, message.key) not in self.by_key
        messages.append(message)
        self.by_key[message.sender, message.key] = message
