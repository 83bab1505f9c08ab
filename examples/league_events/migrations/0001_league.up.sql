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
    is_stub       boolean NOT NULL DEFAULT false,
    updated_at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX match_season ON league.match (season_id) WHERE season_id IS NOT NULL;

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

INSERT INTO partitions.policy
    (schema_name, table_name, column_name, "interval", premake, retention)
VALUES
    ('events', 'log_league', 'occurred_at', 'month', 3, '12 months'),
    ('league', 'season_event', 'occurred_at', 'month', 3, '24 months'),
    ('league', 'move', 'occurred_at', 'week', 4, '12 months');
SELECT partitions.maintain();
