-- The audit history is sealed as it grows: a chain of digests, by which whoever changes, removes, inserts
-- or moves a row afterwards is found out; `penstock audit verify` looks. And a list of the keys that
-- secrets are encrypted with, without the keys.

CREATE INDEX log_recorded_at ON audit.log USING brin (recorded_at) WITH (autosummarize = on);

CREATE TABLE audit.seal (
    seal_id     bigint PRIMARY KEY,
    partition   text NOT NULL,
    from_at     timestamptz NOT NULL,
    to_at       timestamptz NOT NULL,
    rows        bigint NOT NULL,
    format      integer NOT NULL,
    leaves      bytea NOT NULL,
    prev_digest bytea,
    digest      bytea NOT NULL,
    sealed_at   timestamptz NOT NULL,
    UNIQUE (partition, from_at),
    CONSTRAINT chain_never_forks UNIQUE NULLS NOT DISTINCT (prev_digest),
    CONSTRAINT leaf_has_64_bytes CHECK (octet_length(leaves) = 64 * rows)
);
-- Digests cannot be compressed.
ALTER TABLE audit.seal ALTER COLUMN leaves SET STORAGE EXTERNAL;
COMMENT ON TABLE audit.seal IS
    'Derived by the clock: links of a chain of digests over audit.log; never changed';
COMMENT ON COLUMN audit.seal.seal_id IS 'Its place in the chain, from 1, without gaps';
COMMENT ON COLUMN audit.seal.partition IS 'The partition of audit.log that its rows are of';
COMMENT ON COLUMN audit.seal.from_at IS 'Its rows were recorded from this moment on';
COMMENT ON COLUMN audit.seal.to_at IS 'Its rows were recorded before this moment';
COMMENT ON COLUMN audit.seal.rows IS 'How many rows it covers';
COMMENT ON COLUMN audit.seal.format IS 'Which columns a leaf is made of: 1 for the first 24 of audit.log';
COMMENT ON COLUMN audit.seal.leaves IS
    'For each row 64 bytes: recorded_at, event_id, occurred_at, and the SHA-256 of what it says';
COMMENT ON COLUMN audit.seal.prev_digest IS 'The digest of the seal before; NULL of the first';
COMMENT ON COLUMN audit.seal.digest IS 'SHA-256 of all the above; audit.sealed tells it to others';

INSERT INTO config.parameter (name, value, about) VALUES
    ('audit.seal_delay', 600,
     'Seconds until a row of the audit history is sealed; more than clocks may ever go back');

CREATE FUNCTION audit.digest_of(link audit.seal) RETURNS bytea
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
RETURN sha256(convert_to(concat_ws(
    E'\n', 'penstock audit seal', link.format, link.seal_id, link.partition, bus.utc_text(link.from_at),
    bus.utc_text(link.to_at), link.rows, bus.utc_text(link.sealed_at),
    coalesce(encode(link.prev_digest, 'hex'), ''), encode(sha256(link.leaves), 'hex')
), 'UTF8'));
COMMENT ON FUNCTION audit.digest_of IS 'The digest that a seal has to have; no setting changes it';

-- The leaves of what was recorded in a partition, wherever that is by now, cut into seals. Rows of one
-- moment stay together, so that a seal is a span of time.
--
-- A leaf is format 1 of worker/postgres/seals.py, which has it again: a check must not ask the database
-- that it checks how that is done. jsonb has one text, whatever the settings are.
CREATE FUNCTION audit.leaves_of(relation regclass, since timestamptz, upto timestamptz)
RETURNS TABLE (from_at timestamptz, to_at timestamptz, rows bigint, leaves bytea)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY EXECUTE format($query$
        SELECT CASE WHEN c.chunk = 0 AND isfinite($1) THEN $1 ELSE min(c.recorded_at) END,
               coalesce(lead(min(c.recorded_at)) OVER (ORDER BY c.chunk), $2),
               count(*),
               string_agg(c.leaf, ''::bytea ORDER BY c.leaf)
        FROM (
            SELECT r.recorded_at,
                   (rank() OVER (ORDER BY r.recorded_at) - 1) / 10000 AS chunk,
                   timestamptz_send(r.recorded_at) || uuid_send(r.event_id)
                   || timestamptz_send(r.occurred_at)
                   || sha256(convert_to(jsonb_build_array(
                          r.event_type, r.entity_id, r.version, r.actor, r.source, r.project_id,
                          r.corr, r.cause, r.data, r.origin, r.action, r.resource_type, r.resource_id,
                          r.old_values, r.new_values, r.changed, r.ip, r.user_agent, r.session_id,
                          r.db_user, r.txid
                      )::text, 'UTF8')) AS leaf
            FROM %s AS r
            WHERE r.recorded_at >= $1 AND r.recorded_at < $2
        ) AS c
        GROUP BY c.chunk ORDER BY c.chunk
    $query$, relation) USING since, upto;
END
$$;
REVOKE EXECUTE ON FUNCTION audit.leaves_of FROM PUBLIC;
COMMENT ON FUNCTION audit.leaves_of IS 'What seals of a partition have to hold, for rows recorded in a span';

CREATE FUNCTION audit.sealed_until() RETURNS timestamptz
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT coalesce(
        (SELECT s.to_at FROM audit.seal AS s ORDER BY s.seal_id DESC LIMIT 1), '-infinity'
    );
END;
COMMENT ON FUNCTION audit.sealed_until IS
    'Rows of audit.log that were recorded before this moment are sealed';

