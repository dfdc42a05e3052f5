"""Every kind of violation is planted once, and found; nothing is found where nothing is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults.checker import Class, Verdict, check
from tests.faults.ledger import (
    Attempt,
    Foreign,
    HistoryPage,
    Leak,
    Ledger,
    Listed,
    Live,
    Record,
    Refused,
    Relation,
    ResyncPage,
    Sent,
    Told,
    read,
)
from tests.unit.faults.ledgers import (
    ALICE,
    BOB,
    CONVERSATION,
    MESSAGES,
    WALL,
    attempt,
    changed,
    good_records,
    ledger_of,
    message,
    with_reads,
    without,
)


def verdict_of(records: Sequence[Record]) -> Verdict:
    return check(ledger_of(records))


def invariants(records: Sequence[Record]) -> set[str]:
    return {violation.invariant for violation in verdict_of(records).violations}


def is_about(record: Record, kind: type[Sent] | type[Live], seq: int) -> bool:
    return isinstance(record, kind) and record.message.seq == seq


def test_a_run_with_nothing_wrong_has_no_violation() -> None:
    verdict = verdict_of(good_records())
    assert verdict.violations == []
    assert verdict.classes == {Class.OK: 6}
    assert verdict.acknowledged == 6


def test_the_ledger_of_a_file_is_the_ledger_that_was_written(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "ledger.jsonl"
    ledger = Ledger(file)
    for record in good_records():
        ledger.record(record)
    ledger.close()
    again = read(file)
    for kind in {type(record) for record in good_records()}:
        assert list(again.of(kind)) == list(ledger.of(kind))
    assert check(again).violations == []


class TestClasses:
    def test_acknowledged_and_not_in_history_is_lost(self) -> None:
        verdict = verdict_of(with_reads(MESSAGES[:5]))
        assert verdict.classes[Class.LOST] == 1
        assert "I1" in {violation.invariant for violation in verdict.violations}

    def test_acknowledged_with_an_id_that_is_not_in_history_is_lost(self) -> None:
        records = changed(
            Sent, lambda sent: replace(sent, message=replace(sent.message, message_id="another"))
        )
        assert verdict_of(records).classes[Class.LOST] == 1

    def test_one_key_twice_in_history_is_a_duplicate(self) -> None:
        twin = replace(MESSAGES[0], message_id="id-7", seq=7)
        verdict = verdict_of(with_reads([*MESSAGES, twin]))
        assert verdict.classes[Class.DUPLICATED] == 1
        assert "I1" in {violation.invariant for violation in verdict.violations}

    def test_another_position_than_was_told_is_reordered(self) -> None:
        records = changed(Sent, lambda sent: replace(sent, message=replace(sent.message, seq=9)))
        verdict = verdict_of(records)
        assert verdict.classes[Class.REORDERED] == 1
        assert "I2" in {violation.invariant for violation in verdict.violations}

    def test_unacknowledged_and_in_history_is_recovered(self) -> None:
        verdict = verdict_of(without(good_records(), lambda record: is_about(record, Sent, 6)))
        assert verdict.classes == {Class.OK: 5, Class.RECOVERED: 1}
        assert verdict.violations == []

    def test_unacknowledged_and_twice_in_history_is_a_duplicate(self) -> None:
        twin = replace(MESSAGES[5], message_id="id-7", seq=7)
        records = without(with_reads([*MESSAGES, twin]), lambda record: is_about(record, Sent, 6))
        assert verdict_of(records).classes[Class.DUPLICATED] == 1

    def test_never_attempted_and_in_history_is_unexpected(self) -> None:
        verdict = verdict_of(with_reads([*MESSAGES, message(7, ALICE)]))
        assert verdict.classes[Class.UNEXPECTED] == 1
        assert "I4" in {violation.invariant for violation in verdict.violations}

    def test_other_bytes_than_were_attempted_are_unexpected(self) -> None:
        other = replace(MESSAGES[2], text=MESSAGES[2].text + " ")
        verdict = verdict_of(with_reads([*MESSAGES[:2], other, *MESSAGES[3:]]))
        assert verdict.classes[Class.UNEXPECTED] == 1
        assert "I4" in {violation.invariant for violation in verdict.violations}

    def test_neither_acknowledged_nor_in_history_is_unknown(self) -> None:
        verdict = verdict_of([*good_records(), attempt(1, at=7.0, key="another")])
        assert verdict.classes == {Class.OK: 6, Class.UNKNOWN: 1}
        assert verdict.violations == []

    def test_refused_for_good_and_nowhere_is_refused(self) -> None:
        records = [*good_records(), attempt(1, at=7.0, key="another"), refusal("another")]
        assert verdict_of(records).classes == {Class.OK: 6, Class.REFUSED: 1}

    def test_refused_for_good_and_in_history_is_unexpected(self) -> None:
        records = without(good_records(), lambda record: is_about(record, Sent, 5))
        verdict = verdict_of([*records, refusal("key-5")])
        assert verdict.classes[Class.UNEXPECTED] == 1

    def test_refused_once_and_acknowledged_later_is_ok(self) -> None:
        records = [refusal("key-5", retryable=True), *good_records()]
        assert verdict_of(records).classes == {Class.OK: 6}


def refusal(key: str, *, retryable: bool = False) -> Refused:
    return Refused(
        at=7.1,
        user=ALICE,
        command="sendMessage",
        key=key,
        code="STORAGE_UNAVAILABLE" if retryable else "NOT_CONNECTED",
        retryable=retryable,
        retry_after_ms=None,
    )


class TestOrder:
    def test_positions_that_do_not_increase(self) -> None:
        assert "I2" in invariants(with_reads([MESSAGES[1], MESSAGES[0], *MESSAGES[2:]]))

    def test_a_history_that_shows_a_position_twice(self) -> None:
        assert "I2" in invariants(with_reads([*MESSAGES, replace(message(7, ALICE), seq=6)]))

    @pytest.mark.parametrize("kind", [HistoryPage, ResyncPage])
    def test_one_reader_misses_a_message(self, kind: type[HistoryPage] | type[ResyncPage]) -> None:
        def shorter(page: HistoryPage | ResyncPage) -> HistoryPage | ResyncPage:
            page = replace(page, messages=page.messages[:-1])
            return replace(page, statuses=page.statuses[:-1]) if isinstance(page, HistoryPage) else page

        assert "I2" in invariants(changed(kind, shorter))

    def test_one_reader_could_not_resync(self) -> None:
        records = without(
            good_records(), lambda record: isinstance(record, ResyncPage) and record.user == BOB
        )
        assert "I2" in invariants(records)

    def test_a_live_event_about_what_is_not_in_history(self) -> None:
        stray = Live(at=7.0, user=BOB, message=message(9, ALICE))
        assert "I2" in invariants([*good_records(), stray])

    def test_a_live_event_at_another_position(self) -> None:
        records = changed(Live, lambda live: replace(live, message=replace(live.message, seq=3)))
        assert "I2" in invariants(records)

    def test_a_live_event_with_other_bytes(self) -> None:
        records = changed(Live, lambda live: replace(live, message=replace(live.message, text="otherwise")))
        assert "I4" in invariants(records)

    def test_a_page_on_the_way_that_says_otherwise(self) -> None:
        page = next(record for record in good_records() if isinstance(record, ResyncPage))
        swapped = (replace(MESSAGES[0], seq=2), replace(MESSAGES[1], seq=1))
        assert "I2" in invariants([*good_records(), replace(page, messages=swapped, final=False)])

    def test_a_message_sent_after_an_acknowledgement_stands_before_it(self) -> None:
        records = [replace(record, at=6.9) if record == attempt(5) else record for record in good_records()]
        assert invariants(records) == {"I2"}

    def test_two_of_one_sender_and_connection_change_places(self) -> None:
        assert invariants(swapped()) == {"I2"}

    def test_one_that_was_to_be_tried_again_may_come_later(self) -> None:
        assert invariants([refusal("key-5", retryable=True), *swapped()]) == set()

    def test_one_that_was_sent_twice_may_come_later(self) -> None:
        assert invariants([*swapped(), attempt(5, at=4.9, number=2)]) == set()


def swapped() -> list[Record]:
    """The fifth was attempted just before the third, both early: no acknowledgement orders them."""
    at = {"key-3": 1.15, "key-5": 1.1}
    return [
        replace(record, at=at.get(record.key, record.at)) if isinstance(record, Attempt) else record
        for record in good_records()
    ]


class TestAccess:
    def test_a_canary_word_anywhere_it_must_not_be(self) -> None:
        leak = Leak(at=1.0, word="canary0000000000000001", place="the log service-0.log")
        assert invariants([*good_records(), leak]) == {"I5"}

    def test_an_event_at_somebody_else(self) -> None:
        assert invariants([*good_records(), Foreign(at=1.0, user=BOB, what="an event of somebody else")]) == {
            "I5"
        }

    def test_a_message_of_a_pair_that_was_never_connected(self) -> None:
        assert "I6" in invariants(changed(Relation, lambda relation: replace(relation, connected=False)))

    def test_a_message_committed_after_the_revocation_and_its_bound(self) -> None:
        assert invariants([*good_records(), revocation(4.9)]) == {"I6"}

    def test_a_message_committed_within_the_bound_may_be_accepted(self) -> None:
        assert invariants([*good_records(), revocation(5.5)]) == set()

    def test_a_message_attempted_in_time_and_committed_after_the_bound(self) -> None:
        late = replace(MESSAGES[5], committed_wall=WALL + 7.0)
        records = [
            replace(record, message=late)
            if isinstance(record, Sent | Live) and record.message.seq == 6
            else record
            for record in with_reads([*MESSAGES[:5], late])
        ]
        assert invariants([*records, revocation(5.5)]) == {"I6"}

    def test_a_message_that_was_acknowledged_and_is_nowhere_counts_too(self) -> None:
        assert "I6" in invariants([*with_reads(MESSAGES[:5]), revocation(4.9)])

    def test_a_pair_that_is_connected_again_may_write_at_once(self) -> None:
        again = Relation(at=5.9, wall=WALL + 5.9, users=(BOB, ALICE), connected=True)
        assert invariants([*good_records(), revocation(4.5), again]) == set()


def revocation(at: float) -> Relation:
    return Relation(at=at, wall=WALL + at, users=(BOB, ALICE), connected=False)


class TestRecipients:
    def test_a_recipient_who_never_heard_of_it(self) -> None:
        """That it is in the history does not help: nobody told him to look."""
        records = without(good_records(), lambda record: is_about(record, Live, 3))
        assert invariants(records) == {"I3"}

    def test_a_recipient_who_found_it_by_its_own_resync(self) -> None:
        page = next(record for record in good_records() if isinstance(record, ResyncPage))
        own = replace(page, user=BOB, at=5.0, after_seq=2, messages=(MESSAGES[2],), positions=(), final=False)
        records = without(good_records(), lambda record: is_about(record, Live, 3))
        assert invariants([own, *records]) == set()


class TestPositions:
    @pytest.mark.parametrize("is_read", [False, True])
    def test_a_receipt_that_goes_back(self, is_read: bool) -> None:
        back = Told(at=7.5, user=ALICE, whose=BOB, conversation_id=CONVERSATION, is_read=is_read, seq=2)
        assert invariants([*good_records(), back]) == {"I8"}

    def test_a_page_whose_position_goes_back(self) -> None:
        page = next(record for record in good_records() if isinstance(record, ResyncPage))
        back = replace(
            page, at=9.5, asked_at=9.4, messages=(), positions=((ALICE, 6, 6), (BOB, 2, 2)), final=False
        )
        assert invariants([*good_records(), back]) == {"I8"}

    def test_a_page_that_was_asked_for_before_the_news_need_not_have_it(self) -> None:
        page = next(record for record in good_records() if isinstance(record, ResyncPage))
        late = replace(page, at=9.5, asked_at=7.0, messages=(), positions=((BOB, 2, 2),), final=False)
        assert invariants([*good_records(), late]) == set()

    def test_more_was_told_than_is_stored(self) -> None:
        told = Told(at=7.5, user=ALICE, whose=BOB, conversation_id=CONVERSATION, is_read=True, seq=5)
        assert invariants([*good_records(), told]) == {"I8"}

    @pytest.mark.parametrize(("place", "status"), [(0, "DELIVERED"), (0, "SENT"), (4, "READ")])
    def test_a_status_that_is_not_what_was_marked(self, place: int, status: str) -> None:
        def other(page: HistoryPage) -> HistoryPage:
            statuses = list(page.statuses)
            statuses[place] = status
            return replace(page, statuses=tuple(statuses))

        assert invariants(changed(HistoryPage, other)) == {"I8"}

    @pytest.mark.parametrize("change", [{"unread": 1}, {"read_seq": 5}, {"read_seq": 0}, {"last_seq": 5}])
    def test_a_list_that_does_not_add_up(self, change: dict[str, int]) -> None:
        assert invariants(changed(Listed, lambda listed: replace(listed, **change))) == {"I8"}  # type: ignore[arg-type]

    def test_a_conversation_that_is_not_in_the_list(self) -> None:
        records = without(good_records(), lambda record: isinstance(record, Listed) and record.user == BOB)
        assert invariants(records) == {"I8"}
