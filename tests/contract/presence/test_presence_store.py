"""What every presence store does: the one in memory and the one in Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from redis.asyncio import Redis

from service.cache.presence import RedisPresence
from service.domain.ids import UserId
from service.domain.presence import PresenceState
from service.use_cases.presence_ports import Noted, PresenceStore, SessionReport
from tests.contract.presence.in_memory import MAX_SESSIONS, MemoryPresence

ONLINE, AWAY, OFFLINE = PresenceState.ONLINE, PresenceState.AWAY, PresenceState.OFFLINE
ALICE, BOB = UserId("alice"), UserId("bob")
START = 1_800_000_000.0
LEASE, RETRY = 60.0, 5.0


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    store: PresenceStore
    clock: Clock
    forget: Callable[[], Awaitable[object]]

    async def says(self, state: PresenceState, *, session: str = "s1", user: UserId = ALICE) -> Noted:
        (noted,) = await self.store.report([SessionReport(user_id=user, session_id=session, state=state)])
        return noted

    async def is_told(self, state: PresenceState, *, user: UserId = ALICE) -> None:
        outlook = await self.store.inspect(user, was_shown=False)
        assert outlook.untold is state
        await self.store.settle(user, state)
        assert (await self.store.inspect(user, was_shown=False)).untold is None

    async def comes_online(self, *, user: UserId = ALICE) -> None:
        await self.says(ONLINE, user=user)
        await self.store.hide(user, False)
        await self.is_told(ONLINE, user=user)


@pytest.fixture(params=["memory", "redis"])
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    clock = Clock()
    if request.param == "memory":
        memory = MemoryPresence(lease=LEASE, retry=RETRY, wall_clock=clock)
        yield Subject(store=memory, clock=clock, forget=memory.forget)
        return
    url = request.getfixturevalue("redis_url")
    store = RedisPresence(url, lease=LEASE, retry=RETRY, timeout=5.0, wall_clock=clock)
    async with Redis.from_url(url) as client:
        yield Subject(store=store, clock=clock, forget=client.flushall)
    await store.aclose()


async def test_a_user_is_online_while_any_session_is_and_away_while_only_that(subject: Subject) -> None:
    states = [
        await subject.says(ONLINE, session="phone"),
        await subject.says(AWAY, session="laptop"),
        await subject.says(AWAY, session="phone"),
        await subject.says(OFFLINE, session="phone"),
        await subject.says(OFFLINE, session="laptop"),
    ]
    assert [noted.state for noted in states] == [ONLINE, ONLINE, AWAY, AWAY, OFFLINE]
    assert [noted.is_newcomer for noted in states] == [True, True, True, False, False]


async def test_a_late_word_of_a_replaced_session_changes_nothing(subject: Subject) -> None:
    await subject.says(ONLINE, session="old")
    await subject.says(OFFLINE, session="old")
    await subject.says(ONLINE, session="new")
    assert (await subject.says(OFFLINE, session="old")).state is ONLINE


async def test_nothing_is_told_before_it_is_known_whether_the_user_hides(subject: Subject) -> None:
    assert not (await subject.says(ONLINE)).is_told
    outlook = await subject.store.inspect(ALICE, was_shown=False)
    assert (outlook.real, outlook.is_hidden, outlook.visible, outlook.untold) == (ONLINE, None, OFFLINE, None)
    await subject.store.hide(ALICE, False)
    await subject.is_told(ONLINE)
    assert (await subject.says(ONLINE)).is_told


async def test_each_change_is_told_until_it_is_settled(subject: Subject) -> None:
    await subject.comes_online()
    assert not (await subject.says(AWAY)).is_told
    assert not (await subject.says(AWAY)).is_told
    await subject.is_told(AWAY)
    assert not (await subject.says(OFFLINE)).is_told
    await subject.is_told(OFFLINE)
    assert (await subject.says(OFFLINE)).is_told


async def test_what_changed_back_before_it_was_told_is_not_told(subject: Subject) -> None:
    await subject.comes_online()
    await subject.says(OFFLINE)
    await subject.says(ONLINE, session="s2")
    assert (await subject.store.inspect(ALICE, was_shown=False)).untold is None


async def test_a_stale_settlement_is_told_again(subject: Subject) -> None:
    """Another instance was slower: what it told last is not what holds."""
    await subject.comes_online()
    await subject.says(OFFLINE)
    await subject.is_told(OFFLINE)
    await subject.store.settle(ALICE, ONLINE)
    await subject.is_told(OFFLINE)


async def test_an_invisible_user_is_offline_for_others_and_real_for_the_service(subject: Subject) -> None:
    await subject.comes_online()
    await subject.store.hide(ALICE, True)
    await subject.is_told(OFFLINE)
    assert (await subject.says(AWAY)).is_told
    outlook = (await subject.store.look_up([ALICE]))[ALICE]
    assert (outlook.real, outlook.visible) == (AWAY, OFFLINE)
    await subject.store.hide(ALICE, False)
    await subject.is_told(AWAY)


async def test_a_session_that_is_not_heard_of_ends_with_its_lease(subject: Subject) -> None:
    await subject.comes_online()
    subject.clock.now += LEASE - 1
    assert await subject.store.take_due(10) == []
    subject.clock.now += 1
    assert await subject.store.take_due(10) == [ALICE]
    assert (await subject.store.look_up([ALICE]))[ALICE].real is OFFLINE
    outlook = await subject.store.inspect(ALICE, was_shown=False)
    assert outlook.left_at == datetime.fromtimestamp(START, UTC)
    await subject.is_told(OFFLINE)
    subject.clock.now += 10 * LEASE
    assert await subject.store.take_due(10) == []


async def test_a_heartbeat_keeps_a_session(subject: Subject) -> None:
    await subject.comes_online()
    for _ in range(5):
        subject.clock.now += LEASE / 2
        assert (await subject.says(ONLINE)).is_told
    assert await subject.store.take_due(10) == []
    assert (await subject.store.look_up([ALICE, BOB]))[ALICE].real is ONLINE


async def test_who_is_due_is_given_out_once_and_again_when_nobody_settles_it(subject: Subject) -> None:
    await subject.comes_online()
    await subject.comes_online(user=BOB)
    subject.clock.now += LEASE
    first = await subject.store.take_due(1)
    second = await subject.store.take_due(10)
    assert sorted([*first, *second]) == [ALICE, BOB]
    assert await subject.store.take_due(10) == []
    subject.clock.now += RETRY
    assert sorted(await subject.store.take_due(10)) == [ALICE, BOB]


async def test_what_an_instance_died_over_comes_up_for_another(subject: Subject) -> None:
    """Reported, never settled."""
    await subject.comes_online()
    await subject.says(OFFLINE)
    assert await subject.store.take_due(10) == []
    subject.clock.now += RETRY
    assert await subject.store.take_due(10) == [ALICE]
    await subject.is_told(OFFLINE)


async def test_after_it_forgot_everything_heartbeats_bring_it_back(subject: Subject) -> None:
    await subject.comes_online()
    await subject.forget()
    assert (await subject.store.look_up([ALICE]))[ALICE].real is OFFLINE
    noted = await subject.says(ONLINE)
    assert (noted.state, noted.is_newcomer, noted.is_told) == (ONLINE, True, False)


async def test_who_left_while_it_forgot_is_told_if_the_caller_remembers(subject: Subject) -> None:
    await subject.comes_online()
    await subject.forget()
    await subject.store.hide(ALICE, False)
    assert (await subject.store.inspect(ALICE, was_shown=False)).untold is None
    assert (await subject.store.inspect(ALICE, was_shown=True)).untold is OFFLINE
    await subject.store.settle(ALICE, OFFLINE)
    assert (await subject.store.inspect(ALICE, was_shown=True)).untold is None


@pytest.mark.parametrize("is_here", [False, True])
async def test_who_hid_while_it_forgot_is_told_if_the_caller_remembers_that_others_saw_her(
    subject: Subject, is_here: bool
) -> None:
    await subject.comes_online()
    await subject.forget()
    if is_here:
        await subject.says(ONLINE)
    assert (await subject.store.inspect(ALICE, was_shown=True)).untold is None
    await subject.store.hide(ALICE, True)
    assert (await subject.store.inspect(ALICE, was_shown=False)).untold is None
    assert (await subject.store.inspect(ALICE, was_shown=True)).untold is OFFLINE
    await subject.store.settle(ALICE, OFFLINE)
    assert (await subject.store.inspect(ALICE, was_shown=True)).untold is None


async def test_a_session_is_a_newcomer_until_it_is_welcomed(subject: Subject) -> None:
    for _ in range(2):
        assert (await subject.says(ONLINE)).is_newcomer
    assert (await subject.says(AWAY, session="s2")).is_newcomer
    await subject.store.welcome(ALICE, ["s1", "unknown"])
    assert not (await subject.says(AWAY)).is_newcomer
    assert (await subject.says(ONLINE, session="s2")).is_newcomer
    await subject.store.welcome(ALICE, ["s2"])
    assert not (await subject.says(ONLINE, session="s2")).is_newcomer


async def test_a_session_that_ended_comes_anew(subject: Subject) -> None:
    for end in ("goodbye", "lease"):
        await subject.says(ONLINE)
        if end == "goodbye":
            assert not (await subject.says(OFFLINE)).is_newcomer
        else:
            subject.clock.now += LEASE
        # A welcome that comes too late is for nobody.
        await subject.store.welcome(ALICE, ["s1"])
        assert (await subject.says(ONLINE)).is_newcomer
        await subject.store.welcome(ALICE, ["s1"])


async def test_looking_says_what_is_just_being_told(subject: Subject) -> None:
    await subject.comes_online()
    assert (await subject.store.look_up([ALICE]))[ALICE].untold is None
    await subject.says(AWAY)
    assert (await subject.store.look_up([ALICE]))[ALICE].untold is AWAY


async def test_sessions_of_one_user_are_bounded(subject: Subject) -> None:
    for number in range(MAX_SESSIONS + 5):
        subject.clock.now += 0.001
        await subject.says(ONLINE, session=f"s{number}")
    # The oldest gave way, so its goodbye is a stranger's; the newest is here.
    for number in range(5, MAX_SESSIONS + 5):
        noted = await subject.says(OFFLINE, session=f"s{number}")
    assert noted.state is OFFLINE
