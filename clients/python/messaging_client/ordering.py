"""Puts the changes of a conversation in `seq` order, without holes or duplicates. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from messaging_client.events import Change, Position, SyncPage


class ConversationOrder:
    """How far one conversation was told, and what came ahead of its turn.

    Whatever is missing here is got by asking for a page after `position`:
    nothing that is dropped (for want of room) or lost (on the way) is lost for
    good, as long as `wants_page` is heeded.
    """

    def __init__(self, position: int = 0) -> None:
        self.position = position
        """All changes up to this `seq` were told."""
        self._highest = position
        self._ahead: dict[int, Change] = {}
        self._doubts = 0
        self._settled = 0

    @property
    def held(self) -> int:
        """How many changes wait for earlier ones."""
        return len(self._ahead)

    @property
    def doubts(self) -> int:
        """How often `doubt` was called: to be given to `settle`."""
        return self._doubts

    @property
    def wants_page(self) -> bool:
        """Whether the page after `position` should be asked for."""
        return self._highest > self.position or self._settled < self._doubts

    def doubt(self) -> None:
        """There may be changes that nobody will tell: only a complete page settles it."""
        self._doubts += 1

    def settle(self, doubts: int) -> None:
        """A complete page was asked for when `doubts` were counted, and it was applied."""
        self._settled = max(self._settled, doubts)

    def exists(self, seq: int) -> None:
        """The conversation has a change of this `seq`, told here or not."""
        self._highest = max(self._highest, seq)

    def offer(self, change: Change, *, hold: bool = True) -> list[Change]:
        """What is to be told now that this change came, by any way, in any order, any number of times.

        With `hold` off, a change ahead of its turn is only remembered to exist.
        """
        self.exists(change.seq)
        if change.seq == self.position + 1:
            return self._tell([change])
        if change.seq > self.position and hold:
            self._ahead[change.seq] = change
        return []

    def apply(self, page: SyncPage) -> list[Change]:
        """What is to be told now that this page came.

        A page tells everything after its `after_seq`; one that begins beyond
        `position` would leave a hole and changes nothing.
        """
        if page.after_seq > self.position:
            return []
        return self._tell(change for change in page.changes if change.seq > self.position)

    def _tell(self, changes: Iterable[Change]) -> list[Change]:
        told = list(changes)
        if told:
            self.position = told[-1].seq
        while (following := self._ahead.pop(self.position + 1, None)) is not None:
            told.append(following)
            self.position = following.seq
        self._highest = max(self._highest, self.position)
        for seq in [seq for seq in self._ahead if seq <= self.position]:
            del self._ahead[seq]
        return told


class Receipts:
    """How far the participants have come, as far as this client was told; never moves back."""

    def __init__(self) -> None:
        self._delivered: dict[tuple[str, str], int] = {}
        self._read: dict[tuple[str, str], int] = {}

    def deliver(self, conversation_id: str, user_id: str, seq: int) -> bool:
        """Whether this mark moves a position."""
        return _raise(self._delivered, (conversation_id, user_id), seq)

    def read(self, conversation_id: str, user_id: str, seq: int) -> bool:
        """Whether this mark moves a position; what is read is delivered, too."""
        self.deliver(conversation_id, user_id, seq)
        return _raise(self._read, (conversation_id, user_id), seq)

    def merge(self, conversation_id: str, positions: Iterable[Position]) -> tuple[Position, ...]:
        """Takes in what a page tells; returns the positions that moved, as they are now."""
        moved = []
        for position in positions:
            user = position.user_id
            is_read = self.read(conversation_id, user, position.read_seq)
            is_delivered = self.deliver(conversation_id, user, position.delivered_seq)
            if is_read or is_delivered:
                moved.append(
                    Position(
                        user_id=user,
                        delivered_seq=self._delivered[conversation_id, user],
                        read_seq=self._read.get((conversation_id, user), 0),
                    )
                )
        return tuple(moved)


def _raise(positions: dict[tuple[str, str], int], key: tuple[str, str], seq: int) -> bool:
    if seq <= positions.get(key, 0):
        return False
    positions[key] = seq
    return True
