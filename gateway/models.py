"""The JSON of the REST interface; also what OpenAPI says about it."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import BaseModel, ConfigDict, Field, StrictBool, model_validator
from pydantic.alias_generators import to_camel

from proto.messaging.v1 import messaging_pb2

UserId = Annotated[str, Field(pattern=r"^[A-Za-z0-9._@-]{1,64}$", examples=["alice"])]
Uuid = Annotated[str, Field(json_schema_extra={"format": "uuid"})]
Moment = Annotated[
    str, Field(json_schema_extra={"format": "date-time"}, examples=["2025-11-21T09:30:00.123456Z"])
]
_CONVERSATION_ID = Field(examples=["5f0c1d1e-0f3c-5c1b-8d3b-2a9b8f6f7a01"])


def _rfc3339(moment: Timestamp) -> str:
    return moment.ToDatetime().isoformat(timespec="microseconds") + "Z"


def _rfc3339_if(is_there: bool, moment: Timestamp) -> str | None:
    return _rfc3339(moment) if is_there else None


class _Model(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        frozen=True,
        # Errors are logged, and the input may be the text of a message.
        hide_input_in_errors=True,
    )


class Message(_Model):
    """One message of a conversation."""

    message_id: Annotated[Uuid, Field(examples=["019342c5-7e3a-7abc-8def-0123456789ab"])]
    conversation_id: Annotated[Uuid, _CONVERSATION_ID]
    seq: Annotated[int, Field(description="Position in the conversation, the only order.", examples=[42])]
    sender_id: UserId
    text: Annotated[str, Field(examples=["Hello Bob"])]
    timestamp: Annotated[Moment, Field(description="Commit time, for display only.")]
    client_message_id: Annotated[Uuid, Field(examples=["0b8c5c3e-3c51-4a5e-9a55-6f6f6c4b7a10"])]
    status: Annotated[
        Literal["SENT", "DELIVERED", "READ"],
        Field(description="What the author's counterpart has done with it so far."),
    ]

    @classmethod
    def of(cls, message: messaging_pb2.Message) -> Self:
        """From the service's answer."""
        name = messaging_pb2.MessageStatus.Name(message.status)
        return cls.model_validate(
            {
                "message_id": message.message_id,
                "conversation_id": message.conversation_id,
                "seq": message.seq,
                "sender_id": message.sender_id,
                "text": message.text,
                "timestamp": _rfc3339(message.timestamp),
                "client_message_id": message.client_message_id,
                "status": name.removeprefix("MESSAGE_STATUS_"),
            }
        )


class Position(_Model):
    """How far a participant has come, as far as the caller may know; both only ever grow."""

    user_id: UserId
    delivered_seq: Annotated[int, Field(examples=[42])]
    read_seq: Annotated[int, Field(examples=[40])]

    @classmethod
    def of(cls, position: messaging_pb2.Position) -> Self:
        """From the service's answer."""
        return cls(user_id=position.user_id, delivered_seq=position.delivered_seq, read_seq=position.read_seq)


class Conversation(_Model):
    """One conversation as the caller sees it."""

    conversation_id: Annotated[Uuid, _CONVERSATION_ID]
    kind: Annotated[str, Field(examples=["direct"])]
    participant_ids: Annotated[list[str], Field(examples=[["alice", "bob"]])]
    last_seq: Annotated[int, Field(description="0 when nothing was sent yet.", examples=[42])]
    last_message: Annotated[Message | None, Field(description="Absent when nothing was sent yet.")] = None
    unread_count: Annotated[int, Field(description="Among the newest 1,000 messages.", examples=[0])]
    read_seq: Annotated[int, Field(description="The caller's own read position.", examples=[42])]
    positions: Annotated[list[Position], Field(description="Of the other participants.")]
    created_at: Moment

    @classmethod
    def of(cls, conversation: messaging_pb2.Conversation) -> Self:
        """From the service's answer."""
        last = Message.of(conversation.last_message) if conversation.HasField("last_message") else None
        return cls(
            conversation_id=conversation.conversation_id,
            kind=conversation.kind,
            participant_ids=list(conversation.participant_ids),
            last_seq=conversation.last_seq,
            last_message=last,
            unread_count=conversation.unread_count,
            read_seq=conversation.read_seq,
            positions=[Position.of(each) for each in conversation.positions],
            created_at=_rfc3339(conversation.created_at),
        )


_NEXT_CURSOR = Field(
    description="To be given as `cursor` for the next page; null when there is none.",
    examples=["eyJzIjo0Mn0"],
)


class ConversationList(_Model):
    """A page of the caller's conversations, latest activity first."""

    conversations: list[Conversation]
    next_cursor: Annotated[str | None, _NEXT_CURSOR]


