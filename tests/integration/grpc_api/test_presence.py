"""GetPresence, GetPreferences and SetPreferences over the wire."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from proto.messaging.v1 import messaging_pb2 as pb
from service.cache.presence import RedisPresence
from service.domain.errors import ErrorCode
from service.domain.ids import UserId
from service.domain.presence import PresenceState
from service.storage.database import Database
from service.storage.presence import PostgresLastSeen
from service.use_cases.presence_ports import SessionReport
from tests.contract.conversation_reader.seeding import PostgresSeed
from tests.integration.grpc_api.client import Client, assert_refused
from tests.unit.use_cases.connected_pairs import ConnectedPairs

ONLINE, AWAY, OFFLINE = pb.PRESENCE_STATE_ONLINE, pb.PRESENCE_STATE_AWAY, pb.PRESENCE_STATE_OFFLINE


async def report(store: RedisPresence, user: str, state: PresenceState) -> None:
    await store.hide(UserId(user), False)
    await store.report([SessionReport(user_id=UserId(user), session_id="s", state=state)])


async def states(client: Client, caller: str, *users: str) -> dict[str, int]:
    return {each.user_id: each.state for each in (await client.presence(caller, *users)).presences}


async def test_presence_is_told_of_connected_counterparts_only(
    client: Client, seed: PostgresSeed, presence: RedisPresence, connections: ConnectedPairs
) -> None:
    await seed.conversation("alice", "bob")
    # Carol once wrote to Alice and is connected no more; Dave is connected and they never talked.
    await seed.conversation("alice", "carol")
    connections.connect("alice", "dave")
    for user in ("alice", "bob", "carol", "dave"):
        await report(presence, user, PresenceState.ONLINE)
    everybody = ("bob", "carol", "dave", "alice", "nobody", "bob")
    assert await states(client, "alice", *everybody) == {"bob": ONLINE}
    assert await states(client, "carol", *everybody) == {}
    assert await states(client, "stranger", *everybody) == {}
    await report(presence, "bob", PresenceState.AWAY)
    assert await states(client, "alice", "bob") == {"bob": AWAY}
    connections.connect("alice", "carol")
    assert await states(client, "alice", "carol", "bob") == {"carol": ONLINE, "bob": AWAY}


async def test_who_is_offline_was_last_seen(
    client: Client, seed: PostgresSeed, presence: RedisPresence, database: Database
) -> None:
    await seed.conversation("alice", "bob")
    assert list((await client.presence("alice", "bob")).presences) == [
        pb.Presence(user_id="bob", state=OFFLINE)
    ]
    left = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    await PostgresLastSeen(database).record(UserId("bob"), left)
    (gone,) = (await client.presence("alice", "bob")).presences
    assert (gone.state, gone.last_seen_at.ToDatetime(UTC)) == (OFFLINE, left)
    await report(presence, "bob", PresenceState.ONLINE)
    (back,) = (await client.presence("alice", "bob")).presences
    assert (back.state, back.HasField("last_seen_at")) == (ONLINE, False)


async def test_an_invisible_user_looks_offline(
    client: Client, seed: PostgresSeed, presence: RedisPresence
) -> None:
    await seed.conversation("alice", "bob")
    await report(presence, "bob", PresenceState.ONLINE)
    await presence.hide(UserId("bob"), True)
    assert await states(client, "alice", "bob") == {"bob": OFFLINE}


async def test_one_to_a_hundred_users_are_asked_about(client: Client) -> None:
    hundred = [f"user{number}" for number in range(100)]
    assert await states(client, "alice", *hundred) == {}
    for wrong in ([], [*hundred, "bob"], ["a/b"], [""], ["x" * 65]):
        await assert_refused(client.presence("alice", *wrong), ErrorCode.INVALID_PAYLOAD)


async def test_when_connections_cannot_be_checked_presence_is_not_told(
    client: Client, seed: PostgresSeed, connections: ConnectedPairs
) -> None:
    await seed.conversation("alice", "bob")
    connections.reachable = False
    await assert_refused(client.presence("alice", "bob"), ErrorCode.AUTHORIZATION_UNAVAILABLE)


async def test_preferences_are_ones_own_and_change_one_by_one(client: Client) -> None:
    assert await client.preferences("alice") == pb.Preferences(read_receipts=True, invisible=False)
    changed = await client.set_preferences("alice", read_receipts=False)
    assert changed == pb.Preferences(read_receipts=False, invisible=False)
    changed = await client.set_preferences("alice", invisible=True)
    assert changed == pb.Preferences(read_receipts=False, invisible=True)
    assert await client.preferences("alice") == changed
    assert await client.preferences("bob") == pb.Preferences(read_receipts=True, invisible=False)
    both = await client.set_preferences("alice", read_receipts=True, invisible=False)
    assert both == await client.preferences("alice") == pb.Preferences(read_receipts=True)


@pytest.mark.parametrize("user", ["alice", "nobody-yet"])
async def test_a_change_of_nothing_is_refused(client: Client, user: str) -> None:
    await assert_refused(client.set_preferences(user), ErrorCode.INVALID_PAYLOAD)
