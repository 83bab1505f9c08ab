-- Telemetry: samples of metrics and what they come to per hour and day, errors, health, requests.

CREATE DOMAIN vocab.metric_kind AS text CHECK (VALUE IN (
    'counter', 'gauge', 'histogram', 'timer'
));

CREATE DOMAIN vocab.metric_scope AS text CHECK (VALUE IN (
    'agent', 'system', 'knowledge', 'pattern', 'api', 'worker'
));

CREATE DOMAIN vocab.severity AS text CHECK (VALUE IN (
    'low', 'medium', 'high', 'critical'
));

CREATE DOMAIN vocab.health_status AS text CHECK (VALUE IN (
    'healthy', 'degraded', 'unhealthy', 'unknown'
));

CREATE SCHEMA telemetry;
COMMENT ON SCHEMA telemetry IS 'Measurements, errors and health of agents and services';

CREATE TABLE telemetry.metric (
    event_id    uuid NOT NULL,
    n           integer NOT NULL,
    occurred_at timestamptz NOT NULL,
    scope       vocab.metric_scope,
    entity      text,
    agent_id    uuid,
    name        text,
    kind        vocab.metric_kind,
    value       double precision,
    unit        text,
    tags        jsonb,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (event_id, n, occurred_at)
) PARTITION BY RANGE (occurred_at);
COMMENT ON TABLE telemetry.metric IS
    'Samples, as they were sent; dashboards read telemetry.rollup_hour and telemetry.rollup_day';
COMMENT ON COLUMN telemetry.metric.n IS 'The place of the sample in its event, from 0';
COMMENT ON COLUMN telemetry.metric.occurred_at IS
    'The time of the event, which also determines the partition';
COMMENT ON COLUMN telemetry.metric.entity IS
    'The agent, the service, the pattern or whatever else was measured, as its producer calls it';
COMMENT ON COLUMN telemetry.metric.recorded_at IS
    'When the row was written, by this server''s clock; not when its transaction began';
CREATE INDEX metric_name ON telemetry.metric (name, entity, occurred_at DESC);
CREATE INDEX metric_occurred_at ON telemetry.metric USING brin (occurred_at);
CREATE INDEX metric_recorded_at ON telemetry.metric USING brin (recorded_at);

CREATE TABLE telemetry.rollup_hour (
    bucket  timestamptz NOT NULL,
    name    text NOT NULL,
    entity  text NOT NULL,
    series  uuid NOT NULL,
    scope   vocab.metric_scope,
    kind    vocab.metric_kind,
    unit    text,
    tags    jsonb,
    n       bigint NOT NULL,
    sum     double precision NOT NULL,
    min     double precision NOT NULL,
    max     double precision NOT NULL,
    last    double precision NOT NULL,
    last_at timestamptz NOT NULL,
    PRIMARY KEY (bucket, name, entity, series)
) PARTITION BY RANGE (bucket);
COMMENT ON TABLE telemetry.rollup_hour IS 'What the samples of each hour come to, by series';
COMMENT ON COLUMN telemetry.rollup_hour.bucket IS 'When the hour began, in UTC';
COMMENT ON COLUMN telemetry.rollup_hour.series IS 'Made of scope, kind, unit and tags';
COMMENT ON COLUMN telemetry.rollup_hour.n IS 'How many samples there were';
COMMENT ON COLUMN telemetry.rollup_hour.last IS 'The latest of them';
CREATE INDEX rollup_hour_name ON telemetry.rollup_hour (name, entity, bucket DESC);

CREATE TABLE telemetry.rollup_day (
    LIKE telemetry.rollup_hour INCLUDING COMMENTS,
    PRIMARY KEY (bucket, name, entity, series)
) PARTITION BY RANGE (bucket);
COMMENT ON TABLE telemetry.rollup_day IS
    'What the samples of each day come to, by series; of today as far as its hours are over';
