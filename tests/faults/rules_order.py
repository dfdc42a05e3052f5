"""I1, I2 and I4: one order, the same in every view."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from tests.faults.facts import Facts
from tests.faults.ledger import Attempt, Ledger, Live, Message, ResyncPage
from tests.faults.violation import Violation


def views_agree(ledger: Ledger, facts: Facts) -> Iterator[Violation]:
    """I2 and I4: history of both participants, resync of both and everything heard live are one."""
    for conversation_id, readers in facts.histories.items():
        yield from _reads_agree(conversation_id, readers, facts.resyncs.get(conversation_id, {}))
    truth = _by_position(facts)
    for view, user, message in _told(ledger, facts):
        stored = truth.get((message.conversation_id, message.seq))
        if stored is None:
            yield Violation("I2", f"{view} told {user} of {message.message_id}, which is not in history")
        elif stored != message:
            invariant = "I4" if stored.message_id == message.message_id else "I2"
            yield Violation(
                invariant, f"{view} told {user} of {message.message_id} otherwise than history does"
            )


def _reads_agree(
    conversation_id: str,
    histories: Mapping[str, Sequence[Message]],
    resyncs: Mapping[str, Sequence[Message]],
) -> Iterator[Violation]:
    views = {f"history of {user}": messages for user, messages in histories.items()}
    views |= {f"resync of {user}": messages for user, messages in resyncs.items()}
    for name, messages in views.items():
        if any(before.seq >= after.seq for before, after in pairwise(messages)):
            yield Violation("I2", f"positions do not strictly increase in the {name} ({conversation_id})")
    first_name, first = next(iter(views.items()))
    for name, messages in views.items():
        if list(messages) != list(first):
            yield Violation("I2", f"{first_name} and {name} differ ({conversation_id})")
    if set(histories) != set(resyncs):
        yield Violation("I2", f"not everybody could read {conversation_id} both ways")


def _by_position(facts: Facts) -> Mapping[tuple[str, int], Message]:
    return {
        (message.conversation_id, message.seq): message
        for places in facts.stored.values()
        for message in places
    }


def _told(ledger: Ledger, facts: Facts) -> Iterator[tuple[str, str, Message]]:
    for answers in facts.sent.values():
        for answer in answers:
            yield "messageSent", answer.user, answer.message
    for event in ledger.of(Live):
        yield "newMessage", event.user, event.message
    for page in ledger.of(ResyncPage):
        if not page.final:
            for message in page.messages:
                yield "syncPage", page.user, message


def order_is_kept(ledger: Ledger, facts: Facts) -> Iterator[Violation]:
    """I2: who writes after an acknowledgement comes behind it; what one connection carried stays in order."""
    for conversation_id, readers in facts.histories.items():
        messages = next(iter(readers.values()))
        yield from _follows_acknowledgements(conversation_id, messages, facts)
        yield from _follows_connections(conversation_id, messages, facts)


def _follows_acknowledgements(
    conversation_id: str, messages: Sequence[Message], facts: Facts
) -> Iterator[Violation]:
    """A message first attempted after another one was acknowledged has the higher position."""
    earliest_answer, behind = float("inf"), ""
    for message in reversed(messages):
        key = (message.sender_id, message.key)
        attempts = facts.attempts.get(key)
        if attempts and attempts[0].at > earliest_answer:
            yield Violation(
                "I2", f"{message.message_id} was sent after {behind} was acknowledged and stands before it"
            )
        answers = facts.sent.get(key)
        if answers and answers[0].at < earliest_answer:
            earliest_answer, behind = answers[0].at, message.message_id


def _follows_connections(
    conversation_id: str, messages: Sequence[Message], facts: Facts
) -> Iterator[Violation]:
    """Of two messages of one sender and one connection the first one stands first, if it was sent once.

    One whose sender was told to try again comes when it comes: after a crash perhaps by itself.
    """
    latest: dict[str, Attempt] = {}
    for message in messages:
        key = (message.sender_id, message.key)
        attempts = facts.attempts.get(key)
        if not attempts:
            continue
        before = latest.get(message.sender_id)
        if (
            before is not None
            and len(attempts) == 1
            and key not in facts.postponed
            and before.link == attempts[0].link
            and before.at > attempts[0].at
        ):
            yield Violation("I2", f"{message.message_id} stands behind one that its sender sent later")
        if before is None or attempts[0].at > before.at:
            latest[message.sender_id] = attempts[0]
