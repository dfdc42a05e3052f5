"""One conversation as a client has it: what it knows by position, and up to where nothing is missing."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.faults.ledger import Message


@dataclass(slots=True)
class ConversationView:
    """Takes messages in any order and any number of times."""

    conversation_id: str = ""
    """Empty until somebody has told it."""
    head: int = 0
    """Up to here nothing is missing."""
    newest_of_peer: int = 0
    """The peer's last message up to the head: what marks name."""
    _known: dict[int, tuple[str, bool]] = field(default_factory=dict)

    @property
    def has_gap(self) -> bool:
        """Whether something behind the head is known, so that what lies between is missing."""
        return len(self._known) > self.head

    def take(self, message: Message, user: str) -> None:
        """A message out of whatever event."""
        self.conversation_id = message.conversation_id
        self._known.setdefault(message.seq, (message.message_id, message.sender_id != user))
        while (known := self._known.get(self.head + 1)) is not None:
            self.head += 1
            if known[1]:
                self.newest_of_peer = self.head

    def knows(self, seq: int) -> bool:
        """Whether it has the message at that position."""
        return seq in self._known

    def message_id(self, seq: int) -> str:
        """The id of a known message."""
        return self._known[seq][0]
