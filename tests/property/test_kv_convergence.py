"""Any order, any duplication, any number of writers: every key ends at its newest row."""

import asyncio
import json
from contextlib import AsyncExitStack
from itertools import count, pairwise

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nats.aio.client import Client

from penstock.worker.nats.kv.guard import held_guard
from penstock.worker.nats.kv.store import JetStreamKv
from penstock.worker.pipeline.ports import KvRow
from tests.support.bucket import make_bucket, row
from tests.support.connecting import connected

KEYS = ("a.x", "a.y", "b._status")
_examples = count()

steps = st.lists(
    st.tuples(st.integers(0, len(KEYS) - 1), st.integers(1, 12)), min_size=1, max_size=30
)
writers = st.lists(st.lists(st.integers(0, 29), max_size=30), min_size=2, max_size=3)


def committed(key: str, version: int) -> KvRow:
    """The same row for the same version, whoever reads it; every third one is gone."""
    return row(key, version, gone=version % 3 == 0)


def batches(rows: list[KvRow]) -> list[list[KvRow]]:
    """Rows in order, one row per key and batch."""
    made: list[dict[str, KvRow]] = [{}]
    for each in rows:
        if each.key in made[-1]:
            made.append({})
        made[-1][each.key] = each
    return [list(batch.values()) for batch in made]


async def guards(client: Client, bucket: str) -> dict[str, list[list[int | str]]]:
    """The guards that a watcher of the bucket has seen, by key, in order."""
    js = client.jetstream()
    stream = f"KV_{bucket}"
    seen: dict[str, list[list[int | str]]] = {}
    for sequence in range(1, (await js.stream_info(stream)).state.last_seq + 1):
        message = await js.get_msg(stream, seq=sequence)
        key = str(message.subject).removeprefix(f"$KV.{bucket}.")
        guard = json.loads(held_guard(message.headers or {}, message.data or b""))
        seen.setdefault(key, []).append(guard)
    return seen


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps=steps, writers=writers, atomic=st.booleans())
async def test_writers_in_any_order_end_at_the_newest_rows(
    nats_url: str, steps: list[tuple[int, int]], writers: list[list[int]], *, atomic: bool
) -> None:
    rows = [committed(KEYS[key], version) for key, version in steps]
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connected(nats_url)) for _ in writers]
        bucket = f"PROPERTY{next(_examples)}"
        await make_bucket(clients[0], bucket, atomic=atomic, history=64)
        stores = [JetStreamKv(client, bucket) for client in clients]
        orders = [[rows[i % len(rows)] for i in order] for order in writers]
        orders[0] += rows[::-1]

        async def write(store: JetStreamKv, order: list[KvRow]) -> None:
            for batch in batches(order):
                await store.put(batch)

        await asyncio.gather(*map(write, stores, orders))

        seen = await guards(clients[0], bucket)
        for key in {each.key for each in rows}:
            assert seen[key][-1] == max(json.loads(each.guard) for each in rows if each.key == key)
            assert all(earlier < later for earlier, later in pairwise(seen[key]))
        await clients[0].jetstream().delete_stream(f"KV_{bucket}")
