"""MQTT 3.1.1, by hand."""

from __future__ import annotations

import struct
from typing import Unpack

from tests.integration.broker.raw_client import Login, Message, Properties, RawClient

#: What SUBACK says of a refused filter in MQTT 3.1.1.
FAILURE = 0x80
#: What CONNACK says of a refused client in MQTT 3.1.1.
REFUSED_NOT_AUTHORIZED = 5


class Mqtt311Client(RawClient):
    """MQTT 3.1.1."""

    refused = REFUSED_NOT_AUTHORIZED
    refused_filter = FAILURE
    #: 0x84 is how bridges of Mosquitto say 4.
    protocol_level = 4

    async def connect(self, login: Login) -> int:
        # MQTT 3.1.1 knows no password without a username.
        username = "" if login.username is None and login.password is not None else login.username
        fields = _text(login.client_id)
        flags = 0x02 if login.clean else 0
        if login.will is not None:
            flags |= 0x0C | (0x20 if login.will.retain else 0)
            fields += _text(login.will.topic) + _binary(login.will.payload)
        if username is not None:
            flags |= 0x80
            fields += _text(username)
        if login.password is not None:
            flags |= 0x40
            fields += _text(login.password)
        self._write(0x10, _text("MQTT") + bytes([self.protocol_level, flags, 0, 0]) + fields)
        connack = await self._answer(0x20)
        self.session_present = connack[2] == 1
        return connack[3]

    async def subscribe(self, *filters: str) -> list[int]:
        packet_id = struct.pack("!H", self._next_packet_id())
        self._write(0x82, packet_id + b"".join(_text(pattern) + b"\x01" for pattern in filters))
        return list((await self._answer(0x90))[4:])

    async def publish(
        self,
        topic: str,
        payload: bytes = b"{}",
        *,
        retain: bool = False,
        **properties: Unpack[Properties],
    ) -> int:
        assert not properties, "MQTT 3.1.1 has none"
        packet_id = struct.pack("!H", self._next_packet_id())
        self._write(0x33 if retain else 0x32, _text(topic) + packet_id + payload)
        await self._answer(0x40)
        return 0

    def _write(self, first: int, rest: bytes) -> None:
        length, header = len(rest), bytearray([first])
        while length > 0x7F:
            header.append(length & 0x7F | 0x80)
            length >>= 7
        header.append(length)
        self._writer.write(header + rest)

    def _disconnect_reason(self, packet: bytes) -> int | None:
        raise AssertionError(f"MQTT 3.1.1 servers do not send {packet!r}")

    def _message(self, packet: bytes) -> tuple[Message, bytes]:
        body = 1 + next(i for i in range(1, 5) if not packet[i] & 0x80)
        (topic_length,) = struct.unpack_from("!H", packet, body)
        topic_end = body + 2 + topic_length
        topic = packet[body + 2 : topic_end].decode()
        if packet[0] & 0x06 == 0:
            return Message(topic=topic, payload=packet[topic_end:]), b""
        packet_id = packet[topic_end : topic_end + 2]
        return Message(topic=topic, payload=packet[topic_end + 2 :]), b"\x40\x02" + packet_id


class BridgeClient(Mqtt311Client):
    """MQTT 3.1.1 as Mosquitto's bridges speak it."""

    protocol_level = 0x84


def _binary(data: bytes) -> bytes:
    return struct.pack("!H", len(data)) + data


def _text(text: str) -> bytes:
    return _binary(text.encode())
