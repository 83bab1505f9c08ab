-- Monitoring: thresholds and the alerts that come of them, how the database is, which statements and
-- indexes deserve a look. Recovery: backups, how trying them out went, and what has lost its parent.

CREATE DOMAIN vocab.recommendation_status AS text CHECK (VALUE IN (
    'pending', 'implemented', 'rejected', 'obsolete'
));

CREATE DOMAIN vocab.backup_kind AS text CHECK (VALUE IN (
    'base', 'logical', 'schema', 'cross_system'
));

CREATE DOMAIN vocab.recovery_kind AS text CHECK (VALUE IN (
    'full_restore', 'pitr', 'partial_restore', 'cross_system'
));

CREATE DOMAIN vocab.recovery_status AS text CHECK (VALUE IN (
    'running', 'passed', 'failed', 'cancelled'
));

CREATE SCHEMA monitoring;
COMMENT ON SCHEMA monitoring IS 'How the database is: alerts, slow statements, sizes, locks, indexes';

CREATE TABLE monitoring.alert_threshold (
    metric       text PRIMARY KEY CHECK (length(metric) BETWEEN 1 AND 255),
    about        text,
    direction    text NOT NULL DEFAULT 'above' CHECK (direction IN ('above', 'below')),
    warning      double precision,
    critical     double precision,
    every        interval NOT NULL DEFAULT '1 minute' CHECK (every > interval '0'),
    fresh        interval NOT NULL DEFAULT '15 minutes' CHECK (fresh > interval '0'),
    silent_after interval NOT NULL DEFAULT '1 day',
    channels     jsonb,
    enabled      boolean NOT NULL DEFAULT true,
    CONSTRAINT has_a_limit CHECK (num_nonnulls(warning, critical) > 0),
    CONSTRAINT limits_are_numbers CHECK (
        warning NOT IN ('NaN', 'Infinity', '-Infinity')
        AND critical NOT IN ('NaN', 'Infinity', '-Infinity')
    ),
    CONSTRAINT critical_is_worse CHECK (
        CASE direction WHEN 'above' THEN critical > warning ELSE critical < warning END
    ),
    CONSTRAINT silence_outlasts_samples CHECK (silent_after >= fresh)
);
COMMENT ON TABLE monitoring.alert_threshold IS
    'From which value on a metric raises an alert; a metric is a row of monitoring.reading, or the '
    'name of samples in telemetry.metric';
COMMENT ON COLUMN monitoring.alert_threshold.direction IS
    'Whether values above the limits are bad, or those below';
COMMENT ON COLUMN monitoring.alert_threshold.warning IS 'This value is bad; NULL: none is only bad';
COMMENT ON COLUMN monitoring.alert_threshold.critical IS
    'This value is worse; NULL: none is';
COMMENT ON COLUMN monitoring.alert_threshold.every IS 'How often it is looked at';
COMMENT ON COLUMN monitoring.alert_threshold.fresh IS 'How old a sample may be that still counts';
COMMENT ON COLUMN monitoring.alert_threshold.silent_after IS
    'An alert whose metric says nothing for so long is closed without a value';
COMMENT ON COLUMN monitoring.alert_threshold.channels IS
    'Whom to tell, in the words of who tells them; alerts.raised and alerts.resolved carry it';

INSERT INTO monitoring.alert_threshold
    (metric, about, direction, warning, critical, every, fresh)
VALUES
    ('connection_pool_usage_percent', 'Connections of clients, of all that the server takes',
     'above', 70, 85, '30 seconds', '15 minutes'),
    ('query_execution_time_ms', 'The statement that runs longest, but COPY and other maintenance',
     'above', 5000, 10000, '1 minute', '15 minutes'),
    ('index_bloat_percent', 'Of each index above 10 MB, how much is not needed, estimated',
     'above', 30, 50, '1 hour', '15 minutes'),
    ('table_bloat_percent', 'Of each table above 10 MB, how much is not needed, estimated',
     'above', 40, 60, '1 hour', '15 minutes'),
    ('replication_lag_seconds', 'How far each standby is behind in replaying',
     'above', 5, 30, '10 seconds', '15 minutes'),
    ('disk_usage_percent', 'Samples that somebody sends: PostgreSQL does not know its disks',
     'above', 80, 90, '5 minutes', '2 hours'),
    ('cache_hit_ratio', 'Percent of the blocks that were found in memory, since the last time',
     'below', 95, 90, '5 minutes', '15 minutes'),
    ('deadlock_count_per_hour', 'Deadlocks of the last hour',
     'above', 5, 20, '5 minutes', '15 minutes'),
    ('long_running_transactions_minutes', 'The oldest open transaction of a client',
     'above', 30, 60, '5 minutes', '15 minutes');

CREATE TABLE monitoring.alert (
    alert_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    metric      text NOT NULL,
    thing       text NOT NULL,
    level       text NOT NULL CHECK (level IN ('warning', 'critical')),
    value       double precision NOT NULL,
    threshold   double precision NOT NULL,
    raised_at   timestamptz NOT NULL,
    last_seen   timestamptz NOT NULL,
    good        integer NOT NULL DEFAULT 0,
    resolved_at timestamptz
);
COMMENT ON TABLE monitoring.alert IS
    'Alerts, at most one open for a metric and thing; resolved ones stay for 90 days, and their events '
    'in audit.log as long as that';
COMMENT ON COLUMN monitoring.alert.thing IS
    'Which table, standby or entity of samples, with their tags; empty for the database as a whole';
COMMENT ON COLUMN monitoring.alert.level IS 'The worst one since it was raised';
COMMENT ON COLUMN monitoring.alert.value IS 'The last one that was measured';
COMMENT ON COLUMN monitoring.alert.threshold IS 'The limit that the level stands for';
COMMENT ON COLUMN monitoring.alert.last_seen IS
    'When its metric was last measured; it stands still while that says nothing';
COMMENT ON COLUMN monitoring.alert.good IS
    'How many good values there were since the last bad one; the second closes the alert';
COMMENT ON COLUMN monitoring.alert.resolved_at IS 'NULL while it is open';
-- Of the hash: a thing has all the tags of a sample, which may be more than an index takes.
CREATE UNIQUE INDEX alert_open ON monitoring.alert (metric, md5(thing)) WHERE resolved_at IS NULL;
CREATE INDEX alert_metric ON monitoring.alert (metric, raised_at DESC);
CREATE INDEX alert_resolved_at ON monitoring.alert (resolved_at) WHERE resolved_at IS NOT NULL;

