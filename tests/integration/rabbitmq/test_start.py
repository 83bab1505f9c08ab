"""A connection to RabbitMQ that ends between two steps of a worker's start."""

from functools import partial
from urllib.parse import urlsplit

import pytest

from penstock.worker.app import Worker
from tests.support.relay import Relay
from tests.support.running import running, settings_for
from tests.support.waiting import until

LONG = pytest.mark.faults


@pytest.mark.parametrize(
    "size", [pytest.param(300, marks=LONG), pytest.param(1_500, marks=LONG), 4_000]
)
async def test_what_it_interrupts_is_tried_again(rabbit_url: str, database: str, size: int) -> None:
    """``size``: bytes that the server has sent by then, while it greets, declares or subscribes."""
    port = urlsplit(rabbit_url).port
    assert port is not None
    async with Relay(port) as relay:
        through = rabbit_url.replace(f":{port}", f":{relay.port}")
        relay.cut_after(size)
        given = {"brokers": "rabbitmq", "rabbitmq_url": through, "kv": "false"}
        async with running(settings_for("nats://127.0.0.1:1", database, **given)) as worker:
            assert relay.cuts == 1
            await until(partial(all_healthy, worker))


async def all_healthy(worker: Worker) -> bool:
    return all(source.healthy for _, source, _ in worker.watched)
