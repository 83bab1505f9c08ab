-- The generic histories, append-only: events.log for the domains, audit.log for administration.

CREATE SCHEMA events;
COMMENT ON SCHEMA events IS 'Events as they were sent';

CREATE TABLE events.log (
    domain      text NOT NULL,
    event_id    uuid NOT NULL,
    occurred_at timestamptz NOT NULL,
    event_type  text NOT NULL,
    entity_id   text NOT NULL,
    version     bigint NOT NULL,
    actor       text,
    source      text NOT NULL,
    project_id  uuid,
    corr        text,
    cause       text,
    data        jsonb,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (domain, event_id, occurred_at)
) PARTITION BY LIST (domain);
COMMENT ON TABLE events.log IS
    'Every event of the domains that have no history of their own, as it was sent';
COMMENT ON COLUMN events.log.occurred_at IS 'The producer''s time, which also determines the partition';
COMMENT ON COLUMN events.log.recorded_at IS 'When the batch was written, by this server''s clock';
CREATE INDEX log_entity ON events.log (entity_id, occurred_at DESC);
CREATE INDEX log_occurred_at ON events.log USING brin (occurred_at);

CREATE TABLE events.log_agents PARTITION OF events.log FOR VALUES IN ('agents')
    PARTITION BY RANGE (occurred_at);
CREATE TABLE events.log_tasks PARTITION OF events.log FOR VALUES IN ('tasks')
    PARTITION BY RANGE (occurred_at);
CREATE TABLE events.log_collab PARTITION OF events.log FOR VALUES IN ('collab')
    PARTITION BY RANGE (occurred_at);

CREATE SCHEMA audit;
COMMENT ON SCHEMA audit IS 'Who changed what';

CREATE TABLE audit.log (
    event_id      uuid NOT NULL,
    occurred_at   timestamptz NOT NULL,
    event_type    text,
    entity_id     text,
    version       bigint,
    actor         text,
    source        text,
    project_id    uuid,
    corr          text,
    cause         text,
    data          jsonb,
    origin        text,
    action        text,
    resource_type text,
    resource_id   text,
    old_values    jsonb,
    new_values    jsonb,
    changed       jsonb,
    ip            inet,
    user_agent    text,
    session_id    text,
    db_user       text,
    txid          bigint,
    -- Not now(): a row is stamped once its transaction holds a lock on the table, see
    -- partitions.all_recorded_until.
    recorded_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (event_id, occurred_at)
) PARTITION BY RANGE (occurred_at);
COMMENT ON TABLE audit.log IS
    'Who did what to which resource, with the values before and after; never changed';
CREATE INDEX log_entity ON audit.log (entity_id, occurred_at DESC);
CREATE INDEX log_resource ON audit.log (resource_type, resource_id, occurred_at DESC);
CREATE INDEX log_occurred_at ON audit.log USING brin (occurred_at);

INSERT INTO partitions.policy
    (schema_name, table_name, column_name, "interval", premake, retention, archive)
VALUES
    ('events', 'log_agents', 'occurred_at', 'month', 3, '12 months', true),
    ('events', 'log_tasks', 'occurred_at', 'month', 3, '12 months', true),
    ('events', 'log_collab', 'occurred_at', 'month', 3, '12 months', true),
    ('audit', 'log', 'occurred_at', 'month', 3, '365 days', true);
SELECT partitions.maintain();