COMMENT ON COLUMN telemetry.rollup_day.bucket IS 'When the day began, in UTC';
CREATE INDEX rollup_day_name ON telemetry.rollup_day (name, entity, bucket DESC);

CREATE TABLE telemetry.error (
    error_id      uuid NOT NULL,
    raised_at     timestamptz NOT NULL,
    source        text,
    agent_id      uuid,
    kind          text,
    code          text,
    message       text,
    stack         text,
    context       jsonb,
    severity      vocab.severity,
    created_at    timestamptz,
    created_event uuid,
    resolved_at   timestamptz,
    resolved_by   text,
    resolution    text,
    version       bigint,
    version_at    timestamptz,
    version_event uuid,
    is_stub       boolean NOT NULL DEFAULT false,
    updated_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (error_id, raised_at)
) PARTITION BY RANGE (raised_at);
COMMENT ON TABLE telemetry.error IS 'Errors that agents and services met, and whether they are over';
COMMENT ON COLUMN telemetry.error.raised_at IS
    'Also determines the partition; the event that resolves it repeats it';
COMMENT ON COLUMN telemetry.error.kind IS 'The producer''s word for it, such as the exception';
COMMENT ON COLUMN telemetry.error.resolved_at IS 'NULL while it is open';
CREATE INDEX error_agent ON telemetry.error (agent_id, raised_at DESC) WHERE agent_id IS NOT NULL;
CREATE INDEX error_open ON telemetry.error (severity, raised_at DESC) WHERE resolved_at IS NULL;
CREATE INDEX error_raised_at ON telemetry.error USING brin (raised_at);

CREATE TABLE telemetry.health_check (
    event_id    uuid NOT NULL,
    occurred_at timestamptz NOT NULL,
    subject     text NOT NULL,
    agent_id    uuid,
    name        text,
    status      vocab.health_status,
    response_ms bigint,
    details     jsonb,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (event_id, occurred_at)
) PARTITION BY RANGE (occurred_at);
COMMENT ON TABLE telemetry.health_check IS 'Every time that somebody looked how well something is';
COMMENT ON COLUMN telemetry.health_check.subject IS 'What was looked at';
COMMENT ON COLUMN telemetry.health_check.name IS 'Which check of it';
CREATE INDEX health_check_subject ON telemetry.health_check (subject, occurred_at DESC);
CREATE INDEX health_check_occurred_at ON telemetry.health_check USING brin (occurred_at);

CREATE TABLE telemetry.request (
    event_id    uuid NOT NULL,
    occurred_at timestamptz NOT NULL,
    service     text NOT NULL,
    method      text,
    path        text,
    status      integer,
    duration_ms bigint,
    account_id  uuid,
    agent_id    uuid,
    ip          inet,
    corr        text,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (event_id, occurred_at)
) PARTITION BY RANGE (occurred_at);
COMMENT ON TABLE telemetry.request IS 'Requests to services, and how they were answered';
COMMENT ON COLUMN telemetry.request.status IS 'HTTP''s status code';
COMMENT ON COLUMN telemetry.request.corr IS 'The correlation id of the event';
CREATE INDEX request_service ON telemetry.request (service, occurred_at DESC);
CREATE INDEX request_occurred_at ON telemetry.request USING brin (occurred_at);

INSERT INTO partitions.policy
    (schema_name, table_name, column_name, "interval", premake, retention, archive)
VALUES
    ('telemetry', 'metric', 'occurred_at', 'day', 7, '90 days', false),
    ('telemetry', 'rollup_hour', 'bucket', 'month', 3, '24 months', false),
    ('telemetry', 'rollup_day', 'bucket', 'month', 3, NULL, false),
    ('telemetry', 'error', 'raised_at', 'week', 4, '52 weeks', false),
    ('telemetry', 'health_check', 'occurred_at', 'week', 4, '90 days', false),
    ('telemetry', 'request', 'occurred_at', 'day', 7, '30 days', false);
