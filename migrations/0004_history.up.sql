-- The generic histories, append-only: events.log for the domains, audit.log for administration.

CREATE SCHEMA events;
COMMENT ON SCHEMA events IS 'Events as they were sent';

CREATE TABLE events.log (
    domain      text NOT NULL,
    event_id    uuid NOT NULL,
    occurred_at timestamptz NOT NULL,
    event_type  text NOT NULL,
    entity_id   text NOT NULL,
    version     bigint NOT NULL,
    actor       text,
    source      text NOT NULL,
    project_id  uuid,
    corr        text,
    cause       text,
    data        jsonb,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (domain, event_id, occurred_at)
) PARTITION BY LIST (domain);
COMMENT ON TABLE events.log IS
    'Every event of the domains that have no history of their own, as it was sent';
COMMENT ON COLUMN events.log.occurred_at IS 'The producer''s time, which also determines the partition';
COMMENT ON COLUMN events.log.recorded_at IS 'When the batch was written, by this server''s clock';
CREATE INDEX log_entity ON events.log (entity_id, occurred_at DESC);
CREATE INDEX log_occurred_at ON events.log USING brin (occurred_at);

CREATE TABLE events.log_agents PARTITION OF events.log FOR VALUES IN ('agents')
    PARTITION BY RANGE (occurred_at);
CREATE TABLE events.log_tasks PARTITION OF events.log FOR VALUES IN ('tasks')
    PARTITION BY RANGE (occurred_at);
CREATE TABLE events.log_collab PARTITION OF events.log FOR VALUES IN ('collab')
    PARTITION BY RANGE (occurred_at);

CREATE SCHEMA audit;
COMMENT ON SCHEMA audit IS 'Who changed what';

CREATE TABLE audit.log (
    event_id      uuid NOT NULL,
    occurred_at   timestamptz NOT NULL,
    event_type    text,
    entity_id     text,
    version       bigint,
    actor         text,
    source        text,
    project_id    uuid,
    corr          text,
    cause         text,
    data          jsonb,
    origin        text,
    action        text,
    resource_type text,
    resource_id   text,
    old_values    jsonb,
    new_values    jsonb,
    changed       jsonb,
    ip            inet,
    user_agent    text,
    session_id    text,
    db_user       text,
    txid          bigint,
    -- Not now(): a row is stamped once its transaction holds a lock on the table, see
    -- partitions.all_recorded_until.
    recorded_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (event_id, occurred_at)
) PARTITION BY RANGE (occurred_at);
COMMENT ON TABLE audit.log IS
    'Who did what to which resource, with the values before and after; never changed';
CREATE INDEX log_entity ON audit.log (entity_id, occurred_at DESC);
CREATE INDEX log_resource ON audit.log (resource_type, resource_id, occurred_at DESC);
CREATE INDEX log_occurred_at ON audit.log USING brin (occurred_at);

INSERT INTO partitions.policy
    (schema_name, table_name, column_name, "interval", premake, retention, archive)
VALUES
    ('events', 'log_agents', 'occurred_at', 'month', 3, '12 months', true),
    ('events', 'log_tasks', 'occurred_at', 'month', 3, '12 months', true),
    ('events', 'log_collab', 'occurred_at', 'month', 3, '12 months', true),
    ('audit', 'log', 'occurred_at', 'month', 3, '365 days', true);
SELECT partitions.maintain();
