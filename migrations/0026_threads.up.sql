-- Threads: the checkpoints that a graph of agents goes on from, with the values of its channels and
-- what its tasks have written since.

CREATE SCHEMA threads;
COMMENT ON SCHEMA threads IS 'Checkpoints of graphs of agents';

CREATE TABLE events.log_threads PARTITION OF events.log FOR VALUES IN ('threads')
    PARTITION BY RANGE (occurred_at);

CREATE TABLE threads.thread (
    thread_id   uuid PRIMARY KEY,
    external_id text,
    first_at    timestamptz,
    last_at     timestamptz,
    deleted_at  timestamptz,
    is_stub     boolean NOT NULL DEFAULT false,
    updated_at  timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE threads.thread IS 'A conversation or task of a graph, with all its checkpoints';
COMMENT ON COLUMN threads.thread.external_id IS 'The text that thread_id was made from; NULL if none';
COMMENT ON COLUMN threads.thread.deleted_at IS
    'What was stored until then is deleted; what came later is there';
CREATE INDEX thread_external_id ON threads.thread (external_id) WHERE external_id IS NOT NULL;
CREATE INDEX thread_last_at ON threads.thread (last_at DESC);

CREATE TABLE threads.checkpoint (
    event_id      uuid NOT NULL,
    occurred_at   timestamptz NOT NULL,
    thread_id     uuid NOT NULL,
    namespace     text NOT NULL,
    checkpoint_id text COLLATE "C" NOT NULL,
    parent_id     text,
    run_id        text,
    checkpoint    jsonb NOT NULL,
    metadata      jsonb,
    recorded_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (event_id, occurred_at)
) PARTITION BY RANGE (occurred_at);
COMMENT ON TABLE threads.checkpoint IS
    'Every checkpoint as it was stored; threads.v_checkpoint has those that are not deleted';
COMMENT ON COLUMN threads.checkpoint.namespace IS 'Where in nested graphs; empty for the outermost';
COMMENT ON COLUMN threads.checkpoint.checkpoint_id IS 'The greater one is the newer one';
COMMENT ON COLUMN threads.checkpoint.checkpoint IS 'Without values, which are in threads.value';
CREATE INDEX checkpoint_thread ON threads.checkpoint (thread_id, occurred_at);
CREATE INDEX checkpoint_newest ON threads.checkpoint (thread_id, checkpoint_id DESC);
CREATE INDEX checkpoint_run ON threads.checkpoint (run_id) WHERE run_id IS NOT NULL;
CREATE INDEX checkpoint_brin ON threads.checkpoint USING brin (occurred_at);

CREATE TABLE threads.value (
    event_id      uuid NOT NULL,
    n             integer NOT NULL,
    occurred_at   timestamptz NOT NULL,
    thread_id     uuid,
    namespace     text,
    channel       text,
    value_version text,
    encoding      text,
    data          bytea,
    digest        text,
    part          integer,
    parts         integer,
    recorded_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (event_id, n, occurred_at)
) PARTITION BY RANGE (occurred_at);
COMMENT ON TABLE threads.value IS
    'Values of channels; a checkpoint names the version of each channel that it has';
COMMENT ON COLUMN threads.value.encoding IS 'How data is to be read, in the words of its writer';
CREATE INDEX value_channel ON threads.value (thread_id, channel, value_version);

CREATE TABLE threads.write (
    event_id      uuid NOT NULL,
    n             integer NOT NULL,
    occurred_at   timestamptz NOT NULL,
    thread_id     uuid,
    namespace     text,
    checkpoint_id text COLLATE "C",
    task_id       text,
    task_path     text,
    place         integer,
    channel       text,
    encoding      text,
    data          bytea,
    recorded_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (event_id, n, occurred_at)
) PARTITION BY RANGE (occurred_at);
COMMENT ON TABLE threads.write IS 'What tasks wrote after a checkpoint, before the next one';
COMMENT ON COLUMN threads.write.place IS
    'The place of the write in its task; below 0 for errors, interrupts and the like';
CREATE INDEX write_checkpoint ON threads.write (thread_id, checkpoint_id);

CREATE TABLE threads.removal (
    event_id      uuid NOT NULL,
    n             integer NOT NULL,
    occurred_at   timestamptz NOT NULL,
    thread_id     uuid,
    namespace     text,
    checkpoint_id text COLLATE "C",
    recorded_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (event_id, n, occurred_at)
) PARTITION BY RANGE (occurred_at);
COMMENT ON TABLE threads.removal IS 'Checkpoints that were deleted, with all that came before';
CREATE INDEX removal_checkpoint ON threads.removal (thread_id, checkpoint_id);

INSERT INTO partitions.policy
    (schema_name, table_name, column_name, "interval", premake, retention, archive)
VALUES
    ('events', 'log_threads', 'occurred_at', 'month', 3, '12 months', true),
    ('threads', 'checkpoint', 'occurred_at', 'month', 3, '12 months', false),
    ('threads', 'value', 'occurred_at', 'month', 3, '12 months', false),
    ('threads', 'write', 'occurred_at', 'month', 3, '12 months', false),
    ('threads', 'removal', 'occurred_at', 'month', 3, '12 months', false);
SELECT partitions.maintain();

CREATE VIEW threads.v_checkpoint AS
SELECT
    c.thread_id,
    coalesce(t.external_id, t.thread_id::text) AS thread,
    c.namespace,
    c.checkpoint_id,
    c.parent_id,
    c.run_id,
    c.checkpoint,
    c.metadata,
    c.occurred_at,
    coalesce(t.deleted_at, '-infinity') AS deleted_at
FROM threads.checkpoint AS c
JOIN threads.thread AS t ON t.thread_id = c.thread_id
WHERE (t.deleted_at IS NULL OR c.occurred_at > t.deleted_at)
  AND NOT EXISTS (
      SELECT FROM threads.removal AS r
      WHERE r.thread_id = c.thread_id AND r.checkpoint_id = c.checkpoint_id
        AND r.namespace = c.namespace AND r.occurred_at >= c.occurred_at
  )
  AND NOT EXISTS (
      SELECT FROM threads.checkpoint AS later
      WHERE later.thread_id = c.thread_id AND later.checkpoint_id = c.checkpoint_id
        AND later.namespace = c.namespace
        AND (later.occurred_at, later.event_id) > (c.occurred_at, c.event_id)
  );
COMMENT ON VIEW threads.v_checkpoint IS
    'The checkpoints that are there: the last one of each id, and none that was deleted';
