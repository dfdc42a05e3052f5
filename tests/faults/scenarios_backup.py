"""A backup made while everybody writes, and restored beside an empty broker."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import mqtt5

from devstack.mosquitto import JwtOptions, MosquittoServer
from devstack.ports import LOOPBACK, free_port
from devstack.python_server import Surroundings, messaging_service
from tests.faults import collect
from tests.faults.arena import Arena
from tests.faults.clients import User
from tests.faults.disks import run
from tests.faults.events import messages_of
from tests.faults.ledger import HistoryPage, Ledger, Message, Sent
from tests.faults.link import DeviceLink, Login
from tests.faults.scenario import Scenario
from tests.faults.servers import DATABASE

_RESTORED = "restored"
_ANSWERED_WITHIN_S = 10.0
_RESYNCED = 10
"""Users who come with an empty device and read everything."""


async def restored(arena: Arena) -> None:
    """What was acknowledged before the dump is there, in order, without holes, and it goes on from there."""
    dump = arena.folder / "dump"
    url = arena.servers.postgresql.url
    began = arena.ledger.now()
    await asyncio.to_thread(run, "pg_dump", "--format=custom", f"--file={dump}", url(DATABASE))
    arena.ledger.fault("pg_dump")
    await arena.pause(1.0)
    await asyncio.to_thread(arena.servers.postgresql.create_database, _RESTORED)
    await asyncio.to_thread(run, "pg_restore", "--exit-on-error", f"--dbname={url(_RESTORED)}", str(dump))
    async with _second_stack(arena) as stack:
        conversations = await _read_all(arena, stack)
        _holds_what_was_acknowledged(arena, conversations, before=began)
        # One of each pair: the other would find its message.
        users = {user.hearing.view.conversation_id: user for user in arena.load.with_conversation()}
        for conversation_id in arena.random.sample(sorted(users), _RESYNCED):
            await _goes_on(arena, stack, users[conversation_id], conversations[conversation_id])
    await asyncio.to_thread(arena.servers.postgresql.drop_database, _RESTORED)
    arena.note("conversations restored", len(conversations))


@dataclass(frozen=True, slots=True)
class _Stack:
    """Where the restored data is served."""

    grpc_target: str
    mqtt_port: int


@asynccontextmanager
async def _second_stack(arena: Arena) -> AsyncIterator[_Stack]:
    """A broker that knows nothing, and a service on the restored database."""
    servers = arena.servers
    broker = MosquittoServer(
        arena.folder / "empty-mosquitto",
        free_port(),
        free_port(),
        jwt=JwtOptions(secret=servers.jwt_secret),
        log_file=arena.folder / "logs" / "empty-mosquitto.log",
    )
    surroundings = Surroundings(
        database_url=servers.postgresql.url(_RESTORED),
        redis_url=servers.redis.url,
        broker_port=broker.mqtt_port,
        connections_port=servers.connections.port,
        jwt_secret=servers.jwt_secret,
    )
    log_file = arena.folder / "logs" / "restored-service.log"
    grpc_port, http_port = free_port(), free_port()
    service = messaging_service(log_file, surroundings, grpc_port=grpc_port, http_port=http_port)
    try:
        await asyncio.to_thread(broker.start)
        await asyncio.to_thread(service.start)
        yield _Stack(f"{LOOPBACK}:{grpc_port}", broker.mqtt_port)
    finally:
        await asyncio.to_thread(service.stop)
        await asyncio.to_thread(broker.stop)


async def _read_all(arena: Arena, stack: _Stack) -> Mapping[str, Sequence[Message]]:
    """Every conversation's history as the restored service tells it; both participants must read the same."""
    ledger = Ledger()
    await collect.collect_histories(arena.load, ledger, stack.grpc_target)
    read: dict[str, dict[str, list[Message]]] = defaultdict(lambda: defaultdict(list))
    for page in ledger.of(HistoryPage):
        read[page.conversation_id][page.user] += page.messages
    for conversation_id, readers in read.items():
        first, *others = readers.values()
        if any(other != first for other in others):
            arena.violate("I2", f"both participants read {conversation_id} otherwise after a restore")
        if [message.seq for message in first] != list(range(1, len(first) + 1)):
            arena.violate("I2", f"positions in {conversation_id} have holes after a restore")
    return {conversation_id: next(iter(readers.values())) for conversation_id, readers in read.items()}


def _holds_what_was_acknowledged(
    arena: Arena, conversations: Mapping[str, Sequence[Message]], *, before: float
) -> None:
    answered = [answer.message for answer in arena.ledger.of(Sent) if answer.at < before]
    there = {message for messages in conversations.values() for message in messages}
    lost = [message for message in answered if message not in there]
    arena.note("acknowledged before the dump", len(answered))
    for message in lost[:10]:
        arena.violate("I1", f"{message.message_id} was acknowledged before the dump and is not restored")


async def _goes_on(arena: Arena, stack: _Stack, user: User, stored: Sequence[Message]) -> None:
    """An empty device reads everything by `sync`, and a new message stands behind it."""
    device = _NewDevice(user)
    try:
        async with asyncio.timeout(_ANSWERED_WITHIN_S):
            await device.connect(stack.mqtt_port, arena.token(user.name))
            if await device.sync() != list(stored):
                arena.violate("I2", f"{user.name} resyncs otherwise than it reads after a restore")
            if await device.send() <= len(stored):
                arena.violate("I2", f"a new message of {user.name} took the place of a restored one")
    finally:
        device.link.abort()
    arena.note("devices resynced")


class _NewDevice:
    """Knows nothing, and keeps nothing in the ledger: what it does is done to a copy."""

    def __init__(self, user: User) -> None:
        self._profile = user.profile
        self._conversation_id = user.hearing.view.conversation_id
        self._events: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue()
        self.link = DeviceLink(self._on_publish, websocket=False)

    async def connect(self, port: int, token: str) -> None:
        """Raises what `DeviceLink.open` raises."""
        user = self._profile.user_id
        login = Login(
            client_id=f"{user}:new", username=user, token=token, subscribe=self._profile.event_filter
        )
        await self.link.open(port, login)

    async def sync(self) -> Sequence[Message]:
        """The whole conversation."""
        read: list[Message] = []
        while True:
            after = read[-1].seq if read else 0
            page = await self._ask(
                "sync", {"conversationId": self._conversation_id, "afterSeq": after}, "syncPage"
            )
            read += messages_of(page)
            if page["complete"]:
                return read

    async def send(self) -> int:
        """The position of a new message."""
        body = {
            "recipientId": self._profile.peer_id,
            "clientMessageId": str(uuid4()),
            "text": self._profile.canary,
        }
        return int((await self._ask("sendMessage", body, "messageSent"))["seq"])

    async def _ask(self, command: str, body: Mapping[str, object], answer: str) -> dict[str, Any]:
        self.link.publish(self._profile.command_topic(command), json.dumps(body).encode())
        while True:
            name, payload = await self._events.get()
            if name == answer:
                return payload

    def _on_publish(self, packet: mqtt5.PublishPacket) -> None:
        self._events.put_nowait((packet.topic.rpartition("/")[2], json.loads(packet.payload)))


SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        name="dump-restored",
        run=restored,
        fault="`pg_dump` under load restored beside an empty broker",
    ),
)
