"""I5 and I6: who learns what, and who may write to whom."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from tests.faults.facts import Facts
from tests.faults.ledger import Foreign, Leak, Ledger, Relation
from tests.faults.violation import Violation

BOUND_S = 1.0
"""How long after a revocation, told by the platform's event, a message may still be accepted."""


def nothing_leaks(ledger: Ledger, facts: Facts) -> Iterator[Violation]:
    """I5: no canary word where it must not be, no event at somebody whom it is not for."""
    for leak in ledger.of(Leak):
        yield Violation("I5", f"{leak.word} is in {leak.place}")
    for event in ledger.of(Foreign):
        yield Violation("I5", f"{event.user} got {event.what}")


def unconnected_are_refused(ledger: Ledger, facts: Facts) -> Iterator[Violation]:
    """I6: at the moment of its commit a message's pair was connected, or had been within the bound.

    When it was attempted does not count: what waited until the pair was connected again may pass.
    """
    relations: dict[frozenset[str], list[Relation]] = defaultdict(list)
    for relation in ledger.of(Relation):
        relations[frozenset(relation.users)].append(relation)
    for key, attempts in facts.attempts.items():
        history = relations.get(frozenset((attempts[0].user, attempts[0].peer)), ())
        accepted = facts.stored.get(key) or [answer.message for answer in facts.sent.get(key, ())]
        if not all(_allowed(history, message.committed_wall) for message in accepted):
            yield Violation("I6", f"the message {key[1]} of {key[0]} was accepted from an unconnected pair")


def _allowed(relations: Sequence[Relation], moment: float) -> bool:
    """Whether the pair was connected at some time in the bound before the moment (since the epoch)."""
    connected = False
    for relation in relations:
        if relation.wall <= moment - BOUND_S:
            connected = relation.connected
        elif relation.wall <= moment:
            connected = connected or relation.connected
    return connected
