"""The parts of a load client that decide something: when to send again, and what is missing."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping

import mqtt5
import pytest

from tests.faults.hearing import Hearing
from tests.faults.ledger import Foreign, Leak, Ledger, Live, Refused
from tests.faults.outbox import Outbox
from tests.faults.profile import Profile
from tests.unit.faults.ledgers import ALICE, BOB, CONVERSATION, MESSAGES

CANARY = "canary0000000000000001"
OTHER_CANARY = "canary0000000000000002"


def event(user: str, name: str, payload: Mapping[str, object]) -> mqtt5.PublishPacket:
    return mqtt5.PublishPacket(f"chat/v1/users/{user}/events/{name}", json.dumps(payload).encode())


def new_message(seq: int, **changes: object) -> dict[str, object]:
    message = MESSAGES[seq - 1]
    return {
        "messageId": message.message_id,
        "conversationId": CONVERSATION,
        "seq": seq,
        "senderId": message.sender_id,
        "text": message.text,
        "timestamp": "2026-01-01T00:00:00.000000Z",
        "clientMessageId": message.key,
    } | changes


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(clock=lambda: 100.0)


@pytest.fixture
def outbox() -> Outbox:
    return Outbox(random.Random(1))


@pytest.fixture
def bob(ledger: Ledger, outbox: Outbox) -> Hearing:
    return Hearing(Profile(user_id=BOB, peer_id=ALICE, canary=CANARY, per_second=1.0), ledger, outbox)


class TestOutbox:
    def test_without_an_answer_it_is_due_again_and_later_each_time(self, outbox: Outbox) -> None:
        outgoing, pauses = outbox.add("key", "text"), []
        assert outbox.due(0.0) == [outgoing]
        for _ in range(6):
            outbox.attempted(outgoing, 10.0)
            pauses.append(outgoing.due - 10.0)
        assert 1.2 <= pauses[0] <= 1.8
        assert all(3.2 <= pause <= 4.8 for pause in pauses[3:])
        assert outbox.due(10.0) == []

    def test_retry_after_is_honoured(self, outbox: Outbox) -> None:
        outbox.attempted(outbox.add("key", "text"), 10.0)
        outbox.postpone("key", 10.0, 5.0)
        assert outbox.due(14.9) == []
        assert len(outbox.due(16.5)) == 1

    def test_a_new_connection_resends_what_the_old_one_may_have_lost_in_order(self, outbox: Outbox) -> None:
        for key in ("first", "second"):
            outbox.attempted(outbox.add(key, "text"), 10.0)
        outbox.all_due()
        assert [outgoing.key for outgoing in outbox.due(10.0)] == ["first", "second"]

    def test_an_answer_counts_once(self, outbox: Outbox) -> None:
        outbox.add("key", "text")
        assert outbox.settle("key")
        assert not outbox.settle("key")
        assert len(outbox) == 0


class TestHearing:
    def test_a_jump_of_seq_asks_for_what_is_missing(self, bob: Hearing) -> None:
        bob.on_publish(event(BOB, "newMessage", new_message(1)))
        assert bob.sync_due is None
        bob.on_publish(event(BOB, "newMessage", new_message(3)))
        assert bob.sync_due is not None
        assert (bob.view.head, bob.view.has_gap) == (1, True)

    def test_a_complete_page_closes_the_gap(self, bob: Hearing) -> None:
        for seq in (1, 3):
            bob.on_publish(event(BOB, "newMessage", new_message(seq)))
        changes = [{"type": "message", **new_message(seq)} for seq in (2, 3)]
        page = {
            "conversationId": CONVERSATION,
            "afterSeq": 1,
            "changes": changes,
            "positions": [],
            "requestId": ":99.5",
            "complete": True,
        }
        bob.on_publish(event(BOB, "syncPage", page))
        assert (bob.view.head, bob.view.newest_of_peer, bob.sync_due) == (3, 3, None)

    def test_somebody_elses_canary_is_a_leak(self, bob: Hearing, ledger: Ledger) -> None:
        bob.on_publish(event(BOB, "newMessage", new_message(1, text=f"{OTHER_CANARY} text")))
        assert [leak.word for leak in ledger.of(Leak)] == [OTHER_CANARY]
        assert len(ledger.of(Live)) == 1

    def test_its_own_canary_in_an_error_is_a_leak(self, bob: Hearing, ledger: Ledger) -> None:
        error = {"code": "INTERNAL", "message": CANARY, "retryable": True, "command": "sendMessage"}
        bob.on_publish(event(BOB, "error", error))
        assert [leak.word for leak in ledger.of(Leak)] == [CANARY]

    def test_an_event_of_another_user_is_foreign(self, bob: Hearing, ledger: Ledger) -> None:
        bob.on_publish(event(ALICE, "newMessage", new_message(1)))
        assert len(ledger.of(Foreign)) == 1
        assert not ledger.of(Live)

    @pytest.mark.parametrize(("retryable", "left"), [(True, 1), (False, 0)])
    def test_only_a_final_error_ends_a_message(
        self, bob: Hearing, ledger: Ledger, outbox: Outbox, retryable: bool, left: int
    ) -> None:
        outbox.add("key", "text")
        error: dict[str, object] = {
            "code": "BUSY" if retryable else "NOT_CONNECTED",
            "message": "no",
            "retryable": retryable,
            "command": "sendMessage",
            "clientMessageId": "key",
            **({"retryAfterMs": 2_000} if retryable else {}),
        }
        bob.on_publish(event(BOB, "error", error))
        assert len(outbox) == left
        assert outbox.due(101.9) == []
        assert [refused.retryable for refused in ledger.of(Refused)] == [retryable]