SELECT partitions.maintain();

-- Rollups. bus.job.mark says how far they got: an hour that began before `closed` is rolled up, of the
-- samples that were recorded until `upto`. So what a rollup has to be can be said exactly, whatever
-- arrives meanwhile.

CREATE OR REPLACE FUNCTION partitions.needed_from(in_schema text, in_table text)
RETURNS timestamptz
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT coalesce((j.mark ->> 'closed')::timestamptz, '-infinity') FROM bus.job AS j
    WHERE j.name = 'rollup' AND j.enabled AND (in_schema, in_table) = ('telemetry', 'metric');
END;

CREATE FUNCTION telemetry.hours(since timestamptz, before timestamptz) RETURNS SETOF timestamptz
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT h.hour
    FROM partitions.partition AS p
    CROSS JOIN LATERAL generate_series(
        greatest(p.lower_bound, since),
        least(p.upper_bound, before) - interval '1 hour',
        interval '1 hour'
    ) AS h (hour)
    WHERE p.schema_name = 'telemetry' AND p.table_name = 'metric' AND NOT p.detaching
      AND NOT partitions.is_detached(
          'telemetry', 'rollup_hour', tstzrange(h.hour, h.hour + interval '1 hour')
      )
    ORDER BY h.hour;
END;
COMMENT ON FUNCTION telemetry.hours IS
    'The hours of which there may be samples, and rollups can be kept';

-- The latest sample by a join: sorting all of them, or keeping them in an array, would take the
-- memory of the whole hour.
CREATE FUNCTION telemetry.rollup_hour_of(hour timestamptz, upto timestamptz)
RETURNS SETOF telemetry.rollup_hour
LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH found AS MATERIALIZED (
        SELECT m.name, m.entity, m.scope, m.kind, m.unit, m.tags,
               count(*) AS n, sum(m.value) AS sum, min(m.value) AS min, max(m.value) AS max,
               max(m.occurred_at) AS last_at
        FROM telemetry.metric AS m
        WHERE m.occurred_at >= hour AND m.occurred_at < hour + interval '1 hour'
          AND m.recorded_at <= upto
        GROUP BY m.name, m.entity, m.scope, m.kind, m.unit, m.tags
    ), named AS MATERIALIZED (
        SELECT f.*, encode(substring(sha256(convert_to(
            jsonb_build_array(f.scope, f.kind, f.unit, f.tags)::text, 'UTF8'
        )) FROM 1 FOR 16), 'hex')::uuid AS series
        FROM found AS f
    )
    SELECT DISTINCT ON (s.name, s.entity, s.series)
        hour, s.name, s.entity, s.series, s.scope, s.kind, s.unit, s.tags,
        s.n, s.sum, s.min, s.max, m.value, s.last_at
    FROM named AS s
    JOIN telemetry.metric AS m
        ON m.name = s.name AND m.entity = s.entity AND m.occurred_at = s.last_at
        AND m.scope = s.scope AND m.kind = s.kind
        AND m.unit IS NOT DISTINCT FROM s.unit AND m.tags IS NOT DISTINCT FROM s.tags
    WHERE m.occurred_at >= hour AND m.occurred_at < hour + interval '1 hour'
      AND m.recorded_at <= upto
    ORDER BY s.name, s.entity, s.series, m.event_id DESC, m.n DESC;
END;
COMMENT ON FUNCTION telemetry.rollup_hour_of IS
    'What the rollup of an hour has to be, of the samples that were recorded until then';

CREATE FUNCTION telemetry.rollup_day_of(day timestamptz, upto timestamptz)
RETURNS SETOF telemetry.rollup_day
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT day, h.name, h.entity, h.series, h.scope, h.kind, h.unit, h.tags,
           sum(h.n)::bigint, sum(h.sum ORDER BY h.bucket), min(h.min), max(h.max),
           (array_agg(h.last ORDER BY h.bucket DESC))[1], max(h.last_at)
    FROM telemetry.rollup_hour AS h
    WHERE h.bucket >= day AND h.bucket < day + interval '24 hours'
    GROUP BY h.name, h.entity, h.series, h.scope, h.kind, h.unit, h.tags;
