"""What every `StateStore` promises, shown on each way the bucket can be written."""

import asyncio
import json
from collections.abc import AsyncIterator
from itertools import count, permutations

import pytest
from nats.aio.client import Client
from nats.js.errors import KeyNotFoundError
from nats.js.kv import KeyValue

from penstock.schemas.identity import kv_key
from penstock.worker.nats.kv.store import JetStreamKv
from penstock.worker.pipeline.ports import KvRow
from tests.support.bucket import held, make_bucket, row
from tests.support.connecting import connected

_buckets = count()


@pytest.fixture
async def client(nats_url: str) -> AsyncIterator[Client]:
    async with connected(nats_url) as client:
        yield client


@pytest.fixture
def bucket() -> str:
    """A name of its own: a stream made right after one of the same name was deleted has been seen
    to hold messages of the deleted one (nats-server 2.15.1, asynchronous persistence).
    """
    return f"CONTRACT{next(_buckets)}"


@pytest.fixture(params=["atomic", "single"])
async def reader(client: Client, bucket: str, request: pytest.FixtureRequest) -> KeyValue:
    return await make_bucket(client, bucket, atomic=request.param == "atomic")


@pytest.fixture
def store(client: Client, bucket: str, reader: KeyValue) -> JetStreamKv:
    assert reader is not None
    return JetStreamKv(client, bucket)


async def version(reader: KeyValue, key: str) -> int | None:
    """What a reader of the bucket sees; None if the key is not there."""
    try:
        found = (await reader.get(key)).value
    except KeyNotFoundError:
        return None
    assert found is not None
    return int(json.loads(found)["v"])


def version_of(row: KvRow) -> int:
    return int(json.loads(row.guard)[0])


async def test_a_row_can_be_read_as_it_was_put(store: JetStreamKv, reader: KeyValue) -> None:
    put = row("a.b", 3, {"step": "plan", "notes": ["é", None, 1.5]})

    assert await store.put([put]) == 1
    assert (await reader.get("a.b")).value == put.value


async def test_a_newer_row_replaces_an_older_one(store: JetStreamKv, reader: KeyValue) -> None:
    await store.put([row("k", 1), row("other", 1)])

    assert await store.put([row("k", 2), row("other", 2)]) == 2
    assert await version(reader, "k") == 2


async def test_an_equal_or_older_row_changes_nothing(store: JetStreamKv, reader: KeyValue) -> None:
    await store.put([row("k", 5, "first"), row("other", 5)])
    before = await reader.get("k")

    assert await store.put([row("k", 5, "again"), row("other", 4)]) == 0
    assert await reader.get("k") == before


async def test_nothing_to_put_is_no_error(store: JetStreamKv) -> None:
    assert await store.put([]) == 0


async def test_a_row_that_is_gone_deletes_its_key(store: JetStreamKv, reader: KeyValue) -> None:
    await store.put([row("k", 1), row("other", 1)])
    await store.put([row("k", 2, gone=True), row("other", 2)])

    assert await version(reader, "k") is None
    assert await version(reader, "other") == 2


async def test_a_deleted_key_comes_back_only_with_a_newer_row(
    client: Client, bucket: str, store: JetStreamKv, reader: KeyValue
) -> None:
    await store.put([row("k", 2, gone=True)])

    assert await JetStreamKv(client, bucket).put([row("k", 1)]) == 0
    assert await version(reader, "k") is None
    assert await JetStreamKv(client, bucket).put([row("k", 3)]) == 1
    assert await version(reader, "k") == 3


async def test_every_order_ends_at_the_newest_row(
    client: Client, bucket: str, store: JetStreamKv, reader: KeyValue
) -> None:
    chain = [row("k", 1), row("k", 2, gone=True), row("k", 3), row("k", 4)]
    for number, order in enumerate(permutations(chain)):
        key = f"k{number}"
        for each in order:
            moved = row(key, version_of(each), gone=each.value is None)
            await (store if number % 2 else JetStreamKv(client, bucket)).put([moved])
        assert await version(reader, key) == 4, list(map(version_of, order))


async def test_five_thousand_keys_at_once(
    client: Client, bucket: str, store: JetStreamKv, reader: KeyValue
) -> None:
    rows = [row(f"agent-{n}.cursor", n + 1) for n in range(5_000)]

    assert await store.put(rows) == 5_000
    assert await store.put(rows) == 0
    versions = {key: guard[0] for key, (_, guard) in (await held(client, bucket)).items()}
    assert versions == {f"agent-{n}.cursor": n + 1 for n in range(5_000)}
    assert await version(reader, "agent-4999.cursor") == 5_000


async def test_overlapping_batches_of_one_worker(store: JetStreamKv, reader: KeyValue) -> None:
    await asyncio.gather(
        *(store.put([row(f"k{n}", version) for n in range(50)]) for version in (3, 1, 5, 2, 4))
    )

    assert {await version(reader, f"k{n}") for n in range(50)} == {5}


async def test_workers_that_put_the_same_keys_at_once(
    client: Client, bucket: str, reader: KeyValue
) -> None:
    stores = [JetStreamKv(client, bucket) for _ in range(4)]
    for start in range(0, 40, 4):
        await asyncio.gather(
            *(
                each.put([row(f"k{n}", start + number + 1) for n in range(20)])
                for number, each in enumerate(stores)
            )
        )

    assert {await version(reader, f"k{n}") for n in range(20)} == {40}


@pytest.mark.parametrize(
    "text", ["a b", "x.y*>", "_status", "ünïcode", "=5F", "", "\U0001f600" * 255]
)
async def test_any_text_is_a_key(store: JetStreamKv, reader: KeyValue, text: str) -> None:
    agent = "00000000-0000-0000-0000-000000000001"
    state, status = kv_key(agent, text), kv_key(agent, None)

    await store.put([row(state, 1), row(status, 2)])

    assert await version(reader, state) == 1
    assert await version(reader, status) == 2
