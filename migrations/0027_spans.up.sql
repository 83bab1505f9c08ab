-- Spans: the steps of traces, as OpenTelemetry and agents' frameworks tell them.

CREATE SCHEMA spans;
COMMENT ON SCHEMA spans IS 'What agents, models and tools did, step by step';

CREATE TABLE spans.span (
    event_id        uuid NOT NULL,
    occurred_at     timestamptz NOT NULL,
    trace_id        uuid NOT NULL,
    span_id         text NOT NULL,
    parent_id       text,
    operation       text NOT NULL,
    name            text NOT NULL,
    started_at      timestamptz NOT NULL,
    duration_us     bigint NOT NULL,
    agent_id        uuid,
    provider        text,
    model           text,
    tool            text,
    conversation_id text,
    input_tokens    bigint,
    output_tokens   bigint,
    error_type      text,
    error           text,
    service         text,
    attributes      jsonb,
    events          jsonb,
    recorded_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (event_id, occurred_at)
) PARTITION BY RANGE (occurred_at);
COMMENT ON TABLE spans.span IS 'Steps of traces that have ended';
COMMENT ON COLUMN spans.span.operation IS
    'What was done: invoke_agent, chat, execute_tool, or another of the GenAI conventions';
COMMENT ON COLUMN spans.span.duration_us IS 'Microseconds';
COMMENT ON COLUMN spans.span.error_type IS 'NULL if it went well';
CREATE INDEX span_trace ON spans.span (trace_id, occurred_at);
CREATE INDEX span_agent ON spans.span (agent_id, occurred_at DESC) WHERE agent_id IS NOT NULL;
CREATE INDEX span_error ON spans.span (occurred_at DESC) WHERE error_type IS NOT NULL;
CREATE INDEX span_brin ON spans.span USING brin (occurred_at);

INSERT INTO partitions.policy
    (schema_name, table_name, column_name, "interval", premake, retention)
VALUES
    ('spans', 'span', 'occurred_at', 'week', 4, '3 months');
SELECT partitions.maintain();

CREATE VIEW spans.usage AS
SELECT
    date_trunc('day', s.occurred_at, 'UTC') AS day,
    s.provider,
    s.model,
    count(*) AS calls,
    count(s.error_type) AS errors,
    sum(s.input_tokens) AS input_tokens,
    sum(s.output_tokens) AS output_tokens,
    avg(s.duration_us) / 1000 AS avg_ms
FROM spans.span AS s
WHERE s.model IS NOT NULL AND s.operation <> 'invoke_agent'
GROUP BY 1, 2, 3;
COMMENT ON VIEW spans.usage IS 'Calls of models and their tokens, by day';
