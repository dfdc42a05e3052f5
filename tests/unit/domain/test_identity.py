"""Ids: their form, their order, and that opening a conversation twice gives the same one."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.conversation import direct_conversation
from service.domain.errors import ErrorCode, Rejected
from service.domain.ids import UserId, conversation_id_for, is_user_id, uuid7
from service.domain.message import MessageStatus
from service.domain.receipts import Positions, status_of

USER_IDS = st.from_regex(r"[A-Za-z0-9._@-]{1,64}", fullmatch=True).map(UserId)


@given(first=USER_IDS, second=USER_IDS)
def test_both_users_open_the_same_conversation(first: UserId, second: UserId) -> None:
    if first == second:
        with pytest.raises(Rejected) as caught:
            direct_conversation(first, second)
        assert caught.value.rejection.code is ErrorCode.INVALID_PAYLOAD
        return
    mine, yours = direct_conversation(first, second), direct_conversation(second, first)
    assert mine == yours
    assert mine.id.version == 5
    assert mine.counterpart_of(first) == second


def test_context_and_kind_make_another_conversation() -> None:
    pair = (UserId("a"), UserId("b"))
    ids = {
        conversation_id_for("direct", pair),
        conversation_id_for("booking", pair),
        conversation_id_for("booking", pair, ("booking", "1")),
        conversation_id_for("booking", pair, ("booking", "2")),
    }
    assert len(ids) == 4


@pytest.mark.parametrize("value", ["", "a" * 65, "a b", "a/b", "a+", "#", "a:b", "é", "a\n", "\0"])
def test_what_is_no_user_id(value: str) -> None:
    assert not is_user_id(value)


@given(moments=st.lists(st.integers(0, 2**48 * 1_000_000 - 1), min_size=2, max_size=20, unique=True))
def test_message_ids_sort_by_time(moments: list[int]) -> None:
    # The fraction of a millisecond has 12 bits: a quarter of a microsecond.
    moments = sorted(moment // 1_000 * 1_000 for moment in moments)
    ids = [uuid7(moment) for moment in moments]
    assert all(id_.version == 7 and id_.variant == "specified in RFC 4122" for id_ in ids)
    for (earlier, first), (later, second) in zip(
        zip(moments, ids, strict=True), list(zip(moments, ids, strict=True))[1:], strict=False
    ):
        assert earlier == later or first < second


def test_message_ids_of_one_moment_differ() -> None:
    assert len({uuid7(1_700_000_000_000_000_000) for _ in range(1_000)}) == 1_000
    assert isinstance(uuid7(0), UUID)


def test_a_status_follows_from_the_counterparts_positions() -> None:
    at = Positions(delivered_seq=3, read_seq=2, shown_read_seq=1)
    assert [status_of(seq, at) for seq in (1, 2, 3, 4)] == [
        MessageStatus.READ,
        MessageStatus.DELIVERED,
        MessageStatus.DELIVERED,
        MessageStatus.SENT,
    ]
    assert at.seen_by_others() == Positions(delivered_seq=3, read_seq=1, shown_read_seq=1)
