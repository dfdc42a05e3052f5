"""`docs/asyncapi.yaml` and the bridge agree on what a command is."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import pytest
from pydantic import BaseModel

from bridge import payloads
from bridge.payloads import parse
from service.domain.errors import Rejected
from service.use_cases.sync_conversation import MAX_CHANGES
from tests.asyncapi_schemas import accepted_commands, document, validate_command


def _model(command: str) -> type[BaseModel]:
    """The bridge's model of a command is called after it."""
    model: type[BaseModel] = getattr(payloads, f"{command[0].upper()}{command[1:]}Payload")
    return model


each_command = pytest.mark.parametrize("command", sorted(accepted_commands()))


@each_command
def test_examples_are_accepted_by_the_bridge(command: str) -> None:
    for example in document()["components"]["messages"][command]["examples"]:
        parse(_model(command), json.dumps(example["payload"]).encode())


@each_command
def test_fields_are_those_that_the_bridge_reads(command: str) -> None:
    fields = _model(command).model_json_schema(by_alias=True)
    schema = document()["components"]["schemas"][command]
    assert set(schema["properties"]) == set(fields["properties"])
    assert set(schema.get("required", [])) == set(fields.get("required", []))
    limit = fields["properties"]["requestId"]["anyOf"][0]["maxLength"]
    assert document()["components"]["schemas"]["requestId"]["maxLength"] == limit


def test_a_page_of_sync_is_limited_as_in_the_code() -> None:
    schemas = document()["components"]["schemas"]
    limit = schemas["sync"]["properties"]["limit"]
    assert (limit["maximum"], limit["default"]) == (MAX_CHANGES, MAX_CHANGES)
    assert schemas["syncPage"]["properties"]["changes"]["maxItems"] == MAX_CHANGES


_CONVERSATION = "5f0c1d1e-0f3c-5c1b-8d3b-2a9b8f6f7a01"
_MESSAGE = "019342c5-7e3a-7abc-8def-0123456789ab"
_SEND = {"recipientId": "bob", "clientMessageId": "0b8c5c3e-3c51-4a5e-9a55-6f6f6c4b7a10", "text": "hello"}
_SYNC = {"conversationId": _CONVERSATION, "afterSeq": 0}
_TYPING = {"conversationId": _CONVERSATION, "isTyping": True}
_PRESENCE = {"state": "online", "sessionId": "s-1"}


@pytest.mark.parametrize(
    ("command", "payload", "valid"),
    [
        ("sendMessage", _SEND, True),
        ("sendMessage", {**_SEND, "unknown": [1]}, True),
        ("sendMessage", {**_SEND, "requestId": "r"}, True),
        ("sendMessage", {**_SEND, "requestId": "r" * 129}, False),
        ("sendMessage", {**_SEND, "conversationId": _CONVERSATION}, False),
        (
            "sendMessage",
            {"conversationId": _CONVERSATION, "clientMessageId": str(uuid4()), "text": "x"},
            True,
        ),
        ("sendMessage", {"clientMessageId": _SEND["clientMessageId"], "text": "x"}, False),
        ("sendMessage", {**_SEND, "text": ""}, False),
        ("sendMessage", {**_SEND, "text": "x" * 5_001}, False),
        ("sendMessage", {**_SEND, "text": "a\x00b"}, False),
        ("sendMessage", {**_SEND, "recipientId": "a/b"}, False),
        ("sendMessage", {**_SEND, "recipientId": 7}, False),
        ("sendMessage", {**_SEND, "clientMessageId": "nope"}, False),
        ("markAsDelivered", {"conversationId": _CONVERSATION, "messageId": _MESSAGE}, True),
        ("markAsDelivered", {"conversationId": _CONVERSATION, "messageId": 1}, False),
        ("markAsDelivered", {"conversationId": _CONVERSATION, "lastReadMessageId": _MESSAGE}, False),
        ("markAsDelivered", {"messageId": _MESSAGE}, False),
        ("markAsRead", {"conversationId": _CONVERSATION, "lastReadMessageId": _MESSAGE}, True),
        ("markAsRead", {"conversationId": _CONVERSATION, "lastReadMessageId": "last"}, False),
        ("markAsRead", {"conversationId": _CONVERSATION, "messageId": _MESSAGE}, False),
        ("sync", _SYNC, True),
        ("sync", {**_SYNC, "afterSeq": 2**63 - 1}, True),
        ("sync", {**_SYNC, "afterSeq": 2**63}, False),
        ("sync", {**_SYNC, "afterSeq": -1}, False),
        ("sync", {**_SYNC, "afterSeq": "0"}, False),
        ("sync", {**_SYNC, "afterSeq": True}, False),
        ("sync", {"conversationId": _CONVERSATION}, False),
        ("sync", {**_SYNC, "limit": 1}, True),
        ("sync", {**_SYNC, "limit": 100}, True),
        ("sync", {**_SYNC, "limit": 0}, False),
        ("sync", {**_SYNC, "limit": 101}, False),
        ("typing", _TYPING, True),
        ("typing", {**_TYPING, "isTyping": "yes"}, False),
        ("typing", {**_TYPING, "isTyping": 1}, False),
        ("typing", {"isTyping": True}, False),
        ("presence", _PRESENCE, True),
        ("presence", {**_PRESENCE, "state": "away", "sessionId": "A-z_0.9" + "x" * 57}, True),
        ("presence", {**_PRESENCE, "state": "busy"}, False),
        ("presence", {**_PRESENCE, "sessionId": ""}, False),
        ("presence", {**_PRESENCE, "sessionId": "x" * 65}, False),
        ("presence", {**_PRESENCE, "sessionId": "a b"}, False),
        ("presence", {"state": "online"}, False),
        ("setPreferences", {"invisible": True}, True),
        ("setPreferences", {"readReceipts": False, "invisible": False}, True),
        ("setPreferences", {}, False),
        ("setPreferences", {"requestId": "r"}, False),
        ("setPreferences", {"readReceipts": 0}, False),
    ],
)
def test_document_and_bridge_agree(command: str, payload: dict[str, Any], valid: bool) -> None:
    try:
        parse(_model(command), json.dumps(payload).encode())
        accepted = True
    except Rejected:
        accepted = False
    try:
        validate_command(command, payload)
        described = True
    except AssertionError:
        described = False
    assert (accepted, described) == (valid, valid)
