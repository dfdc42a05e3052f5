"""A small run with nothing wrong in it, and means to spoil it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from tests.faults.ledger import (
    Attempt,
    Canary,
    HistoryPage,
    Ledger,
    Listed,
    Live,
    Marking,
    Message,
    Quiet,
    Record,
    Relation,
    ResyncPage,
    Sent,
    Told,
)

ALICE, BOB = "alice", "bob"
CONVERSATION = "conversation"
WALL = 1_000_000.0
"""Seconds since the epoch at 0 of the monotonic clock."""

R = TypeVar("R", bound=Record)


def message(seq: int, sender: str) -> Message:
    """The message at a position; committed half a second after its attempt."""
    return Message(
        message_id=f"id-{seq}",
        conversation_id=CONVERSATION,
        seq=seq,
        sender_id=sender,
        text=f"canary0000000000000001 text {seq}",
        key=f"key-{seq}",
        committed_wall=WALL + seq + 0.1,
    )


MESSAGES = tuple(message(seq, ALICE if seq % 2 else BOB) for seq in range(1, 7))
"""Alice and Bob take turns; message `n` is attempted at second `n` and acknowledged 0.2 s later."""


def peer_of(user: str) -> str:
    """The other one."""
    return BOB if user == ALICE else ALICE


def attempt(seq: int, **changes: object) -> Attempt:
    """The one attempt at the message of that position."""
    sent = MESSAGES[seq - 1]
    made = Attempt(
        at=float(seq),
        user=sent.sender_id,
        peer=peer_of(sent.sender_id),
        key=sent.key,
        text=sent.text,
        link=1,
        number=1,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def good_records() -> list[Record]:
    """A run of six messages: Bob has read 3 of Alice's, Alice all of Bob's."""
    records: list[Record] = [
        Canary(word="canary0000000000000001", users=(ALICE, BOB)),
        Relation(at=0.0, wall=WALL, users=(ALICE, BOB), connected=True),
    ]
    for each in MESSAGES:
        records.append(attempt(each.seq))
        records.append(Sent(at=each.seq + 0.2, user=each.sender_id, message=each))
        records.append(Live(at=each.seq + 0.3, user=peer_of(each.sender_id), message=each))
    for reader, seq in ((ALICE, 6), (BOB, 3)):
        for is_read in (False, True):
            position = {"conversation_id": CONVERSATION, "is_read": is_read, "seq": seq}
            records.append(Marking(at=7.0, user=reader, **position))  # type: ignore[arg-type]
            records.append(Told(at=7.1, user=peer_of(reader), whose=reader, **position))  # type: ignore[arg-type]
        records.append(
            Told(at=7.1, user=reader, whose=reader, conversation_id=CONVERSATION, is_read=True, seq=seq)
        )
        records.append(Quiet(at=8.0, user=reader))
    return records + reads()


def reads(messages: Sequence[Message] = MESSAGES) -> list[Record]:
    """What both read after the run."""
    records: list[Record] = []
    positions = ((ALICE, 6, 6), (BOB, 3, 3))
    for reader, read_seq in ((ALICE, 6), (BOB, 3)):
        records.append(
            ResyncPage(
                at=9.0,
                asked_at=8.9,
                user=reader,
                conversation_id=CONVERSATION,
                after_seq=0,
                messages=tuple(messages),
                positions=positions,
                complete=True,
                final=True,
            )
        )
        statuses = ("READ", "READ", "READ", "READ", "SENT", "READ")
        records.append(
            HistoryPage(
                at=9.1,
                user=reader,
                conversation_id=CONVERSATION,
                messages=tuple(messages),
                statuses=statuses[: len(messages)] + ("SENT",) * (len(messages) - len(statuses)),
            )
        )
        unread = sum(each.seq > read_seq and each.sender_id != reader for each in messages)
        records.append(
            Listed(
                at=9.2,
                user=reader,
                conversation_id=CONVERSATION,
                last_seq=max((each.seq for each in messages), default=0),
                unread=unread,
                read_seq=read_seq,
            )
        )
    return records


def ledger_of(records: Sequence[Record]) -> Ledger:
    """The records in a ledger."""
    ledger = Ledger()
    for record in records:
        ledger.record(record)
    return ledger


def with_reads(messages: Sequence[Message]) -> list[Record]:
    """The good run, but afterwards these messages were read."""
    kept = [each for each in good_records() if not isinstance(each, ResyncPage | HistoryPage | Listed)]
    return kept + reads(messages)


def without(records: Sequence[Record], unwanted: Callable[[Record], bool]) -> list[Record]:
    """All records but these; fails when there is none of them."""
    kept = [record for record in records if not unwanted(record)]
    assert len(kept) < len(records), "nothing was spoilt"
    return kept


def changed(kind: type[R], change: Callable[[R], R]) -> list[Record]:
    """The good run with the first record of a kind changed."""
    records = good_records()
    place = next(number for number, record in enumerate(records) if isinstance(record, kind))
    record = records[place]
    assert isinstance(record, kind)
    records[place] = change(record)
    return records
