"""Whatever is lost, repeated or late: a conversation comes out whole, in order and once."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from hypothesis import given
from hypothesis import strategies as st

from messaging_client import Change, NewMessage, Position, SyncPage
from messaging_client.ordering import ConversationOrder, Receipts

Step = tuple[Literal["event", "page", "grow"], int, int]


def message(seq: int) -> NewMessage:
    return NewMessage(
        message_id=f"m{seq}",
        conversation_id="c",
        seq=seq,
        sender_id="bob",
        text=str(seq),
        timestamp=datetime(2025, 1, 1, tzinfo=UTC),
        client_message_id=f"k{seq}",
    )


def page(after: int, last: int, limit: int = 100) -> SyncPage:
    end = min(last, after + limit)
    return SyncPage(
        conversation_id="c",
        after_seq=after,
        changes=tuple(message(seq) for seq in range(after + 1, end + 1)),
        positions=(),
        complete=end >= last,
    )


def seqs(changes: list[Change]) -> list[int]:
    return [change.seq for change in changes]


@given(
    start=st.integers(0, 5),
    room=st.integers(0, 4),
    limit=st.integers(1, 7),
    steps=st.lists(
        st.tuples(st.sampled_from(["event", "page", "grow"]), st.integers(0, 40), st.integers(1, 10))
    ),
)
def test_any_deliveries_and_pages_end_in_the_complete_sequence(
    start: int, room: int, limit: int, steps: list[Step]
) -> None:
    order, last, told = ConversationOrder(start), start, list[int]()
    for kind, number, size in steps:
        if kind == "grow":
            last += size
        elif kind == "event" and 1 <= number <= last:
            told += seqs(order.offer(message(number), hold=order.held < room))
        elif kind == "page" and number <= last:
            # Of another device, of another time.
            told += seqs(order.apply(page(number, last, size)))
        assert told == list(range(start + 1, order.position + 1))
        assert order.held <= room
    order.doubt()
    while order.wants_page:
        doubts, answer = order.doubts, page(order.position, last, limit)
        told += seqs(order.apply(answer))
        if answer.complete:
            order.settle(doubts)
    assert told == list(range(start + 1, last + 1))
    assert order.held == 0


def test_a_jump_makes_it_ask_and_holds_back_what_is_ahead() -> None:
    order = ConversationOrder()
    assert seqs(order.offer(message(1))) == [1]
    assert not order.wants_page
    assert order.offer(message(4)) == []
    assert order.wants_page
    assert seqs(order.apply(page(1, 4))) == [2, 3, 4]
    assert not order.wants_page


def test_a_page_that_begins_beyond_the_position_would_leave_a_hole_and_is_not_taken() -> None:
    order = ConversationOrder()
    assert order.apply(page(3, 9)) == []
    assert order.position == 0


def test_a_page_asked_for_before_a_doubt_does_not_settle_it() -> None:
    order = ConversationOrder(7)
    order.doubt()
    counted = order.doubts
    order.doubt()
    order.settle(counted)
    assert order.wants_page
    order.settle(order.doubts)
    assert not order.wants_page


def test_a_change_without_room_is_asked_for_again() -> None:
    order = ConversationOrder()
    order.exists(3)
    assert order.wants_page
    assert seqs(order.apply(page(0, 3))) == [1, 2, 3]


def test_a_page_of_a_conversation_with_purged_messages_moves_past_them() -> None:
    order = ConversationOrder()
    answer = SyncPage(
        conversation_id="c", after_seq=0, changes=(message(5), message(9)), positions=(), complete=True
    )
    order.offer(message(7))
    assert seqs(order.apply(answer)) == [5, 9]
    assert (order.position, order.held) == (9, 0)


@given(st.lists(st.tuples(st.sampled_from(["deliver", "read", "merge"]), st.integers(0, 9))))
def test_receipts_never_go_back_and_each_move_is_told_once(marks: list[tuple[str, int]]) -> None:
    receipts, delivered, read = Receipts(), 0, 0
    for kind, seq in marks:
        if kind == "deliver":
            assert receipts.deliver("c", "bob", seq) == (seq > delivered)
            delivered = max(delivered, seq)
        elif kind == "read":
            assert receipts.read("c", "bob", seq) == (seq > read)
            delivered, read = max(delivered, seq), max(read, seq)
        else:
            before, told = (delivered, read), Position(user_id="bob", delivered_seq=seq, read_seq=seq // 2)
            delivered, read = max(delivered, seq), max(read, seq // 2)
            now = Position(user_id="bob", delivered_seq=delivered, read_seq=read)
            assert receipts.merge("c", [told]) == (() if before == (delivered, read) else (now,))
