"""Answers to reads that come over the bus, from a small pool of their own.

One more read is one more entry of `_READS`.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
from msgspec import Raw

from penstock.worker.errors import PenstockError, RowRejected, SinkUnavailable
from penstock.worker.postgres.agent_state import AgentState, AgentStates
from penstock.worker.postgres.conversation_reads import conversation_items
from penstock.worker.postgres.pages import behind, filled, place
from penstock.worker.postgres.pool import open_pool
from penstock.worker.postgres.thread_reads import all_threads, one_thread
from penstock.worker.sending.reads import Asked, Page, ReadRefused
from penstock.worker.settings.keys import Settings

_MOST_ITEMS = 500
_PAGE_BYTES = 1024 * 1024
"""A page ends with the item that reaches this, however few they are."""

_AT_ONCE = 20
_LONGEST_NUMBER = 18
_STATES = """
SELECT s.state_key, coalesce(s.version, 0), s.version_at, s.value, s.expires_at
FROM agents.state AS s
WHERE {where} AND s.version IS NOT NULL AND s.deleted_at IS NULL
  AND (s.expires_at IS NULL OR s.expires_at > now())
ORDER BY s.state_key COLLATE "C"
LIMIT {limit}::integer + 1
"""
_HISTORY = """
SELECT l.data ->> 'state_key', l.version, l.occurred_at, l.data -> 'value',
       l.event_id::text, l.event_type, l.source, l.actor,
       (l.data -> 'omitted' ->> 'bytes')::bigint
FROM unnest({names}::text[]) AS called (name)
CROSS JOIN LATERAL (
    SELECT * FROM events.log AS l
    WHERE l.domain = 'agents' AND l.entity_id = called.name
      AND l.event_type IN ('agents.state_set', 'agents.state_deleted') AND {where}
    ORDER BY l.occurred_at DESC, l.event_id DESC
    LIMIT {limit}::integer + 1
) AS l
ORDER BY l.occurred_at DESC, l.event_id DESC
LIMIT {limit}::integer + 1
"""
"""By each of an agent's names, as the index has the events of one name in their order."""

_decode = msgspec.json.Decoder(Asked).decode
_encode = msgspec.json.encode
Item = dict[str, Any]


class PostgresReads:
    """Answers over ``pool``, each within ``timeout`` seconds."""

    def __init__(self, pool: asyncpg.Pool, timeout: float) -> None:
        self._states = AgentStates(pool)
        self._at_once = pool.get_max_size()
        self._timeout = timeout

    @property
    def names(self) -> Sequence[str]:
        """See `Answering`."""
        return tuple(_READS)

    @property
    def at_once(self) -> int:
        """See `Answering`."""
        return self._at_once

    async def answer(self, name: str, agent: str, body: bytes) -> bytes:
        """See `Answering.answer`."""
        if name not in _READS:
            raise ReadRefused(404, f"no read is called {name!r}; there are {', '.join(_READS)}")
        try:
            asked = _decode(body) if body else Asked()
        except (msgspec.MsgspecError, RecursionError) as error:
            raise ReadRefused(400, f"the request is not what it must be: {error}") from error
        if not 1 <= asked.limit <= _MOST_ITEMS:
            raise ReadRefused(400, f"limit = {asked.limit}: from 1 to {_MOST_ITEMS}")
        if "\0" in f"{agent}{asked.key or ''}{asked.after or ''}":
            raise ReadRefused(400, "a text contains the character NUL")
        try:
            async with (
                asyncio.timeout(self._timeout),
                self._states.looking(agent) as state,
                aclosing(_READS[name](state, asked)) as items,
            ):
                return _encode(await _page(items, asked.limit))
        except RowRejected as error:
            raise ReadRefused(400, f"PostgreSQL takes no such value: {error}") from error
        except TimeoutError as error:
            raise SinkUnavailable(f"no answer in {self._timeout:g} s (reads_timeout)") from error


