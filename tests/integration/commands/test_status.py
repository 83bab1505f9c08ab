"""``penstock status`` on real servers: what it sees, and how it ends."""

import asyncio
import json
import os
import sys
from datetime import UTC, datetime

import pytest

from penstock import Publisher
from penstock.schemas import AgentHeartbeat
from penstock.worker.commands.provision import provision
from penstock.worker.commands.status import SourceState, Status, look
from penstock.worker.settings.keys import Settings
from tests.support.connecting import connected, connection_to
from tests.support.running import running, settings_for
from tests.support.waiting import until

STREAM = "AGENT_STATE"


@pytest.fixture
def settings(nats_url: str, database: str) -> Settings:
    return settings_for(nats_url, database)


async def publish(url: str, count: int) -> None:
    async with Publisher(url, source="/tests") as bus:
        for _ in range(count):
            await bus.publish(AgentHeartbeat(agent_id="a-1"))


def source(found: Status, stream: str) -> SourceState:
    return next(source for source in found.sources if source.stream == stream)


async def test_a_deployment_that_does_well_needs_nobody(settings: Settings, nats_url: str) -> None:
    async with running(settings):
        await publish(nats_url, 3)

        async def settled() -> Status | None:
            found = await look(settings)
            seen = source(found, STREAM)
            return found if seen.last_commit and not seen.ack_pending and seen.readers else None

        await until(settled)
        found = await look(settings)
        assert found.problems == ()
        assert {state.readers for state in found.sources} == {1}
        (replica,) = found.replicas
        assert replica.worker == settings.worker_id
        assert replica.pid == os.getpid()
        assert {reading.stream for reading in replica.sources} == {s.stream for s in found.sources}
        latest = source(found, STREAM).last_commit
        assert latest is not None
        assert abs((datetime.now(UTC) - latest).total_seconds()) < 60


async def test_a_drained_worker_leaves_the_list_and_its_streams_are_missed(
    settings: Settings,
) -> None:
    async with running(settings):
        await until(lambda: present(settings))
    found = await look(settings)
    assert found.replicas == ()
    assert len(found.problems) == len(found.sources)
    assert all("no worker reads it" in problem for problem in found.problems)


async def present(settings: Settings) -> bool:
    return bool((await look(settings)).replicas)


async def test_a_worker_that_died_is_shown_and_counts_for_nothing(
    settings: Settings, database: str
) -> None:
    async with running(settings):
        await until(lambda: present(settings))
        async with connection_to(database) as connection:
            await connection.execute(
                "INSERT INTO bus.replica SELECT 'other', host, pid, version, sources, started_at, "
                "now() - interval '1 minute' FROM bus.replica"
            )
            found = await look(settings)
            assert [replica.worker for replica in found.replicas] == sorted(
                ["other", settings.worker_id]
            )
            assert {state.readers for state in found.sources} == {1}
    found = await look(settings)
    assert [replica.worker for replica in found.replicas] == ["other"]
    assert {state.readers for state in found.sources} == {0}


async def test_lag_is_what_nobody_has_and_what_nobody_has_acknowledged(
    settings: Settings, nats_url: str
) -> None:
    await provision(settings, dry_run=False)
    async with connected(nats_url) as client:
        reader = await client.jetstream().pull_subscribe_bind(settings.consumer, STREAM)
        await publish(nats_url, 2)
        (first,) = await reader.fetch(1)
        await first.ack_sync()
        begun = asyncio.get_running_loop().time()
        await publish(nats_url, 3)
        await reader.fetch(1)
        found = source(await look(settings), STREAM)
        assert (found.pending, found.ack_pending) == (3, 1)
        assert found.oldest_seconds is not None
        assert found.oldest_seconds < asyncio.get_running_loop().time() - begun + 30


@pytest.mark.parametrize("kind", [pytest.param("quorum", marks=pytest.mark.faults), "stream"])
async def test_lag_of_rabbitmq(rabbit_url: str, database: str, kind: str) -> None:
    settings = settings_for(
        "nats://127.0.0.1:9",
        database,
        brokers="rabbitmq",
        rabbitmq_url=rabbit_url,
        rabbitmq_queue_type=kind,
        kv="false",
    )
    await provision(settings, dry_run=False)
    await publish(rabbit_url, 3)

    async def waiting() -> bool:
        found = source(await look(settings), STREAM)
        # Of the last chunk of a stream queue one message is counted.
        return found.pending == 3 or (kind == "stream" and found.pending > 0)

    await until(waiting)
    async with running(settings):

        async def settled() -> bool:
            found = source(await look(settings), STREAM)
            return found.pending == 0 and found.last_commit is not None

        await until(settled)


async def test_what_needs_a_person_is_said(settings: Settings, database: str) -> None:
    async with running(settings), connection_to(database) as connection:
        await until(lambda: present(settings))
        await connection.execute(
            "INSERT INTO bus.dead_letter (transport, stream, reason, status) VALUES "
            "('nats', 'S', 'future', 'kept'), ('nats', 'T', 'future', 'requeued')"
        )
        child = await connection.fetchval(
            "SELECT partition FROM partitions.partition WHERE table_name = 'heartbeat' "
            "AND lower_bound <= now() AND upper_bound > now()"
        )
        await connection.execute(f"DROP TABLE {child}")
        found = await look(settings)
        assert found.dead_letters == {"kept": 1, "requeued": 1}
        (due,) = found.partitions
        assert (due.table, due.to_make, due.overdue) == ("agents.heartbeat", 1, 1)
        letters, partitions = found.problems
        assert letters.startswith("1 dead letters are kept")
        assert partitions.startswith("agents.heartbeat: 1 partitions are overdue")


async def test_it_ends_as_a_script_needs_it(settings: Settings, database: str) -> None:
    await provision(settings, dry_run=False)
    where = ("--nats-url", settings.nats_url, "--postgres-dsn", database)
    code, out = await command(*where, "--json")
    assert code == 1
    (line,) = out.splitlines()
    assert set(json.loads(line)) == {
        *("problems", "sources", "replicas", "dead_letters", "partitions")
    }
    async with running(settings):
        await until(lambda: present(settings))
        code, out = await command(*where)
        assert (code, out.splitlines()[-1]) == (0, "ok nothing needs a person")
        assert settings.worker_id in out


async def test_a_database_without_our_schema_cannot_be_looked_at(
    postgres_dsn: str, nats_url: str
) -> None:
    code, out = await command("--nats-url", nats_url, "--postgres-dsn", postgres_dsn)
    assert (code, out) == (2, "")


async def command(*arguments: str) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "penstock", "status", *arguments),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    return process.returncode, out.decode()
