"""What devices are told of other users beside the messages: typing, presence; and their own preferences."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from bridge.payloads import encode_preferences, encode_presence, encode_typing
from bridge.publisher import Publisher, publisher_of
from bridge.session import Session
from bridge.topics import Topics
from service.domain.ids import UserId
from service.domain.preferences import Preferences
from service.domain.presence import Presence
from service.use_cases.relay_typing import EXPIRES_S, TypingSignal


class Signals:
    """Publishes with a message expiry: what would arrive too late never does.

    `presence_lifetime_s` is how long presence is worth telling, in seconds.
    """

    def __init__(
        self,
        topics: Topics,
        session: Session,
        publishers: Sequence[Publisher],
        flush: Callable[[], None],
        *,
        presence_lifetime_s: float,
    ) -> None:
        self._topics = topics
        self._session = session
        self._publishers = publishers
        self._flush = flush
        self._presence_expiry_s = math.ceil(presence_lifetime_s)

    def typing(self, signal: TypingSignal) -> None:
        """Publishes at QoS 0: without a link to the broker it is lost, and soon repeated."""
        self._session.publish(
            self._topics.event(signal.recipient_id, "typing"),
            encode_typing(signal),
            message_expiry_s=round(EXPIRES_S),
        )
        self._flush()

    def announce(self, recipients: Sequence[UserId], presence: Presence) -> bool:
        """See `PresenceAnnouncer.announce`."""
        body = encode_presence(presence)
        # A link is never lost in between: it is there for all of them or for none.
        is_told = all(
            publisher_of(self._publishers, recipient).publish(
                self._topics.event(recipient, "presence"), body, message_expiry_s=self._presence_expiry_s
            )
            for recipient in recipients
        )
        self._flush()
        return is_told

    def preferences(self, user: UserId, preferences: Preferences) -> None:
        """Tells the user's own devices of a change that came in at another door."""
        publisher_of(self._publishers, user).publish(
            self._topics.event(user, "preferencesChanged"), encode_preferences(preferences, None)
        )
        self._flush()
