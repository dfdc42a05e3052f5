"""What a client has sent and nobody has answered yet, and when each is due again."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

_FIRST_PATIENCE_S = 1.5
_LONGEST_PATIENCE_S = 4.0


@dataclass(slots=True, kw_only=True)
class Outgoing:
    """One message on its way."""

    key: str
    text: str
    attempts: int = 0
    due: float = 0.0
    """When it is to be sent (again), by the ledger's clock."""


class Outbox:
    """Resends with back-off and jitter until there is an answer, and honours `retryAfterMs`."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._waiting: dict[str, Outgoing] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, key: str, text: str) -> Outgoing:
        """A new message, due at once."""
        outgoing = self._waiting[key] = Outgoing(key=key, text=text)
        return outgoing

    def get(self, key: str) -> Outgoing | None:
        """What waits under that key."""
        return self._waiting.get(key)

    def due(self, now: float) -> Sequence[Outgoing]:
        """What is to be sent now, oldest first."""
        return [outgoing for outgoing in self._waiting.values() if outgoing.due <= now]

    def attempted(self, outgoing: Outgoing, now: float) -> None:
        """It was written to a socket; it is due again if there is no answer in time."""
        outgoing.attempts += 1
        patience = min(_FIRST_PATIENCE_S * 1.5 ** (outgoing.attempts - 1), _LONGEST_PATIENCE_S)
        outgoing.due = now + patience * self._chance.uniform(0.8, 1.2)

    def postpone(self, key: str, now: float, seconds: float) -> None:
        """A retryable error: not before that time, and not all at once then."""
        if key in self._waiting:
            self._waiting[key].due = now + seconds * self._chance.uniform(1.0, 1.3)

    def all_due(self) -> None:
        """A new connection: what was written to the old one may be lost."""
        for outgoing in self._waiting.values():
            if outgoing.attempts:
                outgoing.due = 0.0

    def settle(self, key: str) -> bool:
        """It has its final answer; False when it had one before."""
        return self._waiting.pop(key, None) is not None
