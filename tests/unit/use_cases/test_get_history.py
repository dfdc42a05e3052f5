"""GetHistory: who may read, and how much at once."""

from __future__ import annotations

from uuid import uuid4

import pytest

from service.domain.conversation import Conversation
from service.domain.errors import ErrorCode, Rejected
from service.domain.ids import ConversationId, UserId
from service.use_cases.get_history import GetHistory
from service.use_cases.ports import Direction, HistoryPage
from tests.contract.conversation_reader.in_memory import InMemoryConversations
from tests.contract.conversation_reader.seeding import MemorySeed

ALICE, BOB, CAROL = UserId("alice"), UserId("bob"), UserId("carol")


@pytest.fixture
def store() -> InMemoryConversations:
    return InMemoryConversations()


@pytest.fixture
async def conversation(store: InMemoryConversations) -> Conversation:
    seed = MemorySeed(store)
    conversation = await seed.conversation(ALICE, BOB)
    await seed.messages(conversation, [ALICE, BOB] * 60)
    return conversation


async def page_of(
    store: InMemoryConversations, user: UserId, conversation_id: ConversationId, page_size: int = 0
) -> HistoryPage:
    return await GetHistory(store, store)(
        user, conversation_id, page_size=page_size, direction=Direction.OLDER, after_seq=None
    )


@pytest.mark.parametrize(("page_size", "messages"), [(0, 50), (1, 1), (99, 99), (100, 100)])
async def test_a_page_has_the_size_that_was_asked_for_and_fifty_by_default(
    store: InMemoryConversations, conversation: Conversation, page_size: int, messages: int
) -> None:
    for user in (ALICE, BOB):
        page = await page_of(store, user, conversation.id, page_size)
        assert (len(page.messages), page.has_more) == (messages, True)


@pytest.mark.parametrize("page_size", [-1, 101, 2**31 - 1, -(2**31)])
async def test_another_page_size_is_refused(
    store: InMemoryConversations, conversation: Conversation, page_size: int
) -> None:
    with pytest.raises(Rejected) as refused:
        await page_of(store, ALICE, conversation.id, page_size)
    assert refused.value.rejection.code is ErrorCode.INVALID_PAYLOAD


async def test_a_stranger_is_told_the_same_as_of_a_conversation_that_does_not_exist(
    store: InMemoryConversations, conversation: Conversation
) -> None:
    refusals = []
    for conversation_id in (conversation.id, ConversationId(uuid4())):
        with pytest.raises(Rejected) as refused:
            await page_of(store, CAROL, conversation_id)
        refusals.append(refused.value.rejection)
    assert refusals[0] == refusals[1]
    assert refusals[0].code is ErrorCode.CONVERSATION_NOT_FOUND
