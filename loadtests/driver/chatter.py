"""Users who write to each other and mark what they get, with every message accounted for."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter

import mqtt5

from loadtests.driver.link import Link
from loadtests.driver.packets import CommandTemplate, Ids, signal_packet

MARK_AFTER_S = 0.05
"""How long a client gathers deliveries before it marks the newest as delivered."""
_TICK_S = 0.005
_OPENED_TOGETHER = 50
"""Users whose first messages come at once: each pair is new, and asked for."""
_FOR_NOW = ("BUSY", "RATE_LIMITED")
"""Refusals of a flood: nothing is wrong with the message."""
_SAID_BY_BROKER = "refused by the broker"
BY_BROKER = "broker"
"""In the place of a code: the PUBACK says that the message was not passed on."""
_FULLY_PARSED = 64
"""Of so many events of a kind one is parsed and held against what was sent."""
_TEXT = "The quick brown fox jumps over the lazy dog; every message of the benchmark says just this, no more."

# Where the ids stand in the service's own encoding; `_check` proves it on whole events.
_MESSAGE_ID = slice(14, 50)
_CLIENT_MESSAGE_ID = slice(-38, -2)


@dataclass(slots=True)
class Ledger:
    """What all chatters of a run have seen."""

    sent: int = 0
    answered: int = 0
    delivered: int = 0
    marked: int = 0
    typing: int = 0
    """Typing signals that reached the other side."""
    duplicates: int = 0
    errors: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    """Messages that were refused and given up, by the code of the refusal."""
    refused_untimed: int = 0
    """Refusals that do not say when to come again."""
    told_by_broker: int = 0
    """Refusals by the broker of which an event tells, beside the PUBACK."""
    wrong: int = 0
    """Events that do not say what was sent."""
    latencies: list[float] = field(default_factory=list)
    """Seconds from the send to the receipt by the recipient."""
    answer_times: list[float] = field(default_factory=list)
    """Seconds from the send to `messageSent`."""


class Chatter:
    """One user with one device, in one conversation."""

    def __init__(self, user: str, ids: Ids, ledger: Ledger, marks: Marks | None) -> None:
        self.user = user
        self.peer: Chatter
        self.conversation_id = ""
        self.window = 0
        """How many messages it keeps unanswered; 0: sends only when told to."""
        self.flying: dict[bytes, float] = {}
        """Send times of messages that the peer has not received."""
        self.unanswered: dict[bytes, float] = {}
        self.cut_off: set[bytes] = set()
        """Messages that were unanswered when a link ended, and are not sent again."""
        self.link = self.new_link()
        self.newest = b""
        """Id of the newest message received that is not marked as delivered yet."""
        self._ids = ids
        self._ledger = ledger
        self._marks = marks
        self.gives_up = False
        """Whether a message that is refused for now is given up; else a refusal is an error."""
        self._sent_as: dict[int, bytes] = {}
        """Messages by packet id, where they are given up; an id that comes again names the newer one."""
        self.reads_every = 0
        """Of so many marks one says read, not only delivered; 0: none does."""
        self._marks_made = 0
        self._send: CommandTemplate
        self._mark: CommandTemplate
        self._read: CommandTemplate
        self._typing = b""
        self._events = 0
        self._handlers: dict[str, Callable[[bytes], None]] = {
            "newMessage": self._on_new_message,
            "messageSent": self._on_message_sent,
            "messageDelivered": lambda payload: None,
            "messageRead": lambda payload: None,
            "typing": self._on_typing,
            "presence": lambda payload: None,
            "error": self._on_error,
        }

    def new_link(self) -> Link:
        """A link that is not opened yet, for the place of one that has ended; what that owes is cut off."""
        self.cut_off.update(self.unanswered)
        self.unanswered.clear()
        link = Link(self._on_publish)
        link.on_refused = self._on_refused_by_broker
        return link

    def meet(self, peer: Chatter) -> None:
        """Who it writes to; the first message opens the conversation."""
        self.peer = peer
        self._send = self._sending({"recipientId": peer.user})

    def _sending(self, target: dict[str, str]) -> CommandTemplate:
        payload = json.dumps(target | {"clientMessageId": "{id}", "text": _TEXT}, separators=(",", ":"))
        return CommandTemplate(self.user, "sendMessage", payload)

    def send(self) -> None:
        """Sends one message."""
        self.link.write(self._next_message())

    def send_together(self, count: int) -> None:
        """Sends several messages in one write; at most 100, which fit into a frame."""
        self.link.write(b"".join([self._next_message() for _ in range(count)]))

    def _next_message(self) -> bytes:
        uuid = self._ids.take()
        self._ledger.sent += 1
        self.flying[uuid] = self.unanswered[uuid] = perf_counter()
        packet_id = self.link.next_packet_id()
        if self.gives_up:
            self._sent_as[packet_id] = uuid
        return self._send.packet(packet_id, uuid)

    def mark(self) -> None:
        """Marks the newest message as delivered or, every so often, as read."""
        self._ledger.marked += 1
        self._marks_made += 1
        is_read = self.reads_every and self._marks_made % self.reads_every == 0
        template = self._read if is_read else self._mark
        self.link.write(template.packet(self.link.next_packet_id(), self.newest))
        self.newest = b""

    def type(self) -> None:
        """Tells the other side that a message is being written."""
        self.link.write(self._typing)

    def _on_publish(self, packet: mqtt5.PublishPacket) -> None:
        handler = self._handlers.get(packet.topic.rpartition("/")[2])
        if handler is None:
            self._ledger.errors += 1
            return
        handler(packet.payload)

    def _on_new_message(self, payload: bytes) -> None:
        sent_at = self.peer.flying.pop(payload[_CLIENT_MESSAGE_ID], None)
        if sent_at is None:
            self._ledger.duplicates += 1
            return
        self._ledger.delivered += 1
        self._ledger.latencies.append(perf_counter() - sent_at)
        if self._marks is not None:
            if not self.newest:
                self._marks.schedule(self)
            self.newest = payload[_MESSAGE_ID]
        self._check(payload, self.peer.user)

    def _on_message_sent(self, payload: bytes) -> None:
        sent_at = self.unanswered.pop(payload[_CLIENT_MESSAGE_ID], None)
        if sent_at is None:
            self._ledger.duplicates += 1
            return
        self._ledger.answered += 1
        self._ledger.answer_times.append(perf_counter() - sent_at)
        if not self.conversation_id:
            self._settle(json.loads(payload)["conversationId"])
        while len(self.unanswered) < self.window:
            self.send()
        self._check(payload, self.user)

    def _on_error(self, payload: bytes) -> None:
        error = json.loads(payload)
        if self.gives_up and error["code"] in _FOR_NOW and error["message"] == _SAID_BY_BROKER:
            self._ledger.told_by_broker += 1
            self._ledger.refused_untimed += not error.get("retryAfterMs", 0) > 0
            return
        uuid = error.get("clientMessageId", "").encode()
        if not self.gives_up or error["command"] != "sendMessage" or error["code"] not in _FOR_NOW:
            self._ledger.errors += 1
        elif self.unanswered.pop(uuid, None) is None:
            self._ledger.duplicates += 1
        else:
            # Delivered all the same, it would be counted as a duplicate.
            self.flying.pop(uuid, None)
            self._ledger.refused[error["code"]] += 1
            self._ledger.refused_untimed += not error.get("retryAfterMs", 0) > 0

    def _on_refused_by_broker(self, packet_id: int) -> None:
        uuid = self._sent_as.pop(packet_id, b"")
        if self.unanswered.pop(uuid, None) is None:
            self._ledger.errors += 1
        else:
            self.flying.pop(uuid, None)
            self._ledger.refused[BY_BROKER] += 1

    def _on_typing(self, _payload: bytes) -> None:
        self._ledger.typing += 1

    def _settle(self, conversation_id: str) -> None:
        """From now on it writes and marks by the conversation's id."""
        self.conversation_id = conversation_id
        self._send = self._sending({"conversationId": conversation_id})
        place = f'{{"conversationId":"{conversation_id}",'
        self._mark = CommandTemplate(self.user, "markAsDelivered", place + '"messageId":"{id}"}')
        self._read = CommandTemplate(self.user, "markAsRead", place + '"lastReadMessageId":"{id}"}')
        self._typing = signal_packet(self.user, "typing", place + '"isTyping":true}')

    def _check(self, payload: bytes, author: str) -> None:
        self._events += 1
        if self._events % _FULLY_PARSED:
            return
        event = json.loads(payload)
        right = (
            event["senderId"] == author
            and event["text"] == _TEXT
            and event["conversationId"] == self.conversation_id
            and event["messageId"].encode() == payload[_MESSAGE_ID]
            and event["clientMessageId"].encode() == payload[_CLIENT_MESSAGE_ID]
        )
        self._ledger.wrong += not right


