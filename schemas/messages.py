"""Events about messages between agents, and about the channels that carry them.

The key of ``messages.*`` is the recipient as it stands in the subject: an agent, ``broadcast``,
``user-<id>``, ``hook-<id>``. That of ``channels.*`` is the channel.
"""

from typing import Annotated

from msgspec import Meta

from penstock.schemas.event import Big, Count, EventData, Json, Moment, Priority, Text
from penstock.schemas.identity import AgentId, ChannelId, MessageId
from penstock.schemas.mapping import (
    CORR,
    KEY_TEXT,
    OCCURRED_AT,
    AuditLog,
    Field,
    Ref,
    Upsert,
    event,
)
from penstock.schemas.vocabulary import (
    ChannelKind,
    LongText,
    MessageKind,
    MessageStatus,
    QueueDiscipline,
    RecipientKind,
    Title,
)

NORMAL = 4

Recipient = Annotated[str, Meta(min_length=1, max_length=255)]

CONTENT = (
    "recipient",
    "to_kind",
    "to_id",
    "from_id",
    "channel_id",
    "kind",
    "subject",
    "payload",
    "headers",
    "priority",
    "corr",
    "parent_id",
    "reply_to",
    "ttl_s",
    "expires_at",
    "requires_ack",
    "max_attempts",
)
CHANNEL = ("name", "kind", "discipline", "max_size", "configuration", "is_active")
SUBSCRIPTION = ("agent_id", "channel_id", "pattern")

MESSAGE = ("message_id", "sent_at")
BY_PHASE = {"status": tuple(MessageStatus)}
SUBSCRIBERS = (Ref("channel_id", "messages.channel"), Ref("agent_id", "agents.agent"))


class OfMessage(EventData, frozen=True, kw_only=True):
    """What names a message that was sent: its id and the time of its ``messages.sent``."""

    to: Recipient
    message_id: MessageId
    sent_at: Moment


class Receipt(OfMessage, frozen=True, kw_only=True):
    """Something that happened to a message, and when."""

    at: Moment


@event(
    "messages.sent",
    key="to",
    states=(
        Upsert(
            table="messages.message",
            key=MESSAGE,
            first=CONTENT,
            rank=BY_PHASE,
            values={
                "sent_at": OCCURRED_AT,
                "recipient": Field("to"),
                "corr": CORR,
                "status": MessageStatus.SENT,
            },
        ),
    ),
)
class MessageSent(EventData, frozen=True, kw_only=True):
    """A message went out; later events about it repeat its id and this event's time."""

    to: Recipient
    message_id: MessageId
    to_kind: RecipientKind
    kind: MessageKind
    payload: Json
    to_id: Text | None = None
    from_id: Text | None = None
    channel_id: ChannelId | None = None
    subject: Title | None = None
    headers: Json = None
    priority: Priority = NORMAL
    parent_id: MessageId | None = None
    reply_to: Text | None = None
    ttl_s: Big | None = None
    expires_at: Moment | None = None
    requires_ack: bool | None = None
    max_attempts: Count | None = None


@event(
    "messages.delivered",
    key="to",
    states=(
        Upsert(
            table="messages.message",
            key=MESSAGE,
            min=("delivered_at",),
            rank=BY_PHASE,
            values={"delivered_at": Field("at"), "status": MessageStatus.DELIVERED},
        ),
    ),
)
class MessageDelivered(Receipt, frozen=True, kw_only=True):
    """A message reached its recipient."""


@event(
    "messages.processed",
    key="to",
    states=(
        Upsert(
            table="messages.message",
            key=MESSAGE,
            min=("processed_at",),
            rank=BY_PHASE,
            values={"processed_at": Field("at"), "status": MessageStatus.PROCESSED},
        ),
    ),
)
class MessageProcessed(Receipt, frozen=True, kw_only=True):
    """The recipient did what a message asked for."""


@event(
    "messages.acked",
    key="to",
    states=(
        Upsert(
            table="messages.message",
            key=MESSAGE,
            min=("acked_at",),
            rank=BY_PHASE,
            values={"acked_at": Field("at"), "status": MessageStatus.PROCESSED},
        ),
    ),
)
class MessageAcked(Receipt, frozen=True, kw_only=True):
    """The recipient confirmed a message."""


@event(
    "messages.read",
    key="to",
    states=(
        Upsert(
            table="messages.message",
            key=MESSAGE,
            min=("read_at",),
            rank=BY_PHASE,
            values={"read_at": Field("at"), "status": MessageStatus.DELIVERED},
        ),
    ),
)
class MessageRead(Receipt, frozen=True, kw_only=True):
    """A person opened a message."""


@event(
    "messages.failed",
    key="to",
    states=(
        Upsert(
            table="messages.message",
            key=MESSAGE,
            last=("last_error", "next_attempt_at"),
            max=("attempts",),
            rank=BY_PHASE,
            values={
                "last_error": Field("error"),
                "attempts": Field("attempt"),
                "status": MessageStatus.FAILED,
            },
        ),
    ),
)
class MessageFailed(OfMessage, frozen=True, kw_only=True):
    """An attempt to deliver a message failed; another may follow."""

    attempt: Count
    error: LongText
    next_attempt_at: Moment | None = None


@event(
    "messages.expired",
    key="to",
    states=(
        Upsert(
            table="messages.message",
            key=MESSAGE,
            rank=BY_PHASE,
            values={"status": MessageStatus.EXPIRED},
        ),
    ),
)
class MessageExpired(OfMessage, frozen=True, kw_only=True):
    """A message outlived its time and is not delivered any more."""


@event(
    "channels.defined",
    key="channel_id",
    history=AuditLog("channel"),
    states=(
        Upsert(
            table="messages.channel",
            key=("channel_id",),
            last=CHANNEL,
            once=("external_id",),
            values={"external_id": KEY_TEXT},
        ),
    ),
)
class ChannelDefined(EventData, frozen=True, kw_only=True):
    """A channel was set up or changed; it is stated as a whole."""

    channel_id: ChannelId
    name: Text
    kind: ChannelKind
    discipline: QueueDiscipline | None = None
    max_size: Big | None = None
    configuration: Json = None
    is_active: bool = True


@event(
    "channels.subscribed",
    key="channel_id",
    history=AuditLog("channel"),
    states=(
        Upsert(
            table="messages.subscription",
            key=SUBSCRIPTION,
            last=("filters", "is_active"),
            values={"is_active": True},
        ),
    ),
    refs=SUBSCRIBERS,
)
class ChannelSubscribed(EventData, frozen=True, kw_only=True):
    """An agent listens to a channel."""

    channel_id: ChannelId
    agent_id: AgentId
    pattern: Text = ">"
    filters: Json = None


@event(
    "channels.unsubscribed",
    key="channel_id",
    history=AuditLog("channel"),
    states=(
        Upsert(
            table="messages.subscription",
            key=SUBSCRIPTION,
            last=("filters", "is_active"),
            values={"is_active": False},
        ),
    ),
    refs=SUBSCRIBERS,
)
class ChannelUnsubscribed(EventData, frozen=True, kw_only=True):
    """An agent no longer listens to a channel."""

    channel_id: ChannelId
    agent_id: AgentId
    pattern: Text = ">"
