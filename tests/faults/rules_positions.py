"""I8: positions only grow, and unread counts follow from them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from tests.faults.facts import Facts
from tests.faults.ledger import Ledger, Marking, Message, Quiet, ResyncPage, Told
from tests.faults.violation import Violation

_RANK = {"SENT": 0, "DELIVERED": 1, "READ": 2}


def positions_never_regress(ledger: Ledger, facts: Facts) -> Iterator[Violation]:
    """I8: in what each user heard, in the pages it got, and in the statuses down its history."""
    highest: dict[tuple[str, str, bool], int] = defaultdict(int)
    for told in ledger.of(Told):
        place = (told.user, told.whose, told.is_read)
        if told.seq < highest[place]:
            what = "read" if told.is_read else "delivered"
            yield Violation(
                "I8", f"{told.user} heard of {told.whose}: {what} {told.seq} after {highest[place]}"
            )
        highest[place] = max(highest[place], told.seq)
    seen: dict[tuple[str, str], tuple[int, int]] = defaultdict(lambda: (0, 0))
    for page in ledger.of(ResyncPage):
        for whose, delivered, read in page.positions:
            before = seen[page.user, whose]
            if delivered < before[0] or read < before[1] or read > delivered:
                yield Violation("I8", f"{page.user} read a position of {whose} that has gone back")
            seen[page.user, whose] = (max(before[0], delivered), max(before[1], read))
    yield from _ends_where_it_was_told(highest, seen)
    yield from _statuses_follow_positions(ledger, facts, seen)


def _ends_where_it_was_told(
    highest: dict[tuple[str, str, bool], int], seen: dict[tuple[str, str], tuple[int, int]]
) -> Iterator[Violation]:
    for (user, whose, is_read), seq in highest.items():
        at_last = seen.get((user, whose))
        if at_last is not None and at_last[is_read] < seq:
            yield Violation("I8", f"{user} was told more of {whose} than what is stored")


def _statuses_follow_positions(
    ledger: Ledger, facts: Facts, seen: dict[tuple[str, str], tuple[int, int]]
) -> Iterator[Violation]:
    """A message's status is not behind the positions read before it, and not ahead of all marks."""
    marked: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for marking in ledger.of(Marking):
        delivered, read = marked[marking.user]
        read = max(read, marking.seq) if marking.is_read else read
        marked[marking.user] = (max(delivered, marking.seq), read)
    for conversation_id, readers in facts.histories.items():
        for reader, messages in readers.items():
            statuses = facts.statuses[conversation_id][reader]
            for message, status in zip(messages, statuses, strict=True):
                counterpart = next((user for user in readers if user != message.sender_id), "")
                least = _status(message.seq, seen[reader, counterpart])
                if not least <= _RANK[status] <= _status(message.seq, marked[counterpart]):
                    yield Violation(
                        "I8", f"{message.message_id} is {status} for {reader}, not as {counterpart} marked"
                    )


def _status(seq: int, positions: tuple[int, int]) -> int:
    delivered, read = positions
    return 2 if seq <= read else int(seq <= delivered)


def unread_is_exact(ledger: Ledger, facts: Facts) -> Iterator[Violation]:
    """I8: the list counts the peer's messages behind the read position, and that one was marked."""
    marked: dict[str, set[int]] = defaultdict(lambda: {0})
    for marking in ledger.of(Marking):
        if marking.is_read:
            marked[marking.user].add(marking.seq)
    confirmed: dict[str, int] = defaultdict(int)
    for told in ledger.of(Told):
        if told.is_read and told.user == told.whose:
            confirmed[told.user] = max(confirmed[told.user], told.seq)
    settled = {quiet.user for quiet in ledger.of(Quiet)}
    for user, conversation_id, messages in _read_by(facts):
        listed = facts.listed.get((user, conversation_id))
        if listed is None:
            yield Violation("I8", f"{user} has no {conversation_id} in its list")
            continue
        if user not in settled:
            continue
        unread = sum(message.seq > listed.read_seq and message.sender_id != user for message in messages)
        if listed.unread != unread:
            yield Violation("I8", f"{user} has {unread} unread messages, the list says {listed.unread}")
        if listed.read_seq not in marked[user] or listed.read_seq < confirmed[user]:
            yield Violation("I8", f"{user} has a read position that it never marked")
        if messages and listed.last_seq != messages[-1].seq:
            yield Violation("I8", f"{user} sees another last position in its list than in history")


def _read_by(facts: Facts) -> Iterator[tuple[str, str, Sequence[Message]]]:
    for conversation_id, readers in facts.histories.items():
        for user, messages in readers.items():
            yield user, conversation_id, messages
