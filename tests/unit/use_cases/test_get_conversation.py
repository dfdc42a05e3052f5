"""GetConversation: for participants only."""

from __future__ import annotations

from uuid import uuid4

import pytest

from service.domain.errors import ErrorCode, Rejected
from service.domain.ids import ConversationId, UserId
from service.use_cases.get_conversation import GetConversation
from tests.contract.conversation_reader.in_memory import InMemoryConversations
from tests.contract.conversation_reader.seeding import MemorySeed

ALICE, BOB, CAROL = UserId("alice"), UserId("bob"), UserId("carol")


async def test_participants_see_the_conversation_and_strangers_as_if_it_were_not_there() -> None:
    store = InMemoryConversations()
    conversation = await MemorySeed(store).conversation(ALICE, BOB)
    get_conversation = GetConversation(store)
    for user in (ALICE, BOB):
        assert (await get_conversation(user, conversation.id)).conversation == conversation
    refusals = []
    for user, conversation_id in ((CAROL, conversation.id), (ALICE, ConversationId(uuid4()))):
        with pytest.raises(Rejected) as refused:
            await get_conversation(user, conversation_id)
        refusals.append(refused.value.rejection)
    assert refusals[0] == refusals[1]
    assert refusals[0].code is ErrorCode.CONVERSATION_NOT_FOUND
