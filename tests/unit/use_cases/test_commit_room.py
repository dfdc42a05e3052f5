"""What finds no room in the pipeline is refused at once, and leaves the rest as it was."""

from __future__ import annotations

import asyncio

from service.domain.errors import ErrorCode, Rejection
from service.use_cases.send_message import Sent
from tests.unit.use_cases.pipeline_bench import ALICE, BOB, CAROL, Bench, PoisonedMessages, code, running, seq


async def test_what_finds_no_room_is_busy_at_once_and_leaves_the_rest_in_order() -> None:
    bench = Bench(waiting_limit=3)
    bench.send("warm")
    async with running(bench):
        await bench.until(1)
        for text in "abcde":
            bench.send(text)
        assert [ticket for ticket, _ in bench.results[1:]] == ["d", "e"]
        results = await bench.until(6)
        for refused in "de":
            assert code(results[refused]) is ErrorCode.BUSY
            assert (results[refused].retry_after_ms or 0) > 0  # type: ignore[union-attr]
        assert [seq(results[text]) for text in "abc"] == [2, 3, 4]
        for text in "de":
            bench.send(f"{text} again")
        again = await bench.until(8)
    assert [seq(again[f"{text} again"]) for text in "de"] == [5, 6]


async def test_one_user_leaves_room_for_the_others() -> None:
    narrow = Bench(waiting_limit=4, of_one_user=2)
    async with running(narrow):
        narrow.send("warm")
        narrow.send("warm too", sender=CAROL, target=BOB)
        await narrow.until(2)
        for text in "abc":
            narrow.send(text)
        narrow.send("of carol", sender=CAROL, target=BOB)
        results = await narrow.until(6)
    assert code(results["c"]) is ErrorCode.BUSY
    assert isinstance(results["of carol"], Sent)


async def test_a_lane_holds_only_so_many_and_everything_in_it_is_answered() -> None:
    bench = Bench(of_one_user=3)
    async with running(bench):
        gate = bench.directory.gates[ALICE] = asyncio.Event()
        for text in "abcde":
            bench.send(text)
        assert [(ticket, code(result)) for ticket, result in bench.results] == [
            ("d", ErrorCode.BUSY),
            ("e", ErrorCode.BUSY),
        ]
        gate.set()
        results = await bench.until(5)
    assert [seq(results[text]) for text in "abc"] == [1, 2, 3]


async def test_room_is_free_again_after_commits_that_failed() -> None:
    broken = Bench(waiting_limit=1, messages=PoisonedMessages)
    async with running(broken):
        for number, text in enumerate(("warm", "poison", "good"), start=1):
            broken.send(text)
            await broken.until(number)
    assert [type(result) for _, result in broken.results] == [Sent, Rejection, Sent]
