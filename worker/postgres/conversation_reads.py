"""Reads of conversations: their items, the newest first."""

from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import Raw

from penstock.schemas.identity import entity_uuid
from penstock.worker.postgres.agent_state import AgentState
from penstock.worker.postgres.pages import behind, place
from penstock.worker.sending.reads import Asked

_AT_ONCE = 20
_ITEMS = """
SELECT v.occurred_at, v.event_id::text, v.n, v.item
FROM conversations.v_item AS v
WHERE v.conversation_id = $1
  AND ($2::timestamptz IS NULL OR (v.occurred_at, v.event_id, v.n) < ($2, $3::uuid, $4::integer))
ORDER BY v.occurred_at DESC, v.event_id DESC, v.n DESC
LIMIT $5
"""


async def conversation_items(
    state: AgentState, asked: Asked
) -> AsyncGenerator[tuple[str, dict[str, Any]]]:
    """The items of the conversation that the request is about."""
    last = behind(asked, datetime.fromisoformat, UUID, int)
    given = (entity_uuid("conversation", state.agent), *last, asked.limit + 1)
    async for row in state.connection.cursor(_ITEMS, *given, prefetch=_AT_ONCE):
        moment, event_id, n, item = row
        document = Raw(b"null" if item is None else item)
        yield (
            place(moment.isoformat(), event_id, n),
            {"event_id": event_id, "n": n, "t": moment, "item": document},
        )
