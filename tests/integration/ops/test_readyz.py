"""Whatever holds the events up, /readyz turns red within `stalled_after`, says why, and turns green
again once it is mended.
"""

import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from os import kill
from typing import Any

import aiohttp
import asyncpg
import msgspec
import pytest
from nats.aio.client import Client

from penstock.schemas.agents import AgentHeartbeat
from penstock.worker.app import Worker
from penstock.worker.embedded import EmbeddedNats
from penstock.worker.nats.api import call
from penstock.worker.nats.connection import connect
from penstock.worker.nats.options import NatsOptions
from penstock.worker.nats.topology import ensure_bucket
from penstock.worker.publisher import Publisher
from tests.support.roles import INGEST, execute, logged_in
from tests.support.running import running, settings_for
from tests.support.waiting import until

STALLED = 2.0
SOON = 20.0
"""Seconds, for a machine that is busy: a round of retries, a redelivery and two probes."""

ADMIN = NatsOptions(url="", user="admin", password="pw")
_USERS = """
authorization {{ users: [
  {{ user: admin, password: pw }}
  {{ user: worker, password: pw, permissions: {{ publish: {{ deny: {deny} }} }} }}
] }}
"""


class Bench:
    """A worker with the servers around it, and what an operator can do to these."""

    def __init__(
        self,
        nats: EmbeddedNats,
        admin: Client,
        bus: Publisher,
        dsn: str,
        worker: Worker,
        url: str,
    ) -> None:
        self.nats = nats
        self._bus = bus
        self.admin = admin
        self.dsn = dsn
        self.worker = worker
        self._url = url
        self._published = 0

    async def publish(self) -> None:
        """One more event, whose key goes to the bucket."""
        self._published += 1
        await self._bus.publish(AgentHeartbeat(agent_id=f"a-{self._published}"))

    async def says(self) -> tuple[bool, dict[str, str]]:
        async with aiohttp.ClientSession() as session, session.get(self._url) as answer:
            body = await answer.json()
            assert (answer.status == 200) is body["ready"]
            return body["ready"], body["checks"]

    async def green(self) -> bool:
        ready, checks = await self.says()
        assert ready, checks
        return ready

    async def red(self, words: str) -> bool:
        ready, checks = await self.says()
        assert not ready
        assert any(words in text for text in checks.values()), checks
        return True

    def reload(self, *deny: str) -> None:
        """Have the server take other permissions of the worker."""
        config = self.nats.folder / "nats.conf"
        text = config.read_text().partition("\nauthorization")[0]
        config.write_text(text + _USERS.format(deny=list(deny)).replace("'", '"'))
        kill(self.nats.pid, signal.SIGHUP)


@pytest.fixture
async def server() -> AsyncIterator[EmbeddedNats]:
    async with EmbeddedNats(extra_config=_USERS.format(deny="[]")) as nats:
        yield nats


@pytest.fixture
async def bench(server: EmbeddedNats, database: str, free_port: int) -> AsyncIterator[Bench]:
    admin = await connect(msgspec.structs.replace(ADMIN, url=server.url), name="admin")
    settings = settings_for(
        server.url,
        logged_in(database, INGEST),
        nats_user="worker",
        nats_password="pw",
        streams="AGENT_STATE",
        http_port=str(free_port),
        stalled_after=f"{STALLED}s",
        kv_status_interval="500ms",
        lock_timeout="500ms",
        nack_delay="500ms",
        pool_size="4",
    )
    async with running(settings):
        pass  # which makes streams and bucket
    agent = msgspec.structs.replace(ADMIN, url=server.url)
    async with (
        running(msgspec.structs.replace(settings, provision=False)) as worker,
        Publisher(agent, source="/test") as bus,
    ):
        url = f"http://127.0.0.1:{free_port}/readyz"
        found = Bench(server, admin, bus, database, worker, url)
        await until(found.green)
        await found.publish()
        await until(found.green)
        yield found
    await admin.close()


# The faults. Each lasts as long as its context, and names what /readyz has to say.


@asynccontextmanager
async def bucket_full(bench: Bench) -> AsyncIterator[str]:
    await change_bucket(bench.admin, max_bytes=1)
    yield "maximum bytes exceeded"
    await change_bucket(bench.admin, max_bytes=-1)


