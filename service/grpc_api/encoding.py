"""Between the domain and the messages of `messaging.v1`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp

from proto.messaging.v1 import messaging_pb2 as pb
from service.domain.conversation import Conversation
from service.domain.errors import ErrorCode, Rejected
from service.domain.ids import ConversationId, MessageId, UserId, is_user_id
from service.domain.message import Message, MessageStatus
from service.domain.preferences import Preferences
from service.domain.presence import Presence, PresenceState
from service.domain.receipts import Positions, Receipt, status_of
from service.use_cases.ports import ConversationSummary, Direction, HistoryMessage, HistoryPage
from service.use_cases.sync_conversation import SyncPage

_STATUSES: Mapping[MessageStatus, pb.MessageStatus.ValueType] = {
    MessageStatus.SENT: pb.MESSAGE_STATUS_SENT,
    MessageStatus.DELIVERED: pb.MESSAGE_STATUS_DELIVERED,
    MessageStatus.READ: pb.MESSAGE_STATUS_READ,
}

_DIRECTIONS: Mapping[int, Direction] = {
    pb.DIRECTION_UNSPECIFIED: Direction.OLDER,
    pb.DIRECTION_OLDER: Direction.OLDER,
    pb.DIRECTION_NEWER: Direction.NEWER,
}

_PRESENCE_STATES: Mapping[PresenceState, pb.PresenceState.ValueType] = {
    PresenceState.ONLINE: pb.PRESENCE_STATE_ONLINE,
    PresenceState.AWAY: pb.PRESENCE_STATE_AWAY,
    PresenceState.OFFLINE: pb.PRESENCE_STATE_OFFLINE,
}

_NOWHERE = Positions()


def parse_conversation_id(value: str) -> ConversationId:
    """A conversation id in the usual form of a UUID; raises `Rejected(INVALID_PAYLOAD)`."""
    return ConversationId(_parse_uuid(value, "conversation_id"))


def parse_message_id(value: str) -> MessageId:
    """A message id in the usual form of a UUID; raises `Rejected(INVALID_PAYLOAD)`."""
    return MessageId(_parse_uuid(value, "message_id"))


def _parse_uuid(value: str, field: str) -> UUID:
    try:
        parsed = UUID(value)
    except ValueError:
        parsed = None
    # UUID() also takes braces, URNs and missing hyphens.
    if parsed is None or str(parsed) != value.lower():
        raise Rejected(ErrorCode.INVALID_PAYLOAD, f"{field} is not a UUID")
    return parsed


def parse_user_ids(values: Sequence[str]) -> Sequence[UserId]:
    """User ids; raises `Rejected(INVALID_PAYLOAD)` if any is none."""
    if not all(map(is_user_id, values)):
        raise Rejected(ErrorCode.INVALID_PAYLOAD, "user_ids holds what is no user id")
    return [UserId(value) for value in values]


def parse_direction(value: int) -> Direction:
    """The direction of an enum value; raises `Rejected(INVALID_PAYLOAD)` for an unknown one."""
    direction = _DIRECTIONS.get(value)
    if direction is None:
        raise Rejected(ErrorCode.INVALID_PAYLOAD, "direction is unknown")
    return direction


def history_response(
    page: HistoryPage, conversation_id: ConversationId, next_cursor: str
) -> pb.GetMessageHistoryResponse:
    """A page of history as it goes over the wire."""
    response = pb.GetMessageHistoryResponse(next_cursor=next_cursor)
    _add_messages(response.messages.add, page.messages, conversation_id, page.positions)
    return response


def sync_response(page: SyncPage) -> pb.SyncConversationResponse:
    """A page of changes as it goes over the wire."""
    response = pb.SyncConversationResponse(complete=page.complete)
    _add_messages(response.messages.add, page.messages, page.conversation_id, page.positions)
    for user, at in page.positions.items():
        response.positions.add(user_id=user, delivered_seq=at.delivered_seq, read_seq=at.read_seq)
    return response


def receipts_response(receipts: Sequence[Receipt]) -> pb.GetMessageReceiptsResponse:
    """Receipts as they go over the wire."""
    response = pb.GetMessageReceiptsResponse()
    for receipt in receipts:
        target = response.receipts.add(user_id=receipt.user_id)
        if receipt.delivered_at is not None:
            _fill_timestamp(target.delivered_at, receipt.delivered_at)
        if receipt.read_at is not None:
            _fill_timestamp(target.read_at, receipt.read_at)
    return response


def presence_response(presences: Sequence[Presence]) -> pb.GetPresenceResponse:
    """Presences as they go over the wire."""
    response = pb.GetPresenceResponse()
    for presence in presences:
        target = response.presences.add(user_id=presence.user_id, state=_PRESENCE_STATES[presence.state])
        if presence.last_seen_at is not None:
            _fill_timestamp(target.last_seen_at, presence.last_seen_at)
    return response


def preferences_response(preferences: Preferences) -> pb.Preferences:
    """Preferences as they go over the wire."""
    return pb.Preferences(read_receipts=preferences.read_receipts, invisible=preferences.invisible)


def list_response(
    summaries: Sequence[ConversationSummary], next_cursor: str, caller: UserId
) -> pb.ListConversationsResponse:
    """A page of conversations as it goes over the wire to `caller`."""
    response = pb.ListConversationsResponse(next_cursor=next_cursor)
    for summary in summaries:
        _fill_conversation(response.conversations.add(), summary, caller)
    return response


def conversation_response(summary: ConversationSummary, caller: UserId) -> pb.Conversation:
    """One conversation as it goes over the wire to `caller`."""
    response = pb.Conversation()
    _fill_conversation(response, summary, caller)
    return response


def _fill_conversation(target: pb.Conversation, summary: ConversationSummary, caller: UserId) -> None:
    conversation: Conversation = summary.conversation
    target.conversation_id = str(conversation.id)
    target.kind = conversation.kind.value
    target.participant_ids.extend(conversation.participants)
    target.last_seq = summary.last_seq
    target.unread_count = summary.unread_count
    target.read_seq = summary.positions[caller].read_seq
    for user, positions in summary.positions.items():
        if user != caller:
            shown = positions.seen_by_others()
            target.positions.add(user_id=user, delivered_seq=shown.delivered_seq, read_seq=shown.read_seq)
    _fill_timestamp(target.created_at, summary.created_at)
    if summary.last_message is not None:
        _fill_message(
            target.last_message,
            summary.last_message,
            target.conversation_id,
            _counterparts(summary.positions),
        )


def _counterparts(positions: Mapping[UserId, Positions]) -> Mapping[UserId, Positions]:
    """For each author, the positions that the statuses of its messages follow from."""
    return {
        author: next((at for user, at in positions.items() if user != author), _NOWHERE)
        for author in positions
    }


def _add_messages(
    add: Callable[[], pb.Message],
    messages: Sequence[HistoryMessage],
    conversation_id: ConversationId,
    positions: Mapping[UserId, Positions],
) -> None:
    # Every message of every page comes through here: setting one field after the
    # other costs two thirds of what a constructor with keywords does.
    conversation, counterparts = str(conversation_id), _counterparts(positions)
    for seq, id_, sender_id, client_message_id, text, created_at_us in messages:
        target = add()
        target.message_id = id_
        target.conversation_id = conversation
        target.seq = seq
        target.sender_id = sender_id
        target.text = text
        target.client_message_id = client_message_id
        target.status = _STATUSES[status_of(seq, counterparts.get(sender_id, _NOWHERE))]
        timestamp = target.timestamp
        timestamp.seconds, microseconds = divmod(created_at_us, 1_000_000)
        timestamp.nanos = microseconds * 1_000


def _fill_message(
    target: pb.Message, message: Message, conversation_id: str, counterparts: Mapping[UserId, Positions]
) -> None:
    target.message_id = str(message.id)
    target.conversation_id = conversation_id
    target.seq = message.seq
    target.sender_id = message.sender_id
    target.text = message.text
    target.client_message_id = str(message.client_message_id)
    target.status = _STATUSES[status_of(message.seq, counterparts.get(message.sender_id, _NOWHERE))]
    _fill_timestamp(target.timestamp, message.created_at)


def _fill_timestamp(target: Timestamp, moment: datetime) -> None:
    # A fifth of the cost of FromDatetime; exact, as the fraction is not taken from the float.
    target.seconds = int(moment.timestamp())
    target.nanos = moment.microsecond * 1_000
