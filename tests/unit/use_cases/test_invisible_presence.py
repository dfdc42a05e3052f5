"""Who is invisible is offline to others, whatever fails meanwhile."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from service.domain.errors import ErrorCode, Rejected
from service.domain.ids import UserId
from service.domain.preferences import Preferences
from service.use_cases.presence_ports import SessionReport
from tests.unit.use_cases.presence_world import ALICE, AWAY, BOB, OFFLINE, ONLINE, World


async def test_an_invisible_user_is_offline_and_shows_again_as_it_is(world: World) -> None:
    await world.says(ALICE, ONLINE)
    world.news()
    world.now += 5
    await world.set_preferences(ALICE, read_receipts=None, invisible=True)
    await world.settle()
    assert world.news() == [(BOB, ALICE, OFFLINE)]
    hidden_at = datetime.fromtimestamp(world.now, UTC)
    world.now += 5
    await world.says(ALICE, OFFLINE)
    await world.says(ALICE, AWAY)
    assert world.news() == [(ALICE, BOB, ONLINE)]
    (seen,) = await world.get(BOB, [ALICE])
    assert (seen.state, seen.last_seen_at) == (OFFLINE, hidden_at)
    await world.set_preferences(ALICE, read_receipts=None, invisible=False)
    await world.settle()
    assert world.news() == [(BOB, ALICE, AWAY)]


@pytest.mark.parametrize("first", ["preference", "heartbeat", "sweep", "goodbye"])
async def test_who_becomes_invisible_while_the_store_forgot_is_hidden(world: World, first: str) -> None:
    await world.says(ALICE, ONLINE)
    world.news()
    await world.store.forget()
    await world.set_preferences(ALICE, read_receipts=None, invisible=True)
    if first == "heartbeat":
        await world.says(ALICE, ONLINE)
    elif first == "goodbye":
        await world.says(ALICE, OFFLINE)
    elif first == "sweep":
        await world.sweep()
    await world.settle()
    assert world.news(of=ALICE) == [(BOB, ALICE, OFFLINE)]
    # From then on others know nothing that could be taken back.
    await world.store.forget()
    await world.says(ALICE, ONLINE)
    await world.says(ALICE, OFFLINE)
    assert world.news(of=ALICE) == []


async def test_a_change_that_may_have_come_about_hides_who_made_it(world: World) -> None:
    await world.says(ALICE, ONLINE)
    world.news()
    change = world.preferences.change

    async def change_late(user: UserId, *, read_receipts: bool | None, invisible: bool | None) -> Preferences:
        await change(user, read_receipts=read_receipts, invisible=invisible)
        raise Rejected(ErrorCode.STORAGE_UNAVAILABLE, "told to be late", retry_after_ms=1)

    world.preferences.change = change_late  # type: ignore[method-assign]
    with pytest.raises(Rejected):
        await world.set_preferences(ALICE, read_receipts=None, invisible=True)
    await world.settle()
    assert world.news() == [(BOB, ALICE, OFFLINE)]


async def test_who_hid_at_an_instance_that_ended_is_not_shown_by_what_the_store_believes(
    world: World,
) -> None:
    await world.says(ALICE, ONLINE)
    world.news()
    # A standby that ends behind its commit tells nobody.
    await world.preferences.change(ALICE, read_receipts=None, invisible=True)
    await world.says(ALICE, AWAY)
    assert world.news() == [(BOB, ALICE, OFFLINE)]


async def test_another_instance_that_takes_over_looks_up_who_became_invisible_meanwhile(world: World) -> None:
    await world.says(ALICE, ONLINE)
    world.news()
    # The wish of the first instance to store it ends with that instance.
    await world.set_preferences(ALICE, read_receipts=None, invisible=True)
    heartbeat = SessionReport(user_id=ALICE, session_id="s1", state=ONLINE)
    world.other.report(heartbeat)
    await world.settle(world.other)
    assert world.news() == [(BOB, ALICE, OFFLINE)]
