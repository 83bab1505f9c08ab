"""Reads of conversations: their items, the newest first."""

from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import Raw

from penstock.schemas.identity import entity_uuid
from penstock.worker.postgres.agent_state import AgentState
from penstock.worker.sending.reads import Asked, ReadRefused

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
    given = (entity_uuid("conversation", state.agent), *_behind(asked), asked.limit + 1)
    async for row in state.connection.cursor(_ITEMS, *given, prefetch=_AT_ONCE):
        moment, event_id, n, item = row
        document = Raw(b"null" if item is None else item)
        yield (
            f"{moment.isoformat()}|{event_id}|{n}",
            {"event_id": event_id, "n": n, "t": moment, "item": document},
        )


def _behind(asked: Asked) -> tuple[datetime | None, UUID | None, int | None]:
    """Raises ReadRefused."""
    if not asked.after:
        return None, None, None
    try:
        moment, event_id, n = asked.after.split("|")
        return datetime.fromisoformat(moment), UUID(event_id), int(n)
    except ValueError as error:
        raise ReadRefused(400, f"after = {asked.after!r} is no page of this read") from error
