"""PUBLISH packets that are encoded before the measurement, but for what differs by message."""

from __future__ import annotations

import os

import mqtt5

_SOME_ID = "0" * 36
_SOME_PACKET_ID = 0x5AA5


class CommandTemplate:
    """A command at QoS 1 whose payload holds one UUID, of which only that and the packet id change."""

    def __init__(self, user: str, command: str, payload: str) -> None:
        """`payload` holds the placeholder `{id}` where the UUID stands."""
        packet = mqtt5.PublishPacket(
            f"chat/v1/users/{user}/commands/{command}",
            payload.replace("{id}", _SOME_ID).encode(),
            qos=mqtt5.QoS.AT_LEAST_ONCE,
            packet_id=_SOME_PACKET_ID,
        ).write()
        self._head, packet_id, rest = packet.partition(_SOME_PACKET_ID.to_bytes(2, "big"))
        self._middle, placeholder, self._tail = rest.partition(_SOME_ID.encode())
        if not packet_id or not placeholder:
            raise ValueError("the payload has no place for an id")

    def packet(self, packet_id: int, uuid: bytes) -> bytes:
        """The whole packet; `uuid` is spelled in 36 characters."""
        return b"".join((self._head, packet_id.to_bytes(2, "big"), self._middle, uuid, self._tail))


def signal_packet(user: str, command: str, payload: str) -> bytes:
    """A whole command at QoS 0."""
    return mqtt5.PublishPacket(f"chat/v1/users/{user}/commands/{command}", payload.encode()).write()


class Ids:
    """Random UUIDs of version 4, spelled, made in advance."""

    def __init__(self, count: int) -> None:
        self._ids: list[bytes] = []
        self.refill(count)

    def refill(self, count: int) -> None:
        """Makes more, until there are `count`."""
        for _ in range(count - len(self._ids)):
            word = os.urandom(16).hex()
            spelled = f"{word[:8]}-{word[8:12]}-4{word[13:16]}-a{word[17:20]}-{word[20:]}"
            self._ids.append(spelled.encode())

    def take(self) -> bytes:
        """An id that nobody has."""
        if not self._ids:
            self.refill(1_000)
        return self._ids.pop()
