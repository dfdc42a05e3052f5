"""Calls that write are limited for each user, calls that read are not."""

from __future__ import annotations

import pytest

from service.domain.errors import ErrorCode
from service.use_cases.ports import RateLimit
from tests.fakes import MemoryRateLimit
from tests.integration.grpc_api.client import Client, assert_refused


@pytest.fixture
def writes() -> RateLimit:
    return MemoryRateLimit(4)


async def test_one_user_writes_so_often_and_reads_on(client: Client) -> None:
    for _ in range(3):
        await client.open("alice", "bob")
    await client.set_preferences("alice", invisible=True)
    for call in (
        client.open("alice", "bob"),
        client.set_preferences("alice", invisible=False),
    ):
        refusal = await assert_refused(call, ErrorCode.RATE_LIMITED)
        assert refusal.metadata["error-retryable"] == "true"
        assert 0 < int(refusal.metadata["error-retry-after-ms"]) <= 10_000
    assert len((await client.conversations("alice")).conversations) == 1
    await client.open("bob", "carol")
