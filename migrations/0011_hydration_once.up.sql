-- The same views, cheaper to read: OFFSET 0 keeps PostgreSQL from working out the guard and the value
-- once for every place that names them, and the outer object is written as text at once.

CREATE OR REPLACE VIEW agents.kv_state AS
SELECT
    s.agent_id,
    s.state_key,
    false AS is_status,
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
    END AS value
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
CREATE OR REPLACE VIEW agents.kv_status AS
SELECT
    a.agent_id,
    '_status'::text AS state_key,
    true AS is_status,
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
    END AS value
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
            'status', coalesce(a.status, 'unknown'),
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
