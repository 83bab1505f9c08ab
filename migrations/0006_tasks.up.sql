-- Tasks: what was requested, the results, and the statistics of the agents that worked on them.

CREATE SCHEMA tasks;
COMMENT ON SCHEMA tasks IS 'Tasks, their dependencies, and attempts at them';

CREATE TABLE tasks.task (
    task_id               uuid PRIMARY KEY,
    external_id           text,
    task_type             text,
    title                 text,
    description           text,
    project_id            uuid,
    created_by            text,
    parent_task_id        uuid REFERENCES tasks.task ON DELETE RESTRICT,
    workflow_execution_id uuid,
    payload               jsonb,
    configuration         jsonb,
    tags                  jsonb,
    scheduled_at          timestamptz,
    deadline              timestamptz,
    expires_at            timestamptz,
    max_duration_ms       bigint,
    max_retries           integer,
    github_issue_number   integer,
    github_pr_number      integer,
    created_at            timestamptz,
    created_event         uuid,
    status                vocab.task_status,
    priority              vocab.priority,
    assigned_to           uuid REFERENCES agents.agent ON DELETE RESTRICT,
    completed_at          timestamptz,
    retry_count           integer,
    result                jsonb,
    error                 text,
    quality_score         double precision,
    tdd_phase             vocab.tdd_phase,
    version               bigint,
    version_at            timestamptz,
    version_event         uuid,
    started_at            timestamptz,
    deleted_at            timestamptz,
    is_stub               boolean NOT NULL DEFAULT false,
    updated_at            timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.05);
COMMENT ON TABLE tasks.task IS 'Tasks: what was asked for, and how far it is';
COMMENT ON COLUMN tasks.task.task_type IS 'A word of the producer for the kind of work';
COMMENT ON COLUMN tasks.task.payload IS 'What the task is about, in the producer''s form';
COMMENT ON COLUMN tasks.task.result IS 'What came of it, in the form of who worked on it';
COMMENT ON COLUMN tasks.task.quality_score IS '0 to 100';
COMMENT ON COLUMN tasks.task.priority IS '0 to 9; higher is more urgent';
COMMENT ON COLUMN tasks.task.started_at IS 'The earliest begin that anybody stated';
COMMENT ON COLUMN tasks.task.completed_at IS 'When it ended, well or not';
COMMENT ON COLUMN tasks.task.retry_count IS 'Attempts beyond the first';
COMMENT ON COLUMN tasks.task.max_duration_ms IS 'How long it may take';
COMMENT ON COLUMN tasks.task.workflow_execution_id IS 'The run of a workflow that it belongs to';
COMMENT ON COLUMN tasks.task.tdd_phase IS 'The step of test-driven work that it is in';
COMMENT ON COLUMN tasks.task.external_id IS 'The text that task_id was made from; NULL if none';
CREATE INDEX task_external_id ON tasks.task (external_id) WHERE external_id IS NOT NULL;
CREATE INDEX task_assigned_to ON tasks.task (assigned_to) WHERE assigned_to IS NOT NULL;
CREATE INDEX task_parent ON tasks.task (parent_task_id) WHERE parent_task_id IS NOT NULL;
CREATE INDEX task_project ON tasks.task (project_id) WHERE project_id IS NOT NULL;
CREATE INDEX task_waiting ON tasks.task (priority DESC, created_at)
    WHERE status IN ('pending', 'queued') AND deleted_at IS NULL;

CREATE TABLE tasks.dependency (
    task_id       uuid NOT NULL REFERENCES tasks.task ON DELETE RESTRICT,
    depends_on    uuid NOT NULL REFERENCES tasks.task ON DELETE RESTRICT,
    kind          vocab.task_dependency_kind,
    deleted_at    timestamptz,
    version       bigint,
    version_at    timestamptz,
    version_event uuid,
    is_stub       boolean NOT NULL DEFAULT false,
    updated_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (task_id, depends_on),
    CHECK (task_id <> depends_on)
);
COMMENT ON TABLE tasks.dependency IS 'Which task waits for which other one';
CREATE INDEX dependency_depends_on ON tasks.dependency (depends_on);

