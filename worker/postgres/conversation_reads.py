"""Reads of conversations: their items, the newest first."""

from collections.abc import AsyncGenerator, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import Raw

from penstock.schemas.identity import entity_uuid
from penstock.worker.postgres.agent_state import AgentState
from penstock.worker.postgres.pages import behind, filled, place
from penstock.worker.sending.reads import Asked

_AT_ONCE = 20
_ITEMS = """
SELECT v.occurred_at, v.event_id::text, v.n, v.item
FROM conversations.v_item AS v
WHERE {where}
ORDER BY v.occurred_at DESC, v.event_id DESC, v.n DESC
LIMIT {limit}::integer + 1
"""


async def conversation_items(
    state: AgentState, asked: Asked
) -> AsyncGenerator[tuple[str, dict[str, Any]]]:
    """The items of the conversation that the request is about."""
    query, given = _query(asked, state.agent)
    async for row in state.connection.cursor(query, *given, prefetch=_AT_ONCE):
        moment, event_id, n, item = row
        document = Raw(b"null" if item is None else item)
        yield (
            place(moment.isoformat(), event_id, n),
            {"event_id": event_id, "n": n, "t": moment, "item": document},
        )


def _query(asked: Asked, conversation: str) -> tuple[str, Sequence[Any]]:
    last = behind(asked, datetime.fromisoformat, UUID, int)
    conditions = {
        "v.conversation_id = {}": (entity_uuid("conversation", conversation),),
        "(v.occurred_at, v.event_id, v.n) < ({}, {}, {})": last,
    }
    return filled(_ITEMS, conditions, limit=asked.limit)
