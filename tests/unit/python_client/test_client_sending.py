"""Matching answers to commands, and one order per conversation."""

from __future__ import annotations

import pytest

from messaging_client import ClientClosed, CommandError, MessagingClient, MessagingClientOptions
from messaging_client.commands import encode_command
from messaging_client.requests import Answers
from messaging_client.sending import Lanes, place_of
from tests.unit.python_client.answers import SENT


async def _no_token() -> str:
    raise AssertionError("never asked")


_OPTIONS = MessagingClientOptions(
    host="127.0.0.1", port=1, user_id="alice", device_id="phone", token=_no_token
)
_ERROR = CommandError(code="PAYLOAD_TOO_LARGE", message="why", retryable=False, command="sendMessage")


async def test_an_answer_reaches_who_waits_for_its_key() -> None:
    answers = Answers()
    mine, other = answers.expect("k"), answers.expect("other")
    answers.offer(SENT, None)
    assert mine.result() is SENT
    assert not other.done()


async def test_an_error_without_key_is_recognised_by_its_correlation_data() -> None:
    answers = Answers()
    waiting = answers.expect("k")
    answers.offer(_ERROR, b"\xff\x00")
    assert not waiting.done()
    answers.offer(_ERROR, b"k")
    assert waiting.result() is _ERROR


async def test_second_and_late_answers_are_ignored() -> None:
    answers = Answers()
    waiting = answers.expect("k")
    answers.offer(SENT, b"k")
    answers.offer(_ERROR, b"k")
    assert waiting.result() is SENT
    answers.forget("k")
    answers.offer(SENT, b"k")


async def test_one_conversation_has_one_lane_once_its_names_are_known_to_be_the_same() -> None:
    lanes = Lanes()
    bob = place_of(recipient_id="bob")
    by_user = lanes.lane(bob)
    assert lanes.conversation_at(bob) is None
    lanes.same(bob, "c")
    assert lanes.lane(place_of(conversation_id="c")) is by_user
    assert lanes.conversation_at(bob) == lanes.conversation_at(place_of(conversation_id="c")) == "c"
    assert lanes.lane(place_of(recipient_id="carol")) is not by_user
    # A conversation's id and a user's id are different names even when they read the same.
    assert lanes.lane(place_of(recipient_id="c")) is not by_user


async def test_two_lanes_of_one_conversation_become_one() -> None:
    lanes = Lanes()
    bob, conversation = place_of(recipient_id="bob"), place_of(conversation_id="c")
    assert lanes.lane(bob) is not lanes.lane(conversation)
    lanes.same(bob, "c")
    assert lanes.lane(bob) is lanes.lane(conversation)


def test_commands_are_compact_utf_8_json() -> None:
    assert encode_command({"text": "é\U0001f600"}) == '{"text":"é\U0001f600"}'.encode()


@pytest.mark.parametrize("value", ["\ud800", float("nan")])
def test_what_json_cannot_hold_is_refused_before_it_is_sent(value: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - UnicodeEncodeError and ValueError, each with its words
        encode_command({"text": value})


async def test_a_client_that_was_not_entered_sends_nothing() -> None:
    with pytest.raises(ClientClosed):
        await MessagingClient(_OPTIONS).send("x", recipient_id="bob")


def test_options_never_show_the_token_callback_and_know_their_topics() -> None:
    assert "token" not in repr(_OPTIONS)
    assert _OPTIONS.client_id == "alice:phone"
    assert _OPTIONS.event_filter == "chat/v1/users/alice/events/+"
    assert _OPTIONS.command_topic("sendMessage") == "chat/v1/users/alice/commands/sendMessage"
