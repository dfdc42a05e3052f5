"""What a user is told: every event is recorded, searched for what belongs to others, and acted upon."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import mqtt5

from tests.asyncapi_schemas import validate_event
from tests.faults.conversation_view import ConversationView
from tests.faults.events import asked_at, message_of, messages_of, positions_of
from tests.faults.ledger import Foreign, Ledger, Live, Message, Refused, ResyncPage, Sent, Told
from tests.faults.outbox import Outbox
from tests.faults.profile import Profile

RETRY_S = 1.5
"""After so long without an answer a question is asked again."""
_CHECKED_EVERY = 64
"""Of so many events one is held to the contract in full."""


class Hearing:
    """One user's events, and what it knows from them."""

    def __init__(self, profile: Profile, ledger: Ledger, outbox: Outbox) -> None:
        self.view = ConversationView()
        self.confirmed_read = 0
        """The position of its own that a `messageRead` has confirmed."""
        self.answered = 0
        """Messages of its own that were acknowledged."""
        self.answered_at = 0.0
        """When one was last; 0 before the first."""
        self.longest_silence = 0.0
        """The longest time between two acknowledgements."""
        self.received_at = 0.0
        """When it last got a message of its peer's that it did not have."""
        self.sync_due: float | None = None
        """When to ask for changes (again); None while nothing is missing."""
        self.final_pages: dict[str, asyncio.Future[dict[str, Any]]] = {}
        """By request id: pages that are asked for the ledger only."""
        self._profile = profile
        self._ledger = ledger
        self._outbox = outbox
        self._events = 0

    def on_publish(self, packet: mqtt5.PublishPacket) -> None:
        """One delivery; raises only on a defect of this client or a payload that is no JSON object."""
        root, _, name = packet.topic.rpartition("/")
        user = self._profile.user_id
        if root != f"chat/v1/users/{user}/events":
            self._foreign(f"an event of somebody else: {name}")
            return
        # An error never quotes; everything else may hold what this pair wrote.
        self._ledger.leaks(
            f"{name} at {user}", packet.payload, None if name == "error" else self._profile.canary
        )
        payload: dict[str, Any] = json.loads(packet.payload)
        self._check(name, payload)
        match name:
            case "messageSent":
                self._on_sent(message_of(payload))
            case "newMessage":
                self._on_message(message_of(payload))
            case "messageDelivered" | "messageRead":
                self._on_position(payload, is_read=name == "messageRead")
            case "syncPage":
                self._on_page(payload)
            case "error":
                self._on_error(payload)
            case _:
                self._foreign(f"an event that nothing called for: {name}")

    def record_page(self, page: dict[str, Any], *, final: bool) -> None:
        """Puts a `syncPage` into the ledger."""
        self._ledger.record(
            ResyncPage(
                at=self._ledger.now(),
                asked_at=asked_at(page),
                user=self._profile.user_id,
                conversation_id=page["conversationId"],
                after_seq=page["afterSeq"],
                messages=messages_of(page),
                positions=positions_of(page),
                complete=page["complete"],
                final=final,
            )
        )

    def _on_sent(self, message: Message) -> None:
        now = self._ledger.now()
        self._ledger.record(Sent(at=now, user=self._profile.user_id, message=message))
        if self._outbox.settle(message.key):
            if self.answered_at:
                self.longest_silence = max(self.longest_silence, now - self.answered_at)
            self.answered += 1
            self.answered_at = now
        self._take(message)

    def _on_message(self, message: Message) -> None:
        now = self._ledger.now()
        self._ledger.record(Live(at=now, user=self._profile.user_id, message=message))
        if not self.view.knows(message.seq):
            self.received_at = now
        self._take(message)

    def _take(self, message: Message) -> None:
        self.view.take(message, self._profile.user_id)
        if self.view.has_gap and self.sync_due is None:
            # A jump of seq: at once, but not for what is on its way behind this very event.
            self.sync_due = self._ledger.now() + 0.05

    def _on_position(self, payload: dict[str, Any], *, is_read: bool) -> None:
        user, whose, seq = self._profile.user_id, payload["userId"], payload["seq"]
        self._ledger.record(
            Told(
                at=self._ledger.now(),
                user=user,
                whose=whose,
                conversation_id=payload["conversationId"],
                is_read=is_read,
                seq=seq,
            )
        )
        if is_read and whose == user:
            self.confirmed_read = max(self.confirmed_read, seq)

    def _on_page(self, page: dict[str, Any]) -> None:
        waiting = self.final_pages.pop(page["requestId"], None)
        if waiting is not None:
            if not waiting.done():
                waiting.set_result(page)
            return
        self.record_page(page, final=False)
        before = self.view.head
        for message in messages_of(page):
            if not self.view.knows(message.seq) and message.sender_id != self._profile.user_id:
                self.received_at = self._ledger.now()
            self.view.take(message, self._profile.user_id)
        if self.sync_due is None:
            return
        if page["complete"] and not self.view.has_gap:
            self.sync_due = None
        elif page["afterSeq"] == before:
            self.sync_due = 0.0

    def _on_error(self, payload: dict[str, Any]) -> None:
        now, key, command = self._ledger.now(), payload.get("clientMessageId"), payload["command"]
        retryable, retry_after_ms = payload["retryable"], payload.get("retryAfterMs")
        self._ledger.record(
            Refused(
                at=now,
                user=self._profile.user_id,
                command=command,
                key=key,
                code=payload["code"],
                retryable=retryable,
                retry_after_ms=retry_after_ms,
            )
        )
        pause = (retry_after_ms or 500) / 1_000
        if command == "sync" and self.sync_due is not None:
            self.sync_due = now + pause if retryable else None
        elif key is not None and retryable:
            self._outbox.postpone(key, now, pause)
        elif key is not None:
            self._outbox.settle(key)

    def _check(self, name: str, payload: dict[str, Any]) -> None:
        self._events += 1
        if self._events % _CHECKED_EVERY == 1:
            try:
                validate_event(name, payload)
            except AssertionError as error:
                self._foreign(str(error))

    def _foreign(self, what: str) -> None:
        self._ledger.record(Foreign(at=self._ledger.now(), user=self._profile.user_id, what=what))
