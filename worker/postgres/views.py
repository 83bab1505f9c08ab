"""Rows for the buckets, read from the hydrated views that the mappings name.

Nothing here knows what a view is about. Every view has the columns (bucket, key, live, guard,
value), and those that its rows are looked up by; the database says which types these have.

Memory is bounded by bytes: where values are too large together, only their sizes are read first,
and then as many values at a time as fit. A row that PostgreSQL cannot show is found by halving,
reported and left out, so that the others are still mirrored.
"""

import contextlib
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

import asyncpg

from penstock.schemas.catalogue import HydratedView
from penstock.worker.errors import MigrationError, PenstockError, RowRejected, SinkUnavailable
from penstock.worker.pipeline.ports import KvRow, KvTouch
from penstock.worker.postgres import statements
from penstock.worker.postgres.errors import translated
from penstock.worker.postgres.pool import borrowed
from penstock.worker.postgres.transaction import Connection

Key = tuple[Any, ...]
Skipped = Callable[[str, str, str], None]
"""Called with the bucket, the key, and the reason why the key is left out."""

Lease = Callable[[], contextlib.AbstractAsyncContextManager[Connection]]

_COLUMNS = ("bucket", "key", "live", "guard", "value")
_CHUNK = 1_000
_CHUNK_BYTES = 8 * 1024 * 1024
_UNLIMITED = 2**62
_RECONCILE_LOCK = 0x70656E_6B76
"""Advisory lock: one replica reconciles the buckets at a time."""

_NO_ROOM = {"XX000", "53200"}
"""SQLSTATEs if PostgreSQL cannot build a value: it exceeds a gigabyte, or the server's memory."""


