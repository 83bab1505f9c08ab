"""TLS: both ways to read, the Publisher, and a certificate that is checked in any case."""

import asyncio
import os
import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from penstock.schemas.agents import AgentHeartbeat
from penstock.worker.embedded.rabbitmq import EmbeddedRabbit
from penstock.worker.errors import SourceUnavailable
from penstock.worker.publisher import Publisher
from penstock.worker.rabbitmq import topology
from penstock.worker.rabbitmq.client_source import StockRabbitMqSource
from penstock.worker.rabbitmq.connection import connect
from penstock.worker.rabbitmq.options import RabbitOptions, ReadingOptions
from penstock.worker.rabbitmq.source import RabbitMqSource
from tests.support.waiting import PATIENCE

PLAN = topology.QueuePlan(name="TLS", subjects=("agents.>",))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def options(certificate: Path, rabbitmq_package: None) -> AsyncIterator[RabbitOptions]:
    assert rabbitmq_package is None
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        tls_port = probe.getsockname()[1]
    settings = {
        "listeners.ssl.1": f"127.0.0.1:{tls_port}",
        "ssl_options.cacertfile": str(certificate),
        "ssl_options.certfile": str(certificate),
        "ssl_options.keyfile": str(certificate.with_name("key.pem")),
    }
    async with EmbeddedRabbit(settings=settings) as server:
        await server.control("add_user", "poor", "pw")
        await server.control("set_permissions", "poor", "^$", "^(amq\\.default|events)$", ".*")
        url = f"amqps://guest:guest@127.0.0.1:{tls_port}/"
        yield RabbitOptions(url=url, tls_ca=str(certificate))


@pytest.mark.parametrize("kind", [RabbitMqSource, StockRabbitMqSource])
async def test_events_of_a_user_with_few_rights_travel_over_tls(
    options: RabbitOptions, kind: type[RabbitMqSource]
) -> None:
    control = await connect(options, name="test")
    try:
        await topology.provision(control, [PLAN])
        poor = msgspec.structs.replace(options, user="poor", password="pw")
        async with Publisher(poor, source="/test") as bus:
            sent = [await bus.publish_soon(AgentHeartbeat(agent_id=f"a-{n}")) for n in range(300)]
            await asyncio.gather(*sent)
        reading = ReadingOptions(batch_size=100, batch_bytes=1 << 20, linger=0.01)
        source = kind(control, poor, PLAN.name, reading)
        found: set[str] = set()
        async with source, asyncio.timeout(PATIENCE):
            while len(found) < 300:
                batch = await source.fetch()
                await batch.ack()
                found |= {message.subject for message in batch.messages}
    finally:
        await control.close()


@pytest.mark.parametrize("parameters", ["", "?no_verify_ssl=1"])
async def test_a_certificate_of_nobody_known_is_refused(
    options: RabbitOptions, parameters: str
) -> None:
    with pytest.raises(SourceUnavailable, match="its certificate is not accepted: self-signed"):
        await connect(RabbitOptions(url=options.url + parameters), name="test")


def test_a_renewed_certificate_is_read_and_one_context_serves_until_then(
    certificate: Path, tmp_path: Path
) -> None:
    renewed = tmp_path / "ca.pem"
    shutil.copy(certificate, renewed)
    options = RabbitOptions(url="amqps://127.0.0.1/", tls_ca=str(renewed))
    before = options.tls()
    assert options.tls() is before
    os.utime(renewed, (1, 1))
    assert options.tls() is not before
