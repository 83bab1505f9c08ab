-- Agents: profile, status, activity, capabilities and state.
--
-- Columns of state tables are nullable and have no defaults: any event may create a row, and the row
-- must not depend on which event came first. last_heartbeat and last_active have no index on purpose,
-- so that the most frequent updates stay within their page.

CREATE SCHEMA agents;
COMMENT ON SCHEMA agents IS 'Agents: profile, status, skills, state, heartbeats, output';

CREATE TABLE agents.agent (
    agent_id          uuid PRIMARY KEY,
    external_id       text,
    name              text,
    agent_type        vocab.agent_type,
    known_as          text,
    software_version  text,
    parent_agent_id   uuid REFERENCES agents.agent ON DELETE RESTRICT,
    project_id        uuid,
    cognitive_pattern vocab.cognitive_pattern,
    learning_rate     double precision,
    performance_score double precision,
    configuration     jsonb,
    metadata          jsonb,
    profile_version   bigint,
    profile_at        timestamptz,
    profile_event     uuid,
    status            vocab.agent_status,
    status_version    bigint,
    status_at         timestamptz,
    status_event      uuid,
    last_heartbeat    timestamptz,
    last_active       timestamptz,
    registered_at     timestamptz,
    deleted_at        timestamptz,
    created_by        text,
    created_at        timestamptz,
    created_event     uuid,
    is_stub           boolean NOT NULL DEFAULT false,
    updated_at        timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);
COMMENT ON TABLE agents.agent IS
    'One row an agent: its profile, status, and when it last gave a sign of life';
COMMENT ON COLUMN agents.agent.agent_type IS
    'An open vocabulary: worker, engineer, coordinator, ...';
COMMENT ON COLUMN agents.agent.learning_rate IS '0 to 1, as the agent says';
COMMENT ON COLUMN agents.agent.performance_score IS '0 to 1, as the agent says';
COMMENT ON COLUMN agents.agent.last_heartbeat IS 'The time of its latest heartbeat';
COMMENT ON COLUMN agents.agent.last_active IS 'The time of its latest activity';
COMMENT ON COLUMN agents.agent.registered_at IS 'The time of its latest registration';
COMMENT ON COLUMN agents.agent.external_id IS 'The text that agent_id was made from; NULL if none';
COMMENT ON COLUMN agents.agent.known_as IS 'What other systems call the agent';
COMMENT ON COLUMN agents.agent.deleted_at IS
    'The last retirement; the agent is back if registered_at is later';
CREATE INDEX agent_external_id ON agents.agent (external_id) WHERE external_id IS NOT NULL;
CREATE INDEX agent_name ON agents.agent (name);
CREATE INDEX agent_parent ON agents.agent (parent_agent_id) WHERE parent_agent_id IS NOT NULL;
CREATE INDEX agent_project ON agents.agent (project_id) WHERE project_id IS NOT NULL;

CREATE TABLE agents.instance (
    agent_id      uuid NOT NULL REFERENCES agents.agent ON DELETE RESTRICT,
    instance_id   uuid NOT NULL,
    host          text,
    port          integer,
    process_id    bigint,
    status        vocab.instance_status,
    started_at    timestamptz,
    stopped_at    timestamptz,
    resources     jsonb,
    error_count   integer,
    restart_count integer,
    version       bigint,
    version_at    timestamptz,
    version_event uuid,
    is_stub       boolean NOT NULL DEFAULT false,
    updated_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (agent_id, instance_id)
);
COMMENT ON TABLE agents.instance IS 'The processes that an agent runs as';

CREATE TABLE agents.connection (
    agent_id        uuid NOT NULL REFERENCES agents.agent ON DELETE RESTRICT,
    connection_id   uuid NOT NULL,
    host            text,
    port            integer,
    database        text,
    pool_size       integer,
    max_connections integer,
    is_active       boolean,
    version         bigint,
    version_at      timestamptz,
    version_event   uuid,
    is_stub         boolean NOT NULL DEFAULT false,
    updated_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (agent_id, connection_id)
);
COMMENT ON TABLE agents.connection IS 'Where agents reach databases, without credentials';

CREATE TABLE agents.capability (
    agent_id         uuid NOT NULL REFERENCES agents.agent ON DELETE RESTRICT,
    name             text NOT NULL,
    proficiency      double precision,
    experience       bigint,
    cap_version      text,
    parameters       jsonb,
    enabled          boolean,
    version          bigint,
    version_at       timestamptz,
    version_event    uuid,
    deleted_at       timestamptz,
    presence_version bigint,
    presence_at      timestamptz,
    presence_event   uuid,
    is_stub          boolean NOT NULL DEFAULT false,
    updated_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (agent_id, name)
);
COMMENT ON COLUMN agents.capability.proficiency IS 'How well, 0 to 1';
COMMENT ON COLUMN agents.capability.experience IS 'How often or how long, in the producer''s unit';
COMMENT ON COLUMN agents.capability.cap_version IS 'The version of the skill';
COMMENT ON TABLE agents.capability IS
    'What an agent can do. Having a capability (deleted_at) and its level are decided separately, '
    'so that registering again does not reset the level';
