"""Sends messages again that were acknowledged long before."""

from __future__ import annotations

from collections import defaultdict

from tests.faults.arena import Arena
from tests.faults.ledger import Attempt, Sent

_OF_EACH_USER = 5
_ANSWERED_WITHIN_S = 10.0


async def resend_acknowledged(arena: Arena, when: str) -> None:
    """Every user sends some of its acknowledged messages once more, and gets the same answer as then.

    That they are the same, and in history once, is for the checker to see.
    """
    texts = {(attempt.user, attempt.key): attempt.text for attempt in arena.ledger.of(Attempt)}
    keys: dict[str, list[str]] = defaultdict(list)
    for answer in arena.ledger.of(Sent):
        keys[answer.user].append(answer.message.key)
    again = [
        (user, key)
        for pair in arena.load.pairs
        if pair.connected
        for user in pair.users
        for key in arena.random.sample(sorted(set(keys[user.name])), _OF_EACH_USER)
    ]
    for user, key in again:
        user.outbox.add(key, texts[user.name, key])
    arena.ledger.fault(f"{len(again)} messages sent again {when}")
    await arena.until(
        lambda: all(user.outbox.get(key) is None for user, key in again),
        _ANSWERED_WITHIN_S,
        f"messages sent again {when} are answered",
    )
    arena.note("messages sent again", len(again))