CREATE TABLE monitoring.query_plan (
    query_hash  text NOT NULL,
    captured_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    query       text NOT NULL,
    plan        jsonb,
    error       text,
    calls       bigint,
    mean_ms     double precision,
    total_ms    double precision,
    rows        bigint,
    PRIMARY KEY (query_hash, captured_at),
    CONSTRAINT plan_or_error CHECK (num_nonnulls(plan, error) = 1)
);
COMMENT ON TABLE monitoring.query_plan IS
    'Plans of slow statements, of each at most one a day, for 90 days; none was run for it';
COMMENT ON COLUMN monitoring.query_plan.query_hash IS 'The queryid of pg_stat_statements';
COMMENT ON COLUMN monitoring.query_plan.error IS 'Why there is no plan';
CREATE INDEX query_plan_captured_at ON monitoring.query_plan (captured_at);

CREATE TABLE monitoring.index_recommendation (
    recommendation_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    schema_name       text NOT NULL,
    table_name        text NOT NULL,
    columns           jsonb NOT NULL,
    index_type        text NOT NULL DEFAULT 'btree',
    reason            text NOT NULL,
    benefit           text,
    scans             bigint,
    tuples            bigint,
    status            vocab.recommendation_status NOT NULL DEFAULT 'pending',
    created_at        timestamptz NOT NULL DEFAULT now(),
    decided_at        timestamptz
);
COMMENT ON TABLE monitoring.index_recommendation IS
    'Indexes that would help; monitoring.pending_index has the statements that make them';
COMMENT ON COLUMN monitoring.index_recommendation.scans IS
    'How often the whole table was read, when it was recommended';
COMMENT ON COLUMN monitoring.index_recommendation.tuples IS 'How many rows that read in all';
COMMENT ON COLUMN monitoring.index_recommendation.status IS
    'Set it to rejected, and the index is not recommended again';
COMMENT ON COLUMN monitoring.index_recommendation.created_at IS 'When it was recommended';
-- By the text: a document is no key of an index.
CREATE UNIQUE INDEX index_recommendation_pending
    ON monitoring.index_recommendation (schema_name, table_name, (columns::text))
    WHERE status = 'pending';

-- What the server shows. Of sessions of other roles it tells nothing but that they are there, unless
-- the role may read all statistics; then a number would be wrong, so there is none.

CREATE FUNCTION monitoring.sees_sessions() RETURNS boolean
LANGUAGE sql STABLE
RETURN pg_has_role('pg_read_all_stats', 'USAGE');
COMMENT ON FUNCTION monitoring.sees_sessions IS
    'Whether this role is told what sessions of others do; GRANT pg_read_all_stats makes it so';

CREATE FUNCTION monitoring.is_ours(in_schema name) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN in_schema !~ '^pg_' AND in_schema <> 'information_schema';
COMMENT ON FUNCTION monitoring.is_ours IS 'Whether a schema is no one of the server''s own';

CREATE VIEW monitoring.connection_stats AS
SELECT a.datname AS database, a.usename AS role, a.application_name AS application,
       coalesce(a.state, 'unknown') AS state, count(*) AS connections,
       min(a.backend_start) AS oldest, max(a.backend_start) AS newest,
       max(clock_timestamp() - a.xact_start) AS longest_transaction
FROM pg_stat_activity AS a
WHERE a.datid IS NOT NULL AND coalesce(a.backend_type, 'client backend') = 'client backend'
GROUP BY a.datname, a.usename, a.application_name, coalesce(a.state, 'unknown');
COMMENT ON VIEW monitoring.connection_stats IS
    'Connections of clients by who holds them and what they do; unknown without pg_read_all_stats';

CREATE VIEW monitoring.blocked AS
SELECT l.pid, b.pids AS blocked_by, clock_timestamp() - l.waitstart AS waited,
       l.locktype AS lock_type, l.mode AS lock_mode,
       CASE WHEN d.datname = current_database() THEN l.relation::regclass::text END AS relation,
       a.usename AS role, a.application_name AS application, a.query AS statement,
       array(
           SELECT o.query FROM pg_stat_activity AS o WHERE o.pid = ANY (b.pids) ORDER BY o.pid
       ) AS blocking_statements
FROM pg_locks AS l
CROSS JOIN LATERAL (SELECT pg_blocking_pids(l.pid) AS pids) AS b
LEFT JOIN pg_database AS d ON d.oid = l.database
LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid
WHERE NOT l.granted;
COMMENT ON VIEW monitoring.blocked IS 'Sessions that wait for a lock, and the ones they wait for';

CREATE VIEW monitoring.table_sizes AS
SELECT n.nspname AS schema_name, c.relname AS table_name,
       count(t.relid) AS partitions,
       coalesce(sum(greatest(leaf.reltuples, 0)), 0)::bigint AS rows_estimate,
       coalesce(sum(pg_table_size(leaf.oid)), 0)::bigint AS table_bytes,
       coalesce(sum(pg_indexes_size(leaf.oid)), 0)::bigint AS index_bytes,
       coalesce(sum(pg_total_relation_size(leaf.oid)), 0)::bigint AS total_bytes
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace AND monitoring.is_ours(n.nspname)
LEFT JOIN LATERAL pg_partition_tree(c.oid) AS t ON c.relkind = 'p' AND t.isleaf
JOIN pg_class AS leaf ON leaf.oid = coalesce(t.relid, c.oid)
WHERE c.relkind IN ('r', 'p', 'm') AND NOT c.relispartition
GROUP BY n.nspname, c.relname;
COMMENT ON VIEW monitoring.table_sizes IS
    'How much room every table takes, with all its partitions; rows as of the last ANALYZE';

CREATE VIEW monitoring.index_usage AS
SELECT n.nspname AS schema_name, t.relname AS table_name, i.relname AS index_name,
       x.indisunique AS is_unique, u.scans, u.entries_read, u.bytes,
       CASE WHEN u.scans = 0 THEN 'unused' WHEN u.scans < 100 THEN 'low' ELSE 'used' END AS usage
FROM (
    -- An index of a partition counts for that of its table.
    SELECT coalesce(pg_partition_root(s.indexrelid), s.indexrelid) AS indexrelid,
           sum(s.idx_scan)::bigint AS scans, sum(s.idx_tup_read)::bigint AS entries_read,
           sum(pg_relation_size(s.indexrelid))::bigint AS bytes
    FROM pg_stat_user_indexes AS s
    GROUP BY 1
) AS u
JOIN pg_index AS x ON x.indexrelid = u.indexrelid
JOIN pg_class AS i ON i.oid = x.indexrelid
JOIN pg_class AS t ON t.oid = x.indrelid
JOIN pg_namespace AS n ON n.oid = t.relnamespace;
COMMENT ON VIEW monitoring.index_usage IS
    'How often each index was scanned since statistics began; a unique one has work without a scan';

