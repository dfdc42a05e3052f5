"""Presence over stores and counterparts in memory, by injected clocks."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from service.domain.errors import ErrorCode, Rejected
from service.domain.ids import UserId
from service.domain.preferences import Preferences
from service.domain.presence import Presence, PresenceState
from service.use_cases.get_presence import GetPresence
from service.use_cases.presence_ports import Noted, PresenceUnavailable, SessionReport
from service.use_cases.set_preferences import SetPreferences
from service.use_cases.tell_presence import TellPresence
from service.use_cases.track_presence import TrackPresence
from tests.contract.presence.in_memory import MemoryPresence
from tests.fakes import MemoryPreferences
from tests.unit.use_cases.connected_pairs import ConnectedPairs

ONLINE, AWAY, OFFLINE = PresenceState.ONLINE, PresenceState.AWAY, PresenceState.OFFLINE
ALICE, BOB, CAROL = UserId("alice"), UserId("bob"), UserId("carol")
START = 1_800_000_000.0
LEASE = 60.0


class MemoryCounterparts:
    def __init__(self, *pairs: tuple[UserId, UserId]) -> None:
        self._pairs = pairs

    async def of(self, user: UserId, limit: int) -> Sequence[UserId]:
        return [b if a == user else a for a, b in self._pairs if user in (a, b)][:limit]

    async def among(self, user: UserId, candidates: Sequence[UserId]) -> Sequence[UserId]:
        found = await self.of(user, len(self._pairs))
        return [candidate for candidate in candidates if candidate in found]


class MemoryLastSeen:
    def __init__(self) -> None:
        self.moments: dict[UserId, datetime] = {}

    async def of(self, users: Sequence[UserId]) -> Mapping[UserId, datetime]:
        return {user: self.moments[user] for user in users if user in self.moments}

    async def record(self, user: UserId, at: datetime) -> datetime:
        self.moments[user] = max(at, self.moments.get(user, at))
        return self.moments[user]


class World:
    """Alice, Bob and Carol know one another; the connections are Alice-Bob and Bob-Carol."""

    def __init__(self) -> None:
        self.now = START
        self.told: list[tuple[UserId, UserId, PresenceState]] = []
        self.last: dict[UserId, Presence] = {}
        self.gone: list[UserId] = []
        self.has_link = True
        self.store = MemoryPresence(lease=LEASE, retry=5.0, wall_clock=lambda: self.now)
        self.connections = ConnectedPairs(("alice", "bob"), ("bob", "carol"))
        counterparts = MemoryCounterparts((ALICE, BOB), (BOB, CAROL), (ALICE, CAROL))
        self.last_seen = MemoryLastSeen()
        self.preferences = MemoryPreferences()
        self.track = self._instance(counterparts)
        self.other = self._instance(counterparts)
        self.get = GetPresence(self.store, counterparts, self.connections, self.last_seen)
        self.set_preferences = SetPreferences(self.preferences, self.track.preferences_changed)

    def _instance(self, counterparts: MemoryCounterparts) -> TrackPresence:
        tell = TellPresence(
            self.store, counterparts, self.connections, self.preferences, self.last_seen, self
        )
        return TrackPresence(
            self.store,
            tell,
            self.gone.append,
            lease=LEASE,
            sweep=1.0,
            clock=lambda: self.now,
            wall_clock=lambda: self.now,
        )

    def announce(self, recipients: Sequence[UserId], presence: Presence) -> bool:
        if self.has_link:
            self.told += [(recipient, presence.user_id, presence.state) for recipient in recipients]
            self.last[presence.user_id] = presence
        return self.has_link

    async def says(self, user: UserId, state: PresenceState, session: str = "s1") -> None:
        self.track.report(SessionReport(user_id=user, session_id=session, state=state))
        await self.settle()

    async def settle(self, *instances: TrackPresence) -> None:
        for track in instances or (self.track,):
            await track.flush()
            while await track.settle_next():
                pass

    async def sweep(self, *instances: TrackPresence) -> None:
        for track in instances or (self.track,):
            await track.sweep()
            await self.settle(track)

    def news(self, *, of: UserId | None = None) -> list[tuple[UserId, UserId, PresenceState]]:
        """What was told since the last call, of one user or of all: to whom, of whom, what."""
        news, self.told = self.told, []
        return [told for told in news if of in (None, told[1])]


@pytest.fixture
async def world() -> World:
    """Bob and Carol are here."""
    world = World()
    await world.says(BOB, ONLINE)
    await world.says(CAROL, ONLINE)
    world.news()
    return world


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
