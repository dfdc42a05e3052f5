"""The ledger seen by message and by conversation: what the checker's rules look at."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.faults.ledger import (
    Attempt,
    HistoryPage,
    Ledger,
    Listed,
    Live,
    Message,
    Refused,
    ResyncPage,
    Sent,
)

Key = tuple[str, str]
"""Sender and `clientMessageId`: what makes a message one and the same."""


@dataclass(slots=True)
class Facts:
    """Built once from a finished ledger."""

    attempts: Mapping[Key, Sequence[Attempt]]
    sent: Mapping[Key, Sequence[Sent]]
    refused: Mapping[Key, Refused]
    """Final refusals: those that are not retryable."""
    postponed: frozenset[Key]
    """Whose sender was told at least once to try again."""
    histories: Mapping[str, Mapping[str, Sequence[Message]]]
    """Conversation id, then reader: all pages put together, oldest first."""
    resyncs: Mapping[str, Mapping[str, Sequence[Message]]]
    """The same of the final `sync`."""
    statuses: Mapping[str, Mapping[str, Sequence[str]]]
    listed: Mapping[tuple[str, str], Listed]
    """By user and conversation id."""
    had: Mapping[str, Mapping[str, float]]
    """Recipient, then message id: when it first had the message, live or by a `sync` of its own."""
    stored: Mapping[Key, Sequence[Message]] = field(init=False)
    """Every message in any reader's history, each once for each place where it stands."""

    def __post_init__(self) -> None:
        stored: dict[Key, dict[tuple[str, int], Message]] = defaultdict(dict)
        for readers in self.histories.values():
            for messages in readers.values():
                for message in messages:
                    place = (message.message_id, message.seq)
                    stored[message.sender_id, message.key].setdefault(place, message)
        self.stored = {key: tuple(places.values()) for key, places in stored.items()}

    def messages(self) -> set[Key]:
        """Every message that was attempted, acknowledged or stored."""
        return {*self.attempts, *self.sent, *self.stored}

    def acknowledged(self) -> int:
        """How many messages their senders saw as sent."""
        return len(self.sent)


def facts_of(ledger: Ledger) -> Facts:
    """Sorts the ledger."""
    attempts: dict[Key, list[Attempt]] = defaultdict(list)
    for attempt in ledger.of(Attempt):
        attempts[attempt.user, attempt.key].append(attempt)
    sent: dict[Key, list[Sent]] = defaultdict(list)
    for answer in ledger.of(Sent):
        sent[answer.message.sender_id, answer.message.key].append(answer)
    refusals = [
        ((each.user, each.key), each)
        for each in ledger.of(Refused)
        if each.key is not None and each.command == "sendMessage"
    ]
    histories: dict[str, dict[str, list[Message]]] = defaultdict(lambda: defaultdict(list))
    statuses: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for page in ledger.of(HistoryPage):
        histories[page.conversation_id][page.user].extend(page.messages)
        statuses[page.conversation_id][page.user].extend(page.statuses)
    resyncs: dict[str, dict[str, list[Message]]] = defaultdict(lambda: defaultdict(list))
    for resync in ledger.of(ResyncPage):
        if resync.final:
            resyncs[resync.conversation_id][resync.user].extend(resync.messages)
    return Facts(
        attempts=attempts,
        sent=sent,
        refused={key: each for key, each in refusals if not each.retryable},
        postponed=frozenset(key for key, each in refusals if each.retryable),
        histories=histories,
        resyncs=resyncs,
        statuses=statuses,
        listed={(each.user, each.conversation_id): each for each in ledger.of(Listed)},
        had=_had(ledger),
    )


def _had(ledger: Ledger) -> Mapping[str, Mapping[str, float]]:
    had: dict[str, dict[str, float]] = defaultdict(dict)
    for event in ledger.of(Live):
        had[event.user].setdefault(event.message.message_id, event.at)
    for page in ledger.of(ResyncPage):
        if not page.final:
            for message in page.messages:
                had[page.user].setdefault(message.message_id, page.at)
    return had