-- What rows would need is estimated from what ANALYZE found: both numbers are of the same moment.
CREATE VIEW monitoring.bloat_estimate AS
WITH width AS (
    SELECT s.schemaname, s.tablename, s.attname, (1 - s.null_frac) * s.avg_width AS bytes
    FROM pg_stats AS s WHERE NOT s.inherited
), measured AS (
    SELECT n.nspname AS schema_name, c.relname AS relation, 'table' AS kind, c.oid, c.relpages,
           c.reltuples * (28 + 8 * ceil(sum(w.bytes) / 8))
               / (8168 * coalesce(substring(c.reloptions::text FROM 'fillfactor=(\d+)')::numeric, 100)
                  / 100) AS needed
    FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    JOIN width AS w ON (w.schemaname, w.tablename) = (n.nspname, c.relname)
    WHERE c.relkind = 'r' AND c.reltuples > 0
    GROUP BY n.nspname, c.relname, c.oid, c.relpages, c.reltuples, c.reloptions
    UNION ALL
    SELECT n.nspname, c.relname, 'index', c.oid, c.relpages,
           c.reltuples * (12 + 8 * ceil(sum(w.bytes) / 8)) / (8152 * 0.9)
    FROM pg_index AS x
    JOIN pg_class AS c ON c.oid = x.indexrelid AND c.relkind = 'i' AND c.reltuples > 0
    JOIN pg_am AS m ON m.oid = c.relam AND m.amname = 'btree'
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    JOIN pg_class AS t ON t.oid = x.indrelid
    JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.attnum = ANY (x.indkey::smallint[])
    JOIN width AS w ON (w.schemaname, w.tablename, w.attname) = (n.nspname, t.relname, a.attname)
    WHERE x.indexprs IS NULL
    GROUP BY n.nspname, c.relname, c.oid, c.relpages, c.reltuples
)
SELECT m.schema_name, m.relation, m.kind, m.relpages * 8192::bigint AS bytes, b.bloat_bytes,
       round(100 * b.bloat_bytes / nullif(m.relpages * 8192.0, 0), 1)::double precision
           AS bloat_percent
FROM measured AS m
CROSS JOIN LATERAL (
    SELECT greatest(m.relpages - ceil(m.needed), 0)::bigint * 8192 AS bloat_bytes
) AS b
WHERE monitoring.is_ours(m.schema_name);
COMMENT ON VIEW monitoring.bloat_estimate IS
    'How much of each table and B-tree is not needed, as of the last ANALYZE; small ones mean nothing';

CREATE FUNCTION monitoring.statements()
RETURNS TABLE (
    query_hash text, query text, calls bigint, mean_ms double precision, total_ms double precision,
    rows bigint, mine boolean
)
LANGUAGE plpgsql STABLE
AS $$
DECLARE
    place name := (
        SELECT n.nspname FROM pg_catalog.pg_extension AS e
        JOIN pg_catalog.pg_namespace AS n ON n.oid = e.extnamespace
        WHERE e.extname = 'pg_stat_statements'
    );
BEGIN
    IF place IS NULL THEN
        RAISE EXCEPTION 'pg_stat_statements is not installed, so nobody measures statements'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Add it to shared_preload_libraries, restart the server, and run '
                         'CREATE EXTENSION pg_stat_statements in this database.';
    END IF;
    RETURN QUERY EXECUTE pg_catalog.format($query$
        SELECT s.queryid::text, min(s.query), sum(s.calls)::bigint,
               sum(s.total_exec_time) / sum(s.calls), sum(s.total_exec_time), sum(s.rows)::bigint,
               pg_catalog.bool_and(s.userid = (
                   SELECT u.oid FROM pg_catalog.pg_roles AS u WHERE u.rolname = current_user
               ))
        FROM %I.pg_stat_statements AS s
        JOIN pg_catalog.pg_database AS d ON d.oid = s.dbid
        WHERE d.datname = pg_catalog.current_database() AND s.queryid IS NOT NULL AND s.calls > 0
        GROUP BY s.queryid
    $query$, place);
END
$$;
COMMENT ON FUNCTION monitoring.statements IS
    'The statements of this database that pg_stat_statements knows; an error if it is not installed';

CREATE VIEW monitoring.slow_queries AS
SELECT s.query_hash, s.query, s.calls, s.mean_ms, s.total_ms, s.rows
FROM monitoring.statements() AS s
WHERE s.mean_ms > 100;
COMMENT ON VIEW monitoring.slow_queries IS
    'Statements that take more than 100 ms on average; needs pg_stat_statements, and says so';

-- Alerts. bus.job.mark says when each metric was looked at, and what the server's counters said then.

CREATE FUNCTION monitoring.counted(OUT deadlocks bigint, OUT hit_percent double precision)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH now AS (
        SELECT s.deadlocks, s.blks_hit AS hit, s.blks_hit + s.blks_read AS blocks
        FROM pg_stat_database AS s WHERE s.datname = current_database()
    ), old AS (
        SELECT c.* FROM bus.job AS j
        CROSS JOIN LATERAL jsonb_to_recordset(j.mark -> 'counters')
            AS c (at timestamptz, deadlocks bigint, hit bigint, blocks bigint)
        JOIN now AS n ON (c.deadlocks, c.hit, c.blocks) IS NOT NULL
            -- Otherwise they have begun anew since.
            AND n.deadlocks >= c.deadlocks AND n.hit >= c.hit AND n.blocks >= c.blocks
        WHERE j.name = 'alerts' AND c.at > clock_timestamp() - interval '1 hour'
    )
    SELECT n.deadlocks - min(o.deadlocks),
           -- Of few blocks a ratio says nothing.
           CASE WHEN n.blocks - max(o.blocks) >= 1000
                THEN 100.0 * (n.hit - max(o.hit)) / (n.blocks - max(o.blocks)) END
    FROM now AS n CROSS JOIN old AS o
    GROUP BY n.deadlocks, n.hit, n.blocks
$$;
COMMENT ON FUNCTION monitoring.counted IS
    'Deadlocks of the last hour, and blocks found in memory since the last look; NULL if unknown';

CREATE VIEW monitoring.reading AS
SELECT 'connection_pool_usage_percent' AS metric, '' AS thing,
       100.0 * count(*) / current_setting('max_connections')::integer AS value
