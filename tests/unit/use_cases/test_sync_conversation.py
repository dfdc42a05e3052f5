"""Pages of a resync: no holes, bounded in count and bytes, for participants only."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.payloads import encode_sync_page
from service.domain.conversation import direct_conversation
from service.domain.errors import ErrorCode, Rejected
from service.domain.ids import ConversationId, UserId
from service.domain.message import MAX_TEXT_CHARACTERS
from service.domain.receipts import Positions
from service.use_cases.authorize import Authorize
from service.use_cases.ports import ConversationSummary, Direction, HistoryMessage, HistoryPage
from service.use_cases.sync_conversation import MAX_TEXT_BYTES, SyncConversation, SyncPage
from tests.fakes import MemoryConversations
from tests.unit.use_cases.pipeline_bench import Directory

ALICE, BOB, CAROL = UserId("alice"), UserId("bob"), UserId("carol")
WITH_BOB = direct_conversation(ALICE, BOB)
LARGEST_EVENT_BYTES = 256 * 1024


class Reader:
    """`ConversationReader` of one conversation with the given texts."""

    def __init__(self, texts: Sequence[str], positions: dict[UserId, Positions] | None = None) -> None:
        self._positions = positions or {ALICE: Positions(), BOB: Positions()}
        self._messages = [
            HistoryMessage(
                seq=seq,
                id=str(uuid4()),
                sender_id=ALICE,
                client_message_id=str(uuid4()),
                text=text,
                created_at_us=1_767_225_600_000_000,
            )
            for seq, text in enumerate(texts, start=1)
        ]

    async def history(
        self, conversation_id: ConversationId, *, limit: int, direction: Direction, after_seq: int | None
    ) -> HistoryPage:
        assert direction is Direction.NEWER
        found = self._messages[after_seq or 0 :]
        return HistoryPage(messages=found[:limit], positions=self._positions, has_more=len(found) > limit)

    async def summaries(
        self, user: UserId, *, limit: int, before: UUID | None
    ) -> Sequence[ConversationSummary]:
        raise NotImplementedError

    async def summary(self, user: UserId, conversation_id: ConversationId) -> ConversationSummary | None:
        raise NotImplementedError


async def page(reader: Reader, *, caller: UserId = BOB, after_seq: int = 0, limit: int = 0) -> SyncPage:
    conversations = MemoryConversations()
    await conversations.open(WITH_BOB, uuid4())
    sync = SyncConversation(Authorize(conversations, Directory(), lambda: 0), reader)
    return await sync(caller, WITH_BOB.id, after_seq=after_seq, limit=limit)


async def everything(reader: Reader, limit: int) -> list[int]:
    """All positions that a client gets which asks until the answer is complete."""
    seqs: list[int] = []
    while True:
        answer = await page(reader, after_seq=seqs[-1] if seqs else 0, limit=limit)
        seqs += [message.seq for message in answer.messages]
        if answer.complete:
            return seqs


@given(sizes=st.lists(st.integers(1, MAX_TEXT_CHARACTERS), max_size=30), limit=st.integers(0, 100))
def test_asking_until_complete_gives_every_position_once(sizes: list[int], limit: int) -> None:
    reader = Reader(["x" * size for size in sizes])
    assert asyncio.run(everything(reader, limit)) == list(range(1, len(sizes) + 1))


@pytest.mark.parametrize("text", ["\u0001" * 5_000, '"' * 5_000, "😀" * 5_000, "x"])
async def test_a_page_fits_through_the_broker_whatever_the_texts_are(text: str) -> None:
    answer = await page(Reader([text] * 150))
    assert len(encode_sync_page(answer, "r" * 128)) < LARGEST_EVENT_BYTES
    assert answer.messages
    assert not answer.complete


async def test_a_page_holds_what_fits_and_the_longest_text_always_does() -> None:
    longest = "\u0001" * MAX_TEXT_CHARACTERS
    assert len(json.dumps(longest)) < MAX_TEXT_BYTES
    answer = await page(Reader([longest] * 20))
    assert [message.seq for message in answer.messages] == list(range(1, MAX_TEXT_BYTES // 30_002 + 1))


@pytest.mark.parametrize(("after_seq", "limit"), [(-1, 0), (0, -1), (0, 101)])
async def test_positions_and_limits_have_bounds(after_seq: int, limit: int) -> None:
    with pytest.raises(Rejected) as caught:
        await page(Reader([]), after_seq=after_seq, limit=limit)
    assert caught.value.rejection.code is ErrorCode.INVALID_PAYLOAD


async def test_a_stranger_finds_no_conversation() -> None:
    with pytest.raises(Rejected) as caught:
        await page(Reader(["x"]), caller=CAROL)
    assert caught.value.rejection.code is ErrorCode.CONVERSATION_NOT_FOUND


async def test_ones_own_position_is_exact_and_the_others_as_far_as_it_is_shown() -> None:
    hidden = Positions(delivered_seq=9, read_seq=8, shown_read_seq=3)
    answer = await page(Reader(["x"], {ALICE: hidden, BOB: hidden}))
    assert answer.positions[BOB].read_seq == 8
    assert answer.positions[ALICE].read_seq == 3
    assert answer.positions[ALICE].delivered_seq == 9
