-- The roles of Penstock, each with the least that it needs. Run it in Penstock's database, as a
-- superuser or as a role that may create roles and owns the database:
--
--     psql -v ON_ERROR_STOP=1 -f deploy/postgres/roles.sql "$ADMIN_DSN"
--
-- before the first `penstock migrate up`, and again after each one, which takes back what later
-- tables were given too much. It may run as often as you like. Nobody can log in until you say how:
--
--     ALTER ROLE penstock_ingest PASSWORD '...';      -- or name the roles in pg_hba.conf
--     GRANT penstock_reader TO grafana;
--
--     penstock_owner      owns schemas and tables; `penstock migrate` logs in as this role, nobody else
--     penstock_ingest     `penstock run`, `doctor`, `hydrate` and `replay`
--     penstock_reader     dashboards: reads everything, writes nothing
--     penstock_operator   a reader who may settle dead letters, and change how long rows stay

DO $$
DECLARE
    role text;
BEGIN
    FOREACH role IN ARRAY ARRAY[
        'penstock_owner', 'penstock_ingest', 'penstock_reader', 'penstock_operator'
    ] LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I LOGIN', role);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;  -- roles belong to the whole cluster: another database has made it
        END;
        EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), role);
    END LOOP;
    -- Schemas, and the table of migrations in `public`.
    EXECUTE format('GRANT CREATE ON DATABASE %I TO penstock_owner', current_database());
    -- What differs when a materialized view is refreshed.
    EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO penstock_owner', current_database());
    -- The stage of a batch that was delivered again.
    EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO penstock_ingest', current_database());
END
$$;

GRANT USAGE, CREATE ON SCHEMA public TO penstock_owner;
GRANT USAGE ON SCHEMA public TO penstock_ingest, penstock_reader, penstock_operator;

-- What later migrations make, those of your own packages too, and partitions.
ALTER DEFAULT PRIVILEGES FOR ROLE penstock_owner
    GRANT USAGE ON SCHEMAS TO penstock_ingest, penstock_reader, penstock_operator;
ALTER DEFAULT PRIVILEGES FOR ROLE penstock_owner
    GRANT SELECT ON TABLES TO penstock_ingest, penstock_reader, penstock_operator;
ALTER DEFAULT PRIVILEGES FOR ROLE penstock_owner
    GRANT INSERT, UPDATE ON TABLES TO penstock_ingest;
ALTER DEFAULT PRIVILEGES FOR ROLE penstock_owner
    GRANT USAGE ON SEQUENCES TO penstock_ingest;

-- What is there already: in every schema that holds a table of the owner.
DO $$
DECLARE
    found record;
BEGIN
    FOR found IN
        SELECT n.nspname AS name
        FROM pg_catalog.pg_namespace AS n
        WHERE n.nspname = 'archive' OR EXISTS (
            SELECT FROM pg_catalog.pg_class AS c
            WHERE c.relnamespace = n.oid AND c.relowner = 'penstock_owner'::regrole
        )
    LOOP
        CONTINUE WHEN found.name LIKE 'pg\_%' OR found.name = 'information_schema';
        EXECUTE format(
            'GRANT USAGE ON SCHEMA %I TO penstock_ingest, penstock_reader, penstock_operator',
            found.name
        );
    END LOOP;
    FOR found IN
        SELECT c.oid::regclass AS name,
               n.nspname AS schema,
               -- Rows reach a partition through its table, by the rights to that.
               c.relkind IN ('r', 'p') AND NOT c.relispartition AS is_table,
               -- A history only grows: its rows say when they were recorded, not when changed.
               EXISTS (
                   SELECT FROM pg_catalog.pg_attribute AS a
                   WHERE a.attrelid = c.oid AND a.attname = 'recorded_at' AND NOT a.attisdropped
               ) AS is_history
        FROM pg_catalog.pg_class AS c
        JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
        WHERE c.relowner = 'penstock_owner'::regrole
          AND c.relkind IN ('r', 'p', 'v', 'm')
          AND n.nspname NOT LIKE 'pg\_%'
    LOOP
        EXECUTE format(
            'GRANT SELECT ON %s TO penstock_ingest, penstock_reader, penstock_operator', found.name
        );
        EXECUTE format('REVOKE INSERT, UPDATE ON %s FROM penstock_ingest', found.name);
        CONTINUE WHEN NOT found.is_table OR found.schema IN ('public', 'partitions', 'archive');
        EXECUTE format('GRANT INSERT ON %s TO penstock_ingest', found.name);
        CONTINUE WHEN found.is_history;
        EXECUTE format('GRANT UPDATE ON %s TO penstock_ingest', found.name);
    END LOOP;
