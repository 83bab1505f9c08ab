-- What the KV buckets should hold, row by row.
--
-- A hydrated view has the columns (bucket, key, live, guard, value) and, behind them, those by which
-- its rows are looked up; a mapping names it. guard is a JSON array that grows, compared element by
-- element, with every change of the row: it is made of the guards of the row's groups, each of which
-- only grows, and NULL is the least of its kind. live is false where the bucket should not hold the
-- key; value is NULL then. Expiry is left to the reader, who has exp: a row must not change because
-- time goes by.
--
-- OFFSET 0 keeps PostgreSQL from working out guard and value once for every place that names them.

CREATE FUNCTION bus.kv_escaped(given text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT coalesce(string_agg(
        CASE
            WHEN one.byte IN (45, 95) AND (one.byte = 45 OR n > 0) THEN chr(one.byte)
            WHEN one.byte BETWEEN 48 AND 57 OR one.byte BETWEEN 65 AND 90 THEN chr(one.byte)
            WHEN one.byte BETWEEN 97 AND 122 THEN chr(one.byte)
            ELSE '=' || upper(lpad(to_hex(one.byte), 2, '0'))
        END, '' ORDER BY n
    ), '=')
    FROM convert_to(given, 'UTF8') AS bytes
    CROSS JOIN generate_series(0, length(bytes) - 1) AS n
    CROSS JOIN LATERAL (SELECT get_byte(bytes, n)) AS one (byte);
END;
COMMENT ON FUNCTION bus.kv_escaped IS
    'Any text as a token of a KV key, byte by byte; bus.kv_token spares it for plain text';

CREATE FUNCTION bus.kv_token(given text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN given ~ '^[A-Za-z0-9-][A-Za-z0-9_-]*$' COLLATE "C" THEN given
    ELSE bus.kv_escaped(given)
END;
COMMENT ON FUNCTION bus.kv_token IS
    'Any text as one token of a KV key: bytes outside [A-Za-z0-9_-] become =XX, and so does a '
    'leading underscore; no text at all becomes =. The same as schemas.identity.kv_token';

CREATE VIEW agents.kv_state AS
SELECT
    'AGENT_STATE'::text AS bucket,
    s.agent_id || '.' || bus.kv_token(s.state_key) AS key,
    row_state.live,
    row_state.guard,
    CASE WHEN row_state.live THEN
        json_build_object(
            'v', s.version,
            't', bus.utc_text(s.version_at),
            'val', s.value,
            'exp', bus.utc_text(s.expires_at),
            'sum', coalesce(
                s.checksum,
                encode(sha256(convert_to(coalesce(s.value::text, 'null'), 'UTF8')), 'hex')
            ),
            'g', row_state.guard
        )::text
    END AS value,
    s.agent_id,
    s.state_key
FROM agents.state AS s
LEFT JOIN agents.agent AS a ON a.agent_id = s.agent_id
CROSS JOIN LATERAL (
    SELECT
        s.deleted_at IS NULL
        AND (a.deleted_at IS NULL OR coalesce(a.registered_at > a.deleted_at, false)) AS live,
        jsonb_build_array(
            coalesce(s.version, 0),
            coalesce(bus.utc_text(s.version_at), ''),
            coalesce(s.version_event::text, ''),
            coalesce(bus.utc_text(a.registered_at), ''),
            coalesce(bus.utc_text(a.deleted_at), '')
        ) AS guard
    OFFSET 0
) AS row_state;
COMMENT ON VIEW agents.kv_state IS 'The state keys of agents as the KV bucket holds them';

CREATE VIEW agents.kv_status AS
SELECT
    'AGENT_STATE'::text AS bucket,
    a.agent_id || '._status' AS key,
    row_state.live,
    row_state.guard,
    CASE WHEN row_state.live THEN
        json_build_object(
            'v', greatest(a.profile_version, a.status_version, 0),
            't', bus.utc_text(
                greatest(a.profile_at, a.status_at, a.last_heartbeat, a.last_active)
            ),
            'val', row_state.val,
            'exp', NULL,
            'sum', encode(sha256(convert_to(row_state.val::text, 'UTF8')), 'hex'),
            'g', row_state.guard
        )::text
    END AS value,
    a.agent_id
FROM agents.agent AS a
CROSS JOIN LATERAL (
    SELECT
        a.deleted_at IS NULL OR coalesce(a.registered_at > a.deleted_at, false) AS live,
        jsonb_build_array(
            coalesce(a.profile_version, 0),
            coalesce(bus.utc_text(a.profile_at), ''),
            coalesce(a.profile_event::text, ''),
            coalesce(a.status_version, 0),
            coalesce(bus.utc_text(a.status_at), ''),
            coalesce(a.status_event::text, ''),
            coalesce(bus.utc_text(a.last_heartbeat), ''),
            coalesce(bus.utc_text(a.last_active), ''),
            coalesce(bus.utc_text(a.registered_at), ''),
            coalesce(bus.utc_text(a.deleted_at), '')
        ) AS guard,
        jsonb_build_object(
            'status',
            agents.current_status(a.status, a.status_at, a.registered_at, a.deleted_at),
            'name', a.name,
            'agent_type', a.agent_type,
            'last_heartbeat', bus.utc_text(a.last_heartbeat),
            'last_active', bus.utc_text(a.last_active),
            'parent', a.parent_agent_id,
            'software_version', a.software_version
        ) AS val
    OFFSET 0
) AS row_state
WHERE NOT a.is_stub;
COMMENT ON VIEW agents.kv_status IS
    'The key _status of every agent that spoke for itself, as the KV bucket holds it';

CREATE VIEW agents.kv AS
SELECT s.bucket, s.key, s.live, s.guard, s.value, s.agent_id FROM agents.kv_state AS s
UNION ALL
SELECT a.bucket, a.key, a.live, a.guard, a.value, a.agent_id FROM agents.kv_status AS a;
COMMENT ON VIEW agents.kv IS 'Everything the KV bucket AGENT_STATE should hold, for people';