FROM pg_stat_activity AS a
WHERE a.datid IS NOT NULL AND coalesce(a.backend_type, 'client backend') = 'client backend'
UNION ALL
SELECT 'query_execution_time_ms', '',
       coalesce(extract(epoch FROM max(clock_timestamp() - a.query_start)) * 1000, 0)
FROM pg_stat_activity AS a
WHERE a.state = 'active' AND a.backend_type = 'client backend' AND a.pid <> pg_backend_pid()
  -- What takes its time anyway.
  AND NOT EXISTS (SELECT FROM pg_stat_progress_copy AS p WHERE p.pid = a.pid)
  AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index AS p WHERE p.pid = a.pid)
  AND NOT EXISTS (SELECT FROM pg_stat_progress_vacuum AS p WHERE p.pid = a.pid)
  AND NOT EXISTS (SELECT FROM pg_stat_progress_analyze AS p WHERE p.pid = a.pid)
HAVING monitoring.sees_sessions()
UNION ALL
SELECT 'long_running_transactions_minutes', '',
       coalesce(extract(epoch FROM max(clock_timestamp() - a.xact_start)) / 60, 0)
FROM pg_stat_activity AS a
WHERE a.backend_type = 'client backend' AND a.pid <> pg_backend_pid()
HAVING monitoring.sees_sessions()
UNION ALL
SELECT 'replication_lag_seconds', concat_ws(' ', r.application_name, r.client_addr),
       max(coalesce(extract(epoch FROM r.replay_lag), 0))
FROM pg_stat_replication AS r
WHERE monitoring.sees_sessions() AND r.state IN ('catchup', 'streaming')
GROUP BY r.application_name, r.client_addr
UNION ALL
SELECT 'deadlock_count_per_hour', '', c.deadlocks FROM monitoring.counted() AS c
UNION ALL
SELECT 'cache_hit_ratio', '', c.hit_percent FROM monitoring.counted() AS c;
COMMENT ON VIEW monitoring.reading IS
    'What the server counts, now; a metric that is missing or NULL is not known';

CREATE FUNCTION monitoring.readings_of(of_metric text, fresh interval)
RETURNS TABLE (thing text, value double precision, at timestamptz)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- Read once: compared with the clock itself, no partition and no index would be left out.
    since constant timestamptz := clock_timestamp() - fresh;
BEGIN
    IF of_metric IN ('table_bloat_percent', 'index_bloat_percent') THEN
        RETURN QUERY SELECT b.schema_name || '.' || b.relation, b.bloat_percent, clock_timestamp()
        FROM monitoring.bloat_estimate AS b
        WHERE b.kind || '_bloat_percent' = of_metric AND b.bytes >= 10485760;
        RETURN;
    END IF;
    RETURN QUERY SELECT r.thing, r.value::double precision, clock_timestamp()
    FROM monitoring.reading AS r WHERE r.metric = of_metric AND r.value IS NOT NULL;
    IF NOT FOUND THEN
        RETURN QUERY SELECT DISTINCT ON (1)
            concat_ws(' ', m.entity, nullif(m.tags, '{}')), m.value, m.occurred_at
        FROM telemetry.metric AS m
        WHERE m.name = of_metric AND m.occurred_at > since
        ORDER BY 1, m.occurred_at DESC, m.event_id DESC, m.n DESC;
    END IF;
END
$$;
COMMENT ON FUNCTION monitoring.readings_of IS
    'The newest value of a metric for each thing: measured now, or a sample that is fresh enough';

CREATE FUNCTION monitoring.announce(
    alert monitoring.alert, of_type text, at timestamptz, content jsonb
) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT bus.emit(
        of_type, alert.metric,
        concat_ws(' ', alert.alert_id, bus.utc_text(alert.raised_at), alert.level),
        at,
        jsonb_build_object(
            'thing', left(alert.thing, 255),
            'channels', (SELECT t.channels FROM monitoring.alert_threshold AS t
                         WHERE t.metric = alert.metric)
        ) || content
    )
$$;
REVOKE EXECUTE ON FUNCTION monitoring.announce FROM PUBLIC;
COMMENT ON FUNCTION monitoring.announce IS 'Sends alerts.raised or alerts.resolved';

CREATE FUNCTION monitoring.announce_level(alert monitoring.alert, at timestamptz) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
RETURN monitoring.announce(alert, 'alerts.raised', at, jsonb_build_object(
    'level', alert.level, 'value', alert.value, 'threshold', alert.threshold
));
REVOKE EXECUTE ON FUNCTION monitoring.announce_level FROM PUBLIC;
COMMENT ON FUNCTION monitoring.announce_level IS 'Sends alerts.raised';

CREATE FUNCTION monitoring.name_of(alert monitoring.alert) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN rtrim(alert.metric || ' ' || alert.thing);
COMMENT ON FUNCTION monitoring.name_of IS 'What an alert is called';

CREATE FUNCTION monitoring.judge(
    metric text, thing text, value double precision, at timestamptz, level text,
    threshold double precision, moment timestamptz
) RETURNS SETOF text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    known monitoring.alert;
    found monitoring.alert;
BEGIN
    SELECT a.* INTO known FROM monitoring.alert AS a
    WHERE a.metric = judge.metric AND md5(a.thing) = md5(judge.thing) AND a.thing = judge.thing
      AND a.resolved_at IS NULL;
    IF known.alert_id IS NULL THEN
        INSERT INTO monitoring.alert AS a
            (metric, thing, level, value, threshold, raised_at, last_seen)
        SELECT metric, thing, level, value, threshold, moment, at WHERE level IS NOT NULL
        RETURNING a.* INTO found;
    ELSE
        -- A value that was judged before is no second one.
        UPDATE monitoring.alert AS a
        SET value = judge.value, last_seen = at,
            good = CASE WHEN judge.level IS NULL THEN a.good + 1 ELSE 0 END,
            level = CASE judge.level WHEN 'critical' THEN judge.level ELSE a.level END,
            threshold = CASE judge.level WHEN 'critical' THEN judge.threshold ELSE a.threshold END,
            resolved_at = CASE WHEN judge.level IS NULL AND a.good >= 1 THEN moment END
        WHERE a.alert_id = known.alert_id AND a.last_seen < at
        RETURNING a.* INTO found;
    END IF;
    IF found.resolved_at IS NOT NULL THEN
        PERFORM monitoring.announce(found, 'alerts.resolved', moment, jsonb_build_object(
            'value', value, 'reason', 'good'
        ));
    ELSIF found.level IS DISTINCT FROM known.level AND found.level IS NOT NULL THEN
        PERFORM monitoring.announce_level(found, moment);
    ELSE
        RETURN;
    END IF;
    RETURN NEXT monitoring.name_of(found);
