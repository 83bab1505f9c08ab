-- Configuration of agents by environment, feature flags, and what the bucket AGENT_CONFIG holds.

CREATE DOMAIN vocab.environment AS text CHECK (VALUE IN (
    'development', 'staging', 'production', 'testing'
));

CREATE TABLE config.entry (
    agent_id      uuid NOT NULL,
    environment   vocab.environment NOT NULL,
    config_key    text NOT NULL,
    external_id   text,
    value         jsonb,
    ciphertext    text,
    key_name      text,
    key_version   integer,
    is_secret     boolean,
    description   text,
    deleted_at    timestamptz,
    version       bigint,
    version_at    timestamptz,
    version_event uuid,
    is_stub       boolean NOT NULL DEFAULT false,
    updated_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (agent_id, environment, config_key)
);
COMMENT ON TABLE config.entry IS 'Settings of agents; those of the agent global hold for all';
COMMENT ON COLUMN config.entry.external_id IS 'The text that agent_id was made from; NULL if none';
COMMENT ON COLUMN config.entry.value IS 'NULL for a secret';
COMMENT ON COLUMN config.entry.ciphertext IS
    'A secret, encrypted by who set it with the key that key_name and key_version name';
COMMENT ON COLUMN config.entry.deleted_at IS 'NULL if it is set';

CREATE TABLE config.feature_flag (
    name          text PRIMARY KEY,
    description   text,
    enabled       boolean,
    conditions    jsonb,
    rollout       integer,
    version       bigint,
    version_at    timestamptz,
    version_event uuid,
    is_stub       boolean NOT NULL DEFAULT false,
    updated_at    timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE config.feature_flag IS 'Features that are switched on, and for how many';
COMMENT ON COLUMN config.feature_flag.conditions IS 'For whom, in the form of whoever asks';
COMMENT ON COLUMN config.feature_flag.rollout IS 'Percent of those that the conditions let through';

-- The key of global is that of a name which every reader knows: the UUID is made from the text global
-- as that of any agent.
CREATE VIEW config.kv AS
SELECT
    'AGENT_CONFIG'::text AS bucket,
    CASE WHEN e.agent_id = '1d4f9bca-e704-5a79-b758-eea32decdb19' THEN 'global' ELSE e.agent_id::text END
        || '.' || e.environment || '.' || bus.kv_token(e.config_key) AS key,
    row_state.live,
    row_state.guard,
    CASE WHEN row_state.live THEN
        json_build_object(
            'v', e.version,
            't', bus.utc_text(e.version_at),
            'val', e.value,
            'g', row_state.guard
        )::text
    END AS value,
    e.agent_id,
    e.environment,
    e.config_key
FROM config.entry AS e
CROSS JOIN LATERAL (
    SELECT
        e.deleted_at IS NULL AND NOT coalesce(e.is_secret, false) AS live,
        jsonb_build_array(
            coalesce(e.version, 0),
            coalesce(bus.utc_text(e.version_at), ''),
            coalesce(e.version_event::text, '')
        ) AS guard
    OFFSET 0
) AS row_state;
COMMENT ON VIEW config.kv IS
    'Settings as the bucket AGENT_CONFIG holds them, under agent.environment.key; secrets never';

-- An agent that is named by its text here and by its UUID there is one.
CREATE VIEW config.history AS
SELECT
    c.event_id,
    c.occurred_at,
    c.recorded_at,
    c.agent,
    c.environment,
    c.config_key,
    c.action,
    lag(c.value) OVER changes AS old_value,
    c.value AS new_value,
    c.is_secret,
    c.actor,
    c.reason
FROM (
    SELECT
        l.event_id,
        l.occurred_at,
        l.recorded_at,
        coalesce(known.external_id, l.entity_id) AS agent,
        coalesce(l.data ->> 'environment', 'production') AS environment,
        l.data ->> 'config_key' AS config_key,
        l.action,
        l.version,
        nullif(l.data -> 'value', 'null') AS value,
        coalesce((l.data ->> 'is_secret')::boolean, false) AS is_secret,
        l.actor,
        l.data ->> 'reason' AS reason
    FROM audit.log AS l
    LEFT JOIN LATERAL (
        SELECT e.external_id FROM config.entry AS e
        WHERE e.agent_id = CASE
            WHEN lower(l.entity_id) ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
            THEN l.entity_id::uuid
        END AND e.external_id IS NOT NULL
        LIMIT 1
    ) AS known ON true
    WHERE l.resource_type = 'config' AND l.event_type IN ('config.set', 'config.deleted')
) AS c
WINDOW changes AS (
    PARTITION BY c.agent, c.environment, c.config_key
    ORDER BY c.version, c.occurred_at, c.event_id
);
COMMENT ON VIEW config.history IS
    'Every change of a setting with the value before it, in the order that decides which one holds';
