-- Orders of the shop: every event as it was published, and the current state of the orders.

CREATE SCHEMA shop;

CREATE TABLE shop.order_event (
    event_id     uuid NOT NULL,
    occurred_at  timestamptz NOT NULL,
    order_id     uuid NOT NULL,
    what         text NOT NULL,
    customer     text,
    items        jsonb,
    total_cents  bigint,
    sold_by      uuid,
    amount_cents bigint,
    recorded_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (event_id, occurred_at)
) PARTITION BY RANGE (occurred_at);
CREATE INDEX order_event_order ON shop.order_event (order_id, occurred_at DESC);

-- Either event may come first, so no column but the key is required.
CREATE TABLE shop.customer_order (
    order_id      uuid PRIMARY KEY,
    external_id   text,
    customer      text,
    items         jsonb,
    total_cents   bigint,
    sold_by       uuid REFERENCES agents.agent ON DELETE RESTRICT,
    created_at    timestamptz,
    created_event uuid,
    status        text,
    version       bigint,
    version_at    timestamptz,
    version_event uuid,
    paid_cents    bigint,
    last_paid_at  timestamptz,
    updated_at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX customer_order_sold_by ON shop.customer_order (sold_by) WHERE sold_by IS NOT NULL;

INSERT INTO partitions.policy
    (schema_name, table_name, column_name, "interval", premake, retention)
VALUES
    ('shop', 'order_event', 'occurred_at', 'month', 3, '24 months');
SELECT partitions.maintain();