CREATE TABLE tasks.execution (
    execution_id  uuid NOT NULL,
    started_at    timestamptz NOT NULL,
    task_id       uuid,
    agent_id      uuid,
    attempt       integer,
    created_at    timestamptz,
    created_event uuid,
    status        vocab.task_status,
    completed_at  timestamptz,
    result        jsonb,
    error         text,
    cpu_ms        bigint,
    mem_peak_mb   bigint,
    io_ops        bigint,
    version       bigint,
    version_at    timestamptz,
    version_event uuid,
    is_stub       boolean NOT NULL DEFAULT false,
    updated_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (execution_id, started_at)
) PARTITION BY RANGE (started_at);
COMMENT ON TABLE tasks.execution IS 'Each attempt at a task, and what it took';
COMMENT ON COLUMN tasks.execution.attempt IS 'The number of the attempt, from 1';
COMMENT ON COLUMN tasks.execution.cpu_ms IS 'Processor time';
COMMENT ON COLUMN tasks.execution.mem_peak_mb IS 'The most memory that it used';
COMMENT ON COLUMN tasks.execution.io_ops IS 'Reads and writes';
CREATE INDEX execution_task ON tasks.execution (task_id, started_at DESC);
CREATE INDEX execution_agent ON tasks.execution (agent_id, started_at DESC);
CREATE INDEX execution_started_at ON tasks.execution USING brin (started_at);

-- An agent's statistics change by what the statement's rows contribute now, minus what they
-- contributed before. That stays right when a task is inserted as finished, reopened, corrected or
-- assigned to another agent, and it is one statement for a whole batch. Rows are written in the order
-- of the agents, so that two batches never deadlock. INSERT .. ON CONFLICT DO UPDATE calls the trigger
-- twice, for its updates and then for its inserts: each half would be in order, both together not. So
-- task_stats_begin announces the second half, and the first one leaves its changes to it.
CREATE FUNCTION tasks.begin_stats() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('penstock.task_changes', '[]', true);
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION tasks.begin_stats IS 'Says that tasks.apply_stats will be called for an INSERT';

-- As its owner: whoever stores a task need not have rights on what follows from it.
CREATE FUNCTION tasks.apply_stats() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    after_rows constant text := 'SELECT 1 AS sign, n.* FROM new_rows AS n';
    before_rows constant text := 'SELECT -1 AS sign, o.* FROM old_rows AS o';
    other_half jsonb := nullif(current_setting('penstock.task_changes', true), '');
    changes jsonb;
    emptied uuid[];
