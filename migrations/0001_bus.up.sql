-- What the worker keeps about its own work: broken messages, positions, replicas.

CREATE SCHEMA bus;
COMMENT ON SCHEMA bus IS 'The worker''s own records: dead letters, positions, replicas';

CREATE SCHEMA archive;
COMMENT ON SCHEMA archive IS 'Partitions that were detached and are kept';

CREATE TABLE bus.dead_letter (
    letter_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    transport   text NOT NULL,
    stream      text NOT NULL,
    epoch       text NOT NULL DEFAULT '',
    seq         bigint,
    subject     text,
    headers     jsonb,
    raw_headers bytea,
    body        bytea,
    digest      bytea,
    reason      text NOT NULL,
    error       text,
    event_id    uuid,
    attempts    integer,
    status      text NOT NULL DEFAULT 'kept',
    worker      text,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    -- A redelivered broken message is the same letter; brokers without sequences have seq NULL.
    UNIQUE NULLS NOT DISTINCT (transport, stream, epoch, seq, digest)
);
COMMENT ON TABLE bus.dead_letter IS
    'Messages that could not become rows, as they came, with the reason';
COMMENT ON COLUMN bus.dead_letter.headers IS 'For people to read: every value as text';
COMMENT ON COLUMN bus.dead_letter.raw_headers IS
    'As they came: the header block of NATS, or flags and properties of an AMQP content header';
COMMENT ON COLUMN bus.dead_letter.digest IS
    'SHA-256 of subject, raw headers and body together: everything that came';
CREATE INDEX dead_letter_reason ON bus.dead_letter (reason);
CREATE INDEX dead_letter_recorded_at ON bus.dead_letter (recorded_at);

CREATE TABLE bus.position (
    position_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    transport   text NOT NULL,
    stream      text NOT NULL,
    epoch       text NOT NULL DEFAULT '',
    seqs        int8multirange NOT NULL,
    begins      bigint,
    worker      text,
    recorded_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE bus.position IS
    'Stream sequences whose effect is committed, written in the transaction that committed it';
COMMENT ON COLUMN bus.position.begins IS
    'Where reading began, written before anything was handed out: what lies behind it and is in no '
    'row is not committed';
CREATE INDEX position_stream ON bus.position (transport, stream, epoch);

CREATE TABLE bus.crash_marker (
    transport text NOT NULL,
    stream    text NOT NULL,
    digest    bytea NOT NULL,
    attempts  integer NOT NULL DEFAULT 1,
    seen_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (transport, stream, digest)
);
COMMENT ON TABLE bus.crash_marker IS
    'Messages that a worker has begun with after repeated deliveries; a row that stays means that it died';

CREATE TABLE bus.replica (
    worker     text PRIMARY KEY,
    host       text NOT NULL,
    pid        integer NOT NULL,
    version    text NOT NULL,
    sources    jsonb NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    seen_at    timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE bus.replica IS
    'Workers that run: each says every few seconds what it reads, and goes when it has drained';

CREATE FUNCTION bus.utc_text(moment timestamptz) RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE
RETURN to_char(moment AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');
COMMENT ON FUNCTION bus.utc_text IS
    'RFC 3339 of fixed width: its order as text is the order in time';

-- As its owner: a worker adds positions and takes none away.
CREATE FUNCTION bus.compact_positions(settled interval DEFAULT '1 minute') RETURNS bigint
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    removed bigint;
BEGIN
    -- One at a time: two would each insert the sum of the same rows.
    IF NOT pg_try_advisory_xact_lock(hashtextextended('penstock.positions', 0)) THEN
        RETURN 0;
    END IF;
    WITH crowded AS (
        SELECT p.transport, p.stream, p.epoch
        FROM bus.position AS p
        WHERE p.recorded_at < now() - settled
        GROUP BY p.transport, p.stream, p.epoch
        HAVING count(*) > 1
    ), taken AS (
        DELETE FROM bus.position AS p
        USING crowded AS c
        WHERE (p.transport, p.stream, p.epoch) = (c.transport, c.stream, c.epoch)
          AND p.recorded_at < now() - settled
        RETURNING p.transport, p.stream, p.epoch, p.seqs, p.begins, p.recorded_at
    ), merged AS (
        INSERT INTO bus.position (transport, stream, epoch, seqs, begins, recorded_at)
        SELECT t.transport, t.stream, t.epoch, range_agg(t.seqs), min(t.begins), max(t.recorded_at)
        FROM taken AS t
        GROUP BY t.transport, t.stream, t.epoch
    )
    SELECT count(*) INTO removed FROM taken;
    RETURN removed;
END
$$;
REVOKE EXECUTE ON FUNCTION bus.compact_positions FROM PUBLIC;
COMMENT ON FUNCTION bus.compact_positions IS
    'Merges settled positions into one row per stream and epoch; returns how many rows it took in';

CREATE VIEW bus.gap AS
WITH seen AS (
    SELECT transport, stream, epoch, range_agg(seqs) AS seqs, min(begins) AS begins
    FROM bus.position
    GROUP BY transport, stream, epoch
)
SELECT s.transport, s.stream, s.epoch, missing.seqs AS missing
FROM seen AS s
CROSS JOIN LATERAL unnest(
    int8multirange(
        int8range(least(s.begins, lower(s.seqs)), coalesce(upper(s.seqs), s.begins))
    ) - s.seqs
) AS missing (seqs);
COMMENT ON VIEW bus.gap IS
    'Sequences before the highest committed one that are not committed themselves: from where '
    'reading began, if that is known, or from the lowest committed one';
