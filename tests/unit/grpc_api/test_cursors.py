"""Cursors: what went in comes out, and nothing else comes out."""

from __future__ import annotations

import base64
import re
import string
from collections.abc import Callable
from functools import partial
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.errors import ErrorCode, Rejected
from service.domain.ids import ConversationId, UserId
from service.grpc_api.cursors import (
    decode_history_cursor,
    decode_list_cursor,
    encode_history_cursor,
    encode_list_cursor,
)
from service.use_cases.ports import Direction

CONVERSATION = ConversationId(UUID("e9ac7fbd-4806-57bb-9371-0299e3f8f28d"))
ALICE, BOB = UserId("alice"), UserId("bob")
SEQS = st.integers(1, 2**63 - 1)


def is_refused(decode: Callable[[], object]) -> bool:
    try:
        decode()
    except Rejected as error:
        return error.rejection.code is ErrorCode.INVALID_PAYLOAD
    return False


@given(SEQS, st.uuids(), st.sampled_from(Direction))
def test_a_history_cursor_comes_back_as_its_position(seq: int, id_: UUID, direction: Direction) -> None:
    cursor = encode_history_cursor(ConversationId(id_), direction, seq)
    assert re.fullmatch(r"[A-Za-z0-9_-]{24}", cursor)
    assert decode_history_cursor(cursor, ConversationId(id_), direction) == seq


@given(st.uuids())
def test_a_list_cursor_comes_back_as_its_activity(activity: UUID) -> None:
    cursor = encode_list_cursor(ALICE, activity)
    assert re.fullmatch(r"[A-Za-z0-9_-]{36}", cursor)
    assert decode_list_cursor(cursor, ALICE) == activity


def test_the_empty_cursor_is_the_first_page() -> None:
    assert decode_history_cursor("", CONVERSATION, Direction.OLDER) is None
    assert decode_list_cursor("", ALICE) is None


def test_a_cursor_is_good_for_its_own_list_only() -> None:
    cursor = encode_history_cursor(CONVERSATION, Direction.OLDER, 7)
    assert is_refused(lambda: decode_history_cursor(cursor, CONVERSATION, Direction.NEWER))
    assert is_refused(lambda: decode_history_cursor(cursor, ConversationId(uuid4()), Direction.OLDER))
    assert is_refused(lambda: decode_list_cursor(cursor, ALICE))
    of_alice = encode_list_cursor(ALICE, uuid4())
    assert is_refused(lambda: decode_list_cursor(of_alice, BOB))
    assert is_refused(lambda: decode_history_cursor(of_alice, CONVERSATION, Direction.OLDER))


def test_every_change_of_a_character_is_refused() -> None:
    cursor = encode_history_cursor(CONVERSATION, Direction.OLDER, 7)
    for place, kept in enumerate(cursor):
        for other in set(string.printable) - {kept}:
            changed = cursor[:place] + other + cursor[place + 1 :]
            assert is_refused(partial(decode_history_cursor, changed, CONVERSATION, Direction.OLDER))


@given(st.text(min_size=1, max_size=60))
def test_any_other_text_is_refused(text: str) -> None:
    assert is_refused(lambda: decode_history_cursor(text, CONVERSATION, Direction.OLDER))
    assert is_refused(lambda: decode_list_cursor(text, ALICE))


@pytest.mark.parametrize(
    "change", [lambda c: c[:-4], lambda c: c + "AAAA", lambda c: c + "=", lambda c: f" {c}"]
)
def test_another_length_is_refused(change: Callable[[str], str]) -> None:
    changed = change(encode_history_cursor(CONVERSATION, Direction.OLDER, 7))
    assert is_refused(lambda: decode_history_cursor(changed, CONVERSATION, Direction.OLDER))


def test_the_standard_alphabet_is_not_accepted_for_the_url_safe_one() -> None:
    cursors = (encode_history_cursor(CONVERSATION, Direction.OLDER, seq) for seq in range(1, 1_000))
    cursor = next(cursor for cursor in cursors if "-" in cursor or "_" in cursor)
    standard = base64.b64encode(base64.urlsafe_b64decode(cursor)).decode()
    assert is_refused(lambda: decode_history_cursor(standard, CONVERSATION, Direction.OLDER))
