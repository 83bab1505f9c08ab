"""The JetStream key-value bucket that mirrors rows of PostgreSQL.

Why a key never goes back, with any number of workers: a row is read after its commit, and the
guards of the committed rows of one key form a chain. A worker puts a row only where it has seen a
lower guard, and only if the key still has the revision that carried this guard (compare-and-set).
So each put moves its key up the chain, whichever worker makes it, in whatever order; a deleted key
keeps its guard in the delete marker. If an answer is lost, the key is read again.

Revisions are compared within one epoch of the bucket. If it is deleted and recreated, or if a
server loses the end of it, revisions start again. The store notices that, clears its cache, and
tells the caller to refill.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence

import nats.errors
from nats.aio.client import Client

from penstock.worker.errors import Cause, PenstockError, StateStoreUnavailable
from penstock.worker.nats.kv.guard import is_ahead, without_value
from penstock.worker.nats.kv.wire import (
    SILENCE,
    BucketMissing,
    BucketWire,
    Held,
    Outcome,
    Put,
    Silent,
)
from penstock.worker.nats.permissions import denials
from penstock.worker.nats.requests import BATCH_LIMIT, Refusal
from penstock.worker.pipeline.ports import KvRow
from penstock.worker.wording import why

_ROUNDS = 12
_ATOMIC_ROUNDS = 3
_PAUSE_SECONDS = 0.005
_SERVER_TROUBLE = 500
_CHUNK_BYTES = 4 * 1024 * 1024
_NO_KEY = "-"
"""Asked for to see whether the bucket answers; no agent has it."""


def _chunks(rows: Sequence[KvRow]) -> Iterator[list[KvRow]]:
    chunk: list[KvRow] = []
    size = 0
    for row in rows:
        weight = len(row.value or b"") + len(row.key)
        if chunk and (len(chunk) == BATCH_LIMIT or size + weight > _CHUNK_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(row)
        size += weight
    if chunk:
        yield chunk


class JetStreamKv:
    """A `StateStore` over a bucket. Any number of them may write one bucket, in any process.

    ``timeout`` is how long one exchange with the server may take, in seconds. ``on_conflict`` is
    called with the number of puts that lost against another writer. ``on_missing`` is awaited when
    the bucket is missing, to create it, and when it turns out to have been recreated. Both times it
    should also schedule a refill, but not run it: a `put` inside it would wait for itself.
    ``on_refused`` is called with the key and the reason of each row that the bucket rejects.
    """

    def __init__(
        self,
        nc: Client,
        bucket: str,
        *,
        timeout: float = 5.0,
        on_conflict: Callable[[int], None] | None = None,
        on_missing: Callable[[], Awaitable[None]] | None = None,
        on_refused: Callable[[str, str], None] | None = None,
        cache_size: int = 100_000,
    ) -> None:
        self.bucket = bucket
        self._nc = nc
        self._timeout = timeout
        self._on_conflict = on_conflict
        self._on_missing = on_missing
        self._on_refused = on_refused
        self._cache_size = cache_size
        self._wire = BucketWire(nc, bucket, timeout)
        self._known: dict[str, Held] = {}
        self._highest = 0
        self._reconnects = nc.stats["reconnects"]
        # Overlapping batches of this worker touch the same keys. One at a time, they use each
        # other's cached revisions instead of competing.
        self._turn = asyncio.Lock()

    async def close(self) -> None:
        """Stop listening for answers. The caller owns the connection. Idempotent."""
        await self._wire.close()

    def forget(self) -> None:
        """Clear the cache, so that every key is read again. A reconnect does that by itself."""
        self._known.clear()
        self._wire.relearn()

    async def ping(self) -> None:
        """Raise StateStoreUnavailable unless the bucket can be read. A missing one is asked for."""
        try:
            await self._wire.read([_NO_KEY])
        except BucketMissing as exc:
            await self._make(exc)
            raise self._unavailable(str(exc), Cause.MISSING) from exc
        except (Silent, nats.errors.Error, OSError) as exc:
            raise self._unavailable(why(exc)) from exc

    async def put(self, rows: Sequence[KvRow]) -> int:
        """Bring every key at least to the version of its row, never back. Returns how many keys
        were written.

        One row per key. A key with an equal or greater guard stays as it is. A put whose answer was
        lost is not counted. A rejected row goes to ``on_refused``; the others are still written.
        Raises StateStoreUnavailable, also if nothing is accepted because the bucket is full.
        """
        written = 0
        try:
            for chunk in _chunks(rows):
                async with self._turn:
                    written += await self._settle(chunk)
        except (nats.errors.Error, OSError) as exc:
            raise self._unavailable(why(exc)) from exc
        return written

    def _unavailable(self, why: str, cause: Cause = Cause.OTHER) -> StateStoreUnavailable:
        known = denials(self._nc)
        of_bucket = (f"$KV.{self.bucket}.", f"$JS.API.DIRECT.GET.KV_{self.bucket}")
        if lacking := next(filter(None, map(known.of, of_bucket)), None):
            why, cause = lacking, Cause.RIGHT
        return StateStoreUnavailable(f"KV bucket {self.bucket!r}: {why}", cause=cause)

    async def _settle(self, chunk: list[KvRow]) -> int:
        """Put rows until every key is at least at its row's version, or the row is rejected."""
        rows, written = chunk, 0
        setbacks: set[type[Exception]] = set()
        refused: list[tuple[KvRow, Refusal]] = []
        unknown: set[str] = set()
        for round_ in range(_ROUNDS):
            puts: list[Put] = []
            if round_ > _ATOMIC_ROUNDS:  # in a cluster a replica that lags may answer the reads
                await asyncio.sleep(_PAUSE_SECONDS * round_)
            try:
                rows = self._sendable(rows)
                puts = await self._behind(rows)
                if not puts:
                    taken = written or unknown - {row.key for row, _ in refused}
                    self._report(refused, full=not taken)
                    return written
                outcomes = await self._wire.put(puts, atomic=round_ < _ATOMIC_ROUNDS)
                written += await self._take(puts, outcomes)
                refused += [(p[0], o.error) for p, o in zip(puts, outcomes, strict=True) if o.error]
                rows = self._next_rows(puts, outcomes)
            except (Silent, BucketMissing) as exc:
                self._drop(rows)
                unknown |= {row.key for row, _ in puts}
                if type(exc) in setbacks:
                    raise self._unavailable(str(exc)) from exc
                setbacks.add(type(exc))
                if isinstance(exc, BucketMissing):
                    await self._make(exc)
        raise self._unavailable(f"{len(rows)} keys keep changing, among them {rows[0].key!r}")

    def _sendable(self, rows: list[KvRow]) -> list[KvRow]:
        """The rows in a form that the server accepts; its limits may change at a reconnect."""
        if self._wire.all_fit(rows):
            return rows
        found: list[KvRow] = []
        for row in rows:
            why = self._wire.unfit(row)
            if why is None:
                found.append(row)
            else:
                found += self._shortened(row, why)
        return found

    def _shortened(self, row: KvRow, why: str) -> list[KvRow]:
        """The row without its value, if that is small enough; otherwise nothing, and a report."""
        short = without_value(row)
        if short is not None and self._wire.unfit(short) is None:
            return [short]
        self._refuse(row.key, why)
        return []

    def _refuse(self, key: str, why: str) -> None:
        if self._on_refused is None:
            raise self._unavailable(f"key {key!r}: {why}")
        self._on_refused(key, why)

    def _report(self, refused: Sequence[tuple[KvRow, Refusal]], *, full: bool) -> None:
        """Report rejected rows. If the error is the server's and nothing was accepted at all
        (``full``), the bucket itself is unavailable.
        """
        for row, error in refused:
            why = f"{error.description} ({error.err_code})"
            if full and error.code >= _SERVER_TROUBLE:
                raise self._unavailable(f"key {row.key!r}: {why}")
            self._refuse(row.key, why)

    async def _behind(self, rows: list[KvRow]) -> list[Put]:
        """The rows that are newer than what their keys hold, with the revisions of the keys."""
        if self._nc.stats["reconnects"] != self._reconnects:
            self._reconnects = self._nc.stats["reconnects"]
            self.forget()
        known = [self._known.get(row.key) for row in rows]
        unknown = [row.key for row, found in zip(rows, known, strict=True) if found is None]
        read = await self._wire.read(unknown) if unknown else {}
        held = [found or read[row.key] for row, found in zip(rows, known, strict=True)]
        for key, found in read.items():
            self._learn(key, found)
        return [
            (row, found.revision)
            for row, found in zip(rows, held, strict=True)
            if is_ahead(row.guard, found.guard)
        ]

    async def _take(self, puts: list[Put], outcomes: list[Outcome]) -> int:
        """Cache what was written, and drop the rest. Returns how many were written."""
        before = self._highest
        revisions = [outcome.revision for outcome in outcomes if outcome.revision]
        outrun = sum(outcome.outrun for outcome in outcomes)
        for (row, _), outcome in zip(puts, outcomes, strict=True):
            if outcome.revision:
                self._learn(row.key, Held(outcome.revision, row.guard))
            else:
                self._known.pop(row.key, None)
        if outrun and self._on_conflict is not None:
            self._on_conflict(outrun)
        if revisions and min(revisions) <= before:
            await self._notice_new_life(max(revisions))
        return len(revisions)

    def _learn(self, key: str, held: Held) -> None:
        self._known.pop(key, None)
        self._known[key] = held
        self._highest = max(self._highest, held.revision)
        if len(self._known) > self._cache_size:
            del self._known[next(iter(self._known))]

    def _next_rows(self, puts: list[Put], outcomes: list[Outcome]) -> list[KvRow]:
        """The rows to try again. Raises Silent if some outcomes are unknown."""
        if SILENCE in outcomes:
            raise Silent
        rows: list[KvRow] = []
        for (row, _), outcome in zip(puts, outcomes, strict=True):
            if outcome.too_large:
                rows += self._shortened(row, "larger than the bucket's max_msg_size")
            elif outcome.outrun:
                rows.append(row)
        return rows

    def _drop(self, rows: list[KvRow]) -> None:
        for row in rows:
            self._known.pop(row.key, None)

    async def _notice_new_life(self, highest: int) -> None:
        """Revisions only grow, so one that is lower than before belongs to another epoch."""
        self.forget()
        self._highest = highest
        await self._ask_for_bucket()

    async def _make(self, missing: BucketMissing) -> None:
        if self._on_missing is None:
            raise self._unavailable(str(missing)) from missing
        self.forget()
        self._highest = 0
        await self._ask_for_bucket()

    async def _ask_for_bucket(self) -> None:
        if self._on_missing is None:
            return
        try:
            await self._on_missing()
        except PenstockError as exc:
            raise self._unavailable(f"it cannot be created: {exc}") from exc