-- Told of at once by its digest, to the stream and by it to the log: out of reach of whoever can write
-- to this database.
CREATE FUNCTION audit.append(partition text, span record) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    link audit.seal;
BEGIN
    SELECT s.seal_id, s.digest INTO link.seal_id, link.prev_digest
    FROM audit.seal AS s ORDER BY s.seal_id DESC LIMIT 1;
    link.seal_id := coalesce(link.seal_id, 0) + 1;
    link.partition := partition;
    link.from_at := span.from_at;
    link.to_at := span.to_at;
    link.rows := span.rows;
    link.format := 1;
    link.leaves := span.leaves;
    link.sealed_at := now();
    link.digest := audit.digest_of(link);
    INSERT INTO audit.seal SELECT link.*;
    PERFORM bus.emit(
        'audit.sealed', partition, encode(link.digest, 'hex'), link.sealed_at,
        jsonb_build_object(
            'seal_id', link.seal_id, 'rows', link.rows, 'digest', encode(link.digest, 'hex')
        )
    );
END
$$;
REVOKE EXECUTE ON FUNCTION audit.append FROM PUBLIC;
COMMENT ON FUNCTION audit.append IS 'Adds a seal to the chain, and sends audit.sealed';

-- By when rows were recorded, not by when things happened: an event that comes late is one of the next
-- seal, in the partition of its day.
CREATE FUNCTION audit.seal(keys text[] DEFAULT NULL) RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    since timestamptz;
    upto timestamptz;
    part record;
    span record;
BEGIN
    IF keys IS NOT NULL THEN
        RAISE EXCEPTION 'the audit history is sealed as a whole, not by the key %', keys[1]
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Leave the keys out.';
    END IF;
    -- One at a time, and before anything is read.
    PERFORM pg_advisory_xact_lock(hashtextextended('penstock.audit.seal', 0));
    since := audit.sealed_until();
    upto := partitions.all_recorded_until('audit.log')
        - greatest(coalesce(config.number('audit.seal_delay'), 600), 0) * interval '1 second';
    -- The events of the seals are rows, too: these alone are sealed once a day.
    IF upto <= since OR NOT EXISTS (
        SELECT FROM audit.log AS l
        WHERE l.recorded_at >= since AND l.recorded_at < upto
          AND (l.event_type IS DISTINCT FROM 'audit.sealed' OR since < upto - interval '1 day')
    ) THEN
        RETURN;
    END IF;
    FOR part IN
        SELECT l.partition_name AS name, l.relation::regclass AS relation FROM partitions.life AS l
        WHERE (l.schema_name, l.table_name) = ('audit', 'log') AND l.relation IS NOT NULL
        ORDER BY l.lower_bound
    LOOP
        FOR span IN SELECT s.* FROM audit.leaves_of(part.relation, since, upto) AS s LOOP
            PERFORM audit.append(part.name, span);
            RETURN NEXT part.name;
        END LOOP;
    END LOOP;
END
$$;
REVOKE EXECUTE ON FUNCTION audit.seal FROM PUBLIC;
COMMENT ON FUNCTION audit.seal IS
    'Seals what was added to audit.log, ten minutes after; returns the partitions of the new seals';

INSERT INTO bus.job (name, call, about, every) VALUES
    ('seal', 'audit.seal', 'Seals of the audit history', '10 minutes');

CREATE OR REPLACE FUNCTION partitions.needed_from(in_schema text, in_table text)
RETURNS timestamptz
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT coalesce((j.mark ->> 'closed')::timestamptz, '-infinity') FROM bus.job AS j
    WHERE j.name = 'rollup' AND j.enabled AND (in_schema, in_table) = ('telemetry', 'metric')
    UNION ALL
    SELECT (SELECT min(l.occurred_at) FROM audit.log AS l WHERE l.recorded_at >= audit.sealed_until())
    FROM bus.job AS j
    WHERE j.name = 'seal' AND j.enabled AND (in_schema, in_table) = ('audit', 'log');
END;

-- Whoever sets a secret encrypts it, and names the key: config.entry has key_name and key_version.
CREATE TABLE audit.encryption_key (
    key_name    text NOT NULL,
    key_version integer NOT NULL,
    algorithm   text NOT NULL DEFAULT 'AES-256-GCM',
    wrapped_key bytea,
    reference   text,
    active      boolean NOT NULL DEFAULT true,
    created_at  timestamptz NOT NULL DEFAULT now(),
    rotated_at  timestamptz,
    PRIMARY KEY (key_name, key_version),
    CONSTRAINT is_kept_somewhere CHECK (num_nonnulls(wrapped_key, reference) > 0),
    -- One of 256 bits has 32 bytes; what wraps it adds to them.
    CONSTRAINT is_not_in_the_clear CHECK (octet_length(wrapped_key) > 32),
    CONSTRAINT active_until_rotated CHECK (active = (rotated_at IS NULL))
);
COMMENT ON TABLE audit.encryption_key IS
    'Keys that secrets are encrypted with, by name and version; none of them in the clear';
COMMENT ON COLUMN audit.encryption_key.wrapped_key IS 'The key, encrypted by another one that is not here';
COMMENT ON COLUMN audit.encryption_key.reference IS 'Where the key is kept, such as its name in a vault';
COMMENT ON COLUMN audit.encryption_key.active IS 'New secrets take this version; one of each name is';
COMMENT ON COLUMN audit.encryption_key.rotated_at IS
    'When another version took its place; it still decrypts what it encrypted';
CREATE UNIQUE INDEX encryption_key_active ON audit.encryption_key (key_name) WHERE active;