BEGIN
    EXECUTE format(
        $count$
        WITH counted AS (
            SELECT
                t.assigned_to AS agent_id,
                t.sign,
                t.status,
                CASE WHEN t.status = 'completed' THEN t.quality_score::numeric END AS quality,
                -- The two clocks may be of different machines; NULL is not 0 to greatest().
                CASE WHEN t.status = 'completed' AND t.completed_at - t.started_at IS NOT NULL THEN
                    greatest(round(extract(epoch FROM t.completed_at - t.started_at) * 1000), 0)
                END AS duration_ms
            FROM (%s) AS t
            WHERE t.assigned_to IS NOT NULL AND t.status IN ('completed', 'failed', 'cancelled')
        )
        SELECT coalesce(jsonb_agg(d), '[]') FROM (
            SELECT
                c.agent_id,
                sum(c.sign) FILTER (WHERE c.status = 'completed') AS completed,
                sum(c.sign) FILTER (WHERE c.status = 'failed') AS failed,
                sum(c.sign) FILTER (WHERE c.status = 'cancelled') AS cancelled,
                sum(c.sign * c.quality) AS quality_sum,
                sum(c.sign) FILTER (WHERE c.quality IS NOT NULL) AS quality_n,
                sum(c.sign * c.duration_ms) AS duration_sum,
                sum(c.sign) FILTER (WHERE c.duration_ms IS NOT NULL) AS duration_n
            FROM counted AS c
            GROUP BY c.agent_id
        ) AS d
        $count$,
        CASE TG_OP
            WHEN 'INSERT' THEN after_rows
            WHEN 'DELETE' THEN before_rows
            ELSE before_rows || ' UNION ALL ' || after_rows
        END
    ) INTO changes;
    IF TG_OP = 'UPDATE' AND other_half IS NOT NULL THEN
        PERFORM set_config('penstock.task_changes', changes::text, true);
        RETURN NULL;
    ELSIF TG_OP = 'INSERT' THEN
        changes := changes || coalesce(other_half, '[]');
        PERFORM set_config('penstock.task_changes', '', true);
    END IF;
    IF changes = '[]' THEN
        RETURN NULL;
    END IF;
    WITH applied AS (
        INSERT INTO agents.stats AS s (
            agent_id, tasks_completed, tasks_failed, tasks_cancelled,
            quality_sum, quality_n, duration_sum_ms, duration_n
        )
        SELECT d.* FROM (
            SELECT
                c.agent_id,
                coalesce(sum(c.completed), 0) AS completed,
                coalesce(sum(c.failed), 0) AS failed,
                coalesce(sum(c.cancelled), 0) AS cancelled,
                trim_scale(coalesce(sum(c.quality_sum), 0)) AS quality_sum,
                coalesce(sum(c.quality_n), 0) AS quality_n,
                trim_scale(coalesce(sum(c.duration_sum), 0)) AS duration_sum_ms,
                coalesce(sum(c.duration_n), 0) AS duration_n
            FROM jsonb_to_recordset(changes) AS c (
                agent_id uuid, completed bigint, failed bigint, cancelled bigint,
                quality_sum numeric, quality_n bigint, duration_sum numeric, duration_n bigint
            )
            GROUP BY c.agent_id
        ) AS d
        WHERE (d.completed, d.failed, d.cancelled,
               d.quality_sum, d.quality_n, d.duration_sum_ms, d.duration_n)
              <> (0, 0, 0, 0, 0, 0, 0)
        ORDER BY d.agent_id
        ON CONFLICT (agent_id) DO UPDATE SET
            tasks_completed = s.tasks_completed + excluded.tasks_completed,
            tasks_failed = s.tasks_failed + excluded.tasks_failed,
            tasks_cancelled = s.tasks_cancelled + excluded.tasks_cancelled,
            -- Without trimming, 1 + 0.25 - 0.25 would be kept as 1.00: a trace of what was.
            quality_sum = trim_scale(s.quality_sum + excluded.quality_sum),
            quality_n = s.quality_n + excluded.quality_n,
            duration_sum_ms = trim_scale(s.duration_sum_ms + excluded.duration_sum_ms),
            duration_n = s.duration_n + excluded.duration_n,
            updated_at = now()
        RETURNING s.agent_id, s.tasks_completed + s.tasks_failed + s.tasks_cancelled AS total
    )
    SELECT array_agg(a.agent_id) INTO emptied FROM applied AS a WHERE a.total = 0;
    -- A row of nothing would tell that a late event had once been the last one.
    IF emptied IS NOT NULL THEN
        DELETE FROM agents.stats AS s WHERE s.agent_id = ANY (emptied);
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION tasks.apply_stats IS 'Keeps agents.stats equal to the sums over tasks.task';

CREATE TRIGGER task_stats_begin BEFORE INSERT ON tasks.task
    FOR EACH STATEMENT EXECUTE FUNCTION tasks.begin_stats();
CREATE TRIGGER task_stats_insert AFTER INSERT ON tasks.task
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION tasks.apply_stats();
CREATE TRIGGER task_stats_update AFTER UPDATE ON tasks.task
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION tasks.apply_stats();
CREATE TRIGGER task_stats_delete AFTER DELETE ON tasks.task
    REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION tasks.apply_stats();

INSERT INTO partitions.policy
    (schema_name, table_name, column_name, "interval", premake, retention, archive)
VALUES
    ('tasks', 'execution', 'started_at', 'month', 3, '12 months', true);
SELECT partitions.maintain();

CREATE VIEW tasks.history AS
SELECT
    l.event_id,
    l.occurred_at,
    l.recorded_at,
    l.entity_id AS task,
    l.event_type,
    l.version,
    l.data ->> 'status' AS status,
    l.actor,
    l.source,
    l.corr,
    l.data
FROM events.log AS l
WHERE l.domain = 'tasks' AND l.event_type LIKE 'tasks.%';

CREATE VIEW tasks.ready AS
SELECT t.*
FROM tasks.task AS t
WHERE t.status IN ('pending', 'queued')
  AND t.deleted_at IS NULL
  AND (t.scheduled_at IS NULL OR t.scheduled_at <= now())
  AND (t.expires_at IS NULL OR t.expires_at > now())
  AND NOT EXISTS (
      SELECT FROM tasks.dependency AS d
      JOIN tasks.task AS other ON other.task_id = d.depends_on
      WHERE d.task_id = t.task_id
        AND d.deleted_at IS NULL
        AND CASE d.kind
            WHEN 'start' THEN other.started_at IS NULL
            ELSE other.status IS DISTINCT FROM 'completed'
        END
  )
