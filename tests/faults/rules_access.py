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
    """I6: by when it was attempted, and by when it was committed."""
    relations: dict[frozenset[str], list[Relation]] = defaultdict(list)
    for relation in ledger.of(Relation):
        relations[frozenset(relation.users)].append(relation)
    for key, attempts in facts.attempts.items():
        history = relations.get(frozenset((attempts[0].user, attempts[0].peer)), ())
        stored = facts.stored.get(key, ())
        was_acknowledged = key in facts.sent
        if not stored and not was_acknowledged:
            continue
        if not _allowed(history, attempts[0].at, by_wall=False):
            yield Violation("I6", f"the message {key[1]} of {key[0]} was accepted from an unconnected pair")
        elif any(not _allowed(history, each.committed_wall, by_wall=True) for each in stored):
            yield Violation("I6", f"the message {key[1]} of {key[0]} was committed after the revocation")


def _allowed(relations: Sequence[Relation], moment: float, *, by_wall: bool) -> bool:
    """Whether the pair was connected at some time in the bound before the moment."""
    connected = False
    for relation in relations:
        at = relation.wall if by_wall else relation.at
        if at <= moment - BOUND_S:
            connected = relation.connected
        elif at <= moment:
            connected = connected or relation.connected
    return connected