class HydratedViews:
    """Reads ``views``. ``skipped`` is called for each row that PostgreSQL cannot show."""

    def __init__(
        self, pool: asyncpg.Pool, views: Mapping[str, HydratedView], skipped: Skipped
    ) -> None:
        self._pool = pool
        self._views = views
        self._skipped = skipped
        self._types: dict[str, dict[str, str]] = {}

    async def prepare(self) -> None:
        """Learn the views' columns. Raises MigrationError if one is missing."""
        with translated():
            found = await self._pool.fetch(statements.COLUMNS, list(self._views))
        for view, name, kind in found:
            self._types.setdefault(view, {})[name] = kind
        for view in self._views.values():
            needed = dict.fromkeys((*_COLUMNS, *(name for names in view.lookups for name in names)))
            lacking = [name for name in needed if name not in self._types.get(view.name, {})]
            if lacking:
                raise MigrationError(
                    f"{view.name}: a hydrated view needs the columns {', '.join(needed)}, and "
                    f"{', '.join(lacking)} are not there; correct the migration or the mapping"
                )

    async def read(self, touched: Mapping[KvTouch, Sequence[Key]]) -> AsyncGenerator[list[KvRow]]:
        """The committed rows for the keys, in pieces. Raises Unavailable.

        No connection is held while the caller works on a piece.
        """
        for rule, asked in touched.items():
            view = self._views[rule.view]
            keys = await self._identities(view, rule.columns, asked)
            async with aclosing(self._rows(self._lease, view, keys)) as pieces:
                async for rows in pieces:
                    yield rows

    async def all(self) -> AsyncGenerator[list[KvRow]]:
        """All rows of all views, in pieces; nothing if another replica is reading them now."""
        async with aclosing(self._everything(alone=True)) as pieces:
            async for rows in pieces:
                yield rows

    async def whole(self) -> AsyncGenerator[list[KvRow]]:
        """All rows of all views, in pieces, whoever else is reading them."""
        async with aclosing(self._everything(alone=False)) as pieces:
            async for rows in pieces:
                yield rows

    async def _everything(self, *, alone: bool) -> AsyncGenerator[list[KvRow]]:
        with translated():
            async with self._lease() as connection, connection.transaction(readonly=True):
                if alone and not await connection.fetchval(
                    "SELECT pg_try_advisory_xact_lock($1)", _RECONCILE_LOCK
                ):
                    return
                for view in self._views.values():
                    async with aclosing(self._whole(connection, view)) as pieces:
                        async for rows in pieces:
                            yield rows

    async def _whole(
        self, connection: Connection, view: HydratedView
    ) -> AsyncGenerator[list[KvRow]]:
        @contextlib.asynccontextmanager
        async def lease() -> AsyncGenerator[Connection]:
            async with connection.transaction():  # a savepoint: a row may fail
                yield connection

        cursor = await connection.cursor(statements.all_identities(view.name, view.identity))
        while found := await cursor.fetch(_CHUNK):
            async with aclosing(self._rows(lease, view, [tuple(key) for key in found])) as pieces:
                async for rows in pieces:
                    yield rows

    def _lease(self) -> contextlib.AbstractAsyncContextManager[Connection]:
        return borrowed(self._pool)

    async def _identities(
        self, view: HydratedView, columns: tuple[str, ...], asked: Sequence[Key]
    ) -> Sequence[Key]:
        """The identifying keys of the rows that ``asked`` means by ``columns``."""
        if columns == view.identity:
            return asked
        types = self._types[view.name]
        query = statements.identities(view.name, view.identity, columns, types)
        with translated():
            async with self._lease() as connection:
                found = await connection.fetch(query, *zip(*asked, strict=True))
        return [tuple(key) for key in found]

    async def _rows(
        self, lease: Lease, view: HydratedView, keys: Sequence[Key]
    ) -> AsyncGenerator[list[KvRow]]:
        """The existing rows, in pieces of bounded size."""
        left = [(list(keys), _CHUNK_BYTES // len(keys))] if keys else []
        while left:
            group, limit = left.pop()
            try:
                shown, sizes = await self._fetch(lease, view, group, limit)
            except _Unshowable as error:
                if len(group) == 1:
                    await self._name(lease, view, group[0], error)
                else:
                    middle = len(group) // 2
                    left += ((group[middle:], limit), (group[:middle], limit))
                continue
            left += [([group[n] for n in part], _CHUNK_BYTES) for part in _parts(sizes)]
            if shown:
                yield shown

    async def _fetch(
        self, lease: Lease, view: HydratedView, keys: Sequence[Key], limit: int
    ) -> tuple[list[KvRow], dict[int, int]]:
        """The rows whose values have at most ``limit`` bytes, and the sizes of larger ones by key.

        The row of a single key is returned whatever its size. Raises _Unshowable.
        """
        query = statements.hydrated(view.name, view.identity, self._types[view.name])
        room = limit if len(keys) > 1 else _UNLIMITED
        with _isolable():
            async with lease() as connection:
                found = await connection.fetch(query, *zip(*keys, strict=True), room)
        return _shown(found)

    async def _name(self, lease: Lease, view: HydratedView, key: Key, error: PenstockError) -> None:
        """Report the row that is left out: by its KV key, or by its row key if that fails too."""
        query = statements.hydrated_key(view.name, view.identity, self._types[view.name])
        why = f"PostgreSQL cannot show it: {error}"
        try:
            with _isolable():
                async with lease() as connection:
                    found = await connection.fetch(query, *((cell,) for cell in key))
        except _Unshowable:
            named = f"{view.name} {dict(zip(view.identity, map(str, key), strict=True))}"
            self._skipped(view.bucket, named, why)
        else:
            for bucket, name in found:
                self._skipped(bucket, name, why)


class _Unshowable(PenstockError):
    """One of the rows cannot be shown, whichever rows are read with it."""


@contextlib.contextmanager
def _isolable() -> Iterator[None]:
    """Turn errors that blame a row into _Unshowable, so that the row is looked for."""
    try:
        with translated():
            yield
    except RowRejected as error:
        raise _Unshowable(str(error)) from error
    except SinkUnavailable as error:
        if getattr(error.__cause__, "sqlstate", None) in _NO_ROOM:
            raise _Unshowable(str(error)) from error
        raise


def _shown(found: Iterable[Iterable[Any]]) -> tuple[list[KvRow], dict[int, int]]:
    """One row per KV key, and the sizes of those that came without their value, by key number."""
    rows: dict[tuple[str, str], KvRow] = {}
    sizes: dict[int, int] = {}
    for bucket, key, live, guard, nth, size, value in found:
        if live and value is None:
            sizes[nth - 1] = sizes.get(nth - 1, 0) + size
        else:
            held = value.encode() if live else None
            rows[bucket, key] = KvRow(bucket=bucket, key=key, guard=guard, value=held)
    return list(rows.values()), sizes


def _parts(sizes: Mapping[int, int]) -> Iterator[list[int]]:
    """Groups of key numbers whose values fit together; at least one in each group."""
    part: list[int] = []
    room = _CHUNK_BYTES
    for number, size in sizes.items():
        if part and size > room:
            yield part
            part, room = [], _CHUNK_BYTES
        part.append(number)
        room -= size
    if part:
        yield part