ORDER BY t.priority DESC, t.created_at;
COMMENT ON VIEW tasks.ready IS 'Waiting tasks that are due and whose dependencies are met';

CREATE VIEW tasks.v_queue_summary AS
SELECT
    t.task_type,
    t.status,
    count(*) AS tasks,
    avg(t.priority)::double precision AS avg_priority,
    min(t.created_at) AS oldest,
    max(t.version_at) AS latest_change
FROM tasks.task AS t
WHERE NOT t.is_stub AND t.deleted_at IS NULL
GROUP BY t.task_type, t.status;
COMMENT ON VIEW tasks.v_queue_summary IS 'How many tasks of each type have which status';

CREATE FUNCTION tasks.counted_stats(agents uuid[] DEFAULT NULL)
RETURNS TABLE (
    agent_id uuid, tasks_completed bigint, tasks_failed bigint, tasks_cancelled bigint,
    quality_sum numeric, quality_n bigint, duration_sum_ms numeric, duration_n bigint
)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT
        t.assigned_to,
        count(*) FILTER (WHERE t.status = 'completed'),
        count(*) FILTER (WHERE t.status = 'failed'),
        count(*) FILTER (WHERE t.status = 'cancelled'),
        trim_scale(coalesce(sum(t.quality_score::numeric) FILTER (WHERE t.status = 'completed'), 0)),
        count(t.quality_score) FILTER (WHERE t.status = 'completed'),
        coalesce(sum(took.ms), 0),
        count(took.ms)
    FROM tasks.task AS t
    CROSS JOIN LATERAL (
        SELECT CASE WHEN t.status = 'completed' AND t.completed_at - t.started_at IS NOT NULL THEN
            greatest(round(extract(epoch FROM t.completed_at - t.started_at) * 1000), 0)
        END AS ms
    ) AS took
    WHERE t.assigned_to IS NOT NULL AND t.status IN ('completed', 'failed', 'cancelled')
      AND (agents IS NULL OR t.assigned_to = ANY (agents))
    GROUP BY t.assigned_to
$$;
COMMENT ON FUNCTION tasks.counted_stats IS 'What agents.stats should hold, counted from the tasks';

CREATE FUNCTION tasks.wrong_stats() RETURNS SETOF uuid
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(s.agent_id, c.agent_id)
    FROM agents.stats AS s
    FULL JOIN tasks.counted_stats() AS c ON c.agent_id = s.agent_id
    WHERE (s.tasks_completed, s.tasks_failed, s.tasks_cancelled, s.quality_sum, s.quality_n,
           s.duration_sum_ms, s.duration_n)
          IS DISTINCT FROM
          (c.tasks_completed, c.tasks_failed, c.tasks_cancelled, c.quality_sum, c.quality_n,
           c.duration_sum_ms, c.duration_n)
    ORDER BY 1
$$;
COMMENT ON FUNCTION tasks.wrong_stats IS 'Agents whose statistics are not those of their tasks';

