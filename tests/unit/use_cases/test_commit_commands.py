"""The pipeline's rules, on in-memory ports: order, batches, answers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.domain.conversation import direct_conversation
from service.domain.errors import ErrorCode, Rejected, Rejection
from service.domain.ids import ClientMessageId, ConversationId, UserId
from service.domain.message import Draft
from service.use_cases.ports import Committed
from service.use_cases.send_message import Sent
from service.use_cases.set_preferences import SetPreferencesCommand
from tests.unit.use_cases.pipeline_bench import (
    ALICE,
    BOB,
    CAROL,
    DAVE,
    Bench,
    PoisonedMessages,
    code,
    running,
    seq,
)


async def test_the_first_message_opens_the_conversation(bench: Bench) -> None:
    bench.send("one")
    results = await bench.until(1)
    sent = results["one"]
    assert isinstance(sent, Sent)
    assert (sent.message.seq, sent.recipient_id, sent.message.text) == (1, BOB, "one")
    assert sent.message.conversation_id == direct_conversation(ALICE, BOB).id


async def test_what_arrives_during_a_commit_is_the_next_batch(bench: Bench) -> None:
    bench.send("warm")
    await bench.until(1)
    for number in range(50):
        bench.send(str(number))
    await bench.until(51)
    assert bench.messages.batches == [1, 50]


async def test_a_batch_is_limited() -> None:
    bench = Bench(batch_limit=20)
    async with running(bench):
        bench.send("warm")
        await bench.until(1)
        for number in range(50):
            bench.send(str(number))
        results = await bench.until(51)
    assert bench.messages.batches == [1, 20, 20, 10]
    assert [seq(results[str(number)]) for number in range(50)] == list(range(2, 52))


async def test_a_slow_sender_keeps_its_order_and_holds_up_nobody_else(bench: Bench) -> None:
    gate = bench.directory.gates[ALICE] = asyncio.Event()
    for number in range(5):
        bench.send(f"alice {number}")
    bench.send("carol", sender=CAROL, target=DAVE)
    results = await bench.until(1)
    assert seq(results["carol"]) == 1
    gate.set()
    results = await bench.until(6)
    assert [seq(results[f"alice {number}"]) for number in range(5)] == [1, 2, 3, 4, 5]


async def test_a_known_pair_waits_behind_the_same_senders_unknown_pair(bench: Bench) -> None:
    bench.send("warm")
    await bench.until(1)
    gate = bench.directory.gates[ALICE] = asyncio.Event()
    bench.send("to carol", target=CAROL)
    bench.send("to bob")
    bench.send("from bob", sender=BOB, target=ALICE)
    results = await bench.until(2)
    assert set(results) == {"warm", "from bob"}
    gate.set()
    results = await bench.until(4)
    assert code(results["to carol"]) is ErrorCode.NOT_CONNECTED
    assert [ticket for ticket, _ in bench.results][-2:] == ["to carol", "to bob"]


@pytest.mark.parametrize("target", [ALICE, "al/ice", ""])
async def test_a_recipient_must_be_another_user(bench: Bench, target: str) -> None:
    bench.send("x", target=target)
    assert code((await bench.until(1))["x"]) is ErrorCode.INVALID_PAYLOAD


async def test_strangers_and_missing_conversations_look_the_same(bench: Bench) -> None:
    bench.send("open")
    await bench.until(1)
    bench.send("stranger", sender=CAROL, target=direct_conversation(ALICE, BOB).id)
    bench.send("missing", sender=CAROL, target=ConversationId(uuid4()))
    results = await bench.until(3)
    assert results["stranger"] == results["missing"]
    assert code(results["missing"]) is ErrorCode.CONVERSATION_NOT_FOUND


@pytest.mark.parametrize("target", [BOB, direct_conversation(ALICE, BOB).id])
async def test_a_conversation_that_a_restored_database_lacks_is_told_of_when_sent_again(
    bench: Bench, target: ConversationId | str
) -> None:
    bench.send("open")
    await bench.until(1)
    bench.conversations.lost.add(direct_conversation(ALICE, BOB).id)
    key = ClientMessageId(uuid4())
    bench.send("first", key=key, target=target)
    refused = (await bench.until(2))["first"]
    assert isinstance(refused, Rejection)
    assert refused.retryable
    bench.send("again", key=key, target=target)
    answer = (await bench.until(3))["again"]
    if target == BOB:
        assert isinstance(answer, Sent)
    else:
        assert code(answer) is ErrorCode.CONVERSATION_NOT_FOUND


async def test_a_resend_gets_the_original_and_another_body_a_conflict(bench: Bench) -> None:
    key = ClientMessageId(uuid4())
    bench.send("first", key=key, text="a")
    bench.send("same batch", key=key, text="a")
    bench.send("same batch, other text", key=key, text="b")
    await bench.until(3)
    bench.send("later", key=key, text="a")
    bench.send("later, other text", key=key, text="b")
    results = await bench.until(5)
    assert results["first"] == results["same batch"] == results["later"]
    assert code(results["same batch, other text"]) is ErrorCode.IDEMPOTENCY_CONFLICT
    assert code(results["later, other text"]) is ErrorCode.IDEMPOTENCY_CONFLICT


async def test_a_revoked_connection_stops_the_next_message(bench: Bench) -> None:
    bench.send("before")
    await bench.until(1)
    bench.directory.verdicts[frozenset((ALICE, BOB))] = False
    await bench.directory.forget(ALICE, BOB)
    bench.send("after", target=direct_conversation(ALICE, BOB).id)
    assert code((await bench.until(2))["after"]) is ErrorCode.NOT_CONNECTED


async def test_an_unanswered_authorization_is_a_retryable_error_for_each_message(bench: Bench) -> None:
    bench.directory.failure = Rejected(ErrorCode.AUTHORIZATION_UNAVAILABLE, "down", retry_after_ms=7)
    bench.send("one")
    bench.send("two")
    results = await bench.until(2)
    for result in results.values():
        assert isinstance(result, Rejection)
        assert (result.code, result.retryable, result.retry_after_ms) == (
            ErrorCode.AUTHORIZATION_UNAVAILABLE,
            True,
            7,
        )


async def test_a_defect_in_authorization_is_answered_and_the_lane_goes_on(bench: Bench) -> None:
    bench.directory.failure = RuntimeError("defect")
    bench.send("one")
    assert code((await bench.until(1))["one"]) is ErrorCode.INTERNAL
    bench.directory.failure = None
    bench.send("two")
    assert seq((await bench.until(2))["two"]) == 1


async def test_one_refused_message_does_not_fail_its_neighbours() -> None:
    bench = Bench(messages=PoisonedMessages)
    async with running(bench):
        bench.send("warm")
        await bench.until(1)
        for text in ("a", "poison", "b"):
            bench.send(text)
        results = await bench.until(4)
    assert code(results["poison"]) is ErrorCode.INTERNAL
    assert [seq(results["a"]), seq(results["b"])] == [2, 3]


async def test_a_refused_message_among_many_is_found_in_few_commits() -> None:
    bench = Bench(messages=PoisonedMessages)
    async with running(bench):
        bench.send("warm")
        await bench.until(1)
        texts = [str(number) for number in range(512)]
        texts[300] = "poison"
        for text in texts:
            bench.send(text)
        results = await bench.until(513)
    assert len(bench.results) == 513
    assert code(results["poison"]) is ErrorCode.INTERNAL
    stored = [seq(results[text]) for text in texts if text != "poison"]
    assert stored == list(range(2, 513))
    # Each of nine halvings commits one half without the poison.
    assert len(bench.messages.batches) == 1 + 9


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    script=st.lists(
        st.tuples(st.sampled_from([ALICE, BOB, CAROL]), st.sampled_from([ALICE, BOB, CAROL, DAVE])),
        max_size=40,
    ),
    forget_every=st.integers(min_value=1, max_value=10),
)
def test_every_command_has_one_answer_and_each_sender_keeps_its_order(
    script: list[tuple[UserId, UserId]], forget_every: int
) -> None:
    asyncio.run(_run_script(script, forget_every))


async def _run_script(script: list[tuple[UserId, UserId]], forget_every: int) -> None:
    bench = Bench(batch_limit=7)
    async with running(bench):
        for number, (sender, target) in enumerate(script):
            bench.send(str(number), sender=sender, target=target)
            if number % forget_every == 0:
                bench.directory.forget_everything()
            if number % 5 == 0:
                await asyncio.sleep(0)
        results = await bench.until(len(script))
    assert len(bench.results) == len(script) == len(results)
    last: dict[tuple[UserId, UserId], int] = {}
    for number, (sender, target) in enumerate(script):
        result = results[str(number)]
        if isinstance(result, Sent):
            assert result.message.seq > last.get((sender, target), 0)
            last[sender, target] = result.message.seq


async def test_what_was_accepted_before_a_revocation_gets_its_original_result_again(bench: Bench) -> None:
    key = ClientMessageId(uuid4())
    bench.send("first", key=key, text="a")
    await bench.until(1)
    bench.directory.verdicts.clear()
    bench.directory.forget_everything()
    bench.send("resent", key=key, text="a")
    bench.send("resent by conversation", target=direct_conversation(ALICE, BOB).id, key=key, text="a")
    bench.send("other text", key=key, text="b")
    bench.send("new")
    results = await bench.until(5)
    assert results["first"] == results["resent"] == results["resent by conversation"]
    assert code(results["other text"]) is ErrorCode.NOT_CONNECTED
    assert code(results["new"]) is ErrorCode.NOT_CONNECTED
    # The refusal is in memory now; the original result still is not lost.
    bench.send("resent again", key=key, text="a")
    assert (await bench.until(6))["resent again"] == results["first"]


async def test_what_is_being_committed_at_a_revocation_is_not_refused_when_it_is_sent_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    append, begun, may_go_on = bench.messages.append, asyncio.Event(), asyncio.Event()

    async def append_slowly(drafts: Sequence[Draft]) -> Sequence[Committed | None]:
        begun.set()
        await may_go_on.wait()
        return await append(drafts)

    monkeypatch.setattr(bench.messages, "append", append_slowly)
    key = ClientMessageId(uuid4())
    bench.send("first", key=key, text="a")
    await begun.wait()
    bench.directory.verdicts.clear()
    bench.directory.forget_everything()
    bench.send("resent", key=key, text="a")
    for _ in range(100):
        await asyncio.sleep(0)
    assert bench.results == []
    may_go_on.set()
    results = await bench.until(2)
    assert isinstance(results["first"], Sent)
    assert results["resent"] == results["first"]


async def test_preferences_take_their_place_in_the_users_order(bench: Bench) -> None:
    bench.send("first", sender=BOB, target=ALICE)
    await bench.until(1)
    gate = bench.preferences.gate = asyncio.Event()
    for invisible in (True, False):
        command = SetPreferencesCommand(user_id=ALICE, read_receipts=None, invisible=invisible)
        bench.pipeline.submit(command, f"invisible {invisible}")
    bench.send("behind them")
    bench.send("of somebody else", sender=BOB, target=ALICE)
    assert set(await bench.until(2)) == {"first", "of somebody else"}
    gate.set()
    await bench.until(5)
    assert [ticket for ticket, _ in bench.results][2:] == ["invisible True", "invisible False", "behind them"]
    assert not (await bench.preferences.of(ALICE)).invisible


async def test_what_was_read_before_a_change_of_preferences_is_committed_before_it(bench: Bench) -> None:
    bench.send("first")
    first = (await bench.until(1))["first"]
    assert isinstance(first, Sent)
    for ticket in ("hidden", "again"):
        bench.mark(ticket, first.message.id, user=BOB)
    command = SetPreferencesCommand(user_id=BOB, read_receipts=True, invisible=None)
    bench.pipeline.submit(command, "show")
    bench.mark("shown", first.message.id, user=BOB)
    await bench.until(5)
    assert [ticket for ticket, _ in bench.results] == ["first", "hidden", "again", "show", "shown"]
