"""The least client that never misses anything: resends until answered, repairs gaps by `sync`.

On the bare codec, so that a test can break its connection at any byte and
open it again in a millisecond. Every event is held to the contract.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from itertools import count
from typing import Any
from uuid import uuid4

import mqtt5

from tests.asyncapi_schemas import validate_event
from tests.end_to_end.timeline import Timeline

PATIENCE_S = 20.0
RESEND_S = 0.5
_UNANSWERED = frozenset({"markAsDelivered"})
"""Commands that only the broker's PUBACK answers, when all is well."""

_POSITION_EVENTS = frozenset({"messageDelivered", "messageRead"})


class ReferenceClient:
    """One device with a persistent session; `connect` and `drop` as often as a test likes."""

    def __init__(
        self, port: int, user_id: str, token: str, *, device_id: str = "phone", checked: bool = True
    ) -> None:
        self.user_id = user_id
        self.port = port
        self.timelines: dict[str, Timeline] = defaultdict(Timeline)
        self.answers: dict[str, tuple[str, dict[str, Any]]] = {}
        self.heard: Counter[str] = Counter()
        self.told: dict[str, list[dict[str, Any]]] = defaultdict(list)
        """Payloads of the events about positions, as they came."""
        self.syncs = 0
        self.ignored = 0
        self.to_ignore = 0
        """How many of the next events are lost on the way from the network to the application."""
        self.failure: BaseException | None = None
        self._login = (f"{user_id}:{device_id}", token)
        self._checked = checked
        self._outbox: dict[str, tuple[str, dict[str, Any]]] = {}
        self._syncing: dict[str, str] = {}
        self._unconfirmed: dict[int, str] = {}
        self._resent_at = 0.0
        self._packet_ids = count(10)
        self._changed = asyncio.Condition()
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None

    @property
    def is_connected(self) -> bool:
        """Whether the last `connect` still holds, as far as is known."""
        return self._reading is not None and not self._reading.done()

    async def connect(self) -> None:
        """Takes the session up again, resends what is unanswered, asks for what was missed."""
        assert not self.is_connected
        client_id, token = self._login
        known_before = list(self.timelines)
        async with asyncio.timeout(PATIENCE_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            packet = mqtt5.ConnectPacket(
                client_id,
                username=self.user_id,
                password=token.encode(),
                clean_start=False,
                session_expiry_interval=3_600,
                receive_max=1_000,
                keep_alive=0,
            )
            events = mqtt5.TopicFilter(
                f"chat/v1/users/{self.user_id}/events/+", max_qos=mqtt5.QoS.AT_LEAST_ONCE
            )
            writer.write(packet.write() + mqtt5.SubscribePacket(1, [events]).write())
            self._writer = writer
            self._unconfirmed.clear()
            subscribed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._reading = asyncio.create_task(self._read(reader, subscribed))
            await subscribed
        self._syncing.clear()
        self.resend()
        self.sync(known_before)

    def drop(self) -> None:
        """Breaks the connection without a word: no DISCONNECT, what is in flight is lost."""
        if self._writer is not None:
            self._writer.transport.abort()
            self._writer = None
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def follow(self, conversation_ids: Iterable[str]) -> None:
        """Knows of these conversations, as from the conversation list."""
        for conversation_id in conversation_ids:
            self.timelines[conversation_id]

    def command(self, name: str, **payload: object) -> str:
        """Sends until answered; returns the request id under which `answers` will have it."""
        request_id = str(uuid4())
        self._outbox[request_id] = (name, {**payload, "requestId": request_id})
        self._publish(request_id)
        return request_id

    def send(self, recipient_id: str, text: str, key: str | None = None) -> str:
        """The command `sendMessage`."""
        key = key or str(uuid4())
        return self.command("sendMessage", recipientId=recipient_id, clientMessageId=key, text=text)

    def mark_read(self, conversation_id: str, message_id: str) -> str:
        """The command `markAsRead`."""
        return self.command("markAsRead", conversationId=conversation_id, lastReadMessageId=message_id)

    def mark_delivered(self, conversation_id: str, message_id: str) -> str:
        """The command `markAsDelivered`: its request is over with the broker's PUBACK."""
        return self.command("markAsDelivered", conversationId=conversation_id, messageId=message_id)

    def resend(self) -> None:
        """Publishes everything unanswered once more, in order."""
        for request_id in list(self._outbox):
            self._publish(request_id)

    def sync(self, conversation_ids: Iterable[str]) -> None:
        """Asks afresh for what follows the head of each."""
        for conversation_id in conversation_ids:
            self._syncing.pop(conversation_id, None)
            self._ask(conversation_id)

    async def answered(self, request_id: str) -> tuple[str, dict[str, Any]]:
        """Name and payload of the answer; resends while there is none."""
        await self.until(lambda: request_id in self.answers)
        return self.answers[request_id]

    async def reaches(self, conversation_id: str, head: int) -> None:
        """Waits until nothing up to that position is missing."""
        timeline = self.timelines[conversation_id]
        await self.until(lambda: timeline.head >= head)

    async def hears_read(self, conversation_id: str, user_id: str, seq: int) -> None:
        """Waits until that user's read position is at least there."""
        timeline = self.timelines[conversation_id]
        await self.until(lambda: timeline.read[user_id] >= seq)

    async def hears_delivered(self, conversation_id: str, user_id: str, seq: int) -> None:
        """The same of the delivered position."""
        timeline = self.timelines[conversation_id]
        await self.until(lambda: timeline.delivered[user_id] >= seq)

    async def settled(self) -> None:
        """Waits until nothing is unanswered, no sync under way and no gap left."""
        await self.until(
            lambda: (
                not self._outbox
                and not self._syncing
                and not any(timeline.has_gap for timeline in self.timelines.values())
            )
        )

    async def until(self, condition: Callable[[], object]) -> None:
        """Waits until the condition holds after some event; resends twice a second while connected.

        Raises what this client choked on, or `TimeoutError`.
        """
        async with asyncio.timeout(PATIENCE_S):
            while True:
                if self.failure is not None:
                    raise AssertionError(f"{self.user_id} got what it must not get") from self.failure
                if condition():
                    return
                try:
                    async with asyncio.timeout(RESEND_S), self._changed:
                        if not condition() and self.failure is None:
                            await self._changed.wait()
                except TimeoutError:
                    self._ask_for_what_is_late()

    def _ask_for_what_is_late(self) -> None:
        """Twice a second for all who wait: each of them alone would make a flood of it."""
        now = asyncio.get_running_loop().time()
        if now - self._resent_at >= RESEND_S:
            self._resent_at = now
            self.resend()
            self._ask_again()

    def _ask(self, conversation_id: str) -> None:
        if conversation_id not in self._syncing:
            self._syncing[conversation_id] = f"sync-{uuid4()}"
            self.syncs += 1
            self._write_sync(conversation_id)

    def _ask_again(self) -> None:
        for conversation_id in self._syncing:
            self._write_sync(conversation_id)

    def _write_sync(self, conversation_id: str) -> None:
        head = self.timelines[conversation_id].head
        request_id = self._syncing[conversation_id]
        body = {"conversationId": conversation_id, "afterSeq": head, "requestId": request_id}
        self._write("sync", body, request_id)

    def _publish(self, request_id: str) -> None:
        command, payload = self._outbox[request_id]
        self._write(command, payload, request_id)

    def _write(self, command: str, payload: dict[str, Any], request_id: str) -> None:
        if self._writer is None or self._writer.is_closing():
            return
        packet_id = next(self._packet_ids) % 60_000 + 10
        self._unconfirmed[packet_id] = request_id
        packet = mqtt5.PublishPacket(
            f"chat/v1/users/{self.user_id}/commands/{command}",
            json.dumps(payload, ensure_ascii=False).encode(),
            qos=mqtt5.QoS.AT_LEAST_ONCE,
            packet_id=packet_id,
        )
        self._writer.write(packet.write())

    async def _read(self, reader: asyncio.StreamReader, subscribed: asyncio.Future[None]) -> None:
        buffer = b""
        try:
            while data := await reader.read(65_536):
                buffer = self._decode(buffer + data, subscribed)
                async with self._changed:
                    self._changed.notify_all()
        except OSError:
            pass  # A broken connection is part of the game.
        except Exception as error:
            self.failure = error
        finally:
            if not subscribed.done():
                subscribed.set_exception(ConnectionError("the broker closed the connection"))

    def _decode(self, data: bytes, subscribed: asyncio.Future[None]) -> bytes:
        view, offset, answers = memoryview(data), 0, []
        while offset < len(data):
            try:
                packet, size = mqtt5.read(view[offset:])
            except IndexError:
                break  # The packet is not whole yet.
            offset += size
            match packet:
                case mqtt5.PublishPacket():
                    self._on_event(packet.topic.rsplit("/", 1)[1], packet.payload)
                    assert packet.topic.split("/")[3] == self.user_id
                    if packet.packet_id is not None:
                        answers.append(mqtt5.PubAckPacket(packet.packet_id).write())
                case mqtt5.PubAckPacket():
                    self._on_puback(packet.packet_id)
                case mqtt5.SubAckPacket():
                    subscribed.set_result(None)
        if answers and self._writer is not None and not self._writer.is_closing():
            self._writer.write(b"".join(answers))
        return data[offset:]

    def _on_puback(self, packet_id: int) -> None:
        request_id = self._unconfirmed.pop(packet_id, "")
        if request_id in self._outbox and self._outbox[request_id][0] in _UNANSWERED:
            del self._outbox[request_id]

    def _on_event(self, name: str, body: bytes) -> None:
        if self.to_ignore:
            self.to_ignore -= 1
            self.ignored += 1
            return
        payload = json.loads(body)
        if self._checked:
            validate_event(name, payload)
        self.heard[name] += 1
        if name in _POSITION_EVENTS:
            self.told[name].append(payload)
        request_id = payload.get("requestId")
        match name:
            case "messageSent" | "newMessage":
                assert (payload["senderId"] == self.user_id) == (name == "messageSent")
                self._timeline(payload).take(payload)
            case "messageRead":
                self._timeline(payload).move(payload["userId"], delivered=0, read=payload["seq"])
            case "messageDelivered":
                self._timeline(payload).move(payload["userId"], delivered=payload["seq"], read=0)
            case "syncPage":
                self._on_page(payload)
            case "error" if payload["retryable"]:
                return
            case "error" if payload["command"] == "sync":
                # A conversation that comes into being with its first message.
                self._syncing = {id_: asked for id_, asked in self._syncing.items() if asked != request_id}
        if request_id is not None:
            self.answers[request_id] = (name, payload)
            self._outbox.pop(request_id, None)
        if name in {"messageSent", "newMessage"} and self._timeline(payload).has_gap:
            self._ask(payload["conversationId"])

    def _timeline(self, payload: dict[str, Any]) -> Timeline:
        return self.timelines[payload["conversationId"]]

    def _on_page(self, page: dict[str, Any]) -> None:
        timeline = self._timeline(page)
        for change in page["changes"]:
            timeline.take(change)
        for at in page["positions"]:
            timeline.move(at["userId"], delivered=at["deliveredSeq"], read=at["readSeq"])
        conversation_id = page["conversationId"]
        if self._syncing.get(conversation_id) == page.get("requestId"):
            del self._syncing[conversation_id]
            if timeline.has_gap or not page["complete"]:
                self._ask(conversation_id)


@asynccontextmanager
async def connected(*clients: ReferenceClient) -> AsyncIterator[None]:
    """The clients are connected while the block runs; what one choked on fails the test."""
    try:
        for client in clients:
            await client.connect()
        yield
    finally:
        for client in clients:
            client.drop()
    for client in clients:
        if client.failure is not None:
            raise AssertionError(f"{client.user_id} got what it must not get") from client.failure


async def send_many(
    sender: ReferenceClient, recipient_id: str, texts: Iterable[str], *, window: int = 1
) -> None:
    """Sends in order with `window` messages unanswered at the most; ends when all are answered."""
    room = asyncio.Semaphore(window)

    async def one(request_id: str) -> None:
        try:
            name, _ = await sender.answered(request_id)
            assert name == "messageSent"
        finally:
            room.release()

    async with asyncio.TaskGroup() as tasks:
        for text in texts:
            await room.acquire()
            tasks.create_task(one(sender.send(recipient_id, text)))
