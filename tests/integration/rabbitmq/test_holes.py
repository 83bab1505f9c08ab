"""Offsets of a stream queue that nobody recorded: `penstock verify` names them and reads them."""

from uuid import UUID

import pytest

from penstock.schemas.agents import AgentHeartbeat
from penstock.worker.commands.one_worker import run
from penstock.worker.commands.provision import provision
from penstock.worker.publisher import Publisher
from tests.support.commands import said
from tests.support.connecting import connection_to
from tests.support.running import settings_for

STREAM = "AGENT_STATE"
COUNT = 60
_FORGET = """
UPDATE bus.position SET seqs = seqs - '{[10,13),[40,42)}'::int8multirange WHERE stream = $1
"""
_DELETE = "DELETE FROM agents.heartbeat WHERE event_id = ANY($1)"


@pytest.mark.faults  # what is mended is the same on NATS, and tried there each time
async def test_they_are_named_and_read_again(nats_url: str, rabbit_url: str, database: str) -> None:
    rabbit = {"brokers": "rabbitmq", "rabbitmq_url": rabbit_url, "rabbitmq_queue_type": "stream"}
    settings = settings_for(nats_url, database, **rabbit)
    await provision(settings, dry_run=False)
    async with Publisher(rabbit_url, source="/tests") as bus:
        for number in range(COUNT):
            data = AgentHeartbeat(agent_id=f"a-{number}")
            await bus.publish_soon(data, id=str(UUID(int=number)))
        await bus.flush()
    assert await run(settings, until_idle=0.2) == 0
    missing = [10, 11, 12, 40, 41]
    async with connection_to(database) as connection:
        await connection.execute(_FORGET, STREAM)
        await connection.execute(_DELETE, [UUID(int=number) for number in missing])
        for repair, verdict in (((), "problem"), (("--repair",), "mended")):
            found = await said(settings, "verify", "--pause", "0", *repair, code=int(not repair))
            named = [one for one in found["findings"] if one["check"].endswith(STREAM)]
            (one,) = [one for one in named if one["verdict"] == verdict]
            assert one["examples"] == [str(number) for number in missing]
            assert "come before others that are stored" in one["text"]
        assert await connection.fetchval("SELECT count(*) FROM agents.heartbeat") == COUNT
        assert await connection.fetchval("SELECT count(*) FROM bus.gap") == 0
