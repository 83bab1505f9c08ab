"""`penstock replay --rebuild` where events add up: the orders of the shop, and what was paid."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import msgspec

from penstock.worker.commands.replay import read_again
from penstock.worker.pipeline.ports import Message
from penstock.worker.replay.asked import Asked
from tests.support.replaying import held, stored, write
from tests.support.roles import migrated_by_its_owner
from tests.support.running import settings_for

SHOP = "shop_events"
ORDERS = "shop.customer_order"


def order(kind: str, number: int, key: str, **data: Any) -> Message:
    envelope = {
        "specversion": "1.0",
        "id": f"{kind}-{number}",
        "source": "/shop",
        "type": f"orders.{kind}",
        "subject": key,
        "time": datetime.now(UTC),
        "sequence": number,
        "data": data,
    }
    return Message(subject="", body=msgspec.json.encode(envelope))


async def test_falsified_and_lost_sums_are_computed_again(
    nats_url: str, database: str, tmp_path: Path
) -> None:
    await migrated_by_its_owner(database, [SHOP])
    settings = settings_for(nats_url, database, event_packages=SHOP)
    keys = [f"order {n}" for n in range(20)]
    sent = [order("placed", 1, key, customer="c", total_cents=100, sold_by="a-1") for key in keys]
    sent += [order("paid", n, keys[n % 20], amount_cents=n) for n in range(2, 300)]
    for number, message in enumerate(sent):
        message.body = message.body.replace(b'"id":"', b'"id":"%d-' % number)
    await stored(settings, write(tmp_path / "orders", sent))
    before = await held(database)
    assert len(before[ORDERS]) == 20

    damage = (
        f"UPDATE {ORDERS} SET paid_cents = paid_cents + 7 WHERE external_id < 'order 12'; "
        f"UPDATE {ORDERS} SET paid_cents = NULL WHERE external_id = 'order 13'; "
        f"DELETE FROM {ORDERS} WHERE external_id = 'order 14'"
    )
    connection = await asyncpg.connect(database)
    await connection.execute(damage)
    damaged = await held(database)
    report = await read_again(settings, Asked(source="nats", stream="SHOP"))
    assert (report.present, report.mended) == (len(sent), {})
    assert await held(database) == damaged
    report = await read_again(settings, Asked(source="nats", stream="SHOP", rebuild=(ORDERS,)))
    assert (report.present, report.differing) == (len(sent), 0)
    assert report.mended == {ORDERS: damaged_rows(before[ORDERS], damaged[ORDERS])}
    assert await held(database) == before

    report = await read_again(settings, Asked(source="postgres", stream="SHOP"))
    assert (report.inserted, report.present, report.differing) == (0, len(sent), 0)
    assert {one.type for one in report.cannot} == {"orders.placed", "orders.paid"}
    await connection.close()


def damaged_rows(before: list[str], damaged: list[str]) -> int:
    return len(set(before) - set(damaged))
