"""Three people with two devices each, the model beside them, and the comparison of the two."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import count
from typing import Any
from uuid import uuid4

from service.domain.conversation import direct_conversation
from service.domain.ids import UserId
from tests.conftest import MintToken
from tests.end_to_end.grpc_reader import GrpcReader
from tests.end_to_end.reference_client import ReferenceClient
from tests.end_to_end.stack import Stack
from tests.end_to_end.state_machine.model import Conversation, Model, Written

DEVICES = 6
NO_MESSAGE = "00000000-0000-7000-8000-000000000000"
_worlds = count(1)
_RANK = {"SENT": 0, "DELIVERED": 1, "READ": 2}


Send = tuple[ReferenceClient, str, str, str]
"""Who, in which conversation, with which key, which text."""


class World:
    """Fresh people on the running system; the one in the middle is connected with both others.

    Device numbers 0 and 1 are the first person's, 2 and 3 the second's, 4 and 5 the third's.
    """

    def __init__(self, stack: Stack, reader: GrpcReader, token: MintToken) -> None:
        number = next(_worlds)
        self.people = tuple(f"{name}-{number}" for name in ("ann", "ben", "cem"))
        ann, ben, cem = self.people
        self.devices = [
            ReferenceClient(stack.mosquitto.mqtt_port, person, token(person), device_id=device)
            for person in self.people
            for device in ("phone", "tablet")
        ]
        pairs = ((ann, ben), (ben, cem))
        self.model = Model({conversation_id(*pair): pair for pair in pairs})
        self._lossy: set[ReferenceClient] = set()
        self._stack = stack
        self._reader = reader
        self._statuses: dict[tuple[str, str], list[str]] = {}
        for pair in pairs:
            stack.connections.connect(*pair)

    async def start(self) -> None:
        """All devices are connected and know which conversations there are."""
        for device in self.devices:
            device.follow(self.model.of(device.user_id))
            await device.connect()

    async def stop(self) -> None:
        """Nobody is connected."""
        for device in self.devices:
            device.drop()

    async def acting(self, number: int) -> ReferenceClient:
        """That device, or its owner's other one where it is away; it comes back where both are."""
        chosen = self.devices[number]
        if not chosen.is_connected:
            chosen = self.devices[number ^ 1]
        if not chosen.is_connected:
            await self.reconnect(chosen)
        return chosen

    def conversation(self, device: ReferenceClient, choice: int) -> tuple[str, Conversation]:
        """One of the conversations of the device's owner."""
        own = sorted(self.model.of(device.user_id).items())
        return own[choice % len(own)]

    async def send(self, sends: Sequence[Send]) -> None:
        """Sends (device, conversation, key, text) all at once; the answers put them into the model."""
        await self.take_answers(self.publish(sends))

    def publish(self, sends: Sequence[Send]) -> list[tuple[Send, str]]:
        """Sends without waiting for any answer; each with its request id."""
        return [
            ((device, id_, key, text), device.send(self._recipient(device, id_), text, key))
            for device, id_, key, text in sends
        ]

    async def take_answers(self, requests: Sequence[tuple[Send, str]]) -> None:
        """Waits for every answer, holds it to what the model says of that key, and tells the model."""
        new: dict[tuple[str, str], Written] = {}
        for (device, id_, key, text), request_id in requests:
            name, answer = await device.answered(request_id)
            known = self.model.by_key.get((device.user_id, key)) or new.get((device.user_id, key))
            if known is not None and (known.text, known.conversation_id) != (text, id_):
                assert (name, answer["code"]) == ("error", "IDEMPOTENCY_CONFLICT")
                self.model.conversations[id_].is_open = True
                continue
            assert name == "messageSent", answer.get("code")
            written = _written(answer)
            assert known is None or written == known
            assert (written.sender, written.key, written.text) == (device.user_id, key, text)
            new[device.user_id, key] = written
        # What one device sends keeps its order.
        for device, id_ in {(device, id_) for (device, id_, _, _), _ in requests}:
            keys = [key for (sender, where, key, _), _ in requests if (sender, where) == (device, id_)]
            seqs = [new[device.user_id, key].seq for key in keys if (device.user_id, key) in new]
            assert seqs == sorted(seqs)
        for message in sorted(new.values(), key=lambda message: message.seq):
            if (message.sender, message.key) not in self.model.by_key:
                self.model.append(message)

    async def mark(
        self, device: ReferenceClient, id_: str, message: Written, *, is_read: bool, restart: bool = False
    ) -> None:
        """Marks; a message of elsewhere is an error, and what is late is answered with what holds."""
        conversation = self.model.conversations[id_]
        marking = device.mark_read if is_read else device.mark_delivered
        request_id = marking(id_, message.message_id)
        if restart:
            await self.restart_service()
        if is_read:
            name, answer = await device.answered(request_id)
        else:
            # Without an answer of its own: over when the answer to the command behind it is there.
            await device.answered(device.mark_read(id_, NO_MESSAGE))
            name, answer = device.answers.get(request_id, ("", {}))
        if message.conversation_id != id_:
            assert is_read is False or (name, answer["code"]) == ("error", "MESSAGE_NOT_FOUND")
            return
        conversation.mark(device.user_id, message.seq, is_read=is_read)
        if is_read:
            assert (name, answer["seq"]) == ("messageRead", conversation.read[device.user_id])

    async def restart_service(self) -> None:
        """Kills it and starts it again; what was under way is settled by redelivery and resends."""
        self._stack.service.process.kill()
        await asyncio.to_thread(self._stack.service.process.start)

    def lose(self, device: ReferenceClient, events: int) -> None:
        """The device's application misses the next events, and does not know it."""
        device.to_ignore = events
        self._lossy.add(device)

    async def repair(self, device: ReferenceClient) -> None:
        """The device asks for what it may have missed, as after a reconnect."""
        device.to_ignore = 0
        device.sync(self.model.of(device.user_id))
        await device.settled()
        self._lossy.discard(device)

    async def drop(self, device: ReferenceClient) -> None:
        """Breaks its connection; what it ignores from now on is nothing."""
        device.drop()

    async def reconnect(self, device: ReferenceClient) -> None:
        """Comes back, with its session and with what it knew."""
        device.to_ignore = 0
        await device.connect()
        await device.settled()
        self._lossy.discard(device)

    async def compare(self) -> None:
        """Every connected device and every answer over gRPC says what the model says."""
        for device in self.devices:
            if device.is_connected:
                await self._compare_device(device)
        for person in self.people:
            await self._compare_reads(person)

    async def _compare_device(self, device: ReferenceClient) -> None:
        own = self.model.of(device.user_id)
        assert set(device.timelines) <= set(own), "saw a conversation of others"
        for id_, conversation in own.items():
            expected = [(m.seq, m.sender, m.key, m.text, m.message_id) for m in conversation.messages]
            timeline = device.timelines[id_]
            if device in self._lossy:
                # Until something tells of the loss, less is right and anything else is wrong.
                shown = _shown(timeline.in_order())
                assert shown == expected[: len(shown)]
                continue
            counterpart = conversation.counterpart(device.user_id)
            delivered, read = conversation.delivered[counterpart], conversation.read[counterpart]
            own_read = conversation.read[device.user_id]
            await device.reaches(id_, len(expected))
            await device.hears_delivered(id_, counterpart, delivered)
            await device.hears_read(id_, counterpart, read)
            await device.hears_read(id_, device.user_id, own_read)
            assert _shown(timeline.in_order()) == expected
            assert timeline.delivered[counterpart] == delivered
            assert timeline.read[counterpart] == read
            assert timeline.read[device.user_id] == own_read

    async def _compare_reads(self, person: str) -> None:
        listed = await self._reader.conversations(person)
        own = {id_: made for id_, made in self.model.of(person).items() if made.is_open}
        assert set(listed) == set(own), (set(listed) - set(own), set(own) - set(listed))
        for id_, conversation in own.items():
            assert listed[id_].last_seq == len(conversation.messages)
            assert listed[id_].unread_count == conversation.unread(person)
            history = await self._reader.history(person, id_)
            assert [(m.seq, m.sender_id, m.client_message_id, m.text, m.message_id) for m in history] == [
                (m.seq, m.sender, m.key, m.text, m.message_id) for m in conversation.messages
            ]
            statuses = [_STATUS[message.status] for message in history]
            assert statuses == conversation.statuses()
            before = self._statuses.get((person, id_), [])
            assert all(_RANK[was] <= _RANK[now] for was, now in zip(before, statuses, strict=False))
            self._statuses[person, id_] = statuses

    def _recipient(self, device: ReferenceClient, id_: str) -> str:
        return self.model.conversations[id_].counterpart(device.user_id)


_STATUS = {1: "SENT", 2: "DELIVERED", 3: "READ"}


def conversation_id(first: str, second: str) -> str:
    """Of the two people's direct conversation."""
    return str(direct_conversation(UserId(first), second).id)


def new_key() -> str:
    """A fresh idempotency key."""
    return str(uuid4())


def _written(answer: dict[str, Any]) -> Written:
    return Written(
        conversation_id=answer["conversationId"],
        seq=answer["seq"],
        sender=answer["senderId"],
        key=answer["clientMessageId"],
        text=answer["text"],
        message_id=answer["messageId"],
    )


def _shown(messages: Sequence[dict[str, Any]]) -> list[tuple[int, str, str, str, str]]:
    return [(m["seq"], m["senderId"], m["clientMessageId"], m["text"], m["messageId"]) for m in messages]
