-- Events that the database itself sends: inserted by any client in its own transaction, relayed to the
-- broker by the worker. The columns above recorded_at are attributes of the event and for whoever
-- inserts; those from there on are the worker's.

CREATE TABLE bus.outbox (
    outbox_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- In the row, so that it is the same whenever and by whomever the row is sent.
    event_id      uuid NOT NULL DEFAULT gen_random_uuid(),
    type          text NOT NULL,
    key           text NOT NULL,
    data          jsonb NOT NULL DEFAULT '{}',
    -- Not now(): that is one time for all rows of a transaction, and time orders events.
    time          timestamptz NOT NULL DEFAULT clock_timestamp(),
    sequence      bigint NOT NULL DEFAULT 0,
    source        text NOT NULL DEFAULT '/postgresql/' || current_database(),
    actor         text,
    project       text,
    correlationid text,
    causationid   text,
    recorded_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    published_at  timestamptz,
    refused_at    timestamptz,
    reason        text,
    error         text,
    -- A domain travels on one stream, and is relayed by itself.
    domain        text GENERATED ALWAYS AS (split_part(type, '.', 1)) STORED,
    -- Its number while it waits. By outbox_id, the planner would rather walk the primary key, past
    -- all rows that are done.
    waiting_id    bigint GENERATED ALWAYS AS (
        CASE WHEN published_at IS NULL AND refused_at IS NULL THEN outbox_id END
    ) STORED,
    -- What no catalogue would take is refused while its client can still be told.
    CONSTRAINT type_is_domain_and_verb
        CHECK (type ~ '^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)+$' AND length(type) <= 255),
    CONSTRAINT key_has_1_to_255_characters CHECK (length(key) BETWEEN 1 AND 255),
    CONSTRAINT data_is_an_object CHECK (jsonb_typeof(data) = 'object'),
    CONSTRAINT time_is_of_this_century
        CHECK (time >= '2000-01-01 00:00:00+00' AND time < '2100-01-01 00:00:00+00'),
    CONSTRAINT sequence_is_not_negative CHECK (sequence >= 0),
    CONSTRAINT source_has_1_to_1024_characters CHECK (length(source) BETWEEN 1 AND 1024),
    CONSTRAINT attributes_have_255_characters CHECK (
        greatest(length(actor), length(project), length(correlationid), length(causationid)) <= 255
    )
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.05);
COMMENT ON TABLE bus.outbox IS
    'Events to be published: insert type, key and data in your own transaction, the worker sends them';

CREATE INDEX outbox_waiting ON bus.outbox (domain, waiting_id) WHERE waiting_id IS NOT NULL;
CREATE INDEX outbox_refused ON bus.outbox (refused_at) WHERE refused_at IS NOT NULL;
CREATE INDEX outbox_published ON bus.outbox (published_at) WHERE published_at IS NOT NULL;

CREATE VIEW bus.outbox_domain AS
WITH RECURSIVE waiting (domain) AS (
    (
        SELECT o.domain FROM bus.outbox AS o
        WHERE o.waiting_id IS NOT NULL
        ORDER BY o.domain LIMIT 1
    )
    UNION ALL
    SELECT (
        SELECT o.domain FROM bus.outbox AS o
        WHERE o.waiting_id IS NOT NULL AND o.domain > w.domain
        ORDER BY o.domain LIMIT 1
    )
    FROM waiting AS w
    WHERE w.domain IS NOT NULL
)
SELECT w.domain FROM waiting AS w WHERE w.domain IS NOT NULL;
COMMENT ON VIEW bus.outbox_domain IS
    'Domains of which rows wait to be published; found by one step in the index for each of them';

CREATE FUNCTION bus.wake_outbox() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    -- A full queue of notifications would fail the transaction that inserts; the worker looks now and
    -- then without being told.
    IF pg_catalog.pg_notification_queue_usage() < 0.5 THEN
        PERFORM pg_catalog.pg_notify('penstock_outbox', '');
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION bus.wake_outbox IS 'Tells the worker that relays that there is something to send';

CREATE TRIGGER wake AFTER INSERT ON bus.outbox
FOR EACH STATEMENT EXECUTE FUNCTION bus.wake_outbox();
