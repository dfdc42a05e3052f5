"""What comes in has one end, whatever happens on the way."""

from __future__ import annotations

import json
from typing import Any, cast

import mqtt5

from bridge.inbound import Inbound
from bridge.outbound import Outbound
from bridge.session import Delivery
from bridge.topics import Topics
from tests.unit.bridge.wire import connected_session, deliveries, packets


class Broken:
    """Any collaborator, with a defect in every method."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"a defect near {name}")


def test_a_defect_is_answered_and_acknowledged_like_any_other_refusal() -> None:
    session = connected_session()
    topics = Topics("chat/v1")
    outbound = Outbound(topics, session, (), lambda: None, on_sent=lambda *_: None)
    broken = cast(Any, Broken())
    inbound = Inbound(topics, outbound, broken, broken, broken, typing=broken, presence=broken)
    command = mqtt5.PublishPacket(
        "chat/v1/users/alice/commands/sendMessage",
        b'{"recipientId":"bob","clientMessageId":"0b0e7a1e-4c55-4f55-9e55-0a53a8b6f001","text":"canary"}',
        qos=mqtt5.QoS.AT_LEAST_ONCE,
        packet_id=5,
    )
    received: list[Delivery] = deliveries(session, command.write())
    inbound.take(received)
    error, puback = packets(session.data_to_send())
    assert isinstance(error, mqtt5.PublishPacket)
    assert error.topic == "chat/v1/users/alice/events/error"
    body = json.loads(error.payload)
    assert (body["code"], body["retryable"]) == ("INTERNAL", True)
    assert body["clientMessageId"] == "0b0e7a1e-4c55-4f55-9e55-0a53a8b6f001"
    assert "canary" not in body["message"]
    assert isinstance(puback, mqtt5.PubAckPacket)
    assert puback.packet_id == 5
