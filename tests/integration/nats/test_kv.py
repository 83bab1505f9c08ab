"""The KV state store against real servers that misbehave, and beside other writers."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from nats.aio.client import Client
from nats.js.kv import KeyValue

from penstock.worker.embedded import EmbeddedNats
from penstock.worker.errors import StateStoreUnavailable, TopologyError
from penstock.worker.nats.kv.store import JetStreamKv
from tests.support.bucket import held, make_bucket, row
from tests.support.connecting import connected
from tests.support.waiting import until

BUCKET = "STATE"


@pytest.fixture
async def client(nats_url: str) -> AsyncIterator[Client]:
    async with connected(nats_url) as client:
        yield client


@pytest.fixture
async def reader(client: Client) -> KeyValue:
    return await make_bucket(client, BUCKET, atomic=True)


async def versions(client: Client, bucket: str = BUCKET) -> dict[str, int]:
    return {key: guard[0] for key, (_, guard) in (await held(client, bucket)).items()}


@pytest.mark.parametrize(
    ("own", "put", "kept"),
    [
        (b'{"v":4,"t":"2026-01-01T00:00:04Z","val":1}', 1, False),
        (b'{"v":5,"t":"2026-01-01T00:00:05Z","val":1}', 1, False),
        (b'{"v":6,"t":"2026-01-01T00:00:00Z","val":1}', 0, True),
        (b'{"v":6}', 0, True),
        (b'{"v":5,"t":"2026-01-01T01:00:06+01:00"}', 0, True),
        (b'{"v":"6"}', 1, False),
        (b'{"g":{}}', 1, False),
        (b'{"g":["x"]}', 1, False),
        (b"not json \xff", 1, False),
        (b"[" * 100_000, 1, False),
        (b"", 1, False),
    ],
)
async def test_a_value_that_an_agent_wrote_itself(
    client: Client, reader: KeyValue, own: bytes, put: int, *, kept: bool
) -> None:
    await reader.put("k", own)

    assert await JetStreamKv(client, BUCKET).put([row("k", 5)]) == put
    assert ((await reader.get("k")).value == own) is kept


async def test_a_key_that_an_agent_deleted_comes_back(client: Client, reader: KeyValue) -> None:
    store = JetStreamKv(client, BUCKET)
    await store.put([row("k", 5)])
    await reader.delete("k")
    store.forget()

    assert await store.put([row("k", 5)]) == 1


async def test_headers_of_an_agent_cannot_mislead(client: Client, reader: KeyValue) -> None:
    for number, headers in enumerate(
        [{"Status": "503"}, {"Status": "204", "Nats-Sequence": "99"}, {"Nats-Subject": "x"}]
    ):
        await client.jetstream().publish(f"$KV.{BUCKET}.k{number}", b'{"v":1}', headers=headers)
    store = JetStreamKv(client, BUCKET)

    assert await store.put([row(f"k{number}", 2) for number in range(4)]) == 4
    assert await versions(client) == {f"k{number}": 2 for number in range(4)}
    assert (await reader.get("k0")).revision is not None


async def test_another_writer_between_two_puts_is_noticed_and_counted(
    client: Client, reader: KeyValue
) -> None:
    conflicts: list[int] = []
    ours = JetStreamKv(client, BUCKET, on_conflict=conflicts.append)
    await ours.put([row("a", 1), row("b", 1)])
    await JetStreamKv(client, BUCKET).put([row("a", 9), row("b", 2)])

    assert await ours.put([row("a", 3), row("b", 3)]) == 1
    assert await versions(client) == {"a": 9, "b": 3}
    assert sum(conflicts) > 0
    assert (await reader.get("a")).revision == 3


async def test_a_bucket_without_atomic_batches(client: Client) -> None:
    await make_bucket(client, "PLAIN", atomic=False)
    store = JetStreamKv(client, "PLAIN")

    assert await store.put([row(f"k{n}", 1) for n in range(100)]) == 100
    assert await store.put([row(f"k{n}", 2) for n in range(100)]) == 100
    assert set((await versions(client, "PLAIN")).values()) == {2}


async def test_the_bucket_loses_atomic_batches_while_it_is_written(
    client: Client, reader: KeyValue
) -> None:
    store = JetStreamKv(client, BUCKET)
    await store.put([row("a", 1), row("b", 1)])
    js = client.jetstream()
    config = (await js.stream_info(f"KV_{BUCKET}")).config
    await js.update_stream(config.evolve(allow_atomic=False))

    assert await store.put([row("a", 2), row("b", 2)]) == 2
    assert (await reader.get("b")).revision == 4


async def test_a_missing_bucket_is_asked_for_and_filled(client: Client) -> None:
    asked = 0

    async def make() -> None:
        nonlocal asked
        asked += 1
        await make_bucket(client, BUCKET, atomic=True)

    store = JetStreamKv(client, BUCKET, on_missing=make)
    await make()
    await store.put([row(f"k{n}", 1) for n in range(10)])
    await client.jetstream().delete_stream(f"KV_{BUCKET}")

    assert await store.put([row(f"k{n}", 2) for n in range(10)]) == 10
    assert asked == 2
    assert len(await versions(client)) == 10


async def test_a_bucket_that_cannot_be_made_is_no_reason_to_stop(client: Client) -> None:
    async def refuse() -> None:
        raise TopologyError("no right to create streams")

    with pytest.raises(StateStoreUnavailable, match="no right to create streams"):
        await JetStreamKv(client, "NOWHERE", on_missing=refuse).put([row("k", 1)])


async def test_a_bucket_made_anew_behind_our_back_is_reported(client: Client) -> None:
    recreated = asyncio.Event()

    async def refill() -> None:
        recreated.set()

    await make_bucket(client, BUCKET, atomic=True)
    store = JetStreamKv(client, BUCKET, on_missing=refill)
    await store.put([row(f"k{n}", 1) for n in range(10)])
    await client.jetstream().delete_stream(f"KV_{BUCKET}")
    await make_bucket(client, BUCKET, atomic=True)

    assert await store.put([row("k0", 2), row("k1", 2)]) == 2
    assert recreated.is_set()
    assert await store.put([row(f"k{n}", 1) for n in range(10)]) == 8


async def test_nothing_is_taken_for_granted_after_a_reconnect(client: Client) -> None:
    await make_bucket(client, BUCKET, atomic=True)
    rows = [row(f"k{n}", 1) for n in range(10)]
    store = JetStreamKv(client, BUCKET)
    await store.put(rows)
    await client.jetstream().delete_stream(f"KV_{BUCKET}")
    await make_bucket(client, BUCKET, atomic=True)
    await client.force_reconnect()

    async def back() -> bool:
        return client.is_connected

    await until(back)
    assert await store.put(rows) == 10


async def test_a_missing_bucket_that_nobody_makes_is_named(client: Client) -> None:
    with pytest.raises(StateStoreUnavailable, match="NOWHERE"):
        await JetStreamKv(client, "NOWHERE").put([row("k", 1)])


async def test_a_value_too_large_for_the_bus_leaves_a_note(
    client: Client, reader: KeyValue
) -> None:
    store = JetStreamKv(client, BUCKET)
    large = row("large", 2, "x" * client.max_payload)

    assert await store.put([row("small", 1), large]) == 2
    stored = json.loads((await reader.get("large")).value or b"")
    assert stored["v"] == 2
    assert stored["omitted"] > client.max_payload
    assert "val" not in stored


async def test_a_value_too_large_for_the_bucket_leaves_a_note(client: Client) -> None:
    reader = await client.jetstream().create_key_value(
        bucket="TIGHT", max_value_size=1_000, direct=True
    )
    store = JetStreamKv(client, "TIGHT")

    assert await store.put([row("small", 1), row("large", 2, "x" * 2_000)]) == 2
    assert json.loads((await reader.get("large")).value or b"")["omitted"] == 2_002


async def test_entries_leave_out_what_is_deleted(client: Client, reader: KeyValue) -> None:
    store = JetStreamKv(client, BUCKET)
    await store.put([row("a", 1), row("b", 1), row("c", 1)])
    await store.put([row("b", 2, gone=True), row("c", 7)])
    await reader.put("own", b"written by an agent")

    found = await held(client, BUCKET)

    assert set(found) == {"a", "c", "own"}
    assert found["c"] == (5, json.loads(row("c", 7).guard))
    assert found["own"] == (6, [])


async def test_a_full_cache_only_costs_reads(client: Client, reader: KeyValue) -> None:
    store = JetStreamKv(client, BUCKET, cache_size=3)
    for version in (2, 1, 3):
        await store.put([row(f"k{n}", version) for n in range(10)])

    assert await versions(client) == {f"k{n}": 3 for n in range(10)}
    assert (await reader.status()).values == 20


async def test_a_silent_server_is_reported_in_time_and_outlived() -> None:
    async with EmbeddedNats() as server, connected(server.url) as client:
        await make_bucket(client, BUCKET, atomic=True)
        store = JetStreamKv(client, BUCKET, timeout=0.3)
        await store.put([row(f"k{n}", 1) for n in range(20)])
        server.pause()
        try:
            with pytest.raises(StateStoreUnavailable, match="no answer"):
                await store.put([row(f"k{n}", 2) for n in range(20)])
        finally:
            server.resume()

        await settled(store, 20, 3)
        assert await versions(client) == {f"k{n}": 3 for n in range(20)}


@pytest.mark.parametrize("atomic", [True, False])
async def test_a_server_killed_in_the_middle_loses_nothing_that_is_put_again(
    *, atomic: bool
) -> None:
    async with EmbeddedNats() as server, connected(server.url) as client:
        await make_bucket(client, BUCKET, atomic=atomic)
        store = JetStreamKv(client, BUCKET, timeout=2)
        writing = asyncio.create_task(chain(store, keys=200, last=40))
        await until(lambda: reached(client, 3))
        server.kill()
        await server.restart()
        await writing

        assert await versions(client) == {f"k{n}": 40 for n in range(200)}


async def chain(store: JetStreamKv, *, keys: int, last: int) -> None:
    for version in range(1, last + 1):
        await settled(store, keys, version)


async def settled(store: JetStreamKv, keys: int, version: int) -> None:
    """Put as the pipeline does: again, until it is there."""

    async def put() -> bool:
        try:
            await store.put([row(f"k{n}", version) for n in range(keys)])
        except StateStoreUnavailable:
            return False
        return True

    await until(put)


async def reached(client: Client, version: int) -> bool:
    return any(found >= version for found in (await versions(client)).values())
