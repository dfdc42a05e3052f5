"""Asks for what a conversation misses, until nothing is missing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from messaging_client.background import Background
from messaging_client.errors import ClientClosed, CommandRejected
from messaging_client.events import SyncPage
from messaging_client.inbox import Inbox
from messaging_client.link import Link
from messaging_client.options import MessagingClientOptions
from messaging_client.requests import Requester

_LOGGER = logging.getLogger("messaging_client")

_AT_ONCE = 4
"""Conversations that are asked for at the same time: a client that returns must not flood the service."""


class Repair:
    """One task for each conversation that wants a page."""

    def __init__(
        self, options: MessagingClientOptions, inbox: Inbox, requester: Requester, background: Background
    ) -> None:
        self._options = options
        self._inbox = inbox
        self._requester = requester
        self._background = background
        self._active: set[str] = set()
        self._slots = asyncio.Semaphore(_AT_ONCE)

    def start(self, conversation_id: str) -> None:
        """Repairs a conversation, unless that is under way."""
        if conversation_id not in self._active:
            self._active.add(conversation_id)
            self._background.start(self._repair(conversation_id), "repair")

    def connected(self, link: Link) -> None:
        """Events may have been lost while there was no connection: finds out what changed."""
        if self._options.list_conversations is None:
            self._doubt(self._inbox.known())
        else:
            self._background.start(self._compare(link), "compare conversations")

    async def _compare(self, link: Link) -> None:
        """Asks only for conversations whose last `seq` in the list is not the one known here."""
        assert self._options.list_conversations is not None
        failures = 0
        while not link.lost.done():
            try:
                async with asyncio.timeout(self._options.connect_timeout):
                    listed = await self._options.list_conversations()
            except Exception as error:
                # Whatever the application's callback raises, or that it took too long. Until it works,
                # every conversation is asked for.
                _LOGGER.warning("the conversation list failed: %s", type(error).__name__)
                if failures == 0:
                    self._doubt(self._inbox.known())
                pause = self._options.retry.delay(failures, self._options.jitter)
                failures += 1
                await asyncio.wait({link.lost}, timeout=pause)
                continue
            for conversation_id, summary in listed.items():
                self._inbox.take_positions(conversation_id, summary.positions)
                order = self._inbox.order(conversation_id)
                order.exists(summary.last_seq)
                if order.wants_page:
                    self.start(conversation_id)
            return

    def _doubt(self, conversation_ids: Iterable[str]) -> None:
        for conversation_id in list(conversation_ids):
            self._inbox.order(conversation_id).doubt()
            self.start(conversation_id)

    async def _repair(self, conversation_id: str) -> None:
        order = self._inbox.order(conversation_id)
        idle = 0
        try:
            while order.wants_page:
                before, doubts = order.position, order.doubts
                async with self._slots:
                    await self._inbox.room()
                    page = await self._ask(conversation_id, order.position)
                self._inbox.take_page(page)
                if page.complete:
                    order.settle(doubts)
                if order.wants_page and order.position == before:
                    # What is known to exist is not told: the service lost it, or reads from elsewhere.
                    await asyncio.sleep(self._options.retry.delay(idle, self._options.jitter))
                    idle += 1
        except CommandRejected as error:
            _LOGGER.warning("a conversation cannot be repaired: %s", error.code)
        except ClientClosed:
            return
        finally:
            self._active.discard(conversation_id)

    async def _ask(self, conversation_id: str, after_seq: int) -> SyncPage:
        fields = {"conversationId": conversation_id, "afterSeq": after_seq}
        return await self._requester.ask("sync", fields, SyncPage)
