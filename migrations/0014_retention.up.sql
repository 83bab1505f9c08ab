-- What retention took out of a table: written before the partition goes, so that whoever is
-- interrupted leaves a trace, and no late event makes the period anew.

CREATE TABLE partitions.detached (
    schema_name    text NOT NULL,
    table_name     text NOT NULL,
    lower_bound    timestamptz NOT NULL,
    upper_bound    timestamptz NOT NULL,
    partition_name text NOT NULL,
    detached_at    timestamptz,
    archived_as    text,
    exported_at    timestamptz,
    file           text,
    rows           bigint,
    sha256         text,
    dropped_at     timestamptz,
    attached_until timestamptz,
    PRIMARY KEY (schema_name, table_name, lower_bound)
);
COMMENT ON TABLE partitions.detached IS 'Periods that retention has taken, or is about to take, out of a table';
COMMENT ON COLUMN partitions.detached.archived_as IS 'Its name in the schema archive';
COMMENT ON COLUMN partitions.detached.file IS 'The Parquet file that it was exported to';
COMMENT ON COLUMN partitions.detached.attached_until IS
    'It is attached again, and retention leaves it alone until then; NULL while it is not';

CREATE OR REPLACE FUNCTION partitions.is_detached(in_schema text, in_table text, span tstzrange)
RETURNS boolean
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT EXISTS (
        SELECT FROM partitions.detached AS d
        WHERE d.schema_name = in_schema AND d.table_name = in_table
          AND d.attached_until IS NULL
          AND tstzrange(d.lower_bound, d.upper_bound) && span
    );
END;

-- All may, until 0023_telemetry has what is worked out from rows before they go.
CREATE FUNCTION partitions.needed_from(in_schema text, in_table text) RETURNS timestamptz
LANGUAGE sql STABLE
RETURN NULL::timestamptz;
COMMENT ON FUNCTION partitions.needed_from IS
    'Rows of this moment and later ones may not be taken out yet; NULL if all may';

CREATE VIEW partitions.life AS
WITH attached AS (
    SELECT p.schema_name, p.table_name, c.oid AS relation, c.relname::text AS partition_name,
           p.lower_bound, p.upper_bound,
           CASE WHEN p.detaching THEN 'detaching' ELSE 'attached' END AS place,
           d.attached_until, d.exported_at, d.file, NULL::bigint AS rows
    FROM partitions.partition AS p
    JOIN pg_catalog.pg_class AS c ON c.oid = p.partition
    LEFT JOIN partitions.detached AS d
        ON (d.schema_name, d.table_name, d.lower_bound)
         = (p.schema_name, p.table_name, coalesce(p.lower_bound, '-infinity'))
), taken AS (
    SELECT d.*, to_regclass(format('%I.%I', d.schema_name, d.partition_name))::oid AS there,
           to_regclass('archive.' || quote_ident(d.archived_as))::oid AS put_away
    FROM partitions.detached AS d
    WHERE d.attached_until IS NULL AND NOT EXISTS (
        SELECT FROM attached AS a
        WHERE (a.schema_name, a.table_name, coalesce(a.lower_bound, '-infinity'))
            = (d.schema_name, d.table_name, d.lower_bound)
    )
), known AS (
    SELECT * FROM attached
    UNION ALL
    SELECT t.schema_name, t.table_name, coalesce(t.put_away, t.there), t.partition_name,
           t.lower_bound, t.upper_bound,
           CASE WHEN t.put_away IS NOT NULL THEN 'archived'
                WHEN t.there IS NOT NULL THEN 'detached' ELSE 'gone' END,
           NULL, t.exported_at, t.file, t.rows
    FROM taken AS t
)
SELECT
    k.schema_name, k.table_name, k.partition_name, k.relation, k.lower_bound, k.upper_bound, k.place,
    k.exported_at, k.file,
    -- An estimate while nobody has counted; -1 is what a new table says.
    coalesce(k.rows, greatest(c.reltuples, s.n_live_tup, 0)::bigint) AS rows,
    pg_catalog.pg_total_relation_size(k.relation) AS bytes,
    coalesce(p.archive, true) AS archive,
    coalesce(p.export, false) AS export,
    CASE WHEN p.retention IS NOT NULL
         THEN greatest(
             k.upper_bound + p.retention,
             k.attached_until,
             CASE WHEN k.upper_bound > partitions.needed_from(k.schema_name, k.table_name)
                  THEN now() + interval '1 hour' END
         ) END AS expires_at,
    CASE WHEN p.archive THEN k.upper_bound + p.drop_after ELSE k.upper_bound END AS drops_at
FROM known AS k
LEFT JOIN partitions.policy AS p USING (schema_name, table_name)
LEFT JOIN pg_catalog.pg_class AS c ON c.oid = k.relation
LEFT JOIN pg_catalog.pg_stat_all_tables AS s ON s.relid = k.relation;
COMMENT ON VIEW partitions.life IS
    'Every partition, attached or taken out: where it is, how large, and when what is due';

-- As whoever calls it, who must own the table: a worker may not.
CREATE FUNCTION partitions.put_away(in_schema text, in_partition text) RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    put_as text := in_partition;
BEGIN
    IF to_regclass(format('archive.%I', put_as)) IS NOT NULL THEN
        put_as := in_schema || '_' || in_partition;  -- tables of two schemas may share a name
        EXECUTE format('ALTER TABLE %I.%I RENAME TO %I', in_schema, in_partition, put_as);
    END IF;
    EXECUTE format('ALTER TABLE %I.%I SET SCHEMA archive', in_schema, put_as);
    PERFORM partitions.leave_to_read(format('archive.%I', put_as)::regclass);
    RETURN put_as;
END
$$;
COMMENT ON FUNCTION partitions.put_away IS
    'Moves a detached partition to the schema archive, where nobody may change its rows; returns its name there';
