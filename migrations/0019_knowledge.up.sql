-- Knowledge: items with full-text search, facts with the time in which they hold, embeddings; patterns
-- and how often they helped; what agents learn from one domain for another.

CREATE DOMAIN vocab.embedding_owner AS text CHECK (VALUE IN (
    'item', 'fact'
));

CREATE DOMAIN vocab.transfer_mode AS text CHECK (VALUE IN (
    'adaptive', 'direct', 'gradual'
));

CREATE SCHEMA knowledge;
COMMENT ON SCHEMA knowledge IS 'What agents know, and how they learn';

CREATE TABLE events.log_knowledge PARTITION OF events.log FOR VALUES IN ('knowledge')
    PARTITION BY RANGE (occurred_at);
INSERT INTO partitions.policy
    (schema_name, table_name, column_name, "interval", premake, retention, archive)
VALUES
    ('events', 'log_knowledge', 'occurred_at', 'month', 3, '12 months', true);
SELECT partitions.maintain();

-- A document may be larger than what PostgreSQL indexes of one (1 MiB of words and their places), and
-- what cannot be indexed cannot be stored. 100,000 characters fit, whatever they are. The parser looks
-- ahead to the end of a tag or of a word with signs in it, each time anew: of 100,000 characters in one
-- piece that is minutes. So pieces are short, and nothing is taken for a tag.
CREATE FUNCTION knowledge.search_vector(content jsonb) RETURNS tsvector
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN to_tsvector(
    'pg_catalog.english'::regconfig,
    regexp_replace(
        translate(
            left(
                coalesce(content ->> 'title', '') || ' ' || coalesce(content ->> 'description', ''),
                100000
            ),
            '<', ' '
        ),
        '\S{200}', '\& ', 'g'
    )
);
COMMENT ON FUNCTION knowledge.search_vector IS
    'The words of a document''s title and description, as far as its first 100,000 characters';