CREATE INDEX capability_match ON agents.capability (name, proficiency DESC NULLS LAST)
    WHERE deleted_at IS NULL;

CREATE TABLE agents.dependency (
    agent_id      uuid NOT NULL REFERENCES agents.agent ON DELETE RESTRICT,
    depends_on    uuid NOT NULL REFERENCES agents.agent ON DELETE RESTRICT,
    kind          vocab.agent_dependency_kind,
    deleted_at    timestamptz,
    version       bigint,
    version_at    timestamptz,
    version_event uuid,
    is_stub       boolean NOT NULL DEFAULT false,
    updated_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (agent_id, depends_on),
    CHECK (agent_id <> depends_on)
);
COMMENT ON TABLE agents.dependency IS 'Which agent needs which other one';
CREATE INDEX dependency_depends_on ON agents.dependency (depends_on);

CREATE TABLE agents.state (
    agent_id      uuid NOT NULL,
    state_key     text NOT NULL,
    value         jsonb,
    checksum      text,
    expires_at    timestamptz,
    deleted_at    timestamptz,
    version       bigint,
    version_at    timestamptz,
    version_event uuid,
    is_stub       boolean NOT NULL DEFAULT false,
    updated_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (agent_id, state_key)
) PARTITION BY HASH (agent_id);
COMMENT ON TABLE agents.state IS
    'The state of each agent, by key; mirrored into the KV bucket';

DO $$
BEGIN
    FOR n IN 0 .. 7 LOOP
        EXECUTE format(
            'CREATE TABLE agents.state_%s PARTITION OF agents.state '
            'FOR VALUES WITH (MODULUS 8, REMAINDER %s) '
            'WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.05)', n, n
        );
    END LOOP;
END
$$;

CREATE TABLE agents.heartbeat (
    event_id    uuid NOT NULL,
    occurred_at timestamptz NOT NULL,
    agent_id    uuid NOT NULL,
    instance_id uuid,
    status      vocab.agent_status,
    load        double precision,
    metrics     jsonb,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (event_id, occurred_at)
) PARTITION BY RANGE (occurred_at);
COMMENT ON TABLE agents.heartbeat IS 'Every sign of life, with load and measurements';
COMMENT ON COLUMN agents.heartbeat.load IS
    'How busy it is; 1 is one unit of work at full time, more is a queue';
COMMENT ON COLUMN agents.heartbeat.metrics IS 'Numbers by name, as the agent measures them';
CREATE INDEX heartbeat_agent ON agents.heartbeat (agent_id, occurred_at DESC);
CREATE INDEX heartbeat_occurred_at ON agents.heartbeat USING brin (occurred_at);

CREATE TABLE agents.checkpoint (
    event_id      uuid NOT NULL,
    occurred_at   timestamptz NOT NULL,
    agent_id      uuid NOT NULL,
    part          integer NOT NULL,
    checkpoint_id uuid NOT NULL,
    name          text,
    trigger       text,
    snapshot      jsonb,
    kv_revision   bigint,
    corr          text,
    recorded_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (event_id, occurred_at)
) PARTITION BY RANGE (occurred_at);
COMMENT ON TABLE agents.checkpoint IS
    'What agents saved of their state, to go back to; a large checkpoint has several parts';
CREATE INDEX checkpoint_agent ON agents.checkpoint (agent_id, occurred_at DESC);
CREATE INDEX checkpoint_id ON agents.checkpoint (checkpoint_id);
CREATE INDEX checkpoint_occurred_at ON agents.checkpoint USING brin (occurred_at);

CREATE TABLE agents.output (
    event_id    uuid NOT NULL,
    occurred_at timestamptz NOT NULL,
    agent_id    uuid NOT NULL,
    output_type vocab.output_kind,
    content     text,
    metadata    jsonb,
    corr        text,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (event_id, occurred_at)
) PARTITION BY RANGE (occurred_at);
COMMENT ON TABLE agents.output IS 'Lines of status, log and metrics that agents wrote';
CREATE INDEX output_agent ON agents.output (agent_id, occurred_at DESC);
CREATE INDEX output_occurred_at ON agents.output USING brin (occurred_at);

CREATE TABLE agents.stats (
    agent_id        uuid PRIMARY KEY,
    tasks_completed bigint NOT NULL DEFAULT 0,
    tasks_failed    bigint NOT NULL DEFAULT 0,
    tasks_cancelled bigint NOT NULL DEFAULT 0,
    quality_sum     numeric NOT NULL DEFAULT 0,
    quality_n       bigint NOT NULL DEFAULT 0,
    duration_sum_ms numeric NOT NULL DEFAULT 0,
    duration_n      bigint NOT NULL DEFAULT 0,
    updated_at      timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 80);
COMMENT ON TABLE agents.stats IS
    'Sums over tasks.task, maintained by its triggers. The numbers are exact, so the result does not '
    'depend on the order of additions and subtractions';

