"""All that a bucket holds, and putting right what it holds wrongly."""

from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager

import nats.errors
from nats.aio.client import Client
from nats.js.errors import NotFoundError

from penstock.worker.errors import SourceUnavailable, StateStoreUnavailable
from penstock.worker.nats.api import ApiRefused, call
from penstock.worker.nats.kv.entries import bucket_entries
from penstock.worker.nats.kv.guard import without_value
from penstock.worker.nats.kv.wire import BucketMissing, BucketWire, Put, Silent
from penstock.worker.pipeline.ports import KvEntry, KvRow
from penstock.worker.wording import why


class BucketContents:
    """Reads everything; overwrites keys whose guard would keep a row out. ``timeout`` is for one
    exchange with the server, in seconds.
    """

    def __init__(self, nc: Client, bucket: str, timeout: float = 10.0) -> None:
        self._nc = nc
        self._bucket = bucket
        self._timeout = timeout
        self._wire = BucketWire(nc, bucket, timeout)

    async def close(self) -> None:
        """Stop listening for answers. Idempotent."""
        await self._wire.close()

    async def entries(self) -> AsyncGenerator[KvEntry]:
        """Every key that is there; the last entry of a key counts. Raises StateStoreUnavailable."""
        with self._available():
            found = bucket_entries(self._nc, self._bucket, self._timeout)
            async with aclosing(found) as entries:
                async for entry in entries:
                    yield entry

    async def size(self) -> int:
        """How many keys there are, deleted ones too. Raises StateStoreUnavailable."""
        try:
            found = await call(self._nc, f"STREAM.INFO.KV_{self._bucket}")
        except (ApiRefused, SourceUnavailable) as error:
            raise StateStoreUnavailable(f"KV bucket {self._bucket!r}: {error}") from error
        return int(found["state"]["messages"])

    async def revisions(self, keys: Sequence[str]) -> Mapping[str, int]:
        """The revisions of keys, deleted ones too; 0 where there is none."""
        with self._available():
            found = await self._wire.read(keys)
        return {key: held.revision for key, held in found.items()}

    async def overwrite(self, rows: Sequence[KvRow], revisions: Mapping[str, int]) -> None:
        """Put rows, whatever their keys hold, where the key still has its revision. A row that is
        too large goes without its value.
        """
        puts = [(fit, revisions[row.key]) for row in rows if (fit := self._fit(row))]
        if not puts:
            return
        with self._available():
            outcomes = await self._wire.put(puts, atomic=False)
            again: list[Put] = [
                (short, revision)
                for (row, revision), outcome in zip(puts, outcomes, strict=True)
                if outcome.too_large and (short := without_value(row))
            ]
            if again:
                await self._wire.put(again, atomic=False)

    def fits(self, row: KvRow) -> Iterator[bytes]:
        """The values that may stand for a row that is there: its own, and a shortened one."""
        if row.value is not None:
            yield row.value
        short = without_value(row)
        if short is not None and short.value is not None:
            yield short.value

    def _fit(self, row: KvRow) -> KvRow | None:
        if self._wire.unfit(row) is None:
            return row
        short = without_value(row)
        return short if short is not None and self._wire.unfit(short) is None else None

    @contextmanager
    def _available(self) -> Iterator[None]:
        try:
            yield
        except NotFoundError as error:
            raise StateStoreUnavailable(
                f"there is no bucket {self._bucket!r}; a worker or `penstock provision` makes it"
            ) from error
        except (BucketMissing, Silent, nats.errors.Error, OSError, TimeoutError) as error:
            raise StateStoreUnavailable(f"KV bucket {self._bucket!r}: {why(error)}") from error
