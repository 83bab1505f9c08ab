"""Answers to reads that come over the bus, from a small pool of their own.

One more read is one more entry of `_READS`.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import datetime
from functools import partial
from typing import Any

import asyncpg
import msgspec
from msgspec import Raw

from penstock.schemas.identity import entity_uuid
from penstock.worker.errors import PenstockError, SinkUnavailable
from penstock.worker.postgres.agent_state import AgentState, AgentStates
from penstock.worker.postgres.conversation_reads import conversation_items
from penstock.worker.postgres.pages import behind, place
from penstock.worker.postgres.pool import open_pool
from penstock.worker.postgres.thread_reads import all_threads, one_thread
from penstock.worker.sending.reads import Asked, Page, ReadRefused
from penstock.worker.settings.keys import Settings

_MOST_ITEMS = 500
_PAGE_BYTES = 1024 * 1024
"""A page ends with the item that reaches this, however few they are."""

_AT_ONCE = 20
_STATES = """
SELECT s.state_key, coalesce(s.version, 0), s.version_at, s.value, s.expires_at
FROM agents.state AS s
WHERE s.agent_id = $1 AND s.version IS NOT NULL AND s.deleted_at IS NULL
  AND (s.expires_at IS NULL OR s.expires_at > now())
  AND ($2::text IS NULL OR s.state_key = $2) AND s.state_key > $3 COLLATE "C"
ORDER BY s.state_key COLLATE "C"
"""
_HISTORY = """
SELECT l.data ->> 'state_key', l.version, l.occurred_at, l.data -> 'value',
       l.event_id::text, l.event_type, l.source, l.actor,
       (l.data -> 'omitted' ->> 'bytes')::bigint
FROM events.log AS l
WHERE l.domain = 'agents' AND l.entity_id = ANY($1::text[])
  AND l.event_type IN ('agents.state_set', 'agents.state_deleted')
  AND ($2::text IS NULL OR l.data ->> 'state_key' = $2)
  AND ($3::timestamptz IS NULL OR (l.occurred_at, l.event_id) < ($3, $4::uuid))
ORDER BY l.occurred_at DESC, l.event_id DESC
"""
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
        if "\0" in f"{agent}{asked.key or ''}{asked.after or ''}" or b"\\u0000" in body:
            raise ReadRefused(400, "a text contains the character NUL")
        try:
            async with (
                asyncio.timeout(self._timeout),
                self._states.looking(agent) as state,
                aclosing(_READS[name](state, asked)) as items,
            ):
                return _encode(await _page(items, asked.limit))
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
    given = (state.agent_id, asked.key, asked.after or "")
    async for row in state.connection.cursor(_STATES, *given, prefetch=_AT_ONCE):
        key, version, moment, value, expires = row
        yield key, {"key": key, "v": version, "t": moment, "val": _json(value), "exp": expires}


async def _history(state: AgentState, asked: Asked) -> AsyncGenerator[tuple[str, Item]]:
    since, last = behind(asked, datetime.fromisoformat, partial(entity_uuid, "event"))
    given = (await state.names(), asked.key, since, last)
    async for row in state.connection.cursor(_HISTORY, *given, prefetch=_AT_ONCE):
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


async def _checkpoints(state: AgentState, asked: Asked) -> AsyncGenerator[tuple[str, Item]]:
    for number, found in enumerate(await state.checkpoints(), 1):
        if number > _number(asked.after):
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
    if not after.isascii() or not after.isdigit():
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
