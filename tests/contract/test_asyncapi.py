"""`docs/asyncapi.yaml` is a valid AsyncAPI 3 document and says what the code says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from jsonschema import Draft7Validator

from bridge.payloads import MAX_PAYLOAD_BYTES, encode_error, encode_message
from bridge.topics import COMMANDS, CONNECTIONS_CHANGED, DEAD_LETTERED, CommandTopic, PlatformTopic, Topics
from service.domain.conversation import direct_conversation
from service.domain.errors import RETRYABLE, ErrorCode, Rejection
from service.domain.ids import USER_ID, ClientMessageId, MessageId, UserId, uuid7
from service.domain.message import MAX_TEXT_CHARACTERS, Message
from tests.asyncapi_schemas import (
    DOCUMENT_PATH,
    FORMATS,
    accepted_commands,
    document,
    event_schema,
    published_events,
    validate_event,
    validator,
)

_SPECIFICATION = Path(__file__).with_name("asyncapi-3.0.0.schema.json")


def _schemas() -> dict[str, Any]:
    schemas: dict[str, Any] = document()["components"]["schemas"]
    return schemas


def _values_of(key: str, node: Any) -> Iterator[Any]:
    if isinstance(node, dict):
        for name, value in node.items():
            if name == key:
                yield value
            yield from _values_of(key, value)
    elif isinstance(node, list):
        for value in node:
            yield from _values_of(key, value)


def _resolve(reference: str) -> Any:
    node: Any = document()
    for level in reference.removeprefix("#/").split("/"):
        node = node[level.replace("~1", "/").replace("~0", "~")]
    return node


def _message(text: str = "hello", at: datetime | None = None) -> Message:
    return Message(
        id=MessageId(uuid7(1_732_000_000_000_000_000)),
        conversation_id=direct_conversation(UserId("alice"), "bob").id,
        seq=1,
        sender_id=UserId("alice"),
        client_message_id=ClientMessageId(uuid4()),
        text=text,
        created_at=at or datetime(2025, 11, 21, 9, 30, tzinfo=UTC),
    )


def test_document_is_valid_asyncapi_3() -> None:
    specification = json.loads(_SPECIFICATION.read_text(encoding="utf-8"))
    errors = Draft7Validator(specification).iter_errors(document())
    faults = [f"{list(error.absolute_path)}: {error.message}" for error in errors]
    assert faults == []


def test_specification_schema_refuses_a_misspelt_key() -> None:
    specification = json.loads(_SPECIFICATION.read_text(encoding="utf-8"))
    broken = {**document(), "channels": {"x": {"adress": "chat/v1"}}}
    assert not Draft7Validator(specification).is_valid(broken)


def test_every_reference_leads_somewhere() -> None:
    references = [value for value in _values_of("$ref", document()) if isinstance(value, str)]
    assert references
    for reference in references:
        assert isinstance(_resolve(reference), dict), reference


def test_references_have_no_siblings_because_draft_07_ignores_those() -> None:
    def nodes(node: Any) -> Iterator[dict[str, Any]]:
        if isinstance(node, dict):
            yield node
            for value in node.values():
                yield from nodes(value)
        elif isinstance(node, list):
            for value in node:
                yield from nodes(value)

    assert [node for node in nodes(document()) if "$ref" in node and len(node) > 1] == []


def test_operations_use_messages_of_their_own_channel() -> None:
    for name, operation in document()["operations"].items():
        prefix = operation["channel"]["$ref"] + "/messages/"
        assert all(message["$ref"].startswith(prefix) for message in operation["messages"]), name


_QOS_1_EVENTS = {"newMessage", "presenceTold", "connectionsChanged", "commandDeadLettered"}


def test_every_channel_has_exactly_one_operation_never_retained() -> None:
    used = [operation["channel"]["$ref"] for operation in document()["operations"].values()]
    assert sorted(used) == sorted(f"#/channels/{name}" for name in document()["channels"])
    for operation in document()["operations"].values():
        assert operation["bindings"]["mqtt"]["retain"] is False


def test_commands_but_typing_and_events_that_nobody_asks_for_again_have_qos_1() -> None:
    for operation in document()["operations"].values():
        channel = operation["channel"]["$ref"].rsplit("/", 1)[1]
        is_safe = channel != "typing" if operation["action"] == "receive" else channel in _QOS_1_EVENTS
        assert operation["bindings"]["mqtt"]["qos"] == int(is_safe), channel


def test_every_schema_is_valid_json_schema_and_uses_known_formats_only() -> None:
    for schema in _schemas().values():
        Draft7Validator.check_schema(schema)
    assert set(_values_of("format", _schemas())) <= set(FORMATS.checkers)


def test_every_message_has_examples_and_they_match_its_schema() -> None:
    for name, message in document()["components"]["messages"].items():
        schema_name = message["payload"]["$ref"].rsplit("/", 1)[1]
        assert message["examples"], name
        for example in message["examples"]:
            assert [e.message for e in validator(schema_name).iter_errors(example["payload"])] == [], name


def test_error_codes_are_the_closed_list() -> None:
    assert _schemas()["errorCode"]["enum"] == [code.value for code in ErrorCode]


def test_retryable_codes_are_those_of_the_domain() -> None:
    assert set(_schemas()["error"]["if"]["properties"]["code"]["enum"]) == {code.value for code in RETRYABLE}


def test_limits_are_those_of_the_code() -> None:
    assert _schemas()["text"]["maxLength"] == MAX_TEXT_CHARACTERS
    assert _schemas()["userId"]["pattern"] == f"^{USER_ID.pattern}$"
    assert document()["components"]["messages"]["sendMessage"]["x-maximum-payload-bytes"] == MAX_PAYLOAD_BYTES


def test_topics_are_those_of_the_bridge() -> None:
    topics = Topics("chat/v1")
    addresses = {name: channel["address"] for name, channel in document()["channels"].items()}
    alice = UserId("alice")
    assert accepted_commands() == COMMANDS
    for command in COMMANDS:
        assert topics.parse(addresses[command].format(userId=alice)) == CommandTopic(alice, command)
    assert topics.parse(addresses["connectionsChanged"]) == PlatformTopic(CONNECTIONS_CHANGED)
    assert addresses["commandDeadLettered"] == topics.platform_event(DEAD_LETTERED)
    for event in published_events():
        assert addresses[event_schema(event)].format(userId=alice) == topics.event(alice, event)


def test_what_we_publish_has_no_other_fields_and_clients_may_send_more() -> None:
    for event in published_events():
        assert _schemas()[event_schema(event)]["additionalProperties"] is False
    for command in accepted_commands():
        assert _schemas()[command]["additionalProperties"] is True
    assert _schemas()["connectionsChanged"]["additionalProperties"] is True
    dead_letter = _schemas()["commandDeadLettered"]
    assert (
        dead_letter["additionalProperties"]
        is dead_letter["properties"]["data"]["additionalProperties"]
        is False
    )
    assert set(dead_letter["properties"]["data"]["properties"]["command"]["enum"]) == COMMANDS


@pytest.mark.parametrize("at", [datetime(2025, 1, 2, tzinfo=UTC), datetime(2025, 1, 2, 3, 4, 5, 678901, UTC)])
@pytest.mark.parametrize(
    "text", ["a", "\U0001f600" * MAX_TEXT_CHARACTERS, "e" + "\u0301" * 4_999, "مرحبا\n\t\x01"]
)
def test_encoded_messages_match(text: str, at: datetime) -> None:
    message = _message(text, at.astimezone(timezone(timedelta(hours=5))))
    validate_event("newMessage", json.loads(encode_message(message)))
    validate_event("messageSent", json.loads(encode_message(message, "r-1")))


@pytest.mark.parametrize("code", list(ErrorCode))
def test_encoded_errors_match(code: ErrorCode) -> None:
    rejection = Rejection(code, "why", retry_after_ms=1_000 if code in RETRYABLE else None)
    validate_event("error", json.loads(encode_error(rejection, "sync", None, None)))
    validate_event("error", json.loads(encode_error(rejection, "sendMessage", str(uuid4()), "r-1")))


@pytest.mark.parametrize(
    "change",
    [
        {"seq": 0},
        {"seq": "1"},
        {"text": ""},
        {"text": "x" * (MAX_TEXT_CHARACTERS + 1)},
        {"text": "\x00"},
        {"timestamp": "2025-11-21T09:30:00Z"},
        {"timestamp": "2025-13-21T09:30:00.000000Z"},
        {"senderId": "a/b"},
        {"messageId": str(uuid4())},
        {"conversationId": str(uuid4())},
        {"clientMessageId": str(uuid4()).upper()},
        {"status": "SENT"},
    ],
    ids=lambda change: "-".join(change),
)
def test_a_wrong_new_message_is_noticed(change: dict[str, Any]) -> None:
    payload = json.loads(encode_message(_message()))
    with pytest.raises(AssertionError, match="does not match"):
        validate_event("newMessage", {**payload, **change})


@pytest.mark.parametrize(
    "change",
    [
        {"code": "NO_SUCH_CODE"},
        {"code": "INTERNAL", "retryable": False},
        {"retryable": True},
        {"retryAfterMs": 5},
        {"trace": "x"},
    ],
    ids=lambda change: "-".join(change),
)
def test_a_wrong_error_is_noticed(change: dict[str, Any]) -> None:
    payload = {"code": "NOT_CONNECTED", "message": "why", "retryable": False, "command": "sendMessage"}
    validate_event("error", payload)
    with pytest.raises(AssertionError, match="does not match"):
        validate_event("error", {**payload, **change})


def test_an_event_that_the_document_does_not_know_is_noticed() -> None:
    with pytest.raises(AssertionError, match="no event"):
        validate_event("sendMessage", {})


def test_topic_root_and_examples_name_no_real_hosts() -> None:
    hosts = {server["host"] for server in document()["servers"].values()}
    assert hosts == {"{host}:{port}"}
    assert not re.search(r"https?://", DOCUMENT_PATH.read_text(encoding="utf-8"))
