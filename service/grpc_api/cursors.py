"""Opaque page cursors: URL-safe, versioned, good for one list only.

A cursor grants nothing, because every page is authorized anew. Its digest is
not a signature: it ties the cursor to the list it came from, so that a cursor
of another conversation, direction or user, or a damaged one, is an error and
not a page of something else.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from uuid import UUID

from service.domain.errors import ErrorCode, Rejected
from service.domain.ids import ConversationId, UserId
from service.use_cases.ports import Direction

_VERSION = 1
_SEQ = struct.Struct(">BQ")
_ACTIVITY = struct.Struct(">B16s")
# Cursor lengths are multiples of three bytes: base64 then has no padding and
# exactly one spelling.
_SEQ_DIGEST_BYTES = 9
_ACTIVITY_DIGEST_BYTES = 10
_MAX_SEQ = 2**63 - 1


def encode_history_cursor(conversation_id: ConversationId, direction: Direction, after_seq: int) -> str:
    """The cursor of the page beyond `after_seq` in that direction."""
    body = _SEQ.pack(_VERSION, after_seq)
    return _encode(body, _digest(body, _history_scope(conversation_id, direction), _SEQ_DIGEST_BYTES))


def decode_history_cursor(cursor: str, conversation_id: ConversationId, direction: Direction) -> int | None:
    """The position a cursor stands for; None for the empty cursor of a first page.

    Raises `Rejected(INVALID_PAYLOAD)` unless it was made for this conversation
    and direction.
    """
    if not cursor:
        return None
    body = _decode(cursor, _SEQ.size, _history_scope(conversation_id, direction), _SEQ_DIGEST_BYTES)
    version, after_seq = _SEQ.unpack(body)
    if version != _VERSION or not 1 <= after_seq <= _MAX_SEQ:
        raise _invalid()
    return int(after_seq)


def encode_list_cursor(user: UserId, before: UUID) -> str:
    """The cursor of the conversations of `user` whose latest activity is older than `before`."""
    body = _ACTIVITY.pack(_VERSION, before.bytes)
    return _encode(body, _digest(body, _list_scope(user), _ACTIVITY_DIGEST_BYTES))


def decode_list_cursor(cursor: str, user: UserId) -> UUID | None:
    """The activity a cursor stands for; None for the empty cursor of a first page.

    Raises `Rejected(INVALID_PAYLOAD)` unless it was made for this user.
    """
    if not cursor:
        return None
    body = _decode(cursor, _ACTIVITY.size, _list_scope(user), _ACTIVITY_DIGEST_BYTES)
    version, before = _ACTIVITY.unpack(body)
    if version != _VERSION:
        raise _invalid()
    return UUID(bytes=before)


def _history_scope(conversation_id: ConversationId, direction: Direction) -> bytes:
    return b"history/" + direction.encode() + b"/" + conversation_id.bytes


def _list_scope(user: UserId) -> bytes:
    return b"list/" + user.encode()


def _digest(body: bytes, scope: bytes, size: int) -> bytes:
    return hashlib.blake2b(body + scope, digest_size=size).digest()


def _encode(body: bytes, digest: bytes) -> str:
    return base64.urlsafe_b64encode(body + digest).decode()


def _decode(cursor: str, body_size: int, scope: bytes, digest_size: int) -> bytes:
    try:
        raw = base64.b64decode(cursor, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise _invalid() from None
    body, digest = raw[:body_size], raw[body_size:]
    # Decoding tolerates some spellings (`+` for `-`); only our own is accepted.
    if digest != _digest(body, scope, digest_size) or _encode(body, digest) != cursor:
        raise _invalid()
    return body


def _invalid() -> Rejected:
    return Rejected(ErrorCode.INVALID_PAYLOAD, "cursor does not belong to this list")
