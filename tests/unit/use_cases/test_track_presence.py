"""Who is told of whose presence, and when."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from service.domain.ids import UserId
from service.use_cases.presence_ports import Noted, Outlook, PresenceUnavailable, SessionReport
from tests.unit.use_cases.presence_world import ALICE, AWAY, BOB, CAROL, LEASE, OFFLINE, ONLINE, START, World


async def test_connected_counterparts_who_are_here_are_told_of_each_change(world: World) -> None:
    await world.says(ALICE, ONLINE)
    # Bob is told of Alice, the newcomer Alice of Bob; Carol is not connected with her.
    assert world.news() == [(BOB, ALICE, ONLINE), (ALICE, BOB, ONLINE)]
    await world.says(ALICE, ONLINE)
    assert world.news() == []
    await world.says(ALICE, AWAY)
    world.now += 10
    await world.says(ALICE, OFFLINE)
    assert world.news() == [(BOB, ALICE, AWAY), (BOB, ALICE, OFFLINE)]
    assert world.last[ALICE].last_seen_at == datetime.fromtimestamp(world.now, UTC)
    assert world.last_seen.moments[ALICE] == world.last[ALICE].last_seen_at
    assert ALICE in world.gone


async def test_nobody_who_is_away_from_keyboard_is_left_out_and_nobody_offline_told(world: World) -> None:
    await world.says(BOB, AWAY)
    world.news()
    await world.says(ALICE, ONLINE)
    assert world.news() == [(BOB, ALICE, ONLINE), (ALICE, BOB, AWAY)]
    await world.says(BOB, OFFLINE)
    world.news()
    await world.says(ALICE, AWAY)
    assert world.news() == []


async def test_every_new_session_hears_who_is_here(world: World) -> None:
    await world.says(ALICE, ONLINE)
    world.news()
    await world.says(ALICE, ONLINE, "s2")
    assert world.news() == [(ALICE, BOB, ONLINE)]


async def test_a_session_whose_first_report_had_no_answer_hears_who_is_here_with_the_next(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = world.store.report

    async def report_late(reports: Sequence[SessionReport]) -> Sequence[Noted]:
        await stored(reports)
        raise PresenceUnavailable

    with monkeypatch.context() as patched:
        patched.setattr(world.store, "report", report_late)
        await world.says(ALICE, ONLINE)
    assert world.news() == []
    await world.says(ALICE, ONLINE)
    assert world.news(of=BOB) == [(ALICE, BOB, ONLINE)]
    await world.says(ALICE, ONLINE)
    assert world.news() == []


async def test_a_newcomer_whose_instance_ends_hears_who_is_here_from_the_next_one(world: World) -> None:
    world.track.report(SessionReport(user_id=ALICE, session_id="s1", state=ONLINE))
    await world.track.flush()
    world.other.report(SessionReport(user_id=ALICE, session_id="s1", state=ONLINE))
    await world.settle(world.other)
    assert world.news() == [(BOB, ALICE, ONLINE), (ALICE, BOB, ONLINE)]


async def test_a_silent_session_ends_with_its_lease(world: World) -> None:
    await world.says(ALICE, ONLINE)
    world.now += LEASE - 1
    await world.says(BOB, ONLINE)
    await world.sweep()
    world.news()
    world.now += 1
    await world.sweep()
    assert world.news(of=ALICE) == [(BOB, ALICE, OFFLINE)]
    assert world.last[ALICE].last_seen_at == datetime.fromtimestamp(START, UTC)


async def test_of_two_instances_one_tells(world: World) -> None:
    await world.says(ALICE, ONLINE)
    world.now += LEASE - 1
    await world.says(BOB, ONLINE)
    world.news()
    world.now += 1
    await world.sweep(world.other, world.track)
    assert world.news().count((BOB, ALICE, OFFLINE)) == 1


async def test_the_store_may_forget_everything(world: World) -> None:
    await world.says(ALICE, ONLINE)
    world.news()
    await world.store.forget()
    world.now += LEASE / 2
    await world.says(BOB, ONLINE)
    world.news()
    # Alice is not heard of again.
    world.now += LEASE / 2
    await world.sweep()
    assert world.news(of=ALICE) == [(BOB, ALICE, OFFLINE)]
    await world.sweep()
    assert world.news() == []


async def test_a_goodbye_to_a_store_that_forgot_is_told(world: World) -> None:
    await world.says(ALICE, ONLINE)
    await world.store.forget()
    await world.says(BOB, ONLINE)
    world.news()
    await world.says(ALICE, OFFLINE)
    assert world.news() == [(BOB, ALICE, OFFLINE)]


async def test_who_leaves_before_others_came_back_to_a_store_that_forgot_is_told(world: World) -> None:
    await world.says(ALICE, ONLINE)
    world.news()
    await world.store.forget()
    await world.says(ALICE, OFFLINE)
    assert world.news() == [(BOB, ALICE, OFFLINE)]


async def test_who_comes_and_goes_between_two_looks_is_not_told(world: World) -> None:
    for state in (ONLINE, OFFLINE):
        world.track.report(SessionReport(user_id=ALICE, session_id="s1", state=state))
    await world.settle()
    assert world.news() == []


async def test_a_late_goodbye_of_a_replaced_session_changes_nothing(world: World) -> None:
    await world.says(ALICE, ONLINE, "old")
    await world.says(ALICE, ONLINE, "new")
    await world.says(ALICE, OFFLINE, "old")
    world.news()
    await world.says(ALICE, OFFLINE, "old")
    await world.sweep()
    assert world.news() == []


async def test_without_the_store_nothing_is_told_and_everything_later(world: World) -> None:
    await world.says(ALICE, ONLINE)
    world.news()
    world.store.is_down = True
    await world.says(ALICE, OFFLINE)
    await world.sweep()
    assert world.news() == []
    assert [presence.state for presence in await world.get(BOB, [ALICE])] == [OFFLINE]
    world.store.is_down = False
    world.now += LEASE
    await world.says(BOB, ONLINE)
    await world.sweep()
    assert (BOB, ALICE, OFFLINE) in world.news()


async def test_an_outage_of_the_store_costs_one_attempt_whoever_waits(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[UserId] = []
    inspect = world.store.inspect

    async def counted(user: UserId, *, was_shown: bool) -> Outlook:
        asked.append(user)
        return await inspect(user, was_shown=was_shown)

    monkeypatch.setattr(world.store, "inspect", counted)
    world.store.is_down = True
    users = {UserId(f"user-{number}") for number in range(100)}
    for user in users:
        world.track.preferences_changed(user)
    await world.settle()
    assert len(asked) == 1
    await world.sweep()
    assert len(asked) == 1
    world.store.is_down = False
    await world.sweep()
    assert set(asked) == users


async def test_without_a_link_or_an_answer_about_connections_it_is_told_later(world: World) -> None:
    world.has_link = False
    await world.says(ALICE, ONLINE)
    world.has_link = True
    world.connections.reachable = False
    await world.sweep()
    assert world.news() == []
    world.connections.reachable = True
    await world.sweep()
    assert world.news() == [(BOB, ALICE, ONLINE), (ALICE, BOB, ONLINE)]


async def test_presence_is_given_of_connected_counterparts_only(world: World) -> None:
    await world.says(ALICE, AWAY)
    found = await world.get(BOB, [ALICE, UserId("zoe"), CAROL, ALICE, BOB])
    assert [(presence.user_id, presence.state) for presence in found] == [(ALICE, AWAY), (CAROL, ONLINE)]
    assert await world.get(CAROL, [ALICE]) == []
    await world.says(ALICE, OFFLINE)
    (seen,) = await world.get(BOB, [ALICE])
    assert seen.last_seen_at is not None
    assert seen.last_seen_at - datetime.fromtimestamp(START, UTC) < timedelta(seconds=1)


async def test_running_it_stores_tells_and_sweeps() -> None:
    world = World()
    running = asyncio.create_task(world.track.run())
    for user in (BOB, ALICE):
        world.track.report(SessionReport(user_id=user, session_id="s", state=ONLINE))
    async with asyncio.timeout(5):
        while (BOB, ALICE, ONLINE) not in world.told:
            await asyncio.sleep(0.005)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
