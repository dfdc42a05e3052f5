"""Holds a ledger to the promises. Plain functions: a ledger in, a verdict out.

Each rule looks for one kind of violation and names the invariant:

I1  every acknowledged message is in history exactly once
I2  positions strictly increase; live stream, history and resync agree; order follows what was acknowledged
I3  the recipient has every acknowledged message, without help
I4  nothing unattempted appears, bytes are identical, an unacknowledged send appears at most once
I5  words private to a pair reach nobody else and no log, metric, error, dead letter or Redis key
I6  nothing is accepted from an unconnected or revoked pair after the bound
I7  recovery within 10 s (the runner measures it), and everything settles
I8  statuses never regress, unread counts are exact
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from tests.faults.facts import Facts, Key, facts_of
from tests.faults.ledger import Ledger
from tests.faults.rules_access import nothing_leaks, unconnected_are_refused
from tests.faults.rules_order import order_is_kept, views_agree
from tests.faults.rules_positions import positions_never_regress, unread_is_exact
from tests.faults.violation import Violation


class Class(StrEnum):
    """What became of one message."""

    OK = "ok"
    """Acknowledged, and in history once as it was attempted."""
    LOST = "lost"
    """Acknowledged, and not in history."""
    DUPLICATED = "duplicated in history"
    REORDERED = "reordered"
    """In history at another position than somebody was told."""
    RECOVERED = "recovered"
    """Never acknowledged, and in history once: nobody was told otherwise."""
    UNEXPECTED = "unexpected"
    """In history though never attempted, refused for good, or with other bytes."""
    UNKNOWN = "unknown"
    """Neither acknowledged nor refused nor in history."""
    REFUSED = "refused"
    """Refused for good, and nowhere."""


_BAD = {
    Class.LOST: ("I1", "was acknowledged and is not in history"),
    Class.DUPLICATED: ("I1", "is in history more than once"),
    Class.REORDERED: ("I2", "stands at another position than was told"),
    Class.UNEXPECTED: ("I4", "is in history as nobody sent it"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the checker found."""

    classes: Counter[Class]
    """Messages by what became of them."""
    acknowledged: int
    violations: Sequence[Violation]


def check(ledger: Ledger) -> Verdict:
    """Classifies every message and applies every rule."""
    facts = facts_of(ledger)
    classes = {key: classify(facts, key) for key in facts.messages()}
    violations = [
        Violation(_BAD[found][0], f"the message {key[1]} of {key[0]} {_BAD[found][1]}")
        for key, found in classes.items()
        if found in _BAD
    ]
    rules: Sequence[Callable[[Ledger, Facts], Iterator[Violation]]] = (
        recipients_have_everything,
        order_is_kept,
        views_agree,
        nothing_leaks,
        unconnected_are_refused,
        positions_never_regress,
        unread_is_exact,
    )
    for rule in rules:
        violations.extend(rule(ledger, facts))
    return Verdict(
        classes=Counter(classes.values()), acknowledged=facts.acknowledged(), violations=violations
    )


def classify(facts: Facts, key: Key) -> Class:
    """What became of one message."""
    attempts, stored, answers = (
        facts.attempts.get(key, ()),
        facts.stored.get(key, ()),
        facts.sent.get(key, ()),
    )
    if not stored:
        if answers:
            return Class.LOST
        return Class.REFUSED if key in facts.refused else Class.UNKNOWN
    if len(stored) > 1:
        same_message = len({message.message_id for message in stored}) == 1
        return Class.REORDERED if same_message else Class.DUPLICATED
    message = stored[0]
    if not attempts or attempts[0].text != message.text:
        return Class.UNEXPECTED
    if not answers:
        return Class.UNEXPECTED if key in facts.refused else Class.RECOVERED
    if any(answer.message.message_id != message.message_id for answer in answers):
        return Class.LOST
    if any(answer.message.seq != message.seq for answer in answers):
        return Class.REORDERED
    return Class.OK


def recipients_have_everything(ledger: Ledger, facts: Facts) -> Iterator[Violation]:
    """I3: live, or by a `sync` of its own; what was read after the run does not count."""
    for key, answers in facts.sent.items():
        attempts = facts.attempts.get(key)
        if not attempts:
            continue  # Unexpected: said elsewhere.
        recipient, message_id = attempts[0].peer, answers[0].message.message_id
        if message_id not in facts.had.get(recipient, {}):
            yield Violation("I3", f"{recipient} never got the acknowledged message {message_id}")
