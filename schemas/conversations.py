"""Events about conversations: the items of a conversation. The key is the conversation.

Items are rows that one event makes and none changes; `conversations.v_item` has those that were not
taken back.
"""

from penstock.schemas.event import Count, EventData, Json
from penstock.schemas.identity import ConversationId, StoredId
from penstock.schemas.mapping import (
    EVENT_ID,
    INDEX,
    ITEM,
    KEY_TEXT,
    OCCURRED_AT,
    Field,
    Log,
    Upsert,
    event,
)

CONVERSATION = ("conversation_id",)


@event(
    "conversations.items_added",
    key="conversation_id",
    states=(
        Upsert(
            table="conversations.conversation",
            key=CONVERSATION,
            min=("first_at",),
            max=("last_at",),
            once=("external_id",),
            values={"external_id": KEY_TEXT, "first_at": OCCURRED_AT, "last_at": OCCURRED_AT},
        ),
        Upsert(
            table="conversations.item",
            key=("event_id", "n", "occurred_at"),
            each="items",
            once=("conversation_id", "item"),
            values={"event_id": EVENT_ID, "n": INDEX, "occurred_at": OCCURRED_AT, "item": ITEM},
        ),
    ),
)
class ConversationItemsAdded(EventData, frozen=True, kw_only=True):
    """A conversation has gone on; items are documents of whoever leads it."""

    conversation_id: ConversationId
    items: list[Json]


@event(
    "conversations.item_removed",
    key="conversation_id",
    history=Log("conversations"),
    states=(
        Upsert(
            table="conversations.removal",
            key=("event_id", "occurred_at"),
            once=("conversation_id", "item_event", "item_n"),
            values={
                "event_id": EVENT_ID,
                "occurred_at": OCCURRED_AT,
                "item_event": Field("event_id"),
                "item_n": Field("n"),
            },
        ),
    ),
)
class ConversationItemRemoved(EventData, frozen=True, kw_only=True):
    """An item was taken back: the ``n``-th, from 0, of those that the event added.

    ``event_id`` is the id of that event as reads and `conversations.v_item` give it.
    """

    conversation_id: ConversationId
    event_id: StoredId
    n: Count


@event(
    "conversations.cleared",
    key="conversation_id",
    history=Log("conversations"),
    states=(
        Upsert(
            table="conversations.conversation",
            key=CONVERSATION,
            max=("cleared_at",),
            once=("external_id",),
            values={"external_id": KEY_TEXT, "cleared_at": OCCURRED_AT},
        ),
    ),
)
class ConversationCleared(EventData, frozen=True, kw_only=True):
    """All items so far are taken back; the conversation may begin again."""

    conversation_id: ConversationId
