"""A user of the load: writes to its peer, marks what it gets, resends until answered, repairs gaps by `sync`.

Independent of the product's client libraries. Everything it attempts and is told goes into the ledger.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Mapping
from typing import Any, Protocol
from uuid import UUID

from tests.faults.events import messages_of, sync_request_id
from tests.faults.hearing import RETRY_S, Hearing
from tests.faults.ledger import Attempt, Ledger, Marking
from tests.faults.link import DeviceLink, Login
from tests.faults.outbox import Outbox
from tests.faults.profile import Profile, Reading

WINDOW = 8
"""Messages of one user without an answer; with so many it writes no new one."""
_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.1, 1.5
_MARK_EVERY_S = 0.3
_SESSION_S = 3_600


class TokenSource(Protocol):
    """Mints a fresh token for every connection."""

    def mint(self, user_id: str, *, role: str | None = None, seconds: float = ...) -> str:
        """A JWT."""


class User:
    """One user with one device. `run` keeps it connected, `tick` does what is due."""

    def __init__(
        self,
        profile: Profile,
        ledger: Ledger,
        tokens: TokenSource,
        chance: random.Random,
        port: Callable[[], int],
    ) -> None:
        self.profile = profile
        self.outbox = Outbox(chance)
        self.hearing = Hearing(profile, ledger, self.outbox)
        self.writing = False
        """Whether it writes new messages."""
        self.links = 0
        """Connections so far."""
        self.failure: Exception | None = None
        """What it choked on; it is out of the game then."""
        self._ledger = ledger
        self._tokens = tokens
        self._chance = chance
        self._port = port
        self._link: DeviceLink | None = None
        self._next_send = 0.0
        self._mark_due = 0.0
        self._read_retry = 0.0
        self._marked: dict[bool, int] = {False: 0, True: 0}
        """Positions marked on this connection, by whether read."""

    @property
    def name(self) -> str:
        """Its user id."""
        return self.profile.user_id

    @property
    def is_connected(self) -> bool:
        """Whether it has a link, as far as it knows."""
        return self._link is not None

    @property
    def is_settled(self) -> bool:
        """Whether nothing of its own is outstanding, and nothing is missing that it knows of."""
        hearing = self.hearing
        has_to_read = self._read_goal() > hearing.confirmed_read
        return not (len(self.outbox) or hearing.sync_due is not None or hearing.view.has_gap or has_to_read)

    async def run(self) -> None:
        """Connects again and again, with jittered back-off, until cancelled or choked."""
        delay = _FIRST_DELAY_S
        while self.failure is None:
            link = DeviceLink(self.hearing.on_publish, websocket=self.profile.websocket)
            try:
                await link.open(self._port(), self._login())
                delay = _FIRST_DELAY_S
                self.links += 1
                self._link = link
                self._catch_up()
                await link.closed
                self.failure = link.failure
            except (OSError, TimeoutError):
                delay = min(delay * 2, _LONGEST_DELAY_S)
            finally:
                self._link = None
                link.abort()
            await asyncio.sleep(self._chance.uniform(delay / 2, delay))

    def drop(self) -> None:
        """Loses its connection, without a word to the broker."""
        if self._link is not None:
            self._link.abort()

    def tick(self, now: float) -> None:
        """Does what is due, if it is connected."""
        link = self._link
        if link is None:
            return
        link.tick()
        if self.writing and now >= self._next_send and len(self.outbox) < WINDOW:
            # An outage leaves no debt: what was not written then is not made up for.
            pause = self._chance.expovariate(self.profile.per_second)
            self._next_send = max(self._next_send, now - 1.0) + pause
            self.write()
        for outgoing in self.outbox.due(now):
            self._attempt(outgoing.key)
        sync_due = self.hearing.sync_due
        if sync_due is not None and now >= sync_due:
            self.hearing.sync_due = now + RETRY_S
            self._publish("sync", {**self._after(self.hearing.view.head), "requestId": sync_request_id(now)})
        if now >= self._mark_due:
            self._mark_due = now + _MARK_EVERY_S
            self._mark(now)

    def write(self) -> str:
        """Writes one new message, to be resent until it is answered; returns its key."""
        key = str(UUID(int=self._chance.getrandbits(128), version=4))
        filling = "x" * self._chance.randrange(0, 120)
        # More than ASCII, to see that bytes come back as they went.
        self.outbox.add(key, f"{self.profile.canary} {key[:8]} é你😀 {filling}")
        self._attempt(key)
        return key

    async def read_everything(self, *, patience_s: float = 30.0) -> None:
        """Asks for the whole conversation by `sync` once more, for the ledger only.

        It may be as long as a soak has made it: the patience is for each page.
        """
        after, complete = 0, False
        while not complete:
            async with asyncio.timeout(patience_s):
                page = await self._final_page(after)
            self.hearing.record_page(page, final=True)
            messages, complete = messages_of(page), page["complete"]
            after = messages[-1].seq if messages else after

    async def _final_page(self, after: int) -> dict[str, Any]:
        nonce = f"final-{self._chance.getrandbits(64):x}"
        request_id = sync_request_id(self._ledger.now(), final=nonce)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.hearing.final_pages[request_id] = answer
        while True:
            self._publish("sync", {**self._after(after), "requestId": request_id})
            await asyncio.wait([answer], timeout=RETRY_S)
            if answer.done():
                return answer.result()

    def _after(self, seq: int) -> dict[str, Any]:
        return {"conversationId": self.hearing.view.conversation_id, "afterSeq": seq}

    def _login(self) -> Login:
        profile = self.profile
        return Login(
            client_id=f"{profile.user_id}:{profile.device}",
            username=profile.user_id,
            token=self._tokens.mint(profile.user_id),
            subscribe=profile.event_filter,
            session_expiry_s=_SESSION_S if profile.keeps_session else 0,
        )

    def _catch_up(self) -> None:
        """What a client does with a new connection: resend, ask for what it missed, mark again."""
        self.outbox.all_due()
        self._marked = {False: 0, True: 0}
        self._read_retry = 0.0
        if self.hearing.view.conversation_id:
            self.hearing.sync_due = 0.0
        self.tick(self._ledger.now())

    def _attempt(self, key: str) -> None:
        outgoing = self.outbox.get(key)
        if self._link is None or outgoing is None:
            return
        now = self._ledger.now()
        self.outbox.attempted(outgoing, now)
        self._ledger.record(
            Attempt(
                at=now,
                user=self.name,
                peer=self.profile.peer_id,
                key=key,
                text=outgoing.text,
                link=self.links,
                number=outgoing.attempts,
            )
        )
        self._publish(
            "sendMessage",
            {"recipientId": self.profile.peer_id, "clientMessageId": key, "text": outgoing.text},
        )

    def _publish(self, command: str, body: Mapping[str, Any]) -> None:
        if self._link is not None:
            payload = json.dumps(body, ensure_ascii=False).encode()
            self._link.publish(self.profile.command_topic(command), payload)

    def _read_goal(self) -> int:
        newest = self.hearing.view.newest_of_peer
        match self.profile.reading:
            case Reading.ALL:
                return newest
            case Reading.NONE:
                return 0
            case Reading.SOME:
                return newest if newest % 7 == 0 else 0

    def _mark(self, now: float) -> None:
        newest = self.hearing.view.newest_of_peer
        if newest > self._marked[False]:
            self._write_mark("markAsDelivered", "messageId", newest)
        goal = self._read_goal()
        if goal > self.hearing.confirmed_read and (goal > self._marked[True] or now >= self._read_retry):
            self._read_retry = now + RETRY_S
            self._write_mark("markAsRead", "lastReadMessageId", goal)

    def _write_mark(self, command: str, field: str, seq: int) -> None:
        is_read = command == "markAsRead"
        self._marked[is_read] = seq
        view = self.hearing.view
        self._ledger.record(
            Marking(
                at=self._ledger.now(),
                user=self.name,
                conversation_id=view.conversation_id,
                is_read=is_read,
                seq=seq,
            )
        )
        self._publish(command, {"conversationId": view.conversation_id, field: view.message_id(seq)})