END
$$;
REVOKE EXECUTE ON FUNCTION monitoring.judge FROM PUBLIC;
COMMENT ON FUNCTION monitoring.judge IS
    'What one value comes to: an alert, a worse one, the end of one, or nothing; level is NULL if good';

CREATE FUNCTION monitoring.close_forsaken(metrics text[], moment timestamptz) RETURNS SETOF text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    forsaken record;
    found monitoring.alert;
BEGIN
    FOR forsaken IN
        SELECT a.alert_id, CASE WHEN t.metric IS NULL THEN 'withdrawn' ELSE 'silent' END AS reason
        FROM monitoring.alert AS a
        LEFT JOIN monitoring.alert_threshold AS t ON t.metric = a.metric AND t.enabled
        WHERE a.resolved_at IS NULL AND (metrics IS NULL OR a.metric = ANY (metrics))
          AND (t.metric IS NULL OR a.last_seen < moment - t.silent_after)
        ORDER BY a.alert_id
    LOOP
        UPDATE monitoring.alert AS a SET resolved_at = moment
        WHERE a.alert_id = forsaken.alert_id RETURNING a.* INTO found;
        PERFORM monitoring.announce(found, 'alerts.resolved', moment, jsonb_build_object(
            'reason', forsaken.reason
        ));
        RETURN NEXT monitoring.name_of(found);
    END LOOP;
END
$$;
REVOKE EXECUTE ON FUNCTION monitoring.close_forsaken FROM PUBLIC;
COMMENT ON FUNCTION monitoring.close_forsaken IS
    'Closes alerts whose threshold is gone, and those whose metric has said nothing for too long';

-- A look every few minutes, and those of the last hour.
CREATE FUNCTION monitoring.counters(old jsonb, moment timestamptz) RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(jsonb_agg(c.counter ORDER BY c.at), '[]')
    FROM (
        SELECT o.counter, (o.counter ->> 'at')::timestamptz AS at
        FROM jsonb_array_elements(old) AS o (counter)
        UNION ALL
        SELECT jsonb_build_object(
            'at', bus.utc_text(moment), 'deadlocks', s.deadlocks,
            'hit', s.blks_hit, 'blocks', s.blks_hit + s.blks_read
        ), moment
        FROM pg_stat_database AS s
        WHERE s.datname = current_database() AND NOT EXISTS (
            SELECT FROM jsonb_array_elements(old) AS o (counter)
            WHERE (o.counter ->> 'at')::timestamptz BETWEEN moment - interval '4 minutes' AND moment
        )
    ) AS c
    WHERE c.at BETWEEN moment - interval '1 hour' AND moment
$$;
COMMENT ON FUNCTION monitoring.counters IS
    'What the counters of the server were at some moments of the last hour, and are';

-- One at a time, and locked before anything is read.
CREATE FUNCTION monitoring.evaluate(metrics text[] DEFAULT NULL) RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    moment timestamptz;
    looked jsonb;
    counters jsonb;
    limits monitoring.alert_threshold;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('penstock.monitoring.evaluate', 0));
    moment := clock_timestamp();
    SELECT coalesce(j.mark -> 'looked', '{}'), coalesce(j.mark -> 'counters', '[]')
    INTO looked, counters FROM bus.job AS j WHERE j.name = 'alerts';
    FOR limits IN
        SELECT t.* FROM monitoring.alert_threshold AS t
        WHERE t.enabled AND CASE
            WHEN metrics IS NOT NULL THEN t.metric = ANY (metrics)
            -- A little early rather than a turn late.
            ELSE coalesce((looked ->> t.metric)::timestamptz NOT BETWEEN moment - 0.9 * t.every
                          AND moment, true)
        END
        ORDER BY t.metric
    LOOP
        looked := looked || jsonb_build_object(limits.metric, bus.utc_text(moment));
        RETURN QUERY
            SELECT j FROM monitoring.readings_of(limits.metric, limits.fresh) AS r
            CROSS JOIN LATERAL (
                SELECT CASE limits.direction WHEN 'above' THEN 1 ELSE -1 END AS sign
            ) AS s
            CROSS JOIN LATERAL (
                SELECT CASE WHEN s.sign * r.value >= s.sign * limits.critical THEN 'critical'
                            WHEN s.sign * r.value >= s.sign * limits.warning THEN 'warning'
                       END AS level
            ) AS l
            CROSS JOIN LATERAL monitoring.judge(
                limits.metric, r.thing, r.value, r.at, l.level,
                CASE l.level WHEN 'critical' THEN limits.critical ELSE limits.warning END, moment
            ) AS j;
    END LOOP;
    RETURN QUERY SELECT c FROM monitoring.close_forsaken(metrics, moment) AS c;
    DELETE FROM monitoring.alert AS a WHERE a.resolved_at < moment - interval '90 days';
    UPDATE bus.job AS j SET mark = jsonb_build_object(
        'looked', looked, 'counters', monitoring.counters(counters, moment)
    ) WHERE j.name = 'alerts';
END
$$;
REVOKE EXECUTE ON FUNCTION monitoring.evaluate FROM PUBLIC;
COMMENT ON FUNCTION monitoring.evaluate IS
    'Looks at the metrics whose time has come, or at given ones; returns the alerts that were raised, '
    'got worse or are over';

-- How it is, for people and for checks of containers.

INSERT INTO config.parameter (name, value, about) VALUES
    ('health.database_gb', 100, 'Size of the database from which on monitoring.health() objects'),
    ('health.active_connections', 80, 'Connections at work from which on it objects'),
    ('health.replication_lag_s', 30, 'Seconds behind of a standby from which on it objects'),
    ('health.connections_warning', 80, 'Percent of max_connections that degrade the health'),
    ('health.connections_critical', 90, 'Percent of max_connections that are unhealthy'),
    ('health.idle_in_transaction', 5, 'Sessions that may be idle in a transaction');