CREATE TABLE knowledge.item (
    item_id          uuid PRIMARY KEY,
    external_id      text,
    domain           text,
    content          jsonb,
    source_agent_id  uuid REFERENCES agents.agent ON DELETE RESTRICT,
    confidence       double precision,
    tags             jsonb,
    version          bigint,
    version_at       timestamptz,
    version_event    uuid,
    deleted_at       timestamptz,
    presence_version bigint,
    presence_at      timestamptz,
    presence_event   uuid,
    is_stub          boolean NOT NULL DEFAULT false,
    updated_at       timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE knowledge.item IS 'A piece of knowledge, as it was last stored';
COMMENT ON COLUMN knowledge.item.external_id IS 'The text that item_id was made from; NULL if none';
COMMENT ON COLUMN knowledge.item.domain IS 'What it is about, in a word of the producer';
COMMENT ON COLUMN knowledge.item.content IS
    'Any document; knowledge.v_item finds it by the words of its title and description';
COMMENT ON COLUMN knowledge.item.confidence IS '0 to 1';
CREATE INDEX item_external_id ON knowledge.item (external_id) WHERE external_id IS NOT NULL;
CREATE INDEX item_domain ON knowledge.item (domain) WHERE deleted_at IS NULL;
CREATE INDEX item_source_agent ON knowledge.item (source_agent_id)
    WHERE source_agent_id IS NOT NULL;
CREATE INDEX item_search ON knowledge.item USING gin (knowledge.search_vector(content));
CREATE INDEX item_tags ON knowledge.item USING gin (tags jsonb_path_ops);

CREATE TABLE knowledge.fact (
    fact_id         uuid PRIMARY KEY,
    external_id     text,
    entity_type     text,
    entity_id       text,
    predicate       text,
    object_value    jsonb,
    object_type     text,
    source_agent_id uuid REFERENCES agents.agent ON DELETE RESTRICT,
    confidence      double precision,
    evidence        jsonb,
    valid_from      timestamptz,
    valid_until     timestamptz,
    version         bigint,
    version_at      timestamptz,
    version_event   uuid,
    retracted_from  timestamptz,
    is_stub         boolean NOT NULL DEFAULT false,
    updated_at      timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE knowledge.fact IS
    'Statements about entities, as they were made; knowledge.v_fact says until when each holds';
COMMENT ON COLUMN knowledge.fact.external_id IS 'The text that fact_id was made from; NULL if none';
COMMENT ON COLUMN knowledge.fact.entity_id IS 'The entity as the producer names it';
COMMENT ON COLUMN knowledge.fact.confidence IS '0 to 1';
COMMENT ON COLUMN knowledge.fact.valid_from IS 'If the fact does not say so, the time of its event';
COMMENT ON COLUMN knowledge.fact.valid_until IS 'What the fact itself says; NULL if it has no end';
COMMENT ON COLUMN knowledge.fact.retracted_from IS
    'The earliest moment from which it was said to hold no more';
CREATE INDEX fact_external_id ON knowledge.fact (external_id) WHERE external_id IS NOT NULL;
-- Without the predicate: three long names would not fit into an index.
CREATE INDEX fact_entity ON knowledge.fact (entity_id, entity_type, valid_from);
CREATE INDEX fact_source_agent ON knowledge.fact (source_agent_id)
    WHERE source_agent_id IS NOT NULL;

CREATE TABLE knowledge.embedding (
    owner_id      uuid NOT NULL,
    model         text NOT NULL,
    model_version text NOT NULL,
    owner_kind    vocab.embedding_owner,
    dim           integer,
    vector        jsonb,
    source_text   text,
    text_hash     text,
    version       bigint,
    version_at    timestamptz,
    version_event uuid,
    is_stub       boolean NOT NULL DEFAULT false,
    updated_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (owner_id, model, model_version)
);
COMMENT ON TABLE knowledge.embedding IS
    'What a model makes of an item or a fact: a list of numbers, near where the meaning is alike';
COMMENT ON COLUMN knowledge.embedding.owner_id IS 'The item or the fact';
COMMENT ON COLUMN knowledge.embedding.model_version IS 'Empty where the model has none';
COMMENT ON COLUMN knowledge.embedding.dim IS 'How many numbers the vector has';
COMMENT ON COLUMN knowledge.embedding.vector IS 'A list of numbers; pgvector reads its text';
COMMENT ON COLUMN knowledge.embedding.text_hash IS
    'Tells whether the text has changed since; made by the producer';

-- By the names in pg_extension: pgvector may be in any schema.
CREATE FUNCTION knowledge.index_embeddings(dimensions integer DEFAULT 1536) RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    place text;
BEGIN
    SELECT n.nspname INTO place
    FROM pg_extension AS e
    JOIN pg_namespace AS n ON n.oid = e.extnamespace
    WHERE e.extname = 'vector' AND EXISTS (SELECT FROM pg_am AS m WHERE m.amname = 'hnsw');
    IF place IS NULL THEN
        RETURN false;
    END IF;
    EXECUTE format(
        'CREATE INDEX IF NOT EXISTS embedding_hnsw_%1$s ON knowledge.embedding '
        'USING hnsw ((vector::text::%2$I.vector(%1$s)) %2$I.vector_cosine_ops) WHERE dim = %1$s',
        dimensions, place
    );
    RETURN true;
END
$$;
REVOKE EXECUTE ON FUNCTION knowledge.index_embeddings FROM PUBLIC;
COMMENT ON FUNCTION knowledge.index_embeddings IS
    'Makes an index for the nearest vectors of so many dimensions, if pgvector is installed; '
    'false if not';
SELECT knowledge.index_embeddings();

CREATE TABLE knowledge.pattern (
    pattern_id      uuid PRIMARY KEY,
    external_id     text,
    kind            vocab.cognitive_pattern,
    name            text,
    data            jsonb,
    accuracy        double precision,
    metadata        jsonb,
    version         bigint,
    version_at      timestamptz,
    version_event   uuid,
    usage_count     integer,
    success_count   integer,
    duration_sum_ms bigint,
    last_used       timestamptz,
    is_stub         boolean NOT NULL DEFAULT false,
    updated_at      timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE knowledge.pattern IS
    'Ways of solving problems that agents have learnt, with how often they were used and helped';
COMMENT ON COLUMN knowledge.pattern.external_id IS
    'The text that pattern_id was made from; NULL if none';
COMMENT ON COLUMN knowledge.pattern.accuracy IS 'As measured when it was learnt, 0 to 1';
COMMENT ON COLUMN knowledge.pattern.usage_count IS 'How often it was applied; NULL is never';
COMMENT ON COLUMN knowledge.pattern.success_count IS 'How often with success';
COMMENT ON COLUMN knowledge.pattern.duration_sum_ms IS 'How long all uses took together';
CREATE INDEX pattern_external_id ON knowledge.pattern (external_id) WHERE external_id IS NOT NULL;
CREATE INDEX pattern_kind ON knowledge.pattern (kind, accuracy DESC NULLS LAST);

CREATE TABLE knowledge.learning_session (
    session_id      uuid PRIMARY KEY,
    external_id     text,
    agent_id        uuid REFERENCES agents.agent ON DELETE RESTRICT,
    source_domain   text,
    target_domain   text,
    transfer_mode   vocab.transfer_mode,
    created_at      timestamptz,
    created_event   uuid,
    metrics         jsonb,
    improvement     double precision,
    completed_at    timestamptz,
    outcome_version bigint,
    outcome_at      timestamptz,
    outcome_event   uuid,
    is_stub         boolean NOT NULL DEFAULT false,
    updated_at      timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE knowledge.learning_session IS
    'An agent takes what it knows of one domain to another';
COMMENT ON COLUMN knowledge.learning_session.external_id IS
    'The text that session_id was made from; NULL if none';
COMMENT ON COLUMN knowledge.learning_session.created_at IS 'When the session began';
COMMENT ON COLUMN knowledge.learning_session.improvement IS
    'In the producer''s unit; below 0 it became worse';
CREATE INDEX learning_session_external_id ON knowledge.learning_session (external_id)
    WHERE external_id IS NOT NULL;
CREATE INDEX learning_session_agent ON knowledge.learning_session (agent_id, created_at DESC);
CREATE INDEX learning_session_domains ON knowledge.learning_session (source_domain, target_domain);

CREATE VIEW knowledge.v_item AS
SELECT
    i.item_id,
    i.external_id,
    i.domain,
    i.content,
    i.source_agent_id,
    i.confidence,
    i.tags,
    i.version,
    i.version_at AS stored_at,
    knowledge.search_vector(i.content) AS search
FROM knowledge.item AS i
WHERE i.deleted_at IS NULL;
COMMENT ON VIEW knowledge.v_item IS
    'Items that are not retired; ask search @@ websearch_to_tsquery(''english'', ...) for words';

-- A fact that never held ends none before it, so it is no part of their order.
CREATE VIEW knowledge.v_fact AS
SELECT
    f.fact_id,
    f.external_id,
    f.entity_type,
    f.entity_id,
    f.predicate,
    f.object_value,
    f.object_type,
    f.source_agent_id,
    f.confidence,
    f.evidence,
    f.valid_from,
    least(own.until, lead(f.valid_from) OVER following) AS valid_until,
    f.retracted_from
FROM knowledge.fact AS f
CROSS JOIN LATERAL (SELECT least(f.valid_until, f.retracted_from)) AS own (until)
WHERE f.valid_from IS NOT NULL
WINDOW following AS (
    PARTITION BY f.entity_type, f.entity_id, f.predicate, f.source_agent_id,
        coalesce(own.until <= f.valid_from, false)
    ORDER BY f.valid_from, f.fact_id
);
COMMENT ON VIEW knowledge.v_fact IS
    'Facts with their end: what they say themselves, when they were retracted, or when the next one '
    'of the same agent about the same thing began. NULL is no end; one that ends no later than it '
    'begins never held';

CREATE VIEW knowledge.transfers AS
SELECT
    l.event_id,
    l.occurred_at,
    l.recorded_at,
    l.entity_id AS item,
    l.data ->> 'source_agent_id' AS source_agent,
    l.data ->> 'target_agent_id' AS target_agent,
    l.data ->> 'method' AS method,
    (l.data ->> 'success')::boolean AS success,
    l.data ->> 'error' AS error,
    l.corr
FROM events.log AS l
WHERE l.domain = 'knowledge' AND l.event_type = 'knowledge.transferred';
COMMENT ON VIEW knowledge.transfers IS 'Who passed on what to whom, as sent';

CREATE VIEW knowledge.pattern_usage AS
SELECT
    l.event_id,
    l.occurred_at,
    l.recorded_at,
    l.entity_id AS pattern,
    l.data ->> 'agent_id' AS agent,
    (l.data ->> 'success')::boolean AS success,
    (l.data ->> 'duration_ms')::bigint AS duration_ms,
    l.data ->> 'error_type' AS error_type,
    l.corr
FROM events.log AS l
WHERE l.domain = 'knowledge' AND l.event_type = 'patterns.applied';
COMMENT ON VIEW knowledge.pattern_usage IS 'Each use of a pattern, as sent';
