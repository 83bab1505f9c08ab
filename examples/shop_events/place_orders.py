"""Two orders: one is paid before it is known, one is published twice."""

import asyncio
import os
from datetime import UTC, datetime

from penstock import Attributes, Publisher, uuid7
from shop_events import OrderPaid, OrderPlaced


async def main() -> None:
    """Publish them, each confirmed by the stream."""
    url = os.environ.get("PENSTOCK_NATS_URL", "nats://127.0.0.1:4222")
    async with Publisher(url, source="/shop") as bus:
        await bus.publish(OrderPaid(order_id="o-1", amount_cents=500), sequence=2)
        await bus.publish(
            OrderPlaced(order_id="o-1", customer="Ada", total_cents=500, sold_by="a-7"), sequence=1
        )
        second = OrderPlaced(order_id="o-2", customer="Bob", items=["tea"], total_cents=300)
        same = Attributes(id=uuid7(), time=datetime.now(UTC), sequence=1)
        await bus.publish(second, **same)
        again = await bus.publish(second, **same)
        print(f"4 published, the last one a duplicate: {again.duplicate}")  # noqa: T201


asyncio.run(main())