class MessageList(_Model):
    """A page of messages in walking order: newest first for `older`, oldest first for `newer`."""

    messages: list[Message]
    next_cursor: Annotated[str | None, _NEXT_CURSOR]


class ChangeList(_Model):
    """What follows a position, oldest first and without a hole."""

    messages: list[Message]
    positions: Annotated[list[Position], Field(description="Of all participants.")]
    complete: Annotated[bool, Field(description="Whether the newest change is on this page.")]


class Receipt(_Model):
    """When a participant got and read a message; later marks change neither."""

    user_id: Annotated[UserId, Field(examples=["bob"])]
    delivered_at: Annotated[Moment | None, Field(description="Null until a device has the message.")]
    read_at: Annotated[
        Moment | None, Field(description="Null until it is read, and while the reader hides its reading.")
    ]

    @classmethod
    def of(cls, receipt: messaging_pb2.Receipt) -> Self:
        """From the service's answer."""
        return cls(
            user_id=receipt.user_id,
            delivered_at=_rfc3339_if(receipt.HasField("delivered_at"), receipt.delivered_at),
            read_at=_rfc3339_if(receipt.HasField("read_at"), receipt.read_at),
        )


class ReceiptList(_Model):
    """One for each participant other than the author."""

    receipts: list[Receipt]


class Presence(_Model):
    """Whether a user is there."""

    user_id: Annotated[UserId, Field(examples=["bob"])]
    state: Annotated[Literal["online", "away", "offline"], Field(examples=["offline"])]
    last_seen_at: Annotated[
        Moment | None, Field(description="Of users who are offline; null where it is not known.")
    ]

    @classmethod
    def of(cls, presence: messaging_pb2.Presence) -> Self:
        """From the service's answer."""
        name = messaging_pb2.PresenceState.Name(presence.state)
        return cls.model_validate(
            {
                "user_id": presence.user_id,
                "state": name.removeprefix("PRESENCE_STATE_").lower(),
                "last_seen_at": _rfc3339_if(presence.HasField("last_seen_at"), presence.last_seen_at),
            }
        )


class PresenceList(_Model):
    """Presence of connected users, in the order asked for."""

    presences: list[Presence]


_READ_RECEIPTS = Field(description="Off: others see messages as delivered, never as read.", examples=[True])
_INVISIBLE = Field(description="On: others see the user as offline.", examples=[False])


class Preferences(_Model):
    """What a user lets others see."""

    read_receipts: Annotated[bool, _READ_RECEIPTS]
    invisible: Annotated[bool, _INVISIBLE]

    @classmethod
    def of(cls, preferences: messaging_pb2.Preferences) -> Self:
        """From the service's answer."""
        return cls(read_receipts=preferences.read_receipts, invisible=preferences.invisible)


class PreferencesBody(_Model):
    """What to change; at least one must be given."""

    read_receipts: Annotated[StrictBool | None, _READ_RECEIPTS] = None
    invisible: Annotated[StrictBool | None, _INVISIBLE] = None

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if self.read_receipts is None and self.invisible is None:
            raise ValueError("give readReceipts or invisible")
        return self


class OpenConversationBody(_Model):
    """Whom to talk to."""

    recipient_id: Annotated[UserId, Field(examples=["bob"])]


class TokenBody(_Model):
    """Whose token to make."""

    user_id: UserId
    device_id: Annotated[
        str | None,
        Field(
            pattern=r"^[A-Za-z0-9._@-]{1,64}$",
            examples=["laptop"],
            description="Binds the token to one device: its MQTT client id must be `{userId}:{deviceId}`.",
        ),
    ] = None


class Token(_Model):
    """A JWT: bearer token of this interface and password of the broker."""

    token: str
    expires_at: Moment


class PageConfig(_Model):
    """What the page needs to know about its surroundings."""

    broker_url: Annotated[str, Field(examples=["ws://127.0.0.1:9001"])]
    topic_root: Annotated[str, Field(examples=["chat/v1"])]
    development: bool


class Health(_Model):
    """Whether the process, or the service behind it, is there."""

    status: Annotated[str, Field(examples=["ok"])]


class ErrorDetail(_Model):
    """Why a request was refused."""

    code: Annotated[str, Field(description="One of the protocol's closed list.", examples=["NOT_CONNECTED"])]
    message: Annotated[str, Field(examples=["you and the recipient are not connected"])]
    retryable: Annotated[bool, Field(description="The same request may succeed later, unchanged.")]
    retry_after_ms: Annotated[
        int | None, Field(description="Not before this many milliseconds; on some retryable errors.")
    ] = None


class ErrorBody(_Model):
    """The body of every refusal."""

    error: ErrorDetail