-- Rows are locked before tasks are read. Whoever changes a task changes the row in the same
-- transaction: it has committed before, and is counted, or waits, and adds to what is right.
CREATE FUNCTION tasks.recount_stats(agents uuid[] DEFAULT NULL) RETURNS SETOF uuid
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    agents := array(SELECT DISTINCT g FROM unnest(
        coalesce(agents, array(SELECT tasks.wrong_stats()))) AS g WHERE g IS NOT NULL ORDER BY g);
    INSERT INTO agents.stats (agent_id) SELECT g FROM unnest(agents) AS g
    ON CONFLICT (agent_id) DO NOTHING;
    PERFORM FROM agents.stats AS s WHERE s.agent_id = ANY (agents) ORDER BY s.agent_id FOR UPDATE;
    RETURN QUERY
        UPDATE agents.stats AS s
        SET (tasks_completed, tasks_failed, tasks_cancelled, quality_sum, quality_n, duration_sum_ms,
             duration_n, updated_at)
          = (n.tasks_completed, n.tasks_failed, n.tasks_cancelled, n.quality_sum, n.quality_n,
             n.duration_sum_ms, n.duration_n, now())
        FROM (
            SELECT g.agent_id,
                   coalesce(c.tasks_completed, 0) AS tasks_completed,
                   coalesce(c.tasks_failed, 0) AS tasks_failed,
                   coalesce(c.tasks_cancelled, 0) AS tasks_cancelled,
                   coalesce(c.quality_sum, 0) AS quality_sum,
                   coalesce(c.quality_n, 0) AS quality_n,
                   coalesce(c.duration_sum_ms, 0) AS duration_sum_ms,
                   coalesce(c.duration_n, 0) AS duration_n
            FROM unnest(agents) AS g (agent_id)
            LEFT JOIN tasks.counted_stats(agents) AS c ON c.agent_id = g.agent_id
        ) AS n
        WHERE s.agent_id = n.agent_id
        RETURNING s.agent_id;
    DELETE FROM agents.stats AS s
    WHERE s.agent_id = ANY (agents)
      AND s.tasks_completed + s.tasks_failed + s.tasks_cancelled = 0;
END
$$;
COMMENT ON FUNCTION tasks.recount_stats IS
    'Counts the statistics of agents again from their tasks; of all whose are wrong, if none are named';

-- Refreshed by the clock (migration 15). Sums are exact decimals, so that nothing seems to have changed
-- where nothing has; the rules are those of agents.stats.
CREATE MATERIALIZED VIEW agents.performance_daily AS
SELECT
    t.assigned_to AS agent_id,
    (t.completed_at AT TIME ZONE 'UTC')::date AS day,
    count(*) FILTER (WHERE t.status = 'completed') AS tasks_completed,
    count(*) FILTER (WHERE t.status = 'failed') AS tasks_failed,
    count(*) FILTER (WHERE t.status = 'cancelled') AS tasks_cancelled,
    count(*) FILTER (WHERE t.status = 'completed')::double precision
        / nullif(count(*) FILTER (WHERE t.status IN ('completed', 'failed')), 0) AS success_rate,
    avg(t.quality_score::numeric) FILTER (WHERE t.status = 'completed')::double precision AS avg_quality,
    avg(greatest(round(extract(epoch FROM t.completed_at - t.started_at) * 1000), 0))
        FILTER (WHERE t.status = 'completed' AND t.started_at IS NOT NULL)::double precision
        AS avg_task_time_ms
FROM tasks.task AS t
WHERE t.assigned_to IS NOT NULL AND t.completed_at IS NOT NULL
  AND t.status IN ('completed', 'failed', 'cancelled')
GROUP BY 1, 2;
COMMENT ON MATERIALIZED VIEW agents.performance_daily IS
    'What each agent finished on each UTC day, as of the last refresh';
CREATE UNIQUE INDEX performance_daily_key ON agents.performance_daily (agent_id, day);
CREATE INDEX performance_daily_day ON agents.performance_daily (day);

CREATE MATERIALIZED VIEW tasks.project_stats AS
SELECT
    t.project_id,
    count(*) AS tasks,
    count(*) FILTER (WHERE t.status = 'completed') AS tasks_completed,
    count(*) FILTER (WHERE t.status = 'failed') AS tasks_failed,
    count(*) FILTER (WHERE t.status = 'cancelled') AS tasks_cancelled,
    count(*) FILTER (WHERE t.status = 'completed')::double precision
        / nullif(count(*) FILTER (WHERE t.status IN ('completed', 'failed')), 0) AS success_rate,
    avg(t.quality_score::numeric) FILTER (WHERE t.status = 'completed')::double precision AS avg_quality,
    avg(greatest(round(extract(epoch FROM t.completed_at - t.started_at) * 1000), 0))
        FILTER (WHERE t.status = 'completed' AND t.started_at IS NOT NULL)::double precision
        AS avg_task_time_ms,
    max(t.version_at) AS latest_change
FROM tasks.task AS t
WHERE t.project_id IS NOT NULL AND NOT t.is_stub AND t.deleted_at IS NULL
GROUP BY 1;
COMMENT ON MATERIALIZED VIEW tasks.project_stats IS
    'The tasks of each project that are not deleted, as of the last refresh';
CREATE UNIQUE INDEX project_stats_key ON tasks.project_stats (project_id);
