"""The presence store where Redis is down, comes back empty, or holds what is not ours."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from devstack.ports import free_port
from devstack.redis_server import RedisServer
from service.cache.presence import RedisPresence
from service.domain.ids import UserId
from service.domain.presence import PresenceState
from service.use_cases.presence_ports import PresenceUnavailable, SessionReport

ALICE = UserId("alice")
ONLINE = [SessionReport(user_id=ALICE, session_id="s", state=PresenceState.ONLINE)]


async def test_an_outage_is_one_error_type_and_logged_once_a_change(tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "redis", free_port())
    await asyncio.to_thread(server.start)
    store = RedisPresence(server.url, lease=60, recovery=0.05)
    try:
        with capture_logs() as logs:
            await store.report(ONLINE)
            server.kill()
            for _ in range(10):
                with pytest.raises(PresenceUnavailable):
                    await store.report(ONLINE)
                with pytest.raises(PresenceUnavailable):
                    await store.look_up([ALICE])
            await asyncio.to_thread(server.start)
            # The scripts are gone as well, and are loaded again.
            async with asyncio.timeout(10):
                while True:
                    try:
                        (noted,) = await store.report(ONLINE)
                        break
                    except PresenceUnavailable:
                        await asyncio.sleep(0.02)
            assert noted.is_newcomer
        events = [entry["event"] for entry in logs if entry["event"].startswith("presence_store")]
        assert events == ["presence_store_failing", "presence_store_working_again"]
    finally:
        await store.aclose()
        server.stop()


async def test_a_key_of_another_kind_is_unavailable_not_a_crash(redis_url: str) -> None:
    store = RedisPresence(redis_url, lease=60)
    async with Redis.from_url(redis_url) as client:
        await client.set("messaging:{presence}:user:alice", "not ours")
    with pytest.raises(PresenceUnavailable):
        await store.report(ONLINE)
    with pytest.raises(PresenceUnavailable):
        await store.look_up([ALICE])
    await store.aclose()


async def test_nothing_stays_of_users_who_left(redis_url: str) -> None:
    """Every key has a time to live, and nobody is due for nothing."""
    store = RedisPresence(redis_url, lease=60)
    await store.report(ONLINE)
    await store.hide(ALICE, False)
    await store.settle(ALICE, PresenceState.ONLINE)
    await store.report([SessionReport(user_id=ALICE, session_id="s", state=PresenceState.OFFLINE)])
    await store.settle(ALICE, PresenceState.OFFLINE)
    async with Redis.from_url(redis_url) as client:
        assert await client.keys() == [b"messaging:{presence}:user:alice"]
        assert 0 < await client.ttl("messaging:{presence}:user:alice") <= 3 * 60 + 5
    await store.aclose()
