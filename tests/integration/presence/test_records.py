"""Counterparts, last seen and preferences on a real PostgreSQL."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from service.domain.conversation import direct_conversation
from service.domain.ids import UserId, uuid7
from service.domain.preferences import Preferences
from service.storage.conversations import PostgresConversationRepository
from service.storage.database import Database
from service.storage.preferences import PostgresPreferences
from service.storage.presence import PostgresCounterparts, PostgresLastSeen
from service.use_cases.lease import LeaseLost
from tests.leases import FENCE, take_lease

ALICE = UserId("alice")
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, size=4)
    await database.open()
    yield database
    await database.close()


async def test_counterparts_come_by_latest_activity_and_are_bounded(database: Database) -> None:
    conversations = PostgresConversationRepository(database)
    for number in range(5):
        await conversations.open(direct_conversation(ALICE, f"user{number}"), uuid7(time.time_ns()))
    await conversations.open(direct_conversation(UserId("bob"), "carol"), uuid7(time.time_ns()))
    counterparts = PostgresCounterparts(database)
    assert await counterparts.of(ALICE, 3) == ["user4", "user3", "user2"]
    assert await counterparts.of(UserId("nobody"), 3) == []
    candidates = [UserId(name) for name in ("user3", "bob", "alice", "user0")]
    assert await counterparts.among(ALICE, candidates) == ["user3", "user0"]


async def test_last_seen_only_grows(database: Database) -> None:
    last_seen = PostgresLastSeen(database)
    assert await last_seen.of([ALICE]) == {}
    assert await last_seen.record(ALICE, NOON) == NOON
    assert await last_seen.record(ALICE, NOON - timedelta(hours=1)) == NOON
    assert await last_seen.record(ALICE, NOON + timedelta(hours=1)) == NOON + timedelta(hours=1)
    assert await last_seen.of([ALICE, UserId("bob")]) == {ALICE: NOON + timedelta(hours=1)}


async def test_preferences_change_one_by_one(database: Database) -> None:
    preferences = PostgresPreferences(database)
    assert await preferences.of(ALICE) == Preferences()
    changed = await preferences.change(ALICE, read_receipts=False, invisible=None)
    assert changed == Preferences(read_receipts=False, invisible=False)
    changed = await preferences.change(ALICE, read_receipts=None, invisible=True)
    assert changed == Preferences(read_receipts=False, invisible=True) == await preferences.of(ALICE)
    changed = await preferences.change(ALICE, read_receipts=True, invisible=False)
    assert changed == Preferences()


async def test_preferences_under_a_lease_change_only_while_it_is_held(
    database: Database, database_url: str
) -> None:
    preferences = PostgresPreferences(database, FENCE)
    changed = await preferences.change(ALICE, read_receipts=None, invisible=True)
    assert changed == Preferences(invisible=True)
    held = take_lease(database_url)
    with pytest.raises(LeaseLost):
        await preferences.change(ALICE, read_receipts=None, invisible=False)
    assert await preferences.of(ALICE) == Preferences(invisible=True)
    changed = await PostgresPreferences(database, held).change(ALICE, read_receipts=False, invisible=None)
    assert changed == Preferences(read_receipts=False, invisible=True)
