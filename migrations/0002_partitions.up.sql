-- One row of partitions.policy per range-partitioned table drives create, detach, archive and drop.

CREATE SCHEMA partitions;
COMMENT ON SCHEMA partitions IS 'Which partitions there are, and how long they stay';

CREATE TABLE partitions.policy (
    schema_name text NOT NULL,
    table_name  text NOT NULL,
    column_name text NOT NULL,
    "interval"  text NOT NULL CHECK ("interval" IN ('day', 'week', 'month')),
    premake     integer NOT NULL DEFAULT 3 CHECK (premake BETWEEN 0 AND 100),
    retention   interval,
    archive     boolean NOT NULL DEFAULT false,
    export      boolean NOT NULL DEFAULT false,
    drop_after  interval,
    last_run    timestamptz,
    PRIMARY KEY (schema_name, table_name),
    CONSTRAINT retention_is_positive CHECK (retention > '0'),
    CONSTRAINT archived_rows_are_kept_longer CHECK (drop_after > retention)
);
COMMENT ON TABLE partitions.policy IS 'How each table is cut into periods, and how long they stay';
COMMENT ON COLUMN partitions.policy.premake IS 'Periods to make ahead of the current one';
COMMENT ON COLUMN partitions.policy.retention IS 'How long rows stay online; NULL is for ever';
COMMENT ON COLUMN partitions.policy.archive IS
    'Keep detached partitions in the schema archive; otherwise they are dropped';
COMMENT ON COLUMN partitions.policy.export IS
    'Write detached partitions to Parquet files; none is dropped before that';
COMMENT ON COLUMN partitions.policy.drop_after IS
    'How old rows become in the schema archive; NULL is for ever';

CREATE FUNCTION partitions.period(
    step text, at timestamptz, OUT lower timestamptz, OUT upper timestamptz, OUT suffix text
)
LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT
        p.start AT TIME ZONE 'UTC',
        (p.start + ('1 ' || step)::interval) AT TIME ZONE 'UTC',
        to_char(
            p.start,
            CASE step
                WHEN 'day' THEN '"_y"YYYY"m"MM"d"DD'
                WHEN 'week' THEN '"_y"IYYY"w"IW'
                ELSE '"_y"YYYY"m"MM'
            END
        )
    FROM (SELECT date_trunc(step, at AT TIME ZONE 'UTC') AS start) AS p
$$;
COMMENT ON FUNCTION partitions.period IS
    'The UTC day, ISO week or month that holds a moment, and the end of its partition''s name';

-- Asks the catalogue with a snapshot of its own: to_regclass may answer from before the lock.
CREATE FUNCTION partitions.is_attached(in_schema text, in_name text) RETURNS boolean
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT
        c.relispartition
        AND NOT EXISTS (SELECT FROM pg_inherits AS i WHERE i.inhrelid = c.oid AND i.inhdetachpending)
    FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname = in_schema AND c.relname = in_name
$$;
COMMENT ON FUNCTION partitions.is_attached IS
    'Whether a table is a partition that takes rows; NULL if there is no such table';

-- None is, until 0014_retention has a table of those that are.
CREATE FUNCTION partitions.is_detached(in_schema text, in_table text, span tstzrange)
RETURNS boolean
LANGUAGE sql STABLE
RETURN false;
COMMENT ON FUNCTION partitions.is_detached IS
    'Whether a span of time was taken out of a table by retention';

-- Rows go through the table that a partition belongs to, whose rights are those that were thought of;
-- default privileges know nothing of a history that only grows.
CREATE FUNCTION partitions.leave_to_read(relation regclass) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    grantee text;
BEGIN
    FOR grantee IN
        SELECT DISTINCT CASE WHEN a.grantee = 0 THEN 'PUBLIC'
                             ELSE quote_ident(pg_get_userbyid(a.grantee)) END
        FROM pg_class AS c CROSS JOIN aclexplode(c.relacl) AS a
        WHERE c.oid = relation AND a.grantee <> c.relowner
    LOOP
        EXECUTE format('REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON %s FROM %s', relation, grantee);
    END LOOP;
END
$$;
REVOKE EXECUTE ON FUNCTION partitions.leave_to_read FROM PUBLIC;
COMMENT ON FUNCTION partitions.leave_to_read IS
    'Lets nobody but its owner change the rows of a table';

-- As its owner, who also owns the tables: whoever may call it makes partitions of the tables that
-- partitions.policy names, and nothing else.
CREATE FUNCTION partitions.ensure_for(in_schema text, in_table text, at timestamptz)
RETURNS text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    step text;
    span record;
    child text;
    attached boolean;
