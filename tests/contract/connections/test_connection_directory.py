"""What every `ConnectionDirectory` does, on fakes and on ConnectionsService and Redis alike."""

from __future__ import annotations

import asyncio

import pytest

from service.domain.errors import ErrorCode, Rejected
from service.domain.ids import UserId
from tests.contract.connections.conftest import Subject

ALICE, BOB, CAROL = UserId("alice"), UserId("bob"), UserId("carol")


async def test_it_tells_connections_from_strangers(subject: Subject) -> None:
    subject.script.connect(ALICE, BOB)
    assert await subject.directory.are_connected(ALICE, BOB) is True
    assert await subject.directory.are_connected(ALICE, CAROL) is False


async def test_nothing_is_known_before_it_is_asked(subject: Subject) -> None:
    subject.script.connect(ALICE, BOB)
    assert subject.directory.known(ALICE, BOB) is None
    await subject.directory.are_connected(ALICE, BOB)
    assert subject.directory.known(ALICE, BOB) is True


async def test_both_orders_of_a_pair_are_the_same_pair(subject: Subject) -> None:
    subject.script.connect(ALICE, BOB)
    await subject.directory.are_connected(BOB, ALICE)
    assert subject.directory.known(ALICE, BOB) is True
    assert await subject.directory.are_connected(ALICE, BOB) is True
    await subject.directory.forget(ALICE, BOB)
    assert subject.directory.known(BOB, ALICE) is None
    assert len(subject.script.asked) == 1


async def test_an_answer_is_kept_and_asked_for_once(subject: Subject) -> None:
    subject.script.connect(ALICE, BOB)
    for _ in range(3):
        await subject.directory.are_connected(ALICE, BOB)
    assert len(subject.script.asked) == 1


async def test_a_positive_answer_expires_after_five_seconds(subject: Subject) -> None:
    subject.script.connect(ALICE, BOB)
    await subject.directory.are_connected(ALICE, BOB)
    subject.clock.advance(4.9)
    assert subject.directory.known(ALICE, BOB) is True
    subject.clock.advance(0.2)
    assert subject.directory.known(ALICE, BOB) is None


async def test_a_negative_answer_expires_after_two_seconds(subject: Subject) -> None:
    await subject.directory.are_connected(ALICE, BOB)
    subject.clock.advance(1.9)
    assert subject.directory.known(ALICE, BOB) is False
    subject.clock.advance(0.2)
    assert subject.directory.known(ALICE, BOB) is None


async def test_a_hundred_concurrent_askers_share_one_lookup(subject: Subject) -> None:
    subject.script.connect(ALICE, BOB)
    subject.script.hold()
    askers = [
        asyncio.create_task(subject.directory.are_connected(*pair))
        for _ in range(50)
        for pair in ((ALICE, BOB), (BOB, ALICE))
    ]
    await subject.script.until_asked(1)
    subject.script.release()
    assert await asyncio.gather(*askers) == [True] * 100
    assert len(subject.script.asked) == 1


async def test_lookups_of_different_pairs_do_not_wait_for_each_other(subject: Subject) -> None:
    subject.script.connect(ALICE, BOB)
    answer_first = subject.script.hold()
    held = asyncio.create_task(subject.directory.are_connected(ALICE, BOB))
    await subject.script.until_asked(1)
    subject.script.hold()
    subject.script.release()
    assert await subject.directory.are_connected(ALICE, CAROL) is False
    assert not held.done()
    answer_first()
    assert await held is True


async def test_cancelling_the_first_asker_leaves_the_lookup_to_the_others(subject: Subject) -> None:
    subject.script.connect(ALICE, BOB)
    subject.script.hold()
    first = asyncio.create_task(subject.directory.are_connected(ALICE, BOB))
    await subject.script.until_asked(1)
    second = asyncio.create_task(subject.directory.are_connected(BOB, ALICE))
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    subject.script.release()
    assert await second is True
    assert len(subject.script.asked) == 1


async def test_forgetting_a_pair_brings_the_new_truth(subject: Subject) -> None:
    subject.script.connect(ALICE, BOB)
    assert await subject.directory.are_connected(ALICE, BOB) is True
    subject.script.disconnect(ALICE, BOB)
    await subject.directory.forget(BOB, ALICE)
    assert subject.directory.known(ALICE, BOB) is None
    assert await subject.directory.are_connected(ALICE, BOB) is False


async def test_forgetting_one_pair_keeps_the_others(subject: Subject) -> None:
    subject.script.connect(ALICE, BOB)
    await subject.directory.are_connected(ALICE, BOB)
    await subject.directory.forget(ALICE, CAROL)
    assert subject.directory.known(ALICE, BOB) is True


