"""Each user's items in order, nobody's behind another's, and no item ends the lane."""

from __future__ import annotations

import asyncio

from structlog.testing import capture_logs

from service.domain.ids import UserId
from service.use_cases.lanes import Lanes

ALICE, BOB = UserId("alice"), UserId("bob")


class Worker:
    """Does what its gates let it do; raises on `bad`."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}

    async def __call__(self, item: str) -> None:
        if item in self.gates:
            await self.gates[item].wait()
        if item == "bad":
            raise RuntimeError("defect")
        self.done.append(item)


async def until_empty(lanes: Lanes[str], *users: UserId) -> None:
    async with asyncio.timeout(5):
        while any(user in lanes for user in users):
            await asyncio.sleep(0)


async def test_users_do_not_wait_for_one_another_and_each_keeps_its_order() -> None:
    worker = Worker()
    worker.gates["a1"] = asyncio.Event()
    lanes = Lanes(worker, limit=2)
    for user, item in ((ALICE, "a1"), (ALICE, "a2"), (BOB, "b1")):
        lanes.add(user, item)
    assert lanes.is_full(ALICE)
    assert not lanes.is_full(BOB)
    await until_empty(lanes, BOB)
    assert worker.done == ["b1"]
    worker.gates["a1"].set()
    await until_empty(lanes, ALICE)
    assert worker.done == ["b1", "a1", "a2"]
    assert not lanes.is_full(ALICE)


async def test_a_defect_is_logged_and_what_is_behind_it_goes_on() -> None:
    worker = Worker()
    lanes = Lanes(worker, limit=10)
    with capture_logs() as logs:
        for item in ("bad", "good"):
            lanes.add(ALICE, item)
        await until_empty(lanes, ALICE)
    assert worker.done == ["good"]
    assert [line["event"] for line in logs] == ["lane_item_failed"]


async def test_cancelling_gives_up_what_waits() -> None:
    worker = Worker()
    worker.gates["a1"] = asyncio.Event()
    lanes = Lanes(worker, limit=10)
    lanes.add(ALICE, "a1")
    await asyncio.sleep(0)
    lanes.cancel()
    await until_empty(lanes, ALICE)
    assert worker.done == []
