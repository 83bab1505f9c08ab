"""Six streams cost what the budget says, not six times as much as one, and none is left behind."""

import asyncio
from pathlib import Path

import asyncpg
import nats
import pytest

from penstock.schemas.streams import STREAMS
from penstock.worker.app import Worker
from penstock.worker.postgres import pool
from tests.support.running import running, settings_for
from tests.support.waiting import until

_SLOW = """
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_sleep(0.1); RETURN NEW; END $$;
CREATE TRIGGER slow BEFORE INSERT ON bus.position FOR EACH ROW EXECUTE FUNCTION slow();
"""
"""Every batch of JetStream keeps where it stood."""

_TWO_MORE = """
from penstock.schemas.event import EventData
from penstock.schemas.mapping import event

@event("alpha.sent", key="name", stream="ALPHA")
class AlphaSent(EventData):
    name: str

@event("beta.sent", key="name", stream="BETA")
class BetaSent(EventData):
    name: str
"""

_STREAMS = {name: domains[0] for name, domains in STREAMS.items()} | {
    "ALPHA": "alpha",
    "BETA": "beta",
}
_LIMIT = 3 * 2**20
_COUNT = 40
_DONE = "SELECT stream, count(*) FROM bus.dead_letter GROUP BY stream"


async def publish(url: str, size: int) -> None:
    """Messages that nobody can read, for every stream."""
    async with await nats.connect(url) as nc:
        js = nc.jetstream()
        sent = [
            await js.publish_async(f"{domain}.{number}.sent", b"%d" % number + b"." * size)
            for number in range(_COUNT)
            for domain in _STREAMS.values()
        ]
        await asyncio.gather(*sent)


class Watch:
    """What was seen while the worker was at it."""

    def __init__(self, worker: Worker, connection: asyncpg.Connection) -> None:
        self._worker = worker
        self._connection = connection
        self.most = 0
        self.away: set[str] = set()
        self.spread: list[int] = []

    async def forever(self) -> None:
        check = self._worker._monitor.checks["postgres"]
        while True:
            self.most = max(self.most, self._worker.budget.used)
            if (trouble := check()) is not None and trouble != "not asked yet":
                self.away.add(trouble)
            await asyncio.sleep(0.002)

    async def done(self) -> bool:
        found = {row[0]: row[1] for row in await self._connection.fetch(_DONE)}
        counts = [found.get(stream, 0) for stream in _STREAMS]
        self.spread.append(max(counts) - min(counts))
        return counts == [_COUNT] * len(_STREAMS)


def retries(worker: Worker) -> float:
    name, value = "penstock_batch_retries_total", worker._metrics.registry.get_sample_value
    return sum([value(name, {"source": stream}) or 0.0 for stream in _STREAMS])


@pytest.mark.parametrize(
    "size",
    [
        pytest.param(10, id="many batches"),
        pytest.param(100_000, id="eight times the memory", marks=pytest.mark.faults),
    ],
)
async def test_six_streams_through_a_slow_postgresql(
    size: int, nats_url: str, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "two_more_streams.py").write_text(_TWO_MORE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(pool, "_ACQUIRE_SECONDS", 0.2)  # the batches queue for far longer
    connection = await asyncpg.connect(database)
    await connection.execute(_SLOW)
    more = {
        "memory_limit": str(_LIMIT),
        "batch_bytes": str(2**20),
        "batch_size": "5",
        "pool_size": "4",
        "event_packages": "two_more_streams",
    }
    settings = settings_for(nats_url, database, ack_wait="30s", **more)
    async with running(settings) as worker:
        watch = Watch(worker, connection)
        watching = asyncio.create_task(watch.forever())
        await publish(nats_url, size)
        await until(watch.done)
        watching.cancel()
        assert retries(worker) == 0
        await until(lambda: settled(worker))
    await connection.close()
    assert watch.away == set()
    assert watch.most <= _LIMIT
    if size * _COUNT * len(_STREAMS) > _LIMIT:
        assert watch.most > _LIMIT / 2
    assert max(watch.spread) < _COUNT, "none had all before another had any"


async def settled(worker: Worker) -> bool:
    """Nothing is held any more; each stream only asks for what may come."""
    return all(share.held == 0 for share in worker.budget._shares)
