"""Rows written by several clients at once while the worker that relays them is killed."""

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path

import asyncpg

from tests.support.outbox import Tap, Written, by_key, first_copies, waiting
from tests.support.waiting import until
from tests.support.workers import WorkerProcess, environment

_CLIENTS = 4


class Run:
    """One run: ``rows`` rows of four clients, ``kills`` times SIGKILL for the worker."""

    def __init__(self, nats_url: str, dsn: str, given: Mapping[str, str], log: Path) -> None:
        self._dsn = dsn
        self._worker = WorkerProcess(environment(nats_url, dsn, kv="false", **given), log)
        self.written = Written()
        self.seconds = 0.0

    async def work(self, rows: int, kills: int, seed: int) -> None:
        """Return once every committed row is marked and stored."""
        began = time.monotonic()
        async with self._worker, asyncio.TaskGroup() as clients:
            for client in range(_CLIENTS):
                share = rows // _CLIENTS
                clients.create_task(self.written.write(self._dsn, client, share, seed))
            await self._worker.start()
            for number in range(kills):
                await self._kill(rows * (number + 1) // (2 * kills))
            await until(self._is_stored, 300)
        self.seconds = time.monotonic() - began

    async def _kill(self, published: int) -> None:
        """Once so many rows are marked, or all that there are; among those after them some are on
        their way.
        """
        await until(lambda: self._has_marked(published), 300)
        await self._worker.kill()
        await self._worker.start()

    async def _has_marked(self, rows: int) -> bool:
        query = "SELECT count(*) FROM bus.outbox WHERE published_at IS NOT NULL"
        return int(await self._ask(query)) >= rows

    async def _is_stored(self) -> bool:
        assert await waiting(self._dsn) == 0
        stored = await self._ask("SELECT count(DISTINCT event_id) FROM events.log")
        assert stored == self.written.count, (stored, self.written.count)
        return True

    async def _ask(self, query: str) -> int:
        connection = await asyncpg.connect(self._dsn)
        try:
            found: int = await connection.fetchval(query)
            return found
        finally:
            await connection.close()

    async def check(self, tap: Tap) -> str:
        """Every committed row once by its id, in order; nothing that was rolled back. Figures."""
        heard = await tap.heard()
        assert by_key(first_copies(heard)) == self.written.committed
        assert not self.written.undone & {event.id for event in heard}
        assert await self._ask("SELECT count(*) FROM events.log") == self.written.count
        assert await self._ask("SELECT count(*) FROM bus.outbox") == self.written.count
        again = len(heard) - self.written.count
        return (
            f"{self.written.count} rows committed and published, {len(self.written.undone)} rolled "
            f"back, {again} further copies on the broker, in {self.seconds:.1f} s"
        )
