"""From deliveries to the application's events: in order, each once, within bounds."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping

from messaging_client.events import (
    Change,
    Event,
    MessageDelivered,
    MessageRead,
    MessageSent,
    NewMessage,
    OtherChange,
    Position,
    PositionsMoved,
    SyncPage,
)
from messaging_client.ordering import ConversationOrder, Receipts

_LOGGER = logging.getLogger("messaging_client")


class Inbox:
    """The order of every conversation, and the events that wait for the application.

    Beyond `limit` waiting events nothing more is kept: changes are asked for
    again when there is room, other events are dropped.
    """

    def __init__(self, limit: int, positions: Mapping[str, int]) -> None:
        self._limit = limit
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()
        self._orders = {key: ConversationOrder(seq) for key, seq in positions.items()}
        self._held = 0
        self._receipts = Receipts()
        self._room = asyncio.Event()
        self._room.set()
        self.on_gap: Callable[[str], None] = lambda conversation_id: None
        """Told when a conversation wants a page."""
        self.on_new_message: Callable[[NewMessage], None] = lambda message: None
        """Told of every new message when its turn has come."""
        self.on_positions: Callable[[str, tuple[Position, ...]], None] = lambda conversation_id, all_of: None
        """Told where the service sees the participants of a conversation."""

    @property
    def waiting(self) -> int:
        """How many events wait for the application or for earlier messages."""
        return self._events.qsize() + self._held

    def order(self, conversation_id: str) -> ConversationOrder:
        """The order of a conversation; one not known yet begins at 0."""
        return self._orders.setdefault(conversation_id, ConversationOrder())

    def begin(self, conversation_id: str, seq: int) -> None:
        """The application has a conversation up to here, unless it said that it has more."""
        if seq > self.order(conversation_id).position:
            self._orders[conversation_id] = ConversationOrder(seq)

    def known(self) -> Mapping[str, int]:
        """All known conversations with their positions."""
        return {key: order.position for key, order in self._orders.items()}

    async def room(self) -> None:
        """Returns when there is room for another page."""
        await self._room.wait()

    def take(self, event: Event) -> None:
        """Takes in whatever came unasked."""
        match event:
            case NewMessage() | MessageSent() | OtherChange():
                self._take_change(event)
            case SyncPage():
                # Another device asked for it.
                if self._room.is_set():
                    self.take_page(event)
            case MessageDelivered() | MessageRead():
                self._take_mark(event)
            case _:
                if self._room.is_set():
                    self._put(event)
                else:
                    _LOGGER.warning("dropped an event: the application does not read")

    def take_page(self, page: SyncPage) -> None:
        """Takes in a page that was asked for when there was room."""
        order = self.order(page.conversation_id)
        before = order.held
        told = order.apply(page)
        self._held += order.held - before
        self._tell(told)
        self.take_positions(page.conversation_id, page.positions)

    def take_positions(self, conversation_id: str, positions: tuple[Position, ...]) -> None:
        """Takes in where participants stand, from a page or a list."""
        moved = self._receipts.merge(conversation_id, positions)
        if moved:
            self._put(PositionsMoved(conversation_id=conversation_id, positions=moved))
        self.on_positions(conversation_id, positions)

    def end(self) -> None:
        """Nothing more will come."""
        self._events.put_nowait(None)

    async def next(self) -> Event | None:
        """The next event; None after the last one, again and again."""
        event = await self._events.get()
        if event is None:
            self._events.put_nowait(None)
        elif self._events.qsize() <= self._limit // 2:
            self._room.set()
        return event

    def _take_change(self, change: Change) -> None:
        order = self.order(change.conversation_id)
        if self._room.is_set():
            before = order.held
            told = order.offer(change, hold=self._held < self._limit)
            self._held += order.held - before
            self._tell(told)
        else:
            order.exists(change.seq)
        if order.wants_page:
            self.on_gap(change.conversation_id)

    def _take_mark(self, mark: MessageDelivered | MessageRead) -> None:
        if not self._room.is_set():
            # Forgotten for now: a page tells where the positions stand.
            self.order(mark.conversation_id).doubt()
            self.on_gap(mark.conversation_id)
            return
        moves = self._receipts.read if isinstance(mark, MessageRead) else self._receipts.deliver
        if moves(mark.conversation_id, mark.user_id, mark.seq):
            self._put(mark)

    def _tell(self, changes: list[Change]) -> None:
        for change in changes:
            self._put(change)
            if isinstance(change, NewMessage):
                self.on_new_message(change)

    def _put(self, event: Event) -> None:
        self._events.put_nowait(event)
        if self._events.qsize() >= self._limit:
            self._room.clear()


class EventStream(AsyncIterator[Event]):
    """Reads the inbox up to its end; an event counts as handled when the next one is asked for."""

    def __init__(self, inbox: Inbox, handled: Callable[[Event], None]) -> None:
        self._inbox = inbox
        self._handled = handled
        self._last: Event | None = None

    def handled_last(self) -> None:
        """No other event will be asked for, and the last one was handled."""
        if self._last is not None:
            self._handled(self._last)
            self._last = None

    async def __anext__(self) -> Event:
        self.handled_last()
        self._last = await self._inbox.next()
        if self._last is None:
            raise StopAsyncIteration
        return self._last
