-- The league: seasons, their matches, who was invited, how each match went, and the standing.

CREATE SCHEMA league;

CREATE TABLE events.log_league PARTITION OF events.log FOR VALUES IN ('league')
    PARTITION BY RANGE (occurred_at);

CREATE TABLE league.season_event (
    event_id    uuid NOT NULL,
    occurred_at timestamptz NOT NULL,
    season_id   uuid NOT NULL,
    name        text NOT NULL,
    member_ids  jsonb,
    project_id  uuid,
    opened_on   date NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (event_id, occurred_at)
) PARTITION BY RANGE (occurred_at);

CREATE TABLE league.season (
    season_id     uuid PRIMARY KEY,
    external_id   text,
    name          text,
    member_ids    jsonb,
    project_id    uuid,
    created_at    timestamptz,
    created_event uuid,
    is_stub       boolean NOT NULL DEFAULT false,
    updated_at    timestamptz NOT NULL DEFAULT now()
);

-- By name it comes before its parent, the season; it is written after it all the same.
CREATE TABLE league.match (
    match_id      uuid PRIMARY KEY,
    external_id   text,
    season_id     uuid REFERENCES league.season ON DELETE RESTRICT,
    started_at    timestamptz,
    finished_at   timestamptz,
    seconds       bigint,
    created_at    timestamptz,
    created_event uuid,
    phase         text,
    score         jsonb,
    score_version bigint,
    score_at      timestamptz,
    score_event   uuid,
    winner_id     uuid REFERENCES agents.agent ON DELETE RESTRICT,
    is_stub       boolean NOT NULL DEFAULT false,
    updated_at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX match_season ON league.match (season_id) WHERE season_id IS NOT NULL;
CREATE INDEX match_winner ON league.match (winner_id) WHERE winner_id IS NOT NULL;

CREATE TABLE league.invitation (
    match_id      uuid REFERENCES league.match ON DELETE RESTRICT,
    agent_id      uuid REFERENCES agents.agent ON DELETE RESTRICT,
    seat          integer,
    invited_at    timestamptz,
    version       bigint,
    version_at    timestamptz,
    version_event uuid,
    updated_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (match_id, agent_id)
);
CREATE INDEX invitation_agent ON league.invitation (agent_id);

CREATE TABLE league.placing (
    match_id      uuid REFERENCES league.match ON DELETE RESTRICT,
    agent_id      uuid REFERENCES agents.agent ON DELETE RESTRICT,
    place         integer,
    points        integer,
    remark        jsonb,
    created_at    timestamptz,
    created_event uuid,
    updated_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (match_id, agent_id)
);
CREATE INDEX placing_agent ON league.placing (agent_id);

CREATE TABLE league.standing (
    agent_id   uuid PRIMARY KEY REFERENCES agents.agent ON DELETE RESTRICT,
    points     bigint,
    matches    bigint,
    best       integer,
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE league.active_day (
    agent_id   uuid REFERENCES agents.agent ON DELETE RESTRICT,
    day        date,
    first_at   timestamptz,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (agent_id, day)
);

-- Rows that one event makes and none changes; a partitioned table has no references.
CREATE TABLE league.move (
    event_id    uuid NOT NULL,
    n           integer NOT NULL,
    occurred_at timestamptz NOT NULL,
    match_id    uuid,
    agent_id    uuid,
    target      text,
    seconds     double precision,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (event_id, n, occurred_at)
) PARTITION BY RANGE (occurred_at);

-- The winner is the one agent with the best place; nobody, if two share it.
CREATE VIEW league.won AS
SELECT best.match_id, CASE WHEN count(*) = 1 THEN (array_agg(best.agent_id))[1] END AS agent_id
FROM (
    SELECT p.match_id, p.agent_id, rank() OVER (PARTITION BY p.match_id ORDER BY p.place) AS place
    FROM league.placing AS p
) AS best
WHERE best.place = 1
GROUP BY best.match_id;

CREATE FUNCTION league.decide(matches uuid[] DEFAULT NULL) RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    chosen uuid[] := coalesce(matches, array(
        SELECT m.match_id FROM league.won AS w JOIN league.match AS m ON m.match_id = w.match_id
        WHERE m.winner_id IS DISTINCT FROM w.agent_id
    ));
BEGIN
    -- Whoever waits for the lock reads afterwards what the one before has seen, and more.
    PERFORM FROM league.match AS m WHERE m.match_id = ANY (chosen)
    ORDER BY m.match_id FOR NO KEY UPDATE;
    RETURN QUERY
    UPDATE league.match AS m SET winner_id = w.agent_id
    FROM league.won AS w
    WHERE w.match_id = ANY (chosen) AND m.match_id = w.match_id
      AND m.winner_id IS DISTINCT FROM w.agent_id
    RETURNING coalesce(m.external_id, m.match_id::text);
END
$$;
REVOKE EXECUTE ON FUNCTION league.decide FROM PUBLIC;
INSERT INTO bus.job (name, call, about, key_kind)
VALUES ('winners', 'league.decide', 'Who won each match of the league', 'match');

-- What agents read back after a restart: how each match stands.
CREATE VIEW league.kv_match AS
SELECT
    'MATCHES'::text AS bucket,
    bus.kv_token(coalesce(m.external_id, m.match_id::text)) AS key,
    true AS live,
    known.guard,
    json_build_object('val', m.score, 'phase', m.phase, 'g', known.guard)::text AS value,
    m.match_id
FROM league.match AS m
CROSS JOIN LATERAL (
    SELECT jsonb_build_array(
        coalesce(m.score_version, 0), coalesce(bus.utc_text(m.score_at), ''),
        coalesce(m.score_event::text, ''),
        coalesce(array_position(ARRAY['called', 'running', 'over'], m.phase), 0)
    ) AS guard
    OFFSET 0
) AS known
WHERE m.phase IS NOT NULL;

INSERT INTO partitions.policy
    (schema_name, table_name, column_name, "interval", premake, retention)
VALUES
    ('events', 'log_league', 'occurred_at', 'month', 3, '12 months'),
    ('league', 'season_event', 'occurred_at', 'month', 3, '24 months'),
    ('league', 'move', 'occurred_at', 'week', 4, '12 months');
SELECT partitions.maintain();
