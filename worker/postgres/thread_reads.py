"""Reads of threads: their checkpoints, each with its values and what was written after it."""

from collections.abc import AsyncGenerator, Sequence
from typing import Any
from uuid import UUID

import msgspec
from msgspec import Raw

from penstock.schemas.identity import entity_uuid
from penstock.worker.postgres.agent_state import AgentState
from penstock.worker.postgres.pages import behind, filled, place
from penstock.worker.sending.reads import Asked, ReadRefused

_AT_ONCE = 5

_CHECKPOINTS = """
SELECT v.thread, v.namespace, v.checkpoint_id, v.parent_id, v.run_id, v.checkpoint, v.metadata,
       stored.vals, written.writes
FROM (
    SELECT found.*, row_number() OVER (
        ORDER BY found.checkpoint_id DESC, found.namespace COLLATE "C" DESC, found.thread_id DESC
    ) AS number
    FROM (
        SELECT * FROM threads.v_checkpoint AS c WHERE {where}
        ORDER BY c.checkpoint_id DESC, c.namespace COLLATE "C" DESC, c.thread_id DESC
        LIMIT {limit}::integer + 1
    ) AS found
) AS v
CROSS JOIN LATERAL (
    SELECT coalesce(jsonb_agg(jsonb_build_object(
        'channel', f.channel, 'version', f.value_version, 'encoding', f.encoding,
        'digest', f.digest, 'part', f.part, 'parts', f.parts,
        'data', translate(encode(f.data, 'base64'), E'\\n', '')
    ) ORDER BY f.channel, f.part), '[]') AS vals
    FROM jsonb_each_text(
        CASE WHEN jsonb_typeof(v.checkpoint -> 'channel_versions') = 'object'
             THEN v.checkpoint -> 'channel_versions' ELSE '{{}}' END
    ) AS has (channel, version)
    CROSS JOIN LATERAL (
        SELECT whole.*, rank() OVER (ORDER BY whole.since DESC, whole.digest) AS number
        FROM (
            SELECT part.*, count(*) OVER one AS there, min(part.occurred_at) OVER one AS since
            FROM (
                SELECT DISTINCT ON (s.digest, s.part) s.*
                FROM threads.value AS s
                WHERE s.thread_id = v.thread_id AND s.channel = has.channel
                  AND s.value_version = has.version AND s.namespace = v.namespace
                  AND s.occurred_at > v.deleted_at
                ORDER BY s.digest, s.part, s.occurred_at DESC, s.event_id DESC
            ) AS part
            WINDOW one AS (PARTITION BY part.digest)
        ) AS whole
        WHERE whole.there = whole.parts
    ) AS f
    WHERE f.number = 1 AND v.number <= {limit}
) AS stored
CROSS JOIN LATERAL (
    SELECT coalesce(jsonb_agg(jsonb_build_object(
        'task_id', f.task_id, 'task_path', f.task_path, 'place', f.place, 'channel', f.channel,
        'encoding', f.encoding, 'data', translate(encode(f.data, 'base64'), E'\\n', '')
    ) ORDER BY f.task_path COLLATE "C", f.task_id COLLATE "C", f.place), '[]') AS writes
    FROM (
        SELECT DISTINCT ON (w.task_id, w.place) w.*
        FROM threads.write AS w
        WHERE w.thread_id = v.thread_id AND w.checkpoint_id = v.checkpoint_id
          AND w.namespace = v.namespace AND w.occurred_at > v.deleted_at
          AND v.number <= {limit}
          AND NOT EXISTS (
              SELECT FROM threads.removal AS r
              WHERE r.thread_id = w.thread_id AND r.checkpoint_id = w.checkpoint_id
                AND r.namespace = w.namespace AND r.occurred_at >= w.occurred_at
          )
        ORDER BY w.task_id, w.place, CASE WHEN w.place >= 0 THEN w.occurred_at END,
                 w.occurred_at DESC
    ) AS f
) AS written
ORDER BY v.number
"""
"""The last row only says that there are more: it is one more than asked for, and has nothing. Of
values for one version the newest counts that is there with all its parts; of writes that are
repeated the first, of errors, interrupts and the like the last.
"""


class Wanted(msgspec.Struct, frozen=True):
    """What is asked of checkpoints: those of a namespace, with an id, with an id less than
    ``before``, of some runs, with such metadata; without anything all.
    """

    namespace: str | None = None
    checkpoint_id: str | None = None
    before: str | None = None
    run_ids: list[str] | None = None
    metadata: dict[str, Any] = {}


def one_thread(state: AgentState, asked: Asked) -> AsyncGenerator[tuple[str, dict[str, Any]]]:
    """The checkpoints of the thread that the request is about, the newest first."""
    return _found(state, asked, entity_uuid("thread", state.agent))


def all_threads(state: AgentState, asked: Asked) -> AsyncGenerator[tuple[str, dict[str, Any]]]:
    """The checkpoints of all threads, the newest first."""
    return _found(state, asked, None)


async def _found(
    state: AgentState, asked: Asked, thread_id: str | None
) -> AsyncGenerator[tuple[str, dict[str, Any]]]:
    query, given = _query(asked, thread_id)
    async for row in state.connection.cursor(query, *given, prefetch=_AT_ONCE):
        thread, namespace, checkpoint_id, parent_id, run_id, *documents = row
        item = {
            "thread": thread,
            "namespace": namespace,
            "checkpoint_id": checkpoint_id,
            "parent_id": parent_id,
            "run_id": run_id,
        }
        names = ("checkpoint", "metadata", "values", "writes")
        item |= {name: Raw(cell) for name, cell in zip(names, documents, strict=True) if cell}
        yield place(checkpoint_id, namespace, entity_uuid("thread", thread)), item


def _query(asked: Asked, thread_id: str | None) -> tuple[str, Sequence[Any]]:
    """The query with its arguments. Raises ReadRefused."""
    try:
        wanted = msgspec.convert(asked.where or {}, Wanted)
    except msgspec.ValidationError as error:
        raise ReadRefused(400, f"where: {error}") from error
    conditions = {
        "c.thread_id = {}": (thread_id,),
        "c.namespace = {}": (wanted.namespace,),
        "c.checkpoint_id = {}": (wanted.checkpoint_id,),
        "c.checkpoint_id < {}": (wanted.before,),
        "c.run_id = ANY({})": (wanted.run_ids,),
        "c.metadata @> {}": (msgspec.json.encode(wanted.metadata) if wanted.metadata else None,),
        '(c.checkpoint_id, c.namespace COLLATE "C", c.thread_id) < ({}, {}, {})': behind(
            asked, str, str, UUID
        ),
    }
    return filled(_CHECKPOINTS, conditions, limit=asked.limit)
