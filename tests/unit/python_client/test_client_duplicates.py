"""The Python client recognises messages that came before, with bounded memory."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from messaging_client.duplicates import SeenMessages


def test_a_pair_is_new_once() -> None:
    seen = SeenMessages()
    assert seen.is_new("c", 1)
    assert not seen.is_new("c", 1)
    assert seen.is_new("d", 1)


def test_a_message_that_comes_late_is_not_taken_for_a_duplicate() -> None:
    seen = SeenMessages()
    assert [seen.is_new("c", seq) for seq in (5, 3, 4, 3)] == [True, True, True, False]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 20))))
def test_exactly_the_first_occurrences_are_new(pairs: list[tuple[str, int]]) -> None:
    seen = SeenMessages()
    fresh = [pair for pair in pairs if seen.is_new(*pair)]
    assert fresh == list(dict.fromkeys(pairs))


def test_memory_is_bounded_and_the_oldest_is_forgotten_first() -> None:
    seen = SeenMessages(per_conversation=2, conversations=2)
    for seq in (1, 2, 3):
        seen.is_new("a", seq)
    assert not seen.is_new("a", 3)
    assert seen.is_new("a", 1)
    seen.is_new("b", 1)
    seen.is_new("c", 1)
    assert not seen.is_new("b", 1)
    assert seen.is_new("a", 3)
