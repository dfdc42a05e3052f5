"""Tells a user's counterpart that the user is typing: seldom, cheaply, and never for long."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import structlog

from service.domain.conversation import Conversation
from service.domain.errors import ErrorCode, Rejected, Rejection
from service.domain.ids import ConversationId, UserId
from service.metrics import TYPING
from service.use_cases.authorize import Authorize

_log = structlog.get_logger(__name__)

EXPIRES_S = 6.0
"""How long typing holds without being repeated."""
INTERVAL_S = 1.0
"""At least this long between two times that "is typing" is told of one user in one conversation."""
_TOLD_ERRORS = frozenset({ErrorCode.CONVERSATION_NOT_FOUND, ErrorCode.NOT_CONNECTED})
"""Refusals a user hears of; trouble with asking is not one: the next signal tries again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TypingCommand:
    """A user says that it is typing in a conversation, or has stopped; not yet authorized."""

    user_id: UserId
    conversation_id: ConversationId
    is_typing: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TypingSignal:
    """What the recipient is told."""

    recipient_id: UserId
    conversation_id: ConversationId
    user_id: UserId
    is_typing: bool


@dataclass(slots=True)
class _Typist:
    recipient_id: UserId
    expires_at: float
    told_at: float
    is_shown: bool
    """Whether the recipient believes that this user is typing."""


_Key: TypeAlias = tuple[UserId, ConversationId]
Refuse: TypeAlias = Callable[[Rejection], None]


class RelayTyping:
    """Takes signals without waiting; what it cannot decide at once it decides once per user, or drops.

    All state is bounded: `max_typists` conversations being typed in (the one
    that would expire first gives way) and `max_lookups` users asked about.
    """

    def __init__(
        self,
        authorize: Authorize,
        tell: Callable[[TypingSignal], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        max_typists: int = 50_000,
        max_lookups: int = 64,
    ) -> None:
        self._authorize = authorize
        self._tell = tell
        self._clock = clock
        self._max_typists = max_typists
        self._max_lookups = max_lookups
        # Every signal has the same lifetime, so the order of signals is the order of expiry.
        self._typists: OrderedDict[_Key, _Typist] = OrderedDict()
        self._conversations_of: dict[UserId, set[ConversationId]] = {}
        self._refused: OrderedDict[UserId, float] = OrderedDict()
        self._latest: dict[UserId, TypingCommand] = {}
        """Users being asked about, with what they said last."""
        self._lookups: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()

    def __call__(self, command: TypingCommand, refuse: Refuse) -> None:
        """Takes a signal. `refuse` hears of a refusal, once a second and user at the most."""
        user = command.user_id
        if user in self._latest:
            if self._latest[user].conversation_id == command.conversation_id:
                self._latest[user] = command
            TYPING.labels("dropped").inc()
            return
        decision = self._authorize.known(user, command.conversation_id)
        if decision is not None:
            self._act(command, decision, refuse)
        elif len(self._latest) < self._max_lookups:
            self._latest[user] = command
            task = asyncio.create_task(self._look_up(command, refuse), name="typing-lookup")
            self._lookups.add(task)
            task.add_done_callback(self._lookups.discard)
        else:
            TYPING.labels("dropped").inc()

    def sent(self, user: UserId, conversation_id: ConversationId) -> None:
        """The user's message is there: it types no more."""
        # With every message: a UUID's hash is computed in Python, and mostly nobody types.
        typist = self._typists.get((user, conversation_id)) if self._typists else None
        if typist is not None:
            self._hide((user, conversation_id), typist)

    def gone(self, user: UserId) -> None:
        """The user is offline: it types no more, anywhere."""
        for conversation_id in list(self._conversations_of.get(user, ())):
            self.sent(user, conversation_id)

    def expire(self) -> float | None:
        """Ends what was not repeated; returns the seconds until more is to end, None if nothing is."""
        now = self._clock()
        while self._typists:
            key, typist = next(iter(self._typists.items()))
            if typist.expires_at > now:
                return typist.expires_at - now
            self._drop(key)
        return None

    async def run(self) -> None:
        """Ends what is not repeated, until cancelled: one timer for everybody."""
        try:
            while True:
                delay = self.expire()
                if delay is None:
                    self._wake.clear()
                    await self._wake.wait()
                else:
                    await asyncio.sleep(delay)
        finally:
            for task in self._lookups:
                task.cancel()

    async def _look_up(self, command: TypingCommand, refuse: Refuse) -> None:
        decision: Conversation | Rejection | None = None
        try:
            decision = await self._authorize.decide(command.user_id, command.conversation_id)
        except Rejected as error:
            decision = error.rejection
        except Exception:
            _log.exception("typing_lookup_failed", conversation_id=str(command.conversation_id))
        finally:
            latest = self._latest.pop(command.user_id)
        if decision is not None:
            self._act(latest, decision, refuse)

    def _act(self, command: TypingCommand, decision: Conversation | Rejection, refuse: Refuse) -> None:
        if isinstance(decision, Rejection):
            TYPING.labels("refused").inc()
            self._typing_ends(command)
            if decision.code in _TOLD_ERRORS and self._may_refuse(command.user_id):
                refuse(decision)
        elif command.is_typing:
            self._typing_goes_on(command, decision.counterpart_of(command.user_id))
        else:
            self._typing_ends(command)

    def _typing_goes_on(self, command: TypingCommand, recipient: UserId) -> None:
        key = (command.user_id, command.conversation_id)
        now = self._clock()
        typist = self._typists.get(key)
        if typist is None:
            while len(self._typists) >= self._max_typists:
                self._drop(next(iter(self._typists)))
            typist = self._typists[key] = _Typist(recipient, 0.0, float("-inf"), False)
            self._conversations_of.setdefault(command.user_id, set()).add(command.conversation_id)
            self._wake.set()
        else:
            self._typists.move_to_end(key)
        typist.expires_at = now + EXPIRES_S
        if now - typist.told_at < INTERVAL_S:
            TYPING.labels("suppressed").inc()
            return
        typist.told_at, typist.is_shown = now, True
        self._signal(key, typist, is_typing=True)

    def _typing_ends(self, command: TypingCommand) -> None:
        self.sent(command.user_id, command.conversation_id)

    def _hide(self, key: _Key, typist: _Typist) -> None:
        """Tells the end at once, and remembers until expiry when the start was told."""
        if typist.is_shown:
            typist.is_shown = False
            self._signal(key, typist, is_typing=False)

    def _drop(self, key: _Key) -> None:
        typist = self._typists.pop(key)
        user, conversation_id = key
        conversations = self._conversations_of[user]
        conversations.discard(conversation_id)
        if not conversations:
            del self._conversations_of[user]
        self._hide(key, typist)

    def _signal(self, key: _Key, typist: _Typist, *, is_typing: bool) -> None:
        TYPING.labels("told").inc()
        user, conversation_id = key
        self._tell(
            TypingSignal(
                recipient_id=typist.recipient_id,
                conversation_id=conversation_id,
                user_id=user,
                is_typing=is_typing,
            )
        )

    def _may_refuse(self, user: UserId) -> bool:
        """Not more than one error a second: a flood of signals must not become one of errors."""
        now = self._clock()
        while self._refused and next(iter(self._refused.values())) <= now:
            self._refused.popitem(last=False)
        if user in self._refused or len(self._refused) >= self._max_typists:
            return False
        self._refused[user] = now + INTERVAL_S
        return True