CREATE FUNCTION audit.mask_email(address text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN CASE WHEN address ~ '^[^@[:space:]]+@[^@[:space:]]+$'
    THEN left(address, 1) || '***@' || split_part(address, '@', 2)
    ELSE '***'
END;
COMMENT ON FUNCTION audit.mask_email IS
    'The first letter of an address and its domain; *** for what is none';

-- Of a short number, two digits would say too much.
CREATE FUNCTION audit.mask_phone(number text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN CASE WHEN number ~ '^[+]?[0-9 ()./-]+$' AND length(translate(number, '+ ()./-', '')) >= 7
    THEN '***' || right(translate(number, '+ ()./-', ''), 2)
    ELSE '***'
END;
COMMENT ON FUNCTION audit.mask_phone IS
    'The last two digits of a telephone number; *** for what is none, or has less than seven digits';

CREATE FUNCTION audit.names_secret(name text) RETURNS boolean
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN name ~* 'secret|passw|pwd|token|key|credential';
COMMENT ON FUNCTION audit.names_secret IS 'Whether what has this name is better hidden';

-- What is nested too deep to be looked through is hidden as a whole: an error here would take the
-- whole view away that asks. A pair such as {"name": "API_KEY", "value": ...} is a secret under a name.
CREATE FUNCTION audit.mask_json(document jsonb, depth integer DEFAULT 0) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    hidden constant jsonb := '"***"';
    pair boolean;
BEGIN
    IF jsonb_typeof(document) NOT IN ('object', 'array') THEN
        RETURN document;
    ELSIF depth >= 64 THEN
        RETURN hidden;
    ELSIF jsonb_typeof(document) = 'array' THEN
        RETURN (
            SELECT coalesce(jsonb_agg(audit.mask_json(e.value, depth + 1) ORDER BY e.nth), '[]')
            FROM jsonb_array_elements(document) WITH ORDINALITY AS e (value, nth)
        );
    END IF;
    pair := coalesce(audit.names_secret(document ->> 'name') OR audit.names_secret(document ->> 'key'),
                     false);
    RETURN (
        SELECT coalesce(jsonb_object_agg(e.key, CASE
            WHEN e.value = 'null' THEN e.value
            WHEN audit.names_secret(e.key) OR pair AND lower(e.key) = 'value' THEN hidden
            ELSE audit.mask_json(e.value, depth + 1)
        END), '{}')
        FROM jsonb_each(document) AS e
    );
END
$$;
COMMENT ON FUNCTION audit.mask_json IS
    'A document without its secrets: what has a name like one is "***", at any depth; null stays null';

CREATE VIEW audit.daily_activity AS
SELECT
    (l.occurred_at AT TIME ZONE 'UTC')::date AS day,
    l.resource_type,
    l.action,
    count(*) AS changes,
    count(DISTINCT coalesce(l.actor, l.db_user)) AS actors,
    count(DISTINCT l.resource_id) AS resources
FROM audit.log AS l
GROUP BY 1, 2, 3;
COMMENT ON VIEW audit.daily_activity IS 'How often what was done to what kind of resource, by UTC day';

-- For tables that people change with SQL; of what events change, the histories know more. Who is behind
-- a shared role says so: SET LOCAL penstock.actor = 'ann'.
CREATE FUNCTION audit.log_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    at constant timestamptz := clock_timestamp();
    relation constant text := format('%s.%s', TG_TABLE_SCHEMA, TG_TABLE_NAME);
    before jsonb := CASE WHEN TG_OP IN ('UPDATE', 'DELETE') THEN to_jsonb(OLD) END;
    after jsonb := CASE WHEN TG_OP IN ('INSERT', 'UPDATE') THEN to_jsonb(NEW) END;
    resource text;
BEGIN
    IF before = after THEN
        RETURN NULL;
    END IF;
    SELECT string_agg(coalesce(after, before) ->> a.attname::text, '/' ORDER BY k.place) INTO resource
    FROM pg_index AS i
    CROSS JOIN unnest(i.indkey::int2[]) WITH ORDINALITY AS k (n, place)
    JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.n
    WHERE i.indrelid = TG_RELID AND i.indisprimary;
    -- Nobody else may have made it: a database that no worker has looked after for months.
    PERFORM partitions.ensure_for('audit', 'log', at);
    INSERT INTO audit.log (
        event_id, occurred_at, entity_id, actor, source, origin, action, resource_type, resource_id,
        old_values, new_values, changed, ip, db_user, txid
    ) VALUES (
        gen_random_uuid(), at, resource, nullif(current_setting('penstock.actor', true), ''),
        '/postgresql/' || current_database(), 'trigger', lower(TG_OP), relation, resource,
        audit.mask_json(before), audit.mask_json(after),
        (
            SELECT jsonb_agg(n.key ORDER BY n.key) FROM jsonb_each(after) AS n
            WHERE before IS NOT NULL AND n.value IS DISTINCT FROM before -> n.key
        ),
        inet_client_addr(), session_user, pg_current_xact_id()::text::bigint
    );
    RETURN NULL;
END
$$;
REVOKE EXECUTE ON FUNCTION audit.log_change FROM PUBLIC;
COMMENT ON FUNCTION audit.log_change IS
    'Puts on record who changed a row of a table, or emptied it, without its secrets';