class Marks:
    """Lets chatters mark what they received after `MARK_AFTER_S`, with one timer for all of them."""

    def __init__(self) -> None:
        self._due: list[tuple[float, Chatter]] = []

    def schedule(self, chatter: Chatter) -> None:
        """The chatter marks in `MARK_AFTER_S`."""
        self._due.append((perf_counter() + MARK_AFTER_S, chatter))

    async def run(self) -> None:
        """Marks until it is cancelled."""
        while True:
            await asyncio.sleep(_TICK_S)
            now, done = perf_counter(), 0
            for due, chatter in self._due:
                if due > now:
                    break
                chatter.mark()
                done += 1
            del self._due[:done]


@dataclass(frozen=True, slots=True)
class Population:
    """Pairs of chatters, connected, each with an open conversation."""

    chatters: Sequence[Chatter]
    ledger: Ledger

    async def settled(self, seconds: float = 30.0) -> bool:
        """Waits until everything sent is answered and delivered; False if that does not happen in time."""
        return await until(
            lambda: not any(chatter.flying or chatter.unanswered for chatter in self.chatters), seconds
        )

    def close(self) -> None:
        """Cuts all connections."""
        for chatter in self.chatters:
            chatter.link.close()


async def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Waits for a condition; whether it came true in time."""
    deadline = perf_counter() + seconds
    while not condition():
        if perf_counter() > deadline:
            return False
        await asyncio.sleep(0.01)
    return True


async def populate(
    pairs: int,
    *,
    connect: Callable[[Link, str], Awaitable[None]],
    ids: Ids,
    marks: Marks | None = None,
    prefix: str = "user",
) -> Population:
    """Connects pairs of users and opens their conversations with a first message from each, a few at a time.

    Raises `RuntimeError` when one of them cannot open its conversation.
    """
    ledger = Ledger()
    chatters = [Chatter(f"{prefix}-{number:05}", ids, ledger, marks) for number in range(2 * pairs)]
    for first, second in zip(chatters[::2], chatters[1::2], strict=True):
        first.meet(second)
        second.meet(first)
    population = Population(chatters, ledger)
    for start in range(0, len(chatters), _OPENED_TOGETHER):
        together = chatters[start : start + _OPENED_TOGETHER]
        await asyncio.gather(*(connect(each.link, each.user) for each in together))
        for each in together:
            each.send()
        if not await population.settled() or not all(each.conversation_id for each in together):
            population.close()
            raise RuntimeError(f"not every conversation opened: {ledger.answered} of {ledger.sent} answered")
    return population
