"""MQTT 5, with the codec of the product."""

from __future__ import annotations

from typing import Unpack

import mqtt5

from tests.integration.broker.raw_client import Login, Message, Properties, RawClient, Will

NOT_AUTHORIZED = 0x87
CONNECTION_RATE_EXCEEDED = 0x9F
"""CONNACK of Mosquitto 2.1; 2.0 has no other than 0x87 for a plugin."""
TOO_MUCH = frozenset({0x87, 0x97})
"""PUBACK of what is refused as too much: Mosquitto 2.0 has no other code for a plugin, 2.1 has 0x97."""


class Mqtt5Client(RawClient):
    """MQTT 5."""

    refused = NOT_AUTHORIZED
    refused_filter = NOT_AUTHORIZED

    async def connect(self, login: Login) -> int:
        self._writer.write(
            mqtt5.ConnectPacket(
                login.client_id,
                username=login.username,
                password=None if login.password is None else login.password.encode(),
                clean_start=login.clean,
                session_expiry_interval=login.session_expiry,
                will=None if login.will is None else _codec_will(login.will),
            ).write()
        )
        connack = _decode(await self._answer(0x20))
        assert isinstance(connack, mqtt5.ConnAckPacket)
        self.session_present = connack.session_present
        return connack.reason_code

    async def connect_with_method(self, method: str, client_id: str) -> int:
        """Asks for enhanced authentication and returns the reason code of the CONNACK."""
        self._writer.write(mqtt5.ConnectPacket(client_id, authentication_method=method).write())
        return (await self._answer(0x20))[3]

    async def subscribe(self, *filters: str) -> list[int]:
        subscribe = mqtt5.SubscribePacket(
            self._next_packet_id(),
            [mqtt5.TopicFilter(pattern, max_qos=mqtt5.QoS.AT_LEAST_ONCE) for pattern in filters],
        )
        self._writer.write(subscribe.write())
        suback = _decode(await self._answer(0x90))
        assert isinstance(suback, mqtt5.SubAckPacket)
        return [int(code) for code in suback.reason_codes]

    async def unsubscribe(self, *filters: str) -> list[int]:
        """Returns the reason code for each filter."""
        packet = mqtt5.UnsubscribePacket(self._next_packet_id(), list(filters))
        self._writer.write(packet.write())
        unsuback = _decode(await self._answer(0xB0))
        assert isinstance(unsuback, mqtt5.UnsubAckPacket)
        return [int(code) for code in unsuback.reason_codes]

    async def publish(
        self,
        topic: str,
        payload: bytes = b"{}",
        *,
        retain: bool = False,
        **properties: Unpack[Properties],
    ) -> int:
        packet_id = self._next_packet_id()
        packet = mqtt5.PublishPacket(
            topic,
            payload,
            qos=mqtt5.QoS.AT_LEAST_ONCE,
            retain=retain,
            packet_id=packet_id,
            **properties,
        )
        self._writer.write(packet.write())
        # By hand: the codec does not know every code that Mosquitto sends, such as 0x95.
        puback = await self._answer(0x40)
        return puback[4] if len(puback) > 4 else 0

    def signal(self, topic: str, payload: bytes = b"{}") -> None:
        """Publishes with QoS 0."""
        self._writer.write(mqtt5.PublishPacket(topic, payload).write())

    def begin_exactly_once(self, topic: str, payload: bytes = b"{}") -> None:
        """Publishes with QoS 2, and says no more."""
        packet = mqtt5.PublishPacket(
            topic, payload, qos=mqtt5.QoS.EXACTLY_ONCE, packet_id=self._next_packet_id()
        )
        self._writer.write(packet.write())

    def _disconnect_reason(self, packet: bytes) -> int | None:
        return packet[2] if len(packet) > 2 else 0

    def _message(self, packet: bytes) -> tuple[Message, bytes]:
        publish = _decode(packet)
        assert isinstance(publish, mqtt5.PublishPacket)
        answer = b"" if publish.packet_id is None else mqtt5.PubAckPacket(publish.packet_id).write()
        message = Message(
            topic=publish.topic,
            payload=publish.payload,
            correlation_data=publish.correlation_data,
            user_properties=publish.user_properties,
        )
        return message, answer


def _codec_will(will: Will) -> mqtt5.Will:
    return mqtt5.Will(
        will.topic,
        payload=will.payload,
        qos=mqtt5.QoS.AT_LEAST_ONCE,
        retain=will.retain,
        will_delay_interval=will.delay,
    )


def _decode(packet: bytes) -> mqtt5.Packet:
    decoded, _ = mqtt5.read(memoryview(packet))
    return decoded
