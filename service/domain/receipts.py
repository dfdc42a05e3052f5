"""Positions of participants and the statuses that follow from them."""

from __future__ import annotations

from dataclasses import dataclass

from service.domain.message import MessageStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Positions:
    """How far one participant has come; both only ever grow.

    Reading implies having, so `delivered_seq` is at least `read_seq`.
    """

    delivered_seq: int = 0
    read_seq: int = 0


def status_of(seq: int, counterpart: Positions) -> MessageStatus:
    """Status of the message at `seq`, by the positions of its author's counterpart."""
    if seq <= counterpart.read_seq:
        return MessageStatus.READ
    if seq <= counterpart.delivered_seq:
        return MessageStatus.DELIVERED
    return MessageStatus.SENT