END;
COMMENT ON FUNCTION telemetry.rollup_day_of IS
    'What the rollup of a day has to be, of the hours that are rolled up';

-- The order in which floats are summed changes their last digits, which is no difference.
CREATE FUNCTION telemetry.sums_differ(
    one double precision, other double precision, n bigint, least_value double precision,
    greatest_value double precision
) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN abs(one - other) > 1e-9 * n * greatest(abs(least_value), abs(greatest_value));
COMMENT ON FUNCTION telemetry.sums_differ IS
    'Whether two sums of n numbers between these two differ by more than the order of adding';

CREATE FUNCTION telemetry.renew(rollup text, at timestamptz, upto timestamptz) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    changed bigint;
BEGIN
    PERFORM partitions.ensure_for('telemetry', rollup, at);
    EXECUTE format($query$
        WITH fresh AS MATERIALIZED (
            SELECT f.* FROM telemetry.%2$I($1, $2) AS f
        ), gone AS (
            DELETE FROM telemetry.%1$I AS r
            WHERE r.bucket = $1 AND NOT EXISTS (
                SELECT FROM fresh AS f
                WHERE (f.name, f.entity, f.series) = (r.name, r.entity, r.series)
            )
            RETURNING 1
        ), written AS (
            INSERT INTO telemetry.%1$I AS r SELECT f.* FROM fresh AS f
            ON CONFLICT (bucket, name, entity, series) DO UPDATE
            SET (scope, kind, unit, tags, n, sum, min, max, last, last_at)
                = ROW (EXCLUDED.scope, EXCLUDED.kind, EXCLUDED.unit, EXCLUDED.tags, EXCLUDED.n,
                       EXCLUDED.sum, EXCLUDED.min, EXCLUDED.max, EXCLUDED.last, EXCLUDED.last_at)
            WHERE (r.scope, r.kind, r.unit, r.tags, r.n, r.min, r.max, r.last, r.last_at)
                IS DISTINCT FROM
                  (EXCLUDED.scope, EXCLUDED.kind, EXCLUDED.unit, EXCLUDED.tags, EXCLUDED.n,
                   EXCLUDED.min, EXCLUDED.max, EXCLUDED.last, EXCLUDED.last_at)
                OR telemetry.sums_differ(r.sum, EXCLUDED.sum, EXCLUDED.n, EXCLUDED.min, EXCLUDED.max)
            RETURNING 1
        )
        SELECT (SELECT count(*) FROM gone) + (SELECT count(*) FROM written)
    $query$, rollup, rollup || '_of') INTO changed USING at, upto;
    RETURN changed;
END
$$;
REVOKE EXECUTE ON FUNCTION telemetry.renew FROM PUBLIC;
COMMENT ON FUNCTION telemetry.renew IS
    'Works the rollup of an hour or a day out anew; returns how many rows that changed';

-- One at a time, and locked before anything is read.
CREATE FUNCTION telemetry.roll_up_at(
    chosen timestamptz[], upto timestamptz
) RETURNS SETOF text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
AS $$
DECLARE
    span timestamptz;
BEGIN
    FOR span IN SELECT c FROM unnest(chosen) AS c ORDER BY c LOOP
        IF telemetry.renew('rollup_hour', span, upto) > 0 THEN
            RETURN NEXT to_char(span, 'YYYY-MM-DD"T"HH24:MI"Z"');
        END IF;
    END LOOP;
    FOR span IN SELECT DISTINCT date_trunc('day', c) FROM unnest(chosen) AS c ORDER BY 1 LOOP
        IF telemetry.renew('rollup_day', span, upto) > 0 THEN
            RETURN NEXT to_char(span, 'YYYY-MM-DD');
        END IF;
    END LOOP;
