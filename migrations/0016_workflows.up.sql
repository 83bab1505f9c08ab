-- Workflows and their executions; and the latest checkpoint of each agent.

CREATE DOMAIN vocab.workflow_status AS text CHECK (VALUE IN (
    'draft', 'active', 'archived'
));

CREATE SCHEMA workflows;
COMMENT ON SCHEMA workflows IS 'Workflows: what they are made of, and each time they ran';

CREATE TABLE workflows.workflow (
    workflow_id   uuid PRIMARY KEY,
    external_id   text,
    created_by    text,
    created_at    timestamptz,
    created_event uuid,
    name          text,
    kind          text,
    description   text,
    definition    jsonb,
    dependencies  jsonb,
    status        vocab.workflow_status,
    def_version   integer,
    project_id    uuid,
    version       bigint,
    version_at    timestamptz,
    version_event uuid,
    is_stub       boolean NOT NULL DEFAULT false,
    updated_at    timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE workflows.workflow IS 'The newest definition of each workflow';
COMMENT ON COLUMN workflows.workflow.external_id IS
    'The text that workflow_id was made from; NULL if none';
COMMENT ON COLUMN workflows.workflow.kind IS 'A word of its author, such as review or release';
COMMENT ON COLUMN workflows.workflow.definition IS 'The steps, in the form of whoever runs them';
COMMENT ON COLUMN workflows.workflow.dependencies IS 'Which step needs which other ones';
COMMENT ON COLUMN workflows.workflow.def_version IS 'The author''s number of this definition, from 1';
CREATE INDEX workflow_external_id ON workflows.workflow (external_id)
    WHERE external_id IS NOT NULL;
CREATE INDEX workflow_status ON workflows.workflow (status);
CREATE INDEX workflow_project ON workflows.workflow (project_id) WHERE project_id IS NOT NULL;

CREATE TABLE workflows.execution (
    execution_id  uuid NOT NULL,
    started_at    timestamptz NOT NULL,
    agent_id      uuid,
    number        integer,
    context       jsonb,
    started_by    text,
    created_at    timestamptz,
    created_event uuid,
    workflow_id   uuid,
    status        vocab.task_status,
    variables     jsonb,
    completed_at  timestamptz,
    result        jsonb,
    error         text,
    version       bigint,
    version_at    timestamptz,
    version_event uuid,
    is_stub       boolean NOT NULL DEFAULT false,
    updated_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (execution_id, started_at)
) PARTITION BY RANGE (started_at);
COMMENT ON TABLE workflows.execution IS 'Each time a workflow ran, and what came of it';
COMMENT ON COLUMN workflows.execution.started_at IS
    'Also determines the partition; every event of the execution repeats it';
COMMENT ON COLUMN workflows.execution.number IS 'The producer''s count of this workflow''s runs';
COMMENT ON COLUMN workflows.execution.context IS 'What the execution began with';
COMMENT ON COLUMN workflows.execution.variables IS 'What its steps share, as it is now';
CREATE INDEX execution_workflow ON workflows.execution (workflow_id, started_at DESC);
CREATE INDEX execution_agent ON workflows.execution (agent_id, started_at DESC);
CREATE INDEX execution_started_at ON workflows.execution USING brin (started_at);

INSERT INTO partitions.policy
    (schema_name, table_name, column_name, "interval", premake, retention, archive)
VALUES
    ('workflows', 'execution', 'started_at', 'week', 4, '52 weeks', true);
SELECT partitions.maintain();

CREATE TABLE agents.last_checkpoint (
    agent_id      uuid NOT NULL REFERENCES agents.agent ON DELETE RESTRICT,
    part          integer NOT NULL,
    checkpoint_id uuid,
    name          text,
    trigger       text,
    snapshot      jsonb,
    kv_revision   bigint,
    taken_at      timestamptz,
    version       bigint,
    version_at    timestamptz,
    version_event uuid,
    is_stub       boolean NOT NULL DEFAULT false,
    updated_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (agent_id, part)
);
COMMENT ON TABLE agents.last_checkpoint IS
    'The latest checkpoint of each agent, which outlives the partitions of agents.checkpoint. Those '
    'of its parts that an older checkpoint wrote have another checkpoint_id';
COMMENT ON COLUMN agents.last_checkpoint.part IS 'The number of the part, from 1';
COMMENT ON COLUMN agents.last_checkpoint.trigger IS 'What led to it, in a word';
COMMENT ON COLUMN agents.last_checkpoint.kv_revision IS
    'The bucket''s revision that the agent had seen, where it says so';
