"""I8: positions only grow, and unread counts follow from them."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

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
    known = _known(ledger)
    for page in ledger.of(ResyncPage):
        for whose, delivered, read in page.positions:
            before = [known[page.user, whose, is_read].at(page.asked_at) for is_read in (False, True)]
            if delivered < before[0] or read < before[1] or read > delivered:
                yield Violation("I8", f"{page.user} read a position of {whose} that has gone back")
    yield from _statuses_follow_positions(ledger, facts, _last_pages(ledger))


class _Known:
    """The highest position that a user knew of another one's, by when."""

    def __init__(self) -> None:
        self._times: list[float] = []
        self._highest: list[int] = []

    def add(self, at: float, seq: int) -> None:
        """In the order of time."""
        self._times.append(at)
        self._highest.append(max(seq, self._highest[-1] if self._highest else 0))

    def at(self, moment: float) -> int:
        """What was known at that moment."""
        place = bisect_right(self._times, moment)
        return self._highest[place - 1] if place else 0


def _known(ledger: Ledger) -> Mapping[tuple[str, str, bool], _Known]:
    known: dict[tuple[str, str, bool], _Known] = defaultdict(_Known)
    heard: list[Told | ResyncPage] = sorted(
        [*ledger.of(Told), *ledger.of(ResyncPage)], key=lambda record: record.at
    )
    for record in heard:
        if isinstance(record, Told):
            known[record.user, record.whose, record.is_read].add(record.at, record.seq)
        else:
            for whose, delivered, read in record.positions:
                known[record.user, whose, False].add(record.at, delivered)
                known[record.user, whose, True].add(record.at, read)
    return known


def _last_pages(ledger: Ledger) -> Mapping[tuple[str, str], tuple[int, int]]:
    """Delivered and read position of whose, by reader, as the pages had them at most."""
    seen: dict[tuple[str, str], tuple[int, int]] = defaultdict(lambda: (0, 0))
    for page in ledger.of(ResyncPage):
        for whose, delivered, read in page.positions:
            before = seen[page.user, whose]
            seen[page.user, whose] = (max(before[0], delivered), max(before[1], read))
    return seen


def _statuses_follow_positions(
    ledger: Ledger, facts: Facts, seen: Mapping[tuple[str, str], tuple[int, int]]
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
                least = _status(message.seq, seen.get((reader, counterpart), (0, 0)))
                if not least <= _RANK[status] <= _status(message.seq, marked[counterpart]):
                    yield Violation(
                        "I8", f"{message.message_id} is {status} for {reader}, not as {counterpart} marked"
                    )


def _status(seq: int, positions: tuple[int, int]) -> int:
    delivered, read = positions
    return 2 if seq <= read else int(seq <= delivered)


def unread_is_exact(ledger: Ledger, facts: Facts) -> Iterator[Violation]:
    """I8: the list counts the peer's newest messages behind the read position, and that one was marked."""
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
        # More are not looked at: docs/adr/0025.
        counted_from = max(listed.read_seq, listed.last_seq - 1_000)
        unread = sum(message.seq > counted_from and message.sender_id != user for message in messages)
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
