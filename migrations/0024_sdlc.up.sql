-- How software is made: what GitHub has of repositories, issues and pull requests, and what tests say.

CREATE DOMAIN vocab.test_status AS text CHECK (VALUE IN (
    'passed', 'failed', 'skipped'
));

CREATE SCHEMA sdlc;
COMMENT ON SCHEMA sdlc IS 'The software that agents make: repositories, tests, coverage';

CREATE TABLE events.log_sdlc PARTITION OF events.log FOR VALUES IN ('sdlc')
    PARTITION BY RANGE (occurred_at);
INSERT INTO partitions.policy
    (schema_name, table_name, column_name, "interval", premake, retention, archive)
VALUES
    ('events', 'log_sdlc', 'occurred_at', 'month', 3, '12 months', true);

CREATE TABLE sdlc.repository (
    repository_id  uuid PRIMARY KEY,
    external_id    text,
    github_id      text,
    project_id     uuid REFERENCES identity.project ON DELETE RESTRICT,
    owner          text,
    name           text,
    full_name      text,
    default_branch text,
    webhook_id     text,
    permissions    jsonb,
    metadata       jsonb,
    version        bigint,
    version_at     timestamptz,
    version_event  uuid,
    synced_at      timestamptz,
    is_stub        boolean NOT NULL DEFAULT false,
    updated_at     timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE sdlc.repository IS 'Repositories, as GitHub last described them';
COMMENT ON COLUMN sdlc.repository.external_id IS
    'The text that repository_id was made from; NULL if none';
COMMENT ON COLUMN sdlc.repository.full_name IS 'Owner and name, with a slash';
COMMENT ON COLUMN sdlc.repository.permissions IS 'What we may do there, as GitHub says it';
COMMENT ON COLUMN sdlc.repository.version IS 'Microseconds of GitHub''s updated_at';
COMMENT ON COLUMN sdlc.repository.synced_at IS 'When it was last looked at, changed or not';
CREATE INDEX repository_external_id ON sdlc.repository (external_id)
    WHERE external_id IS NOT NULL;
CREATE INDEX repository_full_name ON sdlc.repository (full_name);
CREATE INDEX repository_project ON sdlc.repository (project_id) WHERE project_id IS NOT NULL;

CREATE TABLE sdlc.issue (
    repository_id     uuid NOT NULL REFERENCES sdlc.repository ON DELETE RESTRICT,
    number            integer NOT NULL,
    github_id         text,
    title             text,
    body              text,
    state             text,
    labels            jsonb,
    assignees         jsonb,
    created_by        text,
    opened_at         timestamptz,
    source_updated_at timestamptz,
    closed_at         timestamptz,
    version           bigint,
    version_at        timestamptz,
    version_event     uuid,
    synced_at         timestamptz,
    is_stub           boolean NOT NULL DEFAULT false,
    updated_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (repository_id, number)
);
COMMENT ON TABLE sdlc.issue IS 'Issues, as GitHub last described them';
COMMENT ON COLUMN sdlc.issue.source_updated_at IS 'GitHub''s updated_at';
COMMENT ON COLUMN sdlc.issue.version IS 'Microseconds of GitHub''s updated_at';
COMMENT ON COLUMN sdlc.issue.synced_at IS 'When it was last looked at, changed or not';
CREATE INDEX issue_state ON sdlc.issue (repository_id, state, source_updated_at DESC);

CREATE TABLE sdlc.pull_request (
    repository_id     uuid NOT NULL REFERENCES sdlc.repository ON DELETE RESTRICT,
    number            integer NOT NULL,
    github_id         text,
    title             text,
    body              text,
    state             text,
    head_ref          text,
    base_ref          text,
    draft             boolean,
    merged            boolean,
    mergeable         boolean,
    labels            jsonb,
    reviewers         jsonb,
    created_by        text,
    opened_at         timestamptz,
    source_updated_at timestamptz,
    merged_at         timestamptz,
    closed_at         timestamptz,
    version           bigint,
    version_at        timestamptz,
    version_event     uuid,
    synced_at         timestamptz,
    is_stub           boolean NOT NULL DEFAULT false,
    updated_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (repository_id, number)
);
COMMENT ON TABLE sdlc.pull_request IS 'Pull requests, as GitHub last described them';
COMMENT ON COLUMN sdlc.pull_request.mergeable IS 'NULL while GitHub has not found out';
COMMENT ON COLUMN sdlc.pull_request.source_updated_at IS 'GitHub''s updated_at';
COMMENT ON COLUMN sdlc.pull_request.version IS 'Microseconds of GitHub''s updated_at';
COMMENT ON COLUMN sdlc.pull_request.synced_at IS 'When it was last looked at, changed or not';
CREATE INDEX pull_request_state ON sdlc.pull_request (repository_id, state, source_updated_at DESC);

CREATE TABLE sdlc.test_suite (
    suite_id      uuid PRIMARY KEY,
    external_id   text,
    project_id    uuid REFERENCES identity.project ON DELETE RESTRICT,
    task_id       uuid REFERENCES tasks.task ON DELETE RESTRICT,
    name          text,
    framework     text,
    executed_at   timestamptz,
    duration_ms   bigint,
    total         integer,
    passed        integer,
    failed        integer,
    skipped       integer,
    version       bigint,
    version_at    timestamptz,
    version_event uuid,
    is_stub       boolean NOT NULL DEFAULT false,
    updated_at    timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE sdlc.test_suite IS 'Runs of test suites, with the totals that the runner states';
COMMENT ON COLUMN sdlc.test_suite.external_id IS 'The text that suite_id was made from; NULL if none';
COMMENT ON COLUMN sdlc.test_suite.executed_at IS 'When it began; the results of the run repeat it';
COMMENT ON COLUMN sdlc.test_suite.total IS
    'How many tests there were; their results are in sdlc.test_result as far as they were reported';
CREATE INDEX test_suite_external_id ON sdlc.test_suite (external_id)
    WHERE external_id IS NOT NULL;
CREATE INDEX test_suite_executed_at ON sdlc.test_suite (executed_at DESC);
CREATE INDEX test_suite_task ON sdlc.test_suite (task_id) WHERE task_id IS NOT NULL;
CREATE INDEX test_suite_project ON sdlc.test_suite (project_id) WHERE project_id IS NOT NULL;

-- A path and a name of 255 characters each fit into the index, whatever the characters.
CREATE TABLE sdlc.test_result (
    suite_id      uuid NOT NULL,
    executed_at   timestamptz NOT NULL,
    path          text NOT NULL,
    name          text NOT NULL,
    status        vocab.test_status,
    duration_ms   bigint,
    error         text,
    stack         text,
    created_at    timestamptz,
    created_event uuid,
    is_stub       boolean NOT NULL DEFAULT false,
    updated_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (suite_id, executed_at, path, name)
) PARTITION BY RANGE (executed_at);
COMMENT ON TABLE sdlc.test_result IS
    'How each test of a run went; of a test that is reported twice, what was reported first';
COMMENT ON COLUMN sdlc.test_result.executed_at IS
    'When the run began, which also determines the partition';
COMMENT ON COLUMN sdlc.test_result.path IS 'The file or the class of the test; empty if it has none';
CREATE INDEX test_result_failed ON sdlc.test_result (executed_at DESC) WHERE status = 'failed';
CREATE INDEX test_result_name ON sdlc.test_result (name, executed_at DESC);
CREATE INDEX test_result_executed_at ON sdlc.test_result USING brin (executed_at);

CREATE TABLE sdlc.coverage (
    coverage_id   uuid PRIMARY KEY,
    external_id   text,
    project_id    uuid REFERENCES identity.project ON DELETE RESTRICT,
    suite_id      uuid REFERENCES sdlc.test_suite ON DELETE RESTRICT,
    commit_sha    text,
    line_pct      double precision,
    branch_pct    double precision,
    function_pct  double precision,
    statement_pct double precision,
    data          jsonb,
    version       bigint,
    version_at    timestamptz,
    version_event uuid,
    is_stub       boolean NOT NULL DEFAULT false,
    updated_at    timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE sdlc.coverage IS 'How much of the code tests reach, by report';
COMMENT ON COLUMN sdlc.coverage.external_id IS 'The text that coverage_id was made from; NULL if none';
COMMENT ON COLUMN sdlc.coverage.line_pct IS '0 to 100, like the other shares';
COMMENT ON COLUMN sdlc.coverage.data IS 'The report itself, in the form of its producer';
CREATE INDEX coverage_external_id ON sdlc.coverage (external_id) WHERE external_id IS NOT NULL;
CREATE INDEX coverage_commit ON sdlc.coverage (commit_sha);
CREATE INDEX coverage_suite ON sdlc.coverage (suite_id) WHERE suite_id IS NOT NULL;
CREATE INDEX coverage_project ON sdlc.coverage (project_id) WHERE project_id IS NOT NULL;

INSERT INTO partitions.policy
    (schema_name, table_name, column_name, "interval", premake, retention, archive)
VALUES
    ('sdlc', 'test_result', 'executed_at', 'month', 3, '180 days', true);
SELECT partitions.maintain();