CREATE FUNCTION monitoring.health()
RETURNS TABLE (
    check_name text, status vocab.health_status, value double precision, "limit" double precision,
    detail text
)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    WITH measured (check_name, value, "limit", detail) AS (
        SELECT 'database_gb', pg_database_size(current_database()) / 1073741824.0,
               config.number('health.database_gb'), NULL::text
        UNION ALL
        SELECT 'active_connections',
               CASE WHEN monitoring.sees_sessions() THEN count(*) FILTER (
                   WHERE a.state = 'active' AND a.backend_type = 'client backend'
               ) END, config.number('health.active_connections'), NULL
        FROM pg_stat_activity AS a
        UNION ALL
        SELECT 'replication_lag_s',
               CASE WHEN monitoring.sees_sessions()
                    THEN coalesce(max(extract(epoch FROM r.replay_lag)), 0) END,
               config.number('health.replication_lag_s'), max(r.application_name)
        FROM pg_stat_replication AS r
        UNION ALL
        SELECT 'missing_partitions', count(*), 1,
               string_agg(p.schema_name || '.' || p.table_name, ', '
                          ORDER BY p.schema_name, p.table_name)
        FROM partitions.policy AS p
        CROSS JOIN LATERAL partitions.period(
            p."interval", now() + least(p.premake, 1) * ('1 ' || p."interval")::interval
        ) AS next
        WHERE NOT EXISTS (
            SELECT FROM partitions.partition AS q
            WHERE (q.schema_name, q.table_name) = (p.schema_name, p.table_name)
              AND q.lower_bound <= next.lower AND q.upper_bound >= next.upper
        )
    )
    SELECT m.check_name,
           CASE WHEN m.value IS NULL THEN 'unknown'
                WHEN m.value < m."limit" THEN 'healthy' ELSE 'unhealthy' END,
           m.value, m."limit",
           CASE WHEN m.value IS NULL THEN 'needs GRANT pg_read_all_stats TO ' || current_user
                ELSE m.detail END
    FROM measured AS m
$$;
REVOKE EXECUTE ON FUNCTION monitoring.health FROM PUBLIC;
COMMENT ON FUNCTION monitoring.health IS
    'Size, connections at work, standbys, and partitions a period ahead; limits in config.parameter';

CREATE FUNCTION monitoring.check_connections()
RETURNS TABLE (
    check_name text, status vocab.health_status, value double precision, "limit" double precision,
    detail text
)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'connections_percent',
           CASE WHEN r.value >= config.number('health.connections_critical') THEN 'unhealthy'
                WHEN r.value >= config.number('health.connections_warning') THEN 'degraded'
                ELSE 'healthy' END,
           r.value, config.number('health.connections_warning'),
           'of max_connections = ' || current_setting('max_connections')
    FROM monitoring.reading AS r WHERE r.metric = 'connection_pool_usage_percent'
    UNION ALL
    SELECT 'idle_in_transaction',
           CASE WHEN NOT monitoring.sees_sessions() THEN 'unknown'
                WHEN i.sessions > config.number('health.idle_in_transaction') THEN 'degraded'
                ELSE 'healthy' END,
           CASE WHEN monitoring.sees_sessions() THEN i.sessions END,
           config.number('health.idle_in_transaction'),
           CASE WHEN monitoring.sees_sessions() THEN i.applications
                ELSE 'needs GRANT pg_read_all_stats TO ' || current_user END
    FROM (
        SELECT count(*) AS sessions, string_agg(DISTINCT a.application_name, ', ') AS applications
        FROM pg_stat_activity AS a
        WHERE a.state IN ('idle in transaction', 'idle in transaction (aborted)')
    ) AS i
$$;
REVOKE EXECUTE ON FUNCTION monitoring.check_connections FROM PUBLIC;
COMMENT ON FUNCTION monitoring.check_connections IS
    'How many of the connections that the server takes are used, and how many sessions do nothing in '
    'an open transaction';

-- Statements and indexes that deserve a look.

-- As whoever calls it, who should only explain what he runs himself: planning carries out functions
-- that are said to be immutable. Two statements in one text would be run, so such a text is not
-- explained.
CREATE FUNCTION monitoring.plan_of(statement text, OUT plan jsonb, OUT error text)
LANGUAGE plpgsql
AS $$
BEGIN
    IF statement ~ ';' OR statement !~* '^\s*(select|insert|update|delete|merge|with|values)\M' THEN
        error := 'not a single statement that has a plan';
        RETURN;
    END IF;
    EXECUTE 'EXPLAIN (VERBOSE, FORMAT JSON'
        || CASE WHEN current_setting('server_version_num')::integer >= 160000
                THEN ', GENERIC_PLAN' ELSE '' END
        || ') ' || statement INTO plan;
EXCEPTION WHEN OTHERS THEN
    error := left(SQLSTATE || ': ' || SQLERRM, 2000);
END
$$;
COMMENT ON FUNCTION monitoring.plan_of IS
    'The plan of a statement with its parameters left open (from PostgreSQL 16 on), or why there is none';

CREATE FUNCTION monitoring.capture_plans() RETURNS SETOF text
LANGUAGE plpgsql
AS $$
BEGIN
    DELETE FROM monitoring.query_plan AS p WHERE p.captured_at < now() - interval '90 days';
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = 'pg_stat_statements') THEN
        RETURN;
    END IF;
    RETURN QUERY
        WITH slow AS MATERIALIZED (
            SELECT s.* FROM monitoring.statements() AS s
            WHERE s.mine AND s.mean_ms > 1000 AND NOT EXISTS (
                SELECT FROM monitoring.query_plan AS p
                WHERE p.query_hash = s.query_hash AND p.captured_at > now() - interval '1 day'
            )
            ORDER BY s.total_ms DESC LIMIT 10
        )
        INSERT INTO monitoring.query_plan AS p
            (query_hash, query, plan, error, calls, mean_ms, total_ms, rows)
        SELECT s.query_hash, s.query, e.plan, e.error, s.calls, s.mean_ms, s.total_ms, s.rows
        FROM slow AS s CROSS JOIN LATERAL monitoring.plan_of(s.query) AS e
        RETURNING p.query_hash;
END
$$;
COMMENT ON FUNCTION monitoring.capture_plans IS
    'Keeps the plans of the ten costliest statements of the caller that take a second on average; '
    'returns their hashes';

CREATE FUNCTION monitoring.is_indexed(of_table oid, columns jsonb) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (
        SELECT FROM pg_index AS x
        WHERE x.indrelid = of_table AND x.indisvalid
          -- Rows without a value are looked for by nobody.
          AND coalesce(pg_get_expr(x.indpred, x.indrelid)
                       = format('(%I IS NOT NULL)', columns ->> 0), true)
          AND columns = to_jsonb(array(
              SELECT a.attname::text
              FROM unnest(x.indkey::smallint[]) WITH ORDINALITY AS o (n, place)
              JOIN pg_attribute AS a ON a.attrelid = of_table AND a.attnum = o.n
              WHERE o.place <= jsonb_array_length(columns) ORDER BY o.place
          ))
    )
