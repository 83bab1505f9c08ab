"""What tells one dead letter from another: everything that came."""

from collections.abc import Mapping

import asyncpg
import pytest

from tests.integration.pipeline.test_malformed import HEARTBEAT, body, heartbeat
from tests.support.carriers import Carrier, Nats, RabbitMq, Sent
from tests.support.running import running, settings_for
from tests.support.waiting import until

COUNT = 25


@pytest.fixture(params=["nats", "quorum", "classic", "stream"])
def carrier(request: pytest.FixtureRequest) -> Carrier:
    if request.param == "nats":
        return Nats(request.getfixturevalue("nats_url"))
    carrier = RabbitMq(request.getfixturevalue("rabbit_url"))
    carrier.settings = {**carrier.settings, "rabbitmq_queue_type": request.param, "kv": "false"}
    return carrier


def binary(**changes: object) -> Mapping[str, str]:
    """A heartbeat in binary mode: all but its data is in the headers."""
    event = heartbeat(**changes)
    attributes = {f"ce-{name}": str(value) for name, value in event.items() if name != "data"}
    return {**attributes, "content-type": "application/json", "message-id": "m-1"}


async def test_equal_bodies_with_other_headers_are_other_letters(
    carrier: Carrier, nats_address: str, database: str
) -> None:
    bad: list[Sent] = [(HEARTBEAT, b"{}", binary(type="agents.gone")) for _ in range(COUNT)]
    same: Sent = (HEARTBEAT, b"{}", binary(type="agents.lost"))
    event = body()
    sent = [*bad, same, same, same, *[(HEARTBEAT, event, {}) for _ in range(3)]]
    await check(carrier, nats_address, database, sent)


async def check(carrier: Carrier, nats_address: str, database: str, sent: list[Sent]) -> None:
    """Twenty-five letters and those of the message that came three times; one row; no more.

    Where messages have positions, each of the three is a letter; elsewhere the other two are
    duplicates. `running` sees that the counts agree.
    """
    connection = await asyncpg.connect(database)
    settings = settings_for(nats_address, database, **carrier.settings)
    numbered = carrier.numbered or settings.rabbitmq_queue_type == "stream"
    async with running(settings) as worker:
        await carrier.publish(sent)

        async def settled() -> bool:
            samples = [
                sample.value
                for family in worker._metrics.registry.collect()
                for sample in family.samples
                if sample.name == "penstock_received_total"
            ]
            return sum(samples) == len(sent)

        await until(settled)
    letters = await connection.fetch("SELECT headers, digest FROM bus.dead_letter")
    assert len(letters) == COUNT + (3 if numbered else 1)
    assert len({letter["digest"] for letter in letters}) == COUNT + 1
    assert await connection.fetchval("SELECT count(*) FROM agents.heartbeat") == 1
    await connection.close()