INSERT INTO partitions.policy
    (schema_name, table_name, column_name, "interval", premake, retention, archive)
VALUES
    ('agents', 'heartbeat', 'occurred_at', 'day', 7, '90 days', false),
    ('agents', 'checkpoint', 'occurred_at', 'month', 3, '3 months', false),
    ('agents', 'output', 'occurred_at', 'month', 3, '90 days', true);
SELECT partitions.maintain();

CREATE FUNCTION agents.current_status(
    status text, status_at timestamptz, registered_at timestamptz, deleted_at timestamptz
) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN registered_at > deleted_at AND status_at <= deleted_at THEN 'unknown'
    ELSE coalesce(status, 'unknown')
END;
COMMENT ON FUNCTION agents.current_status IS
    'What an agent is doing. One that registered again after it had retired has not said so yet: '
    'terminated was the end of its life before';

CREATE VIEW agents.v_active AS
SELECT
    a.agent_id,
    a.external_id,
    a.name,
    a.agent_type,
    said.status,
    a.status_at,
    a.last_heartbeat,
    a.last_active,
    coalesce(s.tasks_completed, 0) AS tasks_completed,
    coalesce(s.tasks_failed, 0) AS tasks_failed,
    coalesce(s.tasks_cancelled, 0) AS tasks_cancelled,
    s.tasks_completed::double precision / nullif(s.tasks_completed + s.tasks_failed, 0)
        AS success_rate,
    (s.quality_sum / nullif(s.quality_n, 0))::double precision AS avg_quality,
    (s.duration_sum_ms / nullif(s.duration_n, 0))::double precision AS avg_task_time_ms
FROM agents.agent AS a
CROSS JOIN LATERAL (
    SELECT agents.current_status(a.status, a.status_at, a.registered_at, a.deleted_at)
) AS said (status)
LEFT JOIN agents.stats AS s ON s.agent_id = a.agent_id
WHERE NOT a.is_stub
  AND (a.deleted_at IS NULL OR a.registered_at > a.deleted_at)
  AND said.status NOT IN ('offline', 'terminated');
COMMENT ON VIEW agents.v_active IS 'Agents that are neither retired nor offline, with their statistics';

CREATE VIEW agents.v_masked WITH (security_invoker = true) AS
SELECT
    a.agent_id,
    a.external_id,
    a.name,
    a.agent_type,
    a.known_as,
    a.software_version,
    a.parent_agent_id,
    a.project_id,
    agents.current_status(a.status, a.status_at, a.registered_at, a.deleted_at) AS status,
    audit.mask_json(a.configuration) AS configuration,
    audit.mask_json(a.metadata) AS metadata,
    a.last_heartbeat,
    a.last_active,
    a.registered_at,
    a.deleted_at,
    a.updated_at
FROM agents.agent AS a
WHERE NOT a.is_stub;
COMMENT ON VIEW agents.v_masked IS
    'Agents without the secrets of their configuration, for screens; with the rights of who asks';

CREATE VIEW agents.v_instance AS
SELECT i.*, beat.occurred_at AS last_heartbeat
FROM agents.instance AS i
LEFT JOIN LATERAL (
    SELECT h.occurred_at
    FROM agents.heartbeat AS h
    WHERE h.agent_id = i.agent_id AND h.instance_id = i.instance_id
    ORDER BY h.occurred_at DESC
    LIMIT 1
) AS beat ON true;
COMMENT ON VIEW agents.v_instance IS 'The running processes of agents, with their last heartbeat';

CREATE VIEW agents.status_history AS
SELECT
    l.event_id,
    l.occurred_at,
    l.recorded_at,
    l.entity_id AS agent,
    l.data ->> 'previous' AS old_status,
    CASE l.event_type WHEN 'agents.retired' THEN 'terminated' ELSE l.data ->> 'status' END
        AS new_status,
    l.data ->> 'reason' AS reason,
    l.data ->> 'triggered_by' AS triggered_by
FROM events.log AS l
WHERE l.domain = 'agents' AND l.event_type IN ('agents.status_changed', 'agents.retired');

CREATE VIEW agents.lifecycle_events AS
SELECT
    l.event_id,
    l.occurred_at,
    l.recorded_at,
    l.entity_id AS agent,
    l.event_type,
    l.actor,
    l.source,
    l.corr,
    l.data
FROM events.log AS l
WHERE l.domain = 'agents'
  AND l.event_type IN (
      'agents.registered', 'agents.updated', 'agents.status_changed', 'agents.instance_changed',
      'agents.retired'
  );

CREATE VIEW agents.activity_log AS
SELECT
    l.event_id,
    l.occurred_at,
    l.recorded_at,
    l.entity_id AS agent,
    l.data ->> 'activity_type' AS activity_type,
    l.data -> 'details' AS details,
    l.corr
FROM events.log AS l
WHERE l.domain = 'agents' AND l.event_type = 'agents.activity';