@asynccontextmanager
async def bucket_deleted(bench: Bench) -> AsyncIterator[str]:
    await call(bench.admin, "STREAM.DELETE.KV_AGENT_STATE")
    yield "KV bucket 'AGENT_STATE': it is missing"
    await ensure_bucket(bench.admin, "AGENT_STATE", asynchronous=True)


@asynccontextmanager
async def bucket_unreadable(bench: Bench) -> AsyncIterator[str]:
    bench.reload("$JS.API.DIRECT.GET.>")
    yield "no right to publish to $JS.API.DIRECT.GET.KV_AGENT_STATE"
    bench.reload()


@asynccontextmanager
async def bucket_not_writable(bench: Bench) -> AsyncIterator[str]:
    bench.reload("$KV.>")
    yield "no right to publish to $KV.AGENT_STATE."
    bench.reload()


@asynccontextmanager
async def table_locked(bench: Bench) -> AsyncIterator[str]:
    connection = await asyncpg.connect(bench.dsn)
    try:
        async with connection.transaction():
            await connection.execute("LOCK agents.agent")
            yield "55P03"
    finally:
        await connection.close()


@asynccontextmanager
async def right_revoked(bench: Bench) -> AsyncIterator[str]:
    await execute(bench.dsn, f"REVOKE INSERT ON agents.agent FROM {INGEST}")
    yield "permission denied for table agent"
    await execute(bench.dsn, f"GRANT INSERT ON agents.agent TO {INGEST}")


@asynccontextmanager
async def pool_exhausted(bench: Bench) -> AsyncIterator[str]:
    """PostgreSQL itself is there, and its check says so."""
    pool = bench.worker.store.pool
    held = [await pool.acquire() for _ in range(pool.get_max_size())]
    yield "connections to PostgreSQL were in use"
    _, checks = await bench.says()
    assert checks["postgres"] == "ok"
    for connection in held:
        await pool.release(connection)


@asynccontextmanager
async def consumer_deleted(bench: Bench) -> AsyncIterator[str]:
    name = "AGENT_STATE.penstock"
    config = (await call(bench.admin, f"CONSUMER.INFO.{name}"))["config"]
    await call(bench.admin, f"CONSUMER.DELETE.{name}")
    yield "consumer not found"
    request = {"stream_name": "AGENT_STATE", "config": config}
    await call(bench.admin, f"CONSUMER.CREATE.{name}", request)


@asynccontextmanager
async def consumer_paused(bench: Bench) -> AsyncIterator[str]:
    name = "CONSUMER.PAUSE.AGENT_STATE.penstock"
    await call(bench.admin, name, {"pause_until": "2100-01-01T00:00:00Z"})
    yield "the consumer is paused"
    await call(bench.admin, name, {})


@asynccontextmanager
async def acknowledging_forbidden(bench: Bench) -> AsyncIterator[str]:
    bench.reload("$JS.ACK.>")
    yield "no right to publish to $JS.ACK.AGENT_STATE.penstock"
    bench.reload()


FAULTS: list[Callable[[Bench], AbstractAsyncContextManager[str]]] = [
    bucket_full,
    bucket_deleted,
    bucket_unreadable,
    bucket_not_writable,
    table_locked,
    right_revoked,
    pool_exhausted,
    consumer_deleted,
    consumer_paused,
    acknowledging_forbidden,
]


LONG = {bucket_not_writable, acknowledging_forbidden}


@pytest.mark.parametrize(
    "fault",
    [pytest.param(one, marks=pytest.mark.faults if one in LONG else ()) for one in FAULTS],
    ids=lambda fault: fault.__name__,
)
async def test_red_with_the_cause_and_green_again(
    bench: Bench, fault: Callable[[Bench], AbstractAsyncContextManager[str]]
) -> None:
    async with fault(bench) as words:
        await bench.publish()
        await until(lambda: bench.red(words), STALLED + SOON)
    await until(bench.green, SOON)


async def test_a_server_that_stands_still(bench: Bench) -> None:
    bench.nats.pause()
    try:
        await until(lambda: bench.red("nats is away or silent"), STALLED + SOON)
    finally:
        bench.nats.resume()
    await until(bench.green, SOON)


async def change_bucket(admin: Client, **settings: Any) -> None:
    found = await call(admin, "STREAM.INFO.KV_AGENT_STATE")
    await call(admin, "STREAM.UPDATE.KV_AGENT_STATE", {**found["config"], **settings})