END
$$;

-- Passwords, second factors and tokens of others are for the authentication service alone. Grant its
-- role SELECT, INSERT, UPDATE and DELETE on these tables.
DO $$
BEGIN
    IF to_regclass('identity.credential') IS NOT NULL THEN
        REVOKE ALL ON identity.credential, identity.mfa_device, identity.oauth_token
            FROM penstock_ingest, penstock_reader, penstock_operator;
    END IF;
END
$$;

-- Nobody but its function makes a seal, and nobody but operators says which keys there are.
DO $$
BEGIN
    IF to_regclass('audit.seal') IS NOT NULL THEN
        REVOKE INSERT, UPDATE ON audit.seal FROM penstock_ingest;
        REVOKE ALL ON audit.encryption_key FROM penstock_ingest, penstock_reader;
        GRANT SELECT (key_name, key_version, algorithm, reference, active, created_at, rotated_at)
            ON audit.encryption_key TO penstock_ingest, penstock_reader;
        GRANT INSERT, UPDATE ON audit.encryption_key TO penstock_operator;
    END IF;
END
$$;

-- What sessions of others do, which alerts and views of `monitoring` tell. Only a superuser, or who has
-- the right to pass it on, may grant it; without it they say that they do not know.
DO $$
BEGIN
    GRANT pg_read_all_stats TO penstock_owner, penstock_operator;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE NOTICE 'not granted: pg_read_all_stats, without which monitoring sees no other sessions';
END
$$;

-- Penstock's own records. Partitions and positions are tended by functions that act as the owner.
DO $$
DECLARE
    found record;
BEGIN
    IF to_regclass('bus.crash_marker') IS NOT NULL THEN
        GRANT DELETE ON bus.crash_marker, bus.replica, bus.due TO penstock_ingest, penstock_operator;
        GRANT UPDATE, DELETE ON bus.outbox TO penstock_ingest, penstock_operator;
        GRANT UPDATE ON bus.dead_letter TO penstock_operator;
        REVOKE INSERT ON bus.dead_letter_change FROM penstock_ingest;
        GRANT INSERT, UPDATE, DELETE ON partitions.policy TO penstock_operator;
        -- By the triggers of tasks.task: a row of nothing goes.
        GRANT DELETE ON agents.stats TO penstock_ingest;
        -- What derived values depend on, and when they are worked out, people say.
        REVOKE INSERT, UPDATE ON config.band, config.parameter, monitoring.alert_threshold,
            monitoring.alert, monitoring.index_recommendation FROM penstock_ingest;
        REVOKE UPDATE ON monitoring.query_plan FROM penstock_ingest;
        GRANT DELETE ON monitoring.query_plan TO penstock_ingest;
        -- Not what is called, for which rights are granted below: only when and how that went.
        REVOKE INSERT, UPDATE ON bus.job FROM penstock_ingest, penstock_operator;
        GRANT UPDATE (last_run, last_ms, last_error) ON bus.job TO penstock_ingest;
        GRANT UPDATE (every, enabled, last_run, last_ms, last_error) ON bus.job
            TO penstock_operator;
        REVOKE INSERT, UPDATE ON telemetry.rollup_hour, telemetry.rollup_day FROM penstock_ingest;
        GRANT INSERT, UPDATE, DELETE ON config.band, config.parameter, monitoring.alert_threshold,
            monitoring.query_plan TO penstock_operator;
        GRANT UPDATE ON bus.due, monitoring.index_recommendation TO penstock_operator;
        GRANT EXECUTE ON FUNCTION monitoring.health(), monitoring.check_connections()
            TO penstock_ingest, penstock_reader, penstock_operator;
        GRANT EXECUTE ON FUNCTION recovery.verify_consistency() TO penstock_operator;
        FOR found IN
            SELECT p.oid::regproc AS call
            FROM bus.job AS j
            CROSS JOIN LATERAL unnest(ARRAY[j.call, j.whole]) AS f (call)
            JOIN pg_catalog.pg_proc AS p ON p.oid = to_regproc(f.call)
            WHERE p.proowner = 'penstock_owner'::regrole
        LOOP
            EXECUTE format(
                'GRANT EXECUTE ON FUNCTION %s TO penstock_ingest, penstock_operator', found.call
            );
        END LOOP;
        GRANT EXECUTE ON FUNCTION
            bus.compact_positions(interval),
            bus.forget_letters(interval, integer),
            bus.settle_requeues(uuid[], text[], text[], text),
            partitions.ensure_for(text, text, timestamptz),
            partitions.maintain()
            TO penstock_ingest, penstock_operator;
    END IF;
END
$$;
