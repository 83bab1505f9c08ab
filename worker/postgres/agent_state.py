"""An agent's state as PostgreSQL has it: its keys, their history, and its checkpoints.

Whatever is read in one `AgentStates.looking` is of one moment.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

import asyncpg
import msgspec
from msgspec import Raw

from penstock.schemas.checkpoints import NULL, Snapshot, Value, compact, decode, joined
from penstock.schemas.identity import entity_uuid
from penstock.worker.errors import PenstockError
from penstock.worker.postgres.errors import translated
from penstock.worker.postgres.pool import borrowed, database
from penstock.worker.postgres.transaction import Connection
from penstock.worker.settings.keys import Settings

_KEYS = """
SELECT s.state_key, s.version, s.version_at, s.value, s.expires_at, s.checksum,
       s.deleted_at IS NOT NULL AS deleted, s.version_event::text AS event_id
FROM agents.state AS s
WHERE s.agent_id = $1
ORDER BY s.state_key COLLATE "C"
"""
_NAMES = "SELECT a.external_id FROM agents.agent AS a WHERE a.agent_id = $1"
_HISTORY = """
SELECT l.occurred_at, l.event_id::text, l.event_type, l.version, l.source, l.actor,
       l.data ->> 'state_key' AS state_key, l.data -> 'value' AS value,
       (l.data -> 'omitted' ->> 'bytes')::bigint AS omitted
FROM events.log AS l
WHERE l.domain = 'agents' AND l.entity_id = ANY($1::text[])
  AND l.event_type IN ('agents.state_set', 'agents.state_deleted')
  AND ($2::text IS NULL OR l.data ->> 'state_key' = $2)
ORDER BY l.occurred_at DESC, l.event_id DESC
LIMIT $3
"""
_KEPT = """
WITH kept AS (
    SELECT c.checkpoint_id, c.name, c.trigger, c.occurred_at AS taken_at, c.snapshot
    FROM agents.checkpoint AS c
    WHERE c.agent_id = $1
    UNION ALL
    SELECT l.checkpoint_id, l.name, l.trigger, l.taken_at, l.snapshot
    FROM agents.last_checkpoint AS l
    WHERE l.agent_id = $1 AND l.checkpoint_id = (
        SELECT newest.checkpoint_id FROM agents.last_checkpoint AS newest
        WHERE newest.agent_id = $1
        ORDER BY newest.version DESC, newest.version_at DESC, newest.version_event DESC
        LIMIT 1
    ) AND NOT EXISTS (
        SELECT FROM agents.checkpoint AS c
        WHERE c.event_id = l.version_event AND c.occurred_at = l.version_at
    )
)
"""
"""The history, and what it no longer has of the latest one, which outlives it."""

_CHECKPOINTS = f"""{_KEPT}
SELECT k.checkpoint_id::text, k.name, k.trigger, min(k.taken_at)
FROM kept AS k
GROUP BY k.checkpoint_id, k.name, k.trigger
ORDER BY min(k.taken_at) DESC
"""
_PARTS = f"""{_KEPT}
SELECT k.snapshot FROM kept AS k WHERE k.checkpoint_id = $2 AND k.snapshot IS NOT NULL
"""


class Kept(msgspec.Struct, frozen=True):
    """A key's row: what it holds, whether it is deleted, and the event that said so last."""

    value: Value
    deleted: bool
    event_id: str | None


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One change of a key. ``omitted`` is 0, or the bytes of data too large for the history."""

    time: datetime
    event_id: str
    key: str
    what: str
    sequence: int
    value: Raw | None
    omitted: int
    source: str
    actor: str | None


class Checkpoint(msgspec.Struct, frozen=True):
    """A checkpoint in the list of an agent's."""

    checkpoint_id: str
    name: str | None
    trigger: str | None
    time: datetime


