"""Recognises messages that came before: MQTT delivers at least once, and the service repeats itself."""

from __future__ import annotations

from collections import OrderedDict


class SeenMessages:
    """Remembers the latest `(conversationId, seq)` pairs.

    Bounded: beyond `per_conversation` newer messages, or when `conversations`
    others were active since, a duplicate may pass. A message that is new is
    never taken for a duplicate, not even one that comes out of order.
    """

    def __init__(self, *, per_conversation: int = 1_000, conversations: int = 10_000) -> None:
        self._per_conversation = per_conversation
        self._conversations = conversations
        self._seen: OrderedDict[str, OrderedDict[int, None]] = OrderedDict()

    def is_new(self, conversation_id: str, seq: int) -> bool:
        """Whether this pair was not seen yet; from now on it is."""
        positions = self._seen.setdefault(conversation_id, OrderedDict())
        self._seen.move_to_end(conversation_id)
        if seq in positions:
            return False
        positions[seq] = None
        if len(positions) > self._per_conversation:
            positions.popitem(last=False)
        if len(self._seen) > self._conversations:
            self._seen.popitem(last=False)
        return True
