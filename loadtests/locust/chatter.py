"""A user who writes to another one, and marks what it gets as delivered and read."""

from __future__ import annotations

import json
import random
import secrets
import time
import uuid
from typing import Any

from locust import task

from loadtests.locust.accounts import NoPlaceLeft, Place
from loadtests.locust.connection import Connection
from loadtests.locust.ledger import Command, Measure
from loadtests.locust.stage import StagedUser, fire
from loadtests.locust.thresholds import CHAT, CONNECT, CONNECTION, MQTT

_TYPING_SHARE = 0.2
"""Of the messages before which the user is seen typing."""
_READING_SHARE = 0.2
"""Of the turns in which the user reads what it was sent."""
_DRAIN_POLL_SECONDS = 0.1
_TEXT = "The quick brown fox jumps over the lazy dog, and then does it all again. " * 3


class Chatter(StagedUser):
    """Sends at a constant rate whatever the answers: a slow system does not slow down what measures it."""

    weight = 9
    _place: Place | None = None
    _is_leaving = False

    def on_start(self) -> None:
        """Takes a place and begins to connect; turns before that is done are left out."""
        deployment = self.stage.deployment
        self._next_turn = time.perf_counter()
        try:
            place = self.stage.accounts.take()
        except NoPlaceLeft as error:
            self._fire(CONNECT, 0, str(error), kind=MQTT)
            return
        self._place = place
        self._pair = place.pair
        self._newest: tuple[int, str] = (0, "")
        self._delivered_seq = 0
        self._read_seq = 0
        self._connection = Connection(
            deployment.broker,
            user=place.user,
            device=f"load-{secrets.token_hex(4)}",
            token=lambda: deployment.tokens.of(place.user),
            topic_root=deployment.topic_root,
            listener=self,
        )
        self._connection.start()
        # Locust starts users in groups; they would send in step.
        time.sleep(random.random() / deployment.message_rate)
        self._next_turn = time.perf_counter()

    def on_stop(self) -> None:
        """Waits, for a bounded time, for what is outstanding; what is lost then is reported."""
        place = self._place
        if place is None:
            return
        self._is_leaving = True
        ledger = place.pair.ledger
        # From now on nobody relies on this user to receive anything new.
        place.pair.present.discard(place.user)
        deadline = time.perf_counter() + self.stage.deployment.drain
        try:
            while ledger.waits_for(place.user) and time.perf_counter() < deadline:
                time.sleep(_DRAIN_POLL_SECONDS)
        finally:
            ledger.abandon(place.user, time.perf_counter())
            self._connection.close()
            self._place = None
            self.stage.accounts.give_back(place)

    def wait_time(self) -> float:
        """Seconds until the next turn; turns that were missed are not made up for.

        Locust's own `constant_throughput` counts from the user's creation, which all of a group share.
        """
        now = time.perf_counter()
        self._next_turn = max(self._next_turn + 1 / self.stage.deployment.message_rate, now)
        return self._next_turn - now

    @task
    def turn(self) -> None:
        """One message, sometimes after typing, and now and then a look at what came."""
        place = self._place
        if place is None or self._is_leaving or not self._connection.is_ready:
            return
        conversation_id = place.pair.conversation_id
        if conversation_id is not None:
            if random.random() < _READING_SHARE:
                self._mark_as_read(place, conversation_id)
            if random.random() < _TYPING_SHARE:
                place.pair.typing_since[place.user] = time.perf_counter()
                typing = json.dumps({"conversationId": conversation_id, "isTyping": True})
                self._connection.publish("typing", typing.encode(), qos=0)
        self._send(place, conversation_id)

    def on_ready(self, seconds: float) -> None:
        """The counterpart's messages can be expected here from now on."""
        self._fire(CONNECT, seconds, kind=MQTT)
        if self._place is not None and not self._is_leaving:
            self._pair.present.add(self._place.user)

    def on_not_connected(self, seconds: float, why: str) -> None:
        """Reports it."""
        self._fire(CONNECT, seconds, why, kind=MQTT)

    def on_lost(self, why: str) -> None:
        """Reports it; the session goes on when the connection is back."""
        self._fire(CONNECTION, 0, why, kind=MQTT)

    def on_defect(self, error: Exception) -> None:
        """Shows up among Locust's exceptions."""
        self.environment.events.user_error.fire(user_instance=self, exception=error, tb=error.__traceback__)

    def on_tick(self) -> None:
        """Sends again what has no answer; marks what came since the last time as delivered."""
        place = self._place
        if place is None:
            return
        for command in self._pair.ledger.due(place.user, time.perf_counter()):
            self._connection.publish(command.name, command.payload)
        if self._pair.conversation_id is not None:
            self._mark_as_delivered(place, self._pair.conversation_id)

    def on_event(self, event: str, payload: bytes) -> None:
        """Settles what the event answers."""
        now = time.perf_counter()
        body: dict[str, Any] = json.loads(payload)
        ledger = self._pair.ledger
        match event:
            case "messageSent":
                self._pair.conversation_id = body["conversationId"]
                ledger.answered(body["clientMessageId"], now)
            case "newMessage":
                self._on_new_message(body, now)
            case "messageDelivered":
                ledger.reached(Measure.DELIVERED, body["userId"], body["seq"], now)
            case "messageRead":
                ledger.answered(body.get("requestId", ""), now)
                if self._place is not None and body["userId"] == self._place.counterpart:
                    # What is read is delivered, and not told of apart.
                    ledger.reached(Measure.DELIVERED, body["userId"], body["seq"], now)
                    ledger.reached(Measure.READ_TOLD, body["userId"], body["seq"], now)
            case "typing":
                began = self._pair.typing_since.pop(body["userId"], None) if body["isTyping"] else None
                if began is not None:
                    self._fire(Measure.TYPING, now - began)
            case "error":
                self._on_error(body, now)

    def _on_new_message(self, body: dict[str, Any], now: float) -> None:
        self._pair.ledger.arrived(body["clientMessageId"], now)
        if body["senderId"] in self._pair.users and body["seq"] > self._newest[0]:
            self._pair.conversation_id = body["conversationId"]
            self._newest = body["seq"], body["messageId"]

    def _on_error(self, body: dict[str, Any], now: float) -> None:
        self._fire(f"error {body['code']}", 0, f"{body['code']} for {body['command']}")
        retry_after = body.get("retryAfterMs", 0) / 1000 if body["retryable"] else None
        key = body.get("clientMessageId") or body.get("requestId", "")
        self._pair.ledger.refused(key, body["code"], retry_after=retry_after, now=now)

    def _send(self, place: Place, conversation_id: str | None) -> None:
        key = str(uuid.uuid4())
        to = {"recipientId": place.counterpart}
        if conversation_id is not None:
            to = {"conversationId": conversation_id}
        text = _TEXT[: random.randint(20, len(_TEXT))]
        fields = {**to, "clientMessageId": key, "text": text}
        self._command(place, "sendMessage", key, fields, answer=Measure.ACKNOWLEDGED, effect=Measure.RECEIVED)

    def _mark_as_read(self, place: Place, conversation_id: str) -> None:
        seq, message_id = self._newest
        if seq > self._read_seq:
            # What is read is delivered: a mark that moves nothing would be told to nobody.
            self._read_seq = self._delivered_seq = seq
            key = uuid.uuid4().hex
            fields = {"conversationId": conversation_id, "lastReadMessageId": message_id, "requestId": key}
            self._command(
                place, "markAsRead", key, fields, answer=Measure.READ, effect=Measure.READ_TOLD, seq=seq
            )

    def _mark_as_delivered(self, place: Place, conversation_id: str) -> None:
        seq, message_id = self._newest
        if seq > self._delivered_seq:
            self._delivered_seq = seq
            key = uuid.uuid4().hex
            fields = {"conversationId": conversation_id, "messageId": message_id, "requestId": key}
            self._command(place, "markAsDelivered", key, fields, effect=Measure.DELIVERED, seq=seq)

    def _command(
        self,
        place: Place,
        name: str,
        key: str,
        fields: dict[str, str],
        *,
        answer: Measure | None = None,
        effect: Measure,
        seq: int = 0,
    ) -> None:
        """Publishes, and expects the answer, and the effect where the counterpart is here to see it."""
        awaited = effect if place.counterpart in place.pair.present else None
        command = Command(
            name=name,
            payload=json.dumps(fields).encode(),
            user=place.user,
            counterpart=place.counterpart,
            answer=answer,
            effect=awaited,
            seq=seq,
            sent_at=time.perf_counter(),
        )
        if answer is not None or awaited is not None:
            place.pair.ledger.sent(key, command)
        self._connection.publish(name, command.payload)

    def _fire(self, name: str, seconds: float, failure: str | None = None, *, kind: str = CHAT) -> None:
        fire(self.environment, kind, name, seconds, failure)
