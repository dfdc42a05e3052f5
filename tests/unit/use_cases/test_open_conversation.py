"""OpenConversation: idempotent, and only for connected users."""

from __future__ import annotations

import pytest

from service.domain.errors import ErrorCode, Rejected
from service.domain.ids import UserId
from service.use_cases.authorize import Authorize
from service.use_cases.open_conversation import OpenConversation
from tests.contract.conversation_reader.in_memory import InMemoryConversations
from tests.unit.use_cases.connected_pairs import ConnectedPairs

ALICE, BOB, CAROL = UserId("alice"), UserId("bob"), UserId("carol")


@pytest.fixture
def store() -> InMemoryConversations:
    return InMemoryConversations()


@pytest.fixture
def connections() -> ConnectedPairs:
    return ConnectedPairs((ALICE, BOB))


@pytest.fixture
def open_conversation(store: InMemoryConversations, connections: ConnectedPairs) -> OpenConversation:
    return OpenConversation(Authorize(store, connections, lambda: 1_760_000_000_000_000_000), store)


async def test_either_participant_opens_the_same_conversation(
    open_conversation: OpenConversation, store: InMemoryConversations
) -> None:
    by_alice = await open_conversation(ALICE, BOB)
    by_bob = await open_conversation(BOB, ALICE)
    assert by_alice == by_bob
    assert len(await store.summaries(ALICE, limit=5, before=None)) == 1


async def test_without_a_connection_nothing_is_opened(
    open_conversation: OpenConversation, store: InMemoryConversations
) -> None:
    with pytest.raises(Rejected) as refused:
        await open_conversation(ALICE, CAROL)
    assert refused.value.rejection.code is ErrorCode.NOT_CONNECTED
    assert list(await store.summaries(ALICE, limit=5, before=None)) == []


async def test_an_open_conversation_is_refused_too_once_the_connection_cannot_be_checked(
    open_conversation: OpenConversation, connections: ConnectedPairs
) -> None:
    await open_conversation(ALICE, BOB)
    connections.reachable = False
    with pytest.raises(Rejected) as refused:
        await open_conversation(ALICE, BOB)
    assert refused.value.rejection.code is ErrorCode.AUTHORIZATION_UNAVAILABLE
    assert refused.value.rejection.retryable


@pytest.mark.parametrize("recipient", ["alice", "", "a/b", "b b", "+", "#", "x" * 65, "zoë", "bob\n"])
async def test_oneself_and_what_is_no_user_id_are_refused_before_anybody_is_asked(
    open_conversation: OpenConversation, connections: ConnectedPairs, recipient: str
) -> None:
    with pytest.raises(Rejected) as refused:
        await open_conversation(ALICE, recipient)
    assert refused.value.rejection.code is ErrorCode.INVALID_PAYLOAD
    assert connections.asked == []
