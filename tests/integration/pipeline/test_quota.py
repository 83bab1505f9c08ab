"""More wrong messages than `letters_max`: they wait at the broker, and the good ones go on."""

import asyncpg
import pytest

from tests.integration.pipeline.test_malformed import HEARTBEAT, body
from tests.support.carriers import Carrier, Nats, RabbitMq, Sent
from tests.support.running import running, settings_for
from tests.support.waiting import until


@pytest.fixture(params=["nats", pytest.param("quorum", marks=pytest.mark.faults), "stream"])
def carrier(request: pytest.FixtureRequest) -> Carrier:
    if request.param == "nats":
        return Nats(request.getfixturevalue("nats_url"))
    carrier = RabbitMq(request.getfixturevalue("rabbit_url"))
    carrier.settings = {**carrier.settings, "rabbitmq_queue_type": request.param, "kv": "false"}
    return carrier


async def test_beyond_the_quota_wrong_messages_wait_at_the_broker(
    carrier: Carrier, nats_address: str, database: str
) -> None:
    """The good ones go on, and nothing is lost once there is room."""
    settings = settings_for(nats_address, database, letters_max="2", **carrier.settings)
    bad: list[Sent] = [(HEARTBEAT, b"wrong %d" % n, {}) for n in range(5)]
    good: list[Sent] = [(HEARTBEAT, body(), {}) for _ in range(20)]
    connection = await asyncpg.connect(database)

    async def count(query: str) -> int:
        return int(await connection.fetchval(f"SELECT count(*) FROM {query}"))

    async with running(settings) as worker:

        def refused() -> float:
            name = "penstock_dead_letters_refused_total"
            sources = [read.pipeline.name for read in worker.watched]
            value = worker._metrics.registry.get_sample_value
            return sum(value(name, {"source": source}) or 0.0 for source in sources)

        await carrier.publish([*bad, *good])
        await until(lambda: count("agents.heartbeat"))
        await until(lambda: refused() >= 3)

        async def full() -> bool:
            kept = await count("bus.dead_letter")
            # Batches that are written at the same time do not see each other's letters.
            return await count("agents.heartbeat") == 20 and 2 <= kept < len(bad)

        await until(full)

        async def discarded() -> bool:
            await connection.execute(
                "UPDATE bus.dead_letter SET status = 'discarded' WHERE status = 'kept'"
            )
            return await count("bus.dead_letter") == 5

        await until(discarded)
    assert {
        bytes(row["body"]) for row in await connection.fetch("SELECT body FROM bus.dead_letter")
    } == {sent[1] for sent in bad}
    await connection.close()
