-- Sessions: the items of conversations, in their order, and what was taken back.

CREATE SCHEMA sessions;
COMMENT ON SCHEMA sessions IS 'What was said in conversations with agents';

CREATE TABLE events.log_sessions PARTITION OF events.log FOR VALUES IN ('sessions')
    PARTITION BY RANGE (occurred_at);

CREATE TABLE sessions.session (
    session_id  uuid PRIMARY KEY,
    external_id text,
    first_at    timestamptz,
    last_at     timestamptz,
    cleared_at  timestamptz,
    is_stub     boolean NOT NULL DEFAULT false,
    updated_at  timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE sessions.session IS 'A conversation';
COMMENT ON COLUMN sessions.session.external_id IS
    'The text that session_id was made from; NULL if none';
COMMENT ON COLUMN sessions.session.cleared_at IS
    'Items until then are taken back; what came later is there';
CREATE INDEX session_external_id ON sessions.session (external_id) WHERE external_id IS NOT NULL;
CREATE INDEX session_last_at ON sessions.session (last_at DESC);

CREATE TABLE sessions.item (
    event_id    uuid NOT NULL,
    n           integer NOT NULL,
    occurred_at timestamptz NOT NULL,
    session_id  uuid,
    item        jsonb,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (event_id, n, occurred_at)
) PARTITION BY RANGE (occurred_at);
COMMENT ON TABLE sessions.item IS
    'Every item as it was added; sessions.v_item has those that were not taken back';
CREATE INDEX item_session ON sessions.item (session_id, occurred_at DESC);

CREATE TABLE sessions.removal (
    event_id    uuid NOT NULL,
    occurred_at timestamptz NOT NULL,
    session_id  uuid,
    item_event  uuid,
    item_n      integer,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (event_id, occurred_at)
) PARTITION BY RANGE (occurred_at);
COMMENT ON TABLE sessions.removal IS 'Items that were taken back';
CREATE INDEX removal_item ON sessions.removal (item_event, item_n);

INSERT INTO partitions.policy
    (schema_name, table_name, column_name, "interval", premake, retention, archive)
VALUES
    ('events', 'log_sessions', 'occurred_at', 'month', 3, '12 months', true),
    ('sessions', 'item', 'occurred_at', 'month', 3, '12 months', false),
    ('sessions', 'removal', 'occurred_at', 'month', 3, '12 months', false);
SELECT partitions.maintain();

CREATE VIEW sessions.v_item AS
SELECT
    i.session_id,
    coalesce(s.external_id, s.session_id::text) AS session,
    i.occurred_at,
    i.event_id,
    i.n,
    i.item
FROM sessions.item AS i
JOIN sessions.session AS s ON s.session_id = i.session_id
WHERE (s.cleared_at IS NULL OR i.occurred_at > s.cleared_at)
  AND NOT EXISTS (
      SELECT FROM sessions.removal AS r
      WHERE r.item_event = i.event_id AND r.item_n = i.n AND r.session_id = i.session_id
  );
COMMENT ON VIEW sessions.v_item IS
    'Items of conversations; their order is that of occurred_at, event_id and n';