$$;
COMMENT ON FUNCTION monitoring.is_indexed IS
    'Whether an index of a table, of all rows that have a value, begins with these columns';

CREATE VIEW monitoring.index_candidate AS
WITH read AS (
    -- A partition counts for its table.
    SELECT coalesce(pg_partition_root(s.relid), s.relid)::oid AS relid,
           sum(s.seq_scan)::bigint AS scans, sum(s.seq_tup_read)::bigint AS tuples,
           sum(coalesce(s.idx_scan, 0)) AS index_scans, sum(s.n_live_tup) AS live
    FROM pg_stat_user_tables AS s GROUP BY 1
), filtered AS (
    SELECT DISTINCT coalesce(pg_partition_root(c.oid), c.oid)::oid AS relid, a.attname
    FROM monitoring.query_plan AS p
    CROSS JOIN LATERAL jsonb_path_query(
        p.plan, 'strict $.**?(@."Node Type" == "Seq Scan" && exists(@."Filter"))'
    ) AS scan (node)
    JOIN pg_namespace AS n ON n.nspname = scan.node ->> 'Schema'
    JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = scan.node ->> 'Relation Name'
    JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        AND a.attname ~ '^[a-z_][a-z0-9_]*$' AND a.atttypid NOT IN ('json'::regtype, 'jsonb'::regtype)
    WHERE p.captured_at > now() - interval '30 days' AND scan.node ->> 'Alias' ~ '^[a-z_][a-z0-9_]*$'
      AND scan.node ->> 'Filter' ~ format('\m%s\.%s\M', scan.node ->> 'Alias', a.attname)
), wanted AS (
    SELECT k.conrelid AS relid, to_jsonb(array(
               SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY AS o (n, place)
               JOIN pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = o.n ORDER BY o.place
           )) AS columns,
           'a reference without an index' AS reason,
           'deleting or changing a parent would not read the whole table' AS benefit
    FROM pg_constraint AS k WHERE k.contype = 'f' AND k.conparentid = 0
    UNION
    SELECT r.relid, jsonb_build_array(f.attname),
           'slow statements filter by it, and the table is read as a whole',
           format('%s of %s scans read all of it', r.scans, r.scans + r.index_scans)
    FROM read AS r JOIN filtered AS f USING (relid)
    WHERE r.scans > 100 AND r.live > 1000 AND r.scans > r.index_scans
)
SELECT n.nspname::text AS schema_name, c.relname::text AS table_name, w.columns,
       min(w.reason) AS reason, min(w.benefit) AS benefit, r.scans, r.tuples
FROM wanted AS w
JOIN pg_class AS c ON c.oid = w.relid
JOIN pg_namespace AS n ON n.oid = c.relnamespace AND monitoring.is_ours(n.nspname)
LEFT JOIN read AS r ON r.relid = w.relid
WHERE NOT monitoring.is_indexed(c.oid, w.columns)
GROUP BY n.nspname, c.relname, w.columns, r.scans, r.tuples;
COMMENT ON VIEW monitoring.index_candidate IS
    'Indexes that would help and are not there: for references, and for what slow statements filter by';

CREATE FUNCTION monitoring.recommend_indexes() RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('penstock.monitoring.recommend_indexes', 0));
    RETURN QUERY
        WITH candidate AS MATERIALIZED (
            SELECT c.* FROM monitoring.index_candidate AS c
        ), gone AS (
            UPDATE monitoring.index_recommendation AS r
            SET status = CASE WHEN i.there THEN 'implemented' ELSE 'obsolete' END, decided_at = now()
            FROM monitoring.index_recommendation AS o
            LEFT JOIN pg_namespace AS n ON n.nspname = o.schema_name
            LEFT JOIN pg_class AS t ON t.relnamespace = n.oid AND t.relname = o.table_name
            CROSS JOIN LATERAL (SELECT monitoring.is_indexed(t.oid, o.columns) AS there) AS i
            WHERE r.recommendation_id = o.recommendation_id AND o.status = 'pending'
              -- What nothing has asked for any more.
              AND (i.there OR o.created_at < now() - interval '30 days' AND NOT EXISTS (
                  SELECT FROM candidate AS c
                  WHERE (c.schema_name, c.table_name, c.columns)
                      = (o.schema_name, o.table_name, o.columns)
              ))
            RETURNING r.schema_name, r.table_name, r.columns
        ), new AS (
            INSERT INTO monitoring.index_recommendation AS r
                (schema_name, table_name, columns, reason, benefit, scans, tuples)
            SELECT c.schema_name, c.table_name, c.columns, c.reason, c.benefit, c.scans, c.tuples
            FROM candidate AS c
            WHERE NOT EXISTS (
                SELECT FROM monitoring.index_recommendation AS o
                WHERE o.status IN ('pending', 'rejected')
                  AND (o.schema_name, o.table_name, o.columns)
                    = (c.schema_name, c.table_name, c.columns)
            )
            RETURNING r.schema_name, r.table_name, r.columns
        )
        SELECT concat(f.schema_name, '.', f.table_name, ' ', f.columns)
        FROM (SELECT g.* FROM gone AS g UNION ALL SELECT n.* FROM new AS n) AS f
        ORDER BY 1;
END
$$;
REVOKE EXECUTE ON FUNCTION monitoring.recommend_indexes FROM PUBLIC;
COMMENT ON FUNCTION monitoring.recommend_indexes IS
    'Writes down which indexes are missing, and which of them are there now; returns what changed';

CREATE VIEW monitoring.pending_index AS
SELECT r.recommendation_id, r.reason, r.benefit, format(
    'CREATE INDEX %sON %I.%I USING %I (%s)',
    CASE WHEN c.relkind = 'p' THEN '' ELSE 'CONCURRENTLY ' END,  -- which a partitioned table refuses
    r.schema_name, r.table_name, r.index_type,
    (SELECT string_agg(quote_ident(o.name), ', ' ORDER BY o.place)
     FROM jsonb_array_elements_text(r.columns) WITH ORDINALITY AS o (name, place))
) AS statement
FROM monitoring.index_recommendation AS r
JOIN pg_namespace AS n ON n.nspname = r.schema_name
JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = r.table_name
WHERE r.status = 'pending';
COMMENT ON VIEW monitoring.pending_index IS
    'Recommended indexes with the statements that make them, to be run outside of a transaction';

