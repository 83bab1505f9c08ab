"""All buckets that rows are mirrored to, as one; and the keys that cannot be mirrored."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import structlog

from penstock.worker.errors import Unavailable
from penstock.worker.pipeline.metrics import Metrics
from penstock.worker.pipeline.ports import KvRow, StateStore

log = structlog.get_logger()

_REMEMBERED = 10_000


class Store(StateStore, Protocol):
    """A bucket whose cache can be dropped, so that the next put reads what is really there."""

    def forget(self) -> None:
        """Drop the cache of the bucket."""

    async def ping(self) -> None:
        """Raise StateStoreUnavailable unless the bucket is there and answers."""


class LeftOut:
    """Reports each key that cannot be mirrored: in a metric, and in the log once until the next
    comparison. Its event is stored and acknowledged; each comparison tries the key again.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._named: set[tuple[str, str]] = set()

    def __call__(self, bucket: str, key: str, why: str) -> None:
        """Report one key."""
        self._metrics.kv_left_out(bucket, 1)
        if (bucket, key) not in self._named:
            log.error("key_left_out", bucket=bucket, key=key, error=why)
            if len(self._named) < _REMEMBERED:
                self._named.add((bucket, key))

    def forget(self) -> None:
        """Log every key again, from now on."""
        self._named.clear()


class Mirror:
    """Puts each row into its bucket; ``stores`` has the buckets by their declared names.

    A row for a bucket that no mapping declares is left out.
    """

    def __init__(self, stores: Mapping[str, Store], metrics: Metrics, left_out: LeftOut) -> None:
        self._stores = stores
        self._metrics = metrics
        self._left_out = left_out

    @property
    def stores(self) -> Collection[Store]:
        """All of them."""
        return self._stores.values()

    def leave_out(self, bucket: str, key: str, why: str) -> None:
        """Report a key whose row cannot be read."""
        store = self._stores.get(bucket)
        self._left_out(store.bucket if store else bucket, key, why)

    def forget(self) -> None:
        """Drop the caches of all buckets, and log again what cannot be mirrored."""
        self._left_out.forget()
        for store in self._stores.values():
            store.forget()

    async def put(self, rows: Sequence[KvRow]) -> int:
        """Bring every key at least to the version of its row. Returns how many were written.

        If a bucket is away, the others still get their rows. Raises Unavailable afterwards.
        """
        written = 0
        failed: list[Unavailable] = []
        for bucket, own in self._by_bucket(rows).items():
            store = self._stores[bucket]
            try:
                puts = await store.put(own)
            except Unavailable as error:
                failed.append(error)
            else:
                self._metrics.kv_puts(store.bucket, puts)
                written += puts
        if failed:
            raise failed[0]
        return written

    def _by_bucket(self, rows: Sequence[KvRow]) -> Mapping[str, Sequence[KvRow]]:
        found: dict[str, list[KvRow]] = defaultdict(list)
        for row in rows:
            if row.bucket in self._stores:
                found[row.bucket].append(row)
            else:
                why = f"no mapping declares this bucket; declared are {', '.join(self._stores)}"
                self.leave_out(row.bucket, row.key, why)
        return found