class AgentState:
    """Looks at the state of one agent within a transaction. ``agent`` is as the agent names itself,
    or its UUID.
    """

    def __init__(self, connection: Connection, agent: str) -> None:
        self.connection = connection
        self.agent = agent
        self.agent_id = entity_uuid("agent", agent)

    async def keys(self) -> dict[str, Kept]:
        """Every key that the agent ever had."""
        rows = await self.connection.fetch(_KEYS, self.agent_id)
        return {row["state_key"]: _kept(row) for row in rows}

    async def known_keys(self) -> dict[str, Kept]:
        """The same. Raises PenstockError if there is no such agent."""
        keys = await self.keys()
        if not keys and await self.connection.fetchrow(_NAMES, self.agent_id) is None:
            raise PenstockError(
                f"PostgreSQL has no agent {self.agent!r} ({self.agent_id}); name it as it names "
                "itself, or by its UUID"
            )
        return keys

    async def history(self, key: str | None, limit: int) -> list[Change]:
        """The last changes of ``key``, or of all keys; the newest first."""
        rows = await self.connection.fetch(_HISTORY, await self.names(), key, limit)
        return list(map(_change, rows))

    async def names(self) -> list[str]:
        """What its events may call it."""
        named = await self.connection.fetchval(_NAMES, self.agent_id)
        return sorted({self.agent, self.agent_id, self.agent_id.upper(), named or self.agent})

    async def checkpoints(self) -> list[Checkpoint]:
        """All of them, the newest first."""
        rows = await self.connection.fetch(_CHECKPOINTS, self.agent_id)
        return [Checkpoint(*row) for row in rows]

    async def checkpoint(self, named: str) -> tuple[Checkpoint, dict[str, Value]]:
        """A checkpoint by its id, or the newest of a name, with the keys that it keeps. Raises
        PenstockError if there is none, or none that can be read.
        """
        checkpoint_id = entity_uuid("checkpoint", named)
        for found in await self.checkpoints():
            if checkpoint_id == found.checkpoint_id or named == found.name:
                return found, await self._saved(found)
        raise PenstockError(
            f"agent {self.agent!r} has no checkpoint {named!r}; `penstock state checkpoint "
            f"{self.agent} --list` shows those it has"
        )

    async def is_complete(self, checkpoint_id: str) -> bool:
        """Whether all parts of a checkpoint are stored."""
        rows = await self.connection.fetch(_PARTS, self.agent_id, checkpoint_id)
        return bool(rows) and joined(decode(snapshot) for (snapshot,) in rows) is not None

    async def _saved(self, checkpoint: Checkpoint) -> dict[str, Value]:
        rows = await self.connection.fetch(_PARTS, self.agent_id, checkpoint.checkpoint_id)
        parts = [_part(snapshot, checkpoint) for (snapshot,) in rows]
        keys = joined(parts) if parts else None
        if keys is None:
            raise PenstockError(
                f"checkpoint {checkpoint.checkpoint_id} is not complete: {len(parts)} of "
                f"{parts[0].parts if parts else 1} parts are stored; wait for the worker, or look "
                "for the rest among the dead letters"
            )
        return keys


class AgentStates:
    """The states of all agents, over a pool."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    @asynccontextmanager
    async def looking(self, agent: str) -> AsyncIterator[AgentState]:
        """The state of ``agent`` at one moment. Raises SinkUnavailable."""
        with translated():
            async with (
                borrowed(self._pool) as connection,
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
                yield AgentState(connection, agent)


@asynccontextmanager
async def agent_states(settings: Settings) -> AsyncIterator[AgentStates]:
    """By the settings. Raises SinkUnavailable."""
    async with database(settings) as pool:
        yield AgentStates(pool)


def _kept(row: asyncpg.Record) -> Kept:
    held = Value(
        version=row["version"] or 0,
        changed_at=row["version_at"],
        value=_document(row["value"]) or NULL,
        expires_at=row["expires_at"],
        checksum=row["checksum"],
    )
    return Kept(held, row["deleted"], row["event_id"])


def _change(row: asyncpg.Record) -> Change:
    return Change(
        time=row["occurred_at"],
        event_id=row["event_id"],
        key=row["state_key"],
        what=row["event_type"].rpartition("_")[2],
        sequence=row["version"],
        value=_document(row["value"]),
        omitted=row["omitted"] or 0,
        source=row["source"],
        actor=row["actor"],
    )


def _document(cell: bytes | None) -> Raw | None:
    return None if cell is None else compact(Raw(cell))


def _part(snapshot: bytes, checkpoint: Checkpoint) -> Snapshot:
    try:
        return decode(snapshot)
    except msgspec.ValidationError as error:
        raise PenstockError(
            f"checkpoint {checkpoint.checkpoint_id} was made by the agent itself, in a form of its "
            f"own ({error}); only the agent can go back to it"
        ) from error