END
$$;
REVOKE EXECUTE ON FUNCTION telemetry.roll_up_at FROM PUBLIC;
COMMENT ON FUNCTION telemetry.roll_up_at IS
    'Rolls hours up, and their days; returns the names of those that changed';

CREATE FUNCTION telemetry.mark(OUT closed timestamptz, OUT upto timestamptz)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('penstock.telemetry.roll_up', 0));
    SELECT coalesce((j.mark ->> 'closed')::timestamptz, '-infinity'),
           coalesce((j.mark ->> 'upto')::timestamptz, '-infinity')
    INTO closed, upto FROM bus.job AS j WHERE j.name = 'rollup';
END
$$;
REVOKE EXECUTE ON FUNCTION telemetry.mark FROM PUBLIC;
COMMENT ON FUNCTION telemetry.mark IS
    'How far the rollups got; until the end of the transaction nobody else gets on with them';

CREATE FUNCTION telemetry.roll_up(hours text[] DEFAULT NULL) RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
AS $$
DECLARE
    known record;
    closed timestamptz;
    upto timestamptz;
    chosen timestamptz[];
BEGIN
    SELECT m.* INTO known FROM telemetry.mark() AS m;
    IF hours IS NOT NULL THEN
        chosen := array(
            SELECT h FROM telemetry.hours('-infinity', known.closed) AS h
            WHERE h IN (SELECT date_trunc('hour', g::timestamptz) FROM unnest(hours) AS g)
        );
        RETURN QUERY SELECT r FROM telemetry.roll_up_at(chosen, known.upto) AS r;
        RETURN;
    END IF;
    upto := greatest(partitions.all_recorded_until('telemetry.metric'), known.upto);
    -- Samples of an hour are late after five minutes, and are rolled up then all the same.
    closed := greatest(date_trunc('hour', upto - interval '5 minutes'), known.closed);
    -- A minute twice: another server, after a failover, may be behind by the clock.
    chosen := array(
        SELECT h FROM telemetry.hours(known.closed, closed) AS h
        UNION
        SELECT date_trunc('hour', m.occurred_at) FROM telemetry.metric AS m
        WHERE m.occurred_at < known.closed
          AND m.recorded_at > known.upto - interval '1 minute' AND m.recorded_at <= upto
        INTERSECT
        SELECT h FROM telemetry.hours('-infinity', known.closed) AS h
    );
    UPDATE bus.job AS j
    SET mark = jsonb_build_object('closed', bus.utc_text(closed), 'upto', bus.utc_text(upto))
    WHERE j.name = 'rollup';
    RETURN QUERY SELECT r FROM telemetry.roll_up_at(chosen, upto) AS r;
END
$$;
REVOKE EXECUTE ON FUNCTION telemetry.roll_up FROM PUBLIC;
COMMENT ON FUNCTION telemetry.roll_up IS
    'Rolls up the hours that are over since the last time, and those with late samples; or works '
    'given ones out anew, as far as they are rolled up';

CREATE FUNCTION telemetry.roll_up_again() RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    known record;
BEGIN
    SELECT m.* INTO known FROM telemetry.mark() AS m;
    RETURN QUERY SELECT r FROM telemetry.roll_up_at(
        array(SELECT h FROM telemetry.hours('-infinity', known.closed) AS h), known.upto
    ) AS r;
END
$$;
REVOKE EXECUTE ON FUNCTION telemetry.roll_up_again FROM PUBLIC;
COMMENT ON FUNCTION telemetry.roll_up_again IS
    'Works out anew whatever is rolled up and still has its samples; reads all of them';

INSERT INTO bus.job (name, call, whole, about, key_kind, every) VALUES
    ('rollup', 'telemetry.roll_up', 'telemetry.roll_up_again', 'Metrics per hour and day', 'hour',
     '5 minutes');