BEGIN
    SELECT p."interval" INTO step
    FROM partitions.policy AS p
    WHERE p.schema_name = in_schema AND p.table_name = in_table;
    IF step IS NULL THEN
        RAISE EXCEPTION 'no row of partitions.policy for %.%', in_schema, in_table
            USING ERRCODE = 'undefined_object';
    END IF;
    span := partitions.period(step, at);
    child := format('%I.%I', in_schema, in_table || span.suffix);
    attached := partitions.is_attached(in_schema, in_table || span.suffix);
    IF attached IS NULL THEN
        -- Taken on the miss only, so that the usual case waits for nobody.
        PERFORM pg_advisory_xact_lock(
            hashtextextended(format('penstock.partitions.%I.%I', in_schema, in_table), 0)
        );
        attached := partitions.is_attached(in_schema, in_table || span.suffix);
    END IF;
    IF attached THEN
        RETURN child;
    ELSIF NOT attached
        OR partitions.is_detached(in_schema, in_table, tstzrange(span.lower, span.upper))
    THEN
        -- Made anew, it would hold a few late rows and pass for the whole period.
        RAISE EXCEPTION '%.% takes no rows of %: % was detached', in_schema, in_table, at, child
            USING ERRCODE = 'PK001';
    END IF;
    -- Made alone and attached: that lets writers of the other partitions go on, which
    -- CREATE TABLE .. PARTITION OF does not. It is empty, so there is nothing to scan on attaching.
    EXECUTE format(
        'CREATE TABLE %s (LIKE %I.%I INCLUDING DEFAULTS INCLUDING CONSTRAINTS '
        'INCLUDING GENERATED INCLUDING STORAGE INCLUDING COMPRESSION)',
        child, in_schema, in_table
    );
    PERFORM partitions.leave_to_read(child);
    EXECUTE format(
        'ALTER TABLE %I.%I ATTACH PARTITION %s FOR VALUES FROM (%L) TO (%L)',
        in_schema, in_table, child, span.lower, span.upper
    );
    RETURN child;
END
$$;
REVOKE EXECUTE ON FUNCTION partitions.ensure_for FROM PUBLIC;
COMMENT ON FUNCTION partitions.ensure_for IS
    'Makes the partition of a table that holds a moment, unless it is there; returns its name';

CREATE FUNCTION partitions.maintain() RETURNS SETOF text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    rule partitions.policy;
    start timestamp;
    step interval;
    span record;
BEGIN
    FOR rule IN
        SELECT p.* FROM partitions.policy AS p ORDER BY p.schema_name, p.table_name
    LOOP
        -- One table that fails must not leave the others without partitions.
        BEGIN
            start := (partitions.period(rule."interval", now())).lower AT TIME ZONE 'UTC';
            step := ('1 ' || rule."interval")::interval;
            FOR n IN -1 .. rule.premake LOOP
                span := partitions.period(rule."interval", (start + n * step) AT TIME ZONE 'UTC');
                -- The period before this one, where the table does not keep rows that long.
                CONTINUE WHEN span.upper <= now() - rule.retention OR partitions.is_detached(
                    rule.schema_name, rule.table_name, tstzrange(span.lower, span.upper)
                );
                RETURN NEXT partitions.ensure_for(rule.schema_name, rule.table_name, span.lower);
            END LOOP;
            UPDATE partitions.policy AS p SET last_run = now()
            WHERE p.schema_name = rule.schema_name AND p.table_name = rule.table_name;
        EXCEPTION WHEN OTHERS THEN
            RAISE WARNING 'no partitions made for %.%: %',
                rule.schema_name, rule.table_name, SQLERRM;
        END;
    END LOOP;
END
$$;
REVOKE EXECUTE ON FUNCTION partitions.maintain FROM PUBLIC;
COMMENT ON FUNCTION partitions.maintain IS
    'Makes the partitions of the previous, the current and the coming periods of every table; '
    'returns their names';

CREATE VIEW partitions.partition AS
SELECT
    p.schema_name,
    p.table_name,
    child.oid::regclass AS partition,
    substring(bound.text FROM 'FROM \(''([^'']+)''\)')::timestamptz AS lower_bound,
    substring(bound.text FROM 'TO \(''([^'']+)''\)')::timestamptz AS upper_bound,
    i.inhdetachpending AS detaching
FROM partitions.policy AS p
JOIN pg_catalog.pg_namespace AS ns ON ns.nspname = p.schema_name
JOIN pg_catalog.pg_class AS parent
    ON parent.relnamespace = ns.oid AND parent.relname = p.table_name
JOIN pg_catalog.pg_inherits AS i ON i.inhparent = parent.oid
JOIN pg_catalog.pg_class AS child ON child.oid = i.inhrelid
CROSS JOIN LATERAL (
    SELECT pg_catalog.pg_get_expr(child.relpartbound, child.oid)
) AS bound (text);
COMMENT ON VIEW partitions.partition IS
    'Every partition of a range-partitioned table, with its bounds; one that is detaching takes no rows';

-- For what is worked out from rows up to a moment, whatever arrives meanwhile. A row whose default is
-- clock_timestamp() is stamped while its transaction holds a lock on the table. So once those that hold
-- one now are done, no row of an earlier moment can come any more. Asking when transactions began would
-- take a right to see those of other roles.
CREATE FUNCTION partitions.all_recorded_until(parent regclass) RETURNS timestamptz
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    moment timestamptz := clock_timestamp();
    writers text[] := array(
        SELECT l.virtualtransaction FROM pg_locks AS l
        WHERE l.relation IN (SELECT t.relid FROM pg_partition_tree(parent) AS t)
          AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
          AND l.mode = 'RowExclusiveLock' AND l.pid IS DISTINCT FROM pg_backend_pid()
    );
BEGIN
    WHILE EXISTS (
        SELECT FROM pg_locks AS l
        WHERE l.locktype = 'relation' AND l.virtualtransaction = ANY (writers)
    ) LOOP
        IF clock_timestamp() > moment + interval '1 minute' THEN
            RAISE EXCEPTION 'a transaction that writes into % has not ended for a minute', parent
                USING ERRCODE = 'lock_not_available', HINT = 'Look for it in pg_stat_activity.';
        END IF;
        PERFORM pg_sleep(0.01);
    END LOOP;
    RETURN moment;
END
$$;
REVOKE EXECUTE ON FUNCTION partitions.all_recorded_until FROM PUBLIC;
COMMENT ON FUNCTION partitions.all_recorded_until IS
    'Waits until every row of a table that was recorded before now can be seen; returns that moment';
