"""ListConversations: pages of the caller's conversations."""

from __future__ import annotations

import pytest

from service.domain.errors import ErrorCode, Rejected
from service.domain.ids import UserId
from service.use_cases.list_conversations import ListConversations
from tests.contract.conversation_reader.in_memory import InMemoryConversations
from tests.contract.conversation_reader.seeding import MemorySeed

ALICE = UserId("alice")


@pytest.fixture
async def store() -> InMemoryConversations:
    store = InMemoryConversations()
    seed = MemorySeed(store)
    for number in range(101):
        await seed.conversation(ALICE, f"user{number}")
    return store


@pytest.mark.parametrize(("page_size", "conversations"), [(0, 50), (1, 1), (100, 100)])
async def test_a_page_has_the_size_that_was_asked_for_and_fifty_by_default(
    store: InMemoryConversations, page_size: int, conversations: int
) -> None:
    page = await ListConversations(store)(ALICE, page_size=page_size, before=None)
    assert (len(page.summaries), page.has_more) == (conversations, True)


async def test_the_last_page_says_that_nothing_follows(store: InMemoryConversations) -> None:
    first = await ListConversations(store)(ALICE, page_size=100, before=None)
    last = await ListConversations(store)(ALICE, page_size=1, before=first.summaries[-1].activity_id)
    assert (len(last.summaries), last.has_more) == (1, False)


async def test_a_user_without_conversations_gets_an_empty_page(store: InMemoryConversations) -> None:
    page = await ListConversations(store)(UserId("nobody"), page_size=0, before=None)
    assert (list(page.summaries), page.has_more) == ([], False)


@pytest.mark.parametrize("page_size", [-1, 101])
async def test_another_page_size_is_refused(store: InMemoryConversations, page_size: int) -> None:
    with pytest.raises(Rejected) as refused:
        await ListConversations(store)(ALICE, page_size=page_size, before=None)
    assert refused.value.rejection.code is ErrorCode.INVALID_PAYLOAD