async def test_forgetting_everything_leaves_nothing_known(subject: Subject) -> None:
    subject.script.connect(ALICE, BOB)
    await subject.directory.are_connected(ALICE, BOB)
    await subject.directory.are_connected(ALICE, CAROL)
    subject.directory.forget_everything()
    assert subject.directory.known(ALICE, BOB) is None
    assert subject.directory.known(ALICE, CAROL) is None


async def test_an_answer_that_an_invalidation_overtook_is_asked_for_again(subject: Subject) -> None:
    subject.script.connect(ALICE, BOB)
    subject.script.hold()
    asker = asyncio.create_task(subject.directory.are_connected(ALICE, BOB))
    await subject.script.until_asked(1)
    subject.script.disconnect(ALICE, BOB)
    await subject.directory.forget(ALICE, BOB)
    subject.script.release()
    assert await asker is False
    assert len(subject.script.asked) == 2
    assert subject.directory.known(ALICE, BOB) is False


async def test_a_refusal_that_a_new_connection_overtook_is_asked_for_again(subject: Subject) -> None:
    subject.script.hold()
    asker = asyncio.create_task(subject.directory.are_connected(ALICE, BOB))
    await subject.script.until_asked(1)
    subject.script.connect(ALICE, BOB)
    await subject.directory.forget(ALICE, BOB)
    subject.script.release()
    assert await asker is True


async def test_forgetting_everything_overtakes_lookups_under_way(subject: Subject) -> None:
    subject.script.connect(ALICE, BOB)
    subject.script.hold()
    asker = asyncio.create_task(subject.directory.are_connected(ALICE, BOB))
    await subject.script.until_asked(1)
    subject.script.disconnect(ALICE, BOB)
    subject.directory.forget_everything()
    subject.script.release()
    assert await asker is False


@pytest.mark.parametrize("connected", [True, False])
async def test_an_answer_overtaken_twice_is_not_trusted_and_not_kept(
    subject: Subject, *, connected: bool
) -> None:
    if connected:
        subject.script.connect(ALICE, BOB)
    answer_first = subject.script.hold()
    asker = asyncio.create_task(subject.directory.are_connected(ALICE, BOB))
    await subject.script.until_asked(1)
    await subject.directory.forget(ALICE, BOB)
    subject.script.hold()
    answer_first()
    await subject.script.until_asked(2)
    await subject.directory.forget(ALICE, BOB)
    subject.script.release()
    with pytest.raises(Rejected) as caught:
        await asker
    assert caught.value.rejection.code is ErrorCode.AUTHORIZATION_UNAVAILABLE
    assert caught.value.rejection.retryable
    assert subject.directory.known(ALICE, BOB) is None


async def test_without_an_answer_it_fails_closed_and_says_when_to_retry(subject: Subject) -> None:
    subject.script.connect(ALICE, BOB)
    subject.script.failing = True
    with pytest.raises(Rejected) as caught:
        await subject.directory.are_connected(ALICE, BOB)
    rejection = caught.value.rejection
    assert rejection.code is ErrorCode.AUTHORIZATION_UNAVAILABLE
    assert rejection.retryable
    assert rejection.retry_after_ms is not None
    assert rejection.retry_after_ms > 0
    assert subject.directory.known(ALICE, BOB) is None


async def test_a_failure_is_not_kept(subject: Subject) -> None:
    subject.script.connect(ALICE, BOB)
    subject.script.failing = True
    with pytest.raises(Rejected):
        await subject.directory.are_connected(ALICE, BOB)
    subject.script.failing = False
    assert await subject.directory.are_connected(ALICE, BOB) is True


async def test_all_askers_of_a_failed_lookup_are_told(subject: Subject) -> None:
    subject.script.failing = True
    subject.script.hold()
    askers = [asyncio.create_task(subject.directory.are_connected(ALICE, BOB)) for _ in range(3)]
    await subject.script.until_asked(1)
    subject.script.release()
    outcomes = await asyncio.gather(*askers, return_exceptions=True)
    assert all(isinstance(outcome, Rejected) for outcome in outcomes)


async def test_a_known_connection_lives_through_an_outage_until_its_time_is_up(subject: Subject) -> None:
    subject.script.connect(ALICE, BOB)
    await subject.directory.are_connected(ALICE, BOB)
    subject.script.failing = True
    subject.clock.advance(4.9)
    assert await subject.directory.are_connected(ALICE, BOB) is True
    subject.clock.advance(0.2)
    await subject.directory.forget(ALICE, BOB)
    with pytest.raises(Rejected):
        await subject.directory.are_connected(ALICE, BOB)
