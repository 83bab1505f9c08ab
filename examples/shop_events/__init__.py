"""Events of a shop: what agents sell, and what was paid for it."""

from enum import StrEnum
from typing import Annotated

from msgspec import Meta

from penstock.schemas import (
    KEY_TEXT,
    OCCURRED_AT,
    AgentId,
    Big,
    EventData,
    Field,
    History,
    Json,
    Ref,
    Text,
    Upsert,
    event,
)

OrderId = Annotated[str, Meta(min_length=1, max_length=255, extra={"id": "order"})]
"""Any text; its column is a uuid. A UUID is used as it is, other text becomes a UUID version 5."""


class OrderStatus(StrEnum):
    """How far an order has come."""

    PLACED = "placed"
    PAID = "paid"


STREAM = "SHOP"
ORDER = ("customer", "items", "total_cents", "sold_by")
COLUMNS = ("order_id", "what", *ORDER, "amount_cents")


@event(
    "orders.placed",
    key="order_id",
    stream=STREAM,
    history=History("shop.order_event", COLUMNS, {"what": "placed", "amount_cents": None}),
    states=(
        Upsert(
            table="shop.customer_order",
            key=("order_id",),
            first=ORDER,
            last=("status",),
            once=("external_id",),
            values={"external_id": KEY_TEXT, "status": OrderStatus.PLACED},
        ),
    ),
    refs=(Ref("sold_by", "agents.agent"),),
)
class OrderPlaced(EventData, frozen=True, kw_only=True):
    """A customer ordered something."""

    order_id: OrderId
    customer: Text
    total_cents: Big
    items: Json = None
    sold_by: AgentId | None = None


@event(
    "orders.paid",
    key="order_id",
    stream=STREAM,
    history=History("shop.order_event", COLUMNS, {"what": "paid", **dict.fromkeys(ORDER)}),
    states=(
        Upsert(
            table="shop.customer_order",
            key=("order_id",),
            last=("status",),
            add=("paid_cents",),
            max=("last_paid_at",),
            once=("external_id",),
            values={
                "external_id": KEY_TEXT,
                "status": OrderStatus.PAID,
                "paid_cents": Field("amount_cents"),
                "last_paid_at": OCCURRED_AT,
            },
        ),
    ),
)
class OrderPaid(EventData, frozen=True, kw_only=True):
    """A payment for an order came in."""

    order_id: OrderId
    amount_cents: Big
