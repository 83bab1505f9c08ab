"""Events about sessions: the items of a conversation. The key is the session.

Items are rows that one event makes and none changes; `sessions.v_item` has those that were not
taken back.
"""

from penstock.schemas.event import Count, EventData, Json
from penstock.schemas.identity import AnyId, SessionId
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

SESSION = ("session_id",)


@event(
    "sessions.items_added",
    key="session_id",
    states=(
        Upsert(
            table="sessions.session",
            key=SESSION,
            min=("first_at",),
            max=("last_at",),
            once=("external_id",),
            values={"external_id": KEY_TEXT, "first_at": OCCURRED_AT, "last_at": OCCURRED_AT},
        ),
        Upsert(
            table="sessions.item",
            key=("event_id", "n", "occurred_at"),
            each="items",
            once=("session_id", "item"),
            values={"event_id": EVENT_ID, "n": INDEX, "occurred_at": OCCURRED_AT, "item": ITEM},
        ),
    ),
)
class SessionItemsAdded(EventData, frozen=True, kw_only=True):
    """A conversation has gone on; items are documents of whoever leads it."""

    session_id: SessionId
    items: list[Json]


@event(
    "sessions.item_removed",
    key="session_id",
    history=Log("sessions"),
    states=(
        Upsert(
            table="sessions.removal",
            key=("event_id", "occurred_at"),
            once=("session_id", "item_event", "item_n"),
            values={
                "event_id": EVENT_ID,
                "occurred_at": OCCURRED_AT,
                "item_event": Field("event_id"),
                "item_n": Field("n"),
            },
        ),
    ),
)
class SessionItemRemoved(EventData, frozen=True, kw_only=True):
    """An item was taken back: the ``n``-th, from 0, of those that the event added."""

    session_id: SessionId
    event_id: AnyId
    n: Count


@event(
    "sessions.cleared",
    key="session_id",
    history=Log("sessions"),
    states=(
        Upsert(
            table="sessions.session",
            key=SESSION,
            max=("cleared_at",),
            once=("external_id",),
            values={"external_id": KEY_TEXT, "cleared_at": OCCURRED_AT},
        ),
    ),
)
class SessionCleared(EventData, frozen=True, kw_only=True):
    """All items so far are taken back; the conversation may begin again."""

    session_id: SessionId
