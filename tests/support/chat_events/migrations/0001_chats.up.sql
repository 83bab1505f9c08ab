-- Chats, mirrored into a bucket of their own under the names that agents gave them.

CREATE SCHEMA chats;
CREATE TABLE events.log_chats PARTITION OF events.log
    FOR VALUES IN ('chats') PARTITION BY RANGE (occurred_at);

CREATE TABLE chats.chat (
    chat_id       uuid PRIMARY KEY,
    external_id   text,
    data          jsonb,
    version       bigint,
    version_at    timestamptz,
    version_event uuid,
    updated_at    timestamptz NOT NULL DEFAULT now()
);

CREATE VIEW chats.kv_chat AS
SELECT
    'CHAT_DATA'::text AS bucket,
    bus.kv_token(coalesce(c.external_id, c.chat_id::text)) AS key,
    true AS live,
    known.guard,
    json_build_object('v', c.version, 'val', c.data, 'g', known.guard)::text AS value,
    c.chat_id
FROM chats.chat AS c
CROSS JOIN LATERAL (
    SELECT jsonb_build_array(
        coalesce(c.version, 0),
        coalesce(bus.utc_text(c.version_at), ''),
        coalesce(c.version_event::text, '')
    ) AS guard
    OFFSET 0
) AS known;

INSERT INTO partitions.policy
    (schema_name, table_name, column_name, "interval", premake, retention)
VALUES
    ('events', 'log_chats', 'occurred_at', 'month', 3, '24 months');
SELECT partitions.maintain();