INSERT INTO bus.job (name, call, about, every) VALUES
    ('alerts', 'monitoring.evaluate', 'Alerts, from metrics and their thresholds', '10 seconds'),
    ('plans', 'monitoring.capture_plans', 'Plans of slow statements', '1 hour'),
    ('indexes', 'monitoring.recommend_indexes', 'Indexes that are missing', '1 day');

-- Recovery.

CREATE SCHEMA recovery;
COMMENT ON SCHEMA recovery IS 'Backups, and how trying them out went';

CREATE TABLE recovery.backup (
    backup_id       uuid PRIMARY KEY,
    external_id     text,
    kind            vocab.backup_kind,
    place           text,
    lsn             text,
    stream_seqs     jsonb,
    started_at      timestamptz,
    created_at      timestamptz,
    created_event   uuid,
    status          vocab.task_status,
    bytes           bigint,
    manifest        jsonb,
    error           text,
    finished_at     timestamptz,
    outcome_version bigint,
    outcome_at      timestamptz,
    outcome_event   uuid,
    verified_at     timestamptz,
    verify_error    text,
    check_version   bigint,
    check_at        timestamptz,
    check_event     uuid,
    is_stub         boolean NOT NULL DEFAULT false,
    updated_at      timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE recovery.backup IS 'Backups as whoever makes them tells of them';
COMMENT ON COLUMN recovery.backup.place IS 'Where it is, in words of who made it';
COMMENT ON COLUMN recovery.backup.lsn IS 'Where PostgreSQL''s log was when it began';
COMMENT ON COLUMN recovery.backup.stream_seqs IS
    'The last sequence of each stream when it began: what a replay after it has to begin with';
COMMENT ON COLUMN recovery.backup.manifest IS 'Its files with their digests';
COMMENT ON COLUMN recovery.backup.verified_at IS
    'When it was last found to be as its manifest says; NULL if that was never tried, or failed last';
COMMENT ON COLUMN recovery.backup.verify_error IS 'Why it is not as its manifest says';
CREATE INDEX backup_external_id ON recovery.backup (external_id) WHERE external_id IS NOT NULL;
CREATE INDEX backup_started_at ON recovery.backup (kind, started_at DESC);

CREATE TABLE recovery.test_result (
    test_id         uuid PRIMARY KEY,
    external_id     text,
    kind            vocab.recovery_kind,
    backup_id       uuid REFERENCES recovery.backup ON DELETE RESTRICT,
    target          text,
    started_at      timestamptz,
    created_at      timestamptz,
    created_event   uuid,
    status          vocab.recovery_status,
    verified        boolean,
    metrics         jsonb,
    errors          jsonb,
    notes           text,
    finished_at     timestamptz,
    outcome_version bigint,
    outcome_at      timestamptz,
    outcome_event   uuid,
    is_stub         boolean NOT NULL DEFAULT false,
    updated_at      timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE recovery.test_result IS 'Recoveries that were tried out, and how they went';
COMMENT ON COLUMN recovery.test_result.target IS 'Where to, or up to which moment';
COMMENT ON COLUMN recovery.test_result.verified IS
    'Whether what was recovered was compared with what it should be, and found to be the same';
COMMENT ON COLUMN recovery.test_result.metrics IS 'Such as how long it took, and how much was lost';
CREATE INDEX test_result_external_id ON recovery.test_result (external_id)
    WHERE external_id IS NOT NULL;
CREATE INDEX test_result_backup ON recovery.test_result (backup_id) WHERE backup_id IS NOT NULL;

CREATE VIEW recovery.reference AS
WITH declared AS (
    SELECT k.conrelid AS child, c.attname AS field, k.confrelid AS parent, p.attname AS key
    FROM pg_constraint AS k
    JOIN pg_attribute AS c ON c.attrelid = k.conrelid AND c.attnum = k.conkey[1]
    JOIN pg_attribute AS p ON p.attrelid = k.confrelid AND p.attnum = k.confkey[1]
    WHERE k.contype = 'f' AND k.conparentid = 0 AND cardinality(k.conkey) = 1
), by_name AS (
    SELECT c.oid AS child, a.attname AS field, m.parent, a.attname AS key
    FROM (VALUES
        ('identity.project'::regclass, 'project_id'), ('agents.agent', 'agent_id'),
        ('tasks.task', 'task_id'), ('workflows.workflow', 'workflow_id'),
        ('identity.account', 'account_id')
    ) AS m (parent, field)
    JOIN pg_attribute AS a ON a.attname = m.field AND a.atttypid = 'uuid'::regtype
    JOIN pg_class AS c ON c.oid = a.attrelid
        AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.oid <> m.parent
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
        AND n.nspname <> 'archive' AND monitoring.is_ours(n.nspname)
    WHERE NOT EXISTS (SELECT FROM declared AS d WHERE (d.child, d.field) = (c.oid, a.attname))
)
SELECT f.child::regclass AS child, f.field, f.parent::regclass AS parent, f.key, f.enforced
FROM (
    SELECT d.*, true AS enforced FROM declared AS d
    UNION ALL
    SELECT b.*, false FROM by_name AS b
) AS f
-- Of the same owner only: what others have made here might not let him read it, or run code of its
-- own while he does.
JOIN pg_class AS c ON c.oid = f.child
JOIN pg_class AS p ON p.oid = f.parent
JOIN pg_class AS own ON own.oid = 'recovery.backup'::regclass
WHERE c.relowner = own.relowner AND p.relowner = own.relowner;
COMMENT ON VIEW recovery.reference IS
    'Which column names a row of which table; enforced, if the database keeps it by a foreign key';

CREATE FUNCTION recovery.verify_consistency()
RETURNS TABLE (child text, field text, parent text, enforced boolean, orphans bigint, example text)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    reference record;
BEGIN
    FOR reference IN
        SELECT r.* FROM recovery.reference AS r ORDER BY r.child::text, r.field, r.parent::text
    LOOP
        child := reference.child::text;
        field := reference.field;
        parent := reference.parent::text;
        enforced := reference.enforced;
        EXECUTE format(
            'SELECT count(*), min(c.%1$I::text) FROM %2$s AS c WHERE c.%1$I IS NOT NULL'
            ' AND NOT EXISTS (SELECT FROM %3$s AS p WHERE p.%4$I = c.%1$I)',
            field, child, parent, reference.key
        ) INTO orphans, example;
        RETURN NEXT;
    END LOOP;
END
$$;
REVOKE EXECUTE ON FUNCTION recovery.verify_consistency FROM PUBLIC;
COMMENT ON FUNCTION recovery.verify_consistency IS
    'How many rows of each table name a row that is not there; reads every table';