async def _page(items: AsyncGenerator[tuple[str, Item]], limit: int) -> Page:
    """Items up to ``limit``, with the place of the last if there are more."""
    taken: list[Raw] = []
    size, place = 0, ""
    async for after, item in items:
        if len(taken) >= limit or size >= _PAGE_BYTES:
            return Page(taken, place)
        taken.append(Raw(_encode(item)))
        size, place = size + len(bytes(taken[-1])), after
    return Page(taken)


async def _state(state: AgentState, asked: Asked) -> AsyncGenerator[tuple[str, Item]]:
    conditions = {
        "s.agent_id = {}": (state.agent_id,),
        "s.state_key = {}": (asked.key,),
        's.state_key > {} COLLATE "C"': (asked.after,),
    }
    query, given = filled(_STATES, conditions, limit=asked.limit)
    async for row in state.connection.cursor(query, *given, prefetch=_AT_ONCE):
        key, version, moment, value, expires = row
        yield key, {"key": key, "v": version, "t": moment, "val": _json(value), "exp": expires}


async def _history(state: AgentState, asked: Asked) -> AsyncGenerator[tuple[str, Item]]:
    query, given = _history_query(asked, await state.names())
    async for row in state.connection.cursor(query, *given, prefetch=_AT_ONCE):
        key, version, at, value, event, kind, source, actor, omitted = row
        item = {"key": key, "v": version, "t": at, "val": _json(value), "id": event, "type": kind}
        yield (
            place(at.isoformat(), event),
            {
                **item,
                "source": source,
                "actor": actor,
                "omitted": omitted or 0,
            },
        )


def _history_query(asked: Asked, names: Sequence[str]) -> tuple[str, Sequence[Any]]:
    conditions = {
        "l.data ->> 'state_key' = {}": (asked.key,),
        "(l.occurred_at, l.event_id) < ({}, {})": behind(asked, datetime.fromisoformat, UUID),
    }
    return filled(_HISTORY, conditions, limit=asked.limit, names=names)


async def _checkpoints(state: AgentState, asked: Asked) -> AsyncGenerator[tuple[str, Item]]:
    last = _number(asked.after)
    for number, found in enumerate(await state.checkpoints(), 1):
        if number > last:
            yield str(number), msgspec.to_builtins(found)


async def _checkpoint(state: AgentState, asked: Asked) -> AsyncGenerator[tuple[str, Item]]:
    if asked.key is None:
        raise ReadRefused(400, "key is missing: the id or the name of a checkpoint")
    try:
        _, keys = await state.checkpoint(asked.key)
    except SinkUnavailable:
        raise
    except PenstockError as error:
        raise ReadRefused(404, str(error)) from error
    for key in sorted(keys):
        if key > (asked.after or ""):
            held = keys[key]
            yield key, {"key": key, "v": held.version, "t": held.changed_at, "val": held.value}


_READS: Mapping[str, Callable[[AgentState, Asked], AsyncGenerator[tuple[str, Item]]]] = {
    "state": _state,
    "history": _history,
    "checkpoints": _checkpoints,
    "checkpoint": _checkpoint,
    "conversation": conversation_items,
    "thread": one_thread,
    "threads": all_threads,
}
"""Each read by its name: the items of an agent, each with its place for the next page."""


def _number(after: str | None) -> int:
    if after is None:
        return 0
    if not after.isascii() or not after.isdigit() or len(after) > _LONGEST_NUMBER:
        raise ReadRefused(400, f"after = {after!r} is no page of this read")
    return int(after)


def _json(cell: bytes | None) -> Raw | None:
    return None if cell is None else Raw(cell)


@asynccontextmanager
async def postgres_reads(settings: Settings) -> AsyncIterator[PostgresReads]:
    """By the settings. No connection is opened before the first read. Raises SinkUnavailable."""
    pool = await open_pool(
        settings.postgres_dsn,
        size=settings.reads_pool,
        least=0,
        statement_timeout=settings.reads_timeout,
        lock_timeout=min(settings.lock_timeout, settings.reads_timeout),
        name=f"{settings.worker_id} reads",
    )
    try:
        yield PostgresReads(pool, settings.reads_timeout)
    finally:
        pool.terminate()
