"""Keys that are written by force, but never over what somebody wrote meanwhile."""

import json

from penstock.worker.nats.kv.contents import BucketContents
from penstock.worker.nats.kv.store import JetStreamKv
from tests.support.bucket import held, make_bucket, row
from tests.support.connecting import connected

BUCKET = "AGENT_STATE"
SPOILT = json.dumps({"v": 99, "g": [99, "", ""], "val": "spoilt"}).encode()


async def test_a_spoilt_key_is_written_where_it_has_not_changed(nats_url: str) -> None:
    async with connected(nats_url) as client:
        bucket = await make_bucket(client, BUCKET, atomic=False)
        store, contents = JetStreamKv(client, BUCKET), BucketContents(client, BUCKET)
        rows = [row(f"a.k{n}", 5) for n in range(3)]
        assert await store.put(rows) == 3
        for one in rows:
            await bucket.put(one.key, SPOILT)
        await bucket.put("a.extra", SPOILT)
        store.forget()
        assert await store.put(rows) == 0, "the guard says that it is newer"
        keys = [*(one.key for one in rows), "a.extra", "a.new"]
        revisions = await contents.revisions(keys)
        assert revisions["a.new"] == 0
        later = await bucket.put("a.k2", SPOILT)
        gone = row("a.extra", 0, gone=True)
        await contents.overwrite([*rows, gone, row("a.new", 1)], revisions)
        found = await held(client, BUCKET)
        assert {key: guard[0] for key, (_, guard) in found.items()} == {
            "a.k0": 5,
            "a.k1": 5,
            "a.k2": 99,
            "a.new": 1,
        }
        assert found["a.k2"][0] == later
        store.forget()
        assert await store.put([row("a.extra", 2)]) == 1
        entries = {entry.key: entry.value async for entry in contents.entries()}
        assert all(
            value in contents.fits(row(key, 5)) for key, value in entries.items() if "k0" in key
        )
        await store.close()
        await contents.close()


async def test_a_row_that_is_too_large_fits_without_its_value(nats_url: str) -> None:
    async with connected(nats_url) as client:
        await make_bucket(client, BUCKET, atomic=False)
        contents = BucketContents(client, BUCKET)
        large = row("a.large", 3, "x" * client.max_payload)
        await contents.overwrite([large], {"a.large": 0})
        (entry,) = [entry async for entry in contents.entries()]
        assert entry.value in contents.fits(large)
        assert len(entry.value) < 1_000
        await contents.close()
