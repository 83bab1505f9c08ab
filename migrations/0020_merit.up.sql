-- What agents have earned: points and tiers, achievements, battles and ratings, rewards.

CREATE DOMAIN vocab.achievement_category AS text CHECK (VALUE IN (
    'task_completion', 'speed', 'quality', 'collaboration', 'innovation', 'consistency', 'special',
    'legendary'
));

CREATE DOMAIN vocab.battle_mode AS text CHECK (VALUE IN (
    'head_to_head', 'speed_race', 'quality_showdown', 'team_tournament', 'king_of_hill', 'boss_raid',
    'time_attack', 'survival'
));

CREATE DOMAIN vocab.battle_status AS text CHECK (VALUE IN (
    'pending', 'active', 'completed', 'cancelled'
));

CREATE DOMAIN vocab.allocation_kind AS text CHECK (VALUE IN (
    'resource', 'permission', 'priority'
));

CREATE SCHEMA merit;
COMMENT ON SCHEMA merit IS 'Points, achievements, battles, ratings, rewards';

CREATE TABLE merit.points (
    event_id     uuid NOT NULL,
    occurred_at  timestamptz NOT NULL,
    agent_id     uuid NOT NULL,
    category     text,
    action       text,
    base_points  integer,
    multiplier   double precision,
    final_points bigint,
    task_id      uuid,
    battle_id    uuid,
    actor        text,
    corr         text,
    recorded_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (event_id, occurred_at)
) PARTITION BY RANGE (occurred_at);
COMMENT ON TABLE merit.points IS 'Every award of points; a deduction is a negative one';
COMMENT ON COLUMN merit.points.final_points IS 'base_points x multiplier, rounded half away from zero';
CREATE INDEX points_agent ON merit.points (agent_id, occurred_at);
CREATE INDEX points_occurred_at ON merit.points USING brin (occurred_at);

CREATE TABLE merit.standing (
    agent_id       uuid PRIMARY KEY REFERENCES agents.agent ON DELETE RESTRICT,
    total_points   bigint,
    last_points_at timestamptz,
    tier           text,
    is_stub        boolean NOT NULL DEFAULT false,
    updated_at     timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE merit.standing IS 'The points of each agent, and the tier that follows from them';
COMMENT ON COLUMN merit.standing.tier IS
    'Derived: the band of total_points in config.band; NULL below the lowest';
CREATE INDEX standing_points ON merit.standing (total_points DESC NULLS LAST);

CREATE TABLE merit.active_day (
    agent_id    uuid NOT NULL REFERENCES agents.agent ON DELETE RESTRICT,
    streak_type text NOT NULL,
    day         date NOT NULL,
    first_at    timestamptz,
    is_stub     boolean NOT NULL DEFAULT false,
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (agent_id, streak_type, day)
);
COMMENT ON TABLE merit.active_day IS 'UTC days on which an agent was active, or was awarded points';

CREATE TABLE merit.achievement (
    achievement_id uuid PRIMARY KEY,
    external_id    text,
    name           text,
    category       vocab.achievement_category,
    description    text,
    requirements   jsonb,
    points_reward  integer,
    rarity         text,
    repeatable     boolean,
    version        bigint,
    version_at     timestamptz,
    version_event  uuid,
    is_stub        boolean NOT NULL DEFAULT false,
    updated_at     timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE merit.achievement IS 'What can be achieved, and what it is worth';
CREATE INDEX achievement_external_id ON merit.achievement (external_id)
    WHERE external_id IS NOT NULL;

CREATE TABLE merit.agent_achievement (
    agent_id         uuid NOT NULL REFERENCES agents.agent ON DELETE RESTRICT,
    achievement_id   uuid NOT NULL REFERENCES merit.achievement ON DELETE RESTRICT,
    progress         jsonb,
    progress_version bigint,
    progress_at      timestamptz,
    progress_event   uuid,
    unlock_count     integer,
    first_unlocked   timestamptz,
    last_unlocked    timestamptz,
    is_stub          boolean NOT NULL DEFAULT false,
    updated_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (agent_id, achievement_id)
);
COMMENT ON TABLE merit.agent_achievement IS
    'Which agent has achieved what, how often, and how far it is';
CREATE INDEX agent_achievement_achievement ON merit.agent_achievement (achievement_id);

CREATE TABLE merit.battle (
    battle_id        uuid PRIMARY KEY,
    external_id      text,
    mode             vocab.battle_mode,
    entry_fee        bigint,
    prize_pool       bigint,
    config           jsonb,
    min_participants integer,
    max_participants integer,
    created_by       text,
    created_at       timestamptz,
    created_event    uuid,
    started_at       timestamptz,
    status           vocab.battle_status,
    status_version   bigint,
    status_at        timestamptz,
    status_event     uuid,
    winner_id        uuid REFERENCES agents.agent ON DELETE RESTRICT,
    finished_at      timestamptz,
    results          jsonb,
    outcome_version  bigint,
    outcome_at       timestamptz,
    outcome_event    uuid,
    is_stub          boolean NOT NULL DEFAULT false,
    updated_at       timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE merit.battle IS 'Battles of agents, and how they ended';
CREATE INDEX battle_external_id ON merit.battle (external_id) WHERE external_id IS NOT NULL;
CREATE INDEX battle_winner ON merit.battle (winner_id) WHERE winner_id IS NOT NULL;
CREATE INDEX battle_finished ON merit.battle (finished_at, battle_id);

CREATE TABLE merit.battle_participant (
    battle_id       uuid NOT NULL REFERENCES merit.battle ON DELETE RESTRICT,
    agent_id        uuid NOT NULL REFERENCES agents.agent ON DELETE RESTRICT,
    team            text,
    created_at      timestamptz,
    created_event   uuid,
    joined_at       timestamptz,
    score           double precision,
    metrics         jsonb,
    eliminated_at   timestamptz,
    version         bigint,
    version_at      timestamptz,
    version_event   uuid,
    rank            integer,
    final_score     double precision,
    points_earned   integer,
    outcome_version bigint,
    outcome_at      timestamptz,
    outcome_event   uuid,
    rated_at        timestamptz,
    rated_event     uuid,
    old_rating      numeric,
    new_rating      numeric,
    expected        numeric,
    actual          numeric,
    is_stub         boolean NOT NULL DEFAULT false,
    updated_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (battle_id, agent_id)
);
COMMENT ON TABLE merit.battle_participant IS
    'Who took part in a battle, how it did, and what its rating was before and after';
COMMENT ON COLUMN merit.battle_participant.rated_event IS
    'Derived, as the columns after it: the outcome that the ratings were worked out from';
CREATE INDEX battle_participant_agent
    ON merit.battle_participant (agent_id, rated_at DESC NULLS LAST, battle_id DESC);

CREATE TABLE merit.rating (
    agent_id uuid PRIMARY KEY,
    rating   numeric NOT NULL,
    rated_at timestamptz NOT NULL,
    battles  integer NOT NULL,
    wins     integer NOT NULL
);
COMMENT ON TABLE merit.rating IS 'Derived: each agent''s ELO rating after its last battle';
COMMENT ON COLUMN merit.rating.wins IS 'Battles with rank 1';
CREATE INDEX rating_rating ON merit.rating (rating DESC);

CREATE TABLE merit.hall_of_fame (
    agent_id      uuid NOT NULL REFERENCES agents.agent ON DELETE RESTRICT,
    tier          text NOT NULL,
    title         text,
    badge         text,
    citation      text,
    created_at    timestamptz,
    created_event uuid,
    inducted_at   timestamptz,
    is_stub       boolean NOT NULL DEFAULT false,
    updated_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (agent_id, tier)
);
COMMENT ON TABLE merit.hall_of_fame IS 'Agents that were honoured';

CREATE TABLE merit.resource_pool (
    resource_type text PRIMARY KEY,
    capacity      bigint,
    rules         jsonb,
    version       bigint,
    version_at    timestamptz,
    version_event uuid,
    is_stub       boolean NOT NULL DEFAULT false,
    updated_at    timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE merit.resource_pool IS 'How much of a resource there is to give out';

CREATE TABLE merit.allocation (
    allocation_id uuid PRIMARY KEY,
    external_id   text,
    agent_id      uuid REFERENCES agents.agent ON DELETE RESTRICT,
    kind          vocab.allocation_kind,
    resource_type text,
    amount        bigint,
    reason        text,
    tier          text,
    expires_at    timestamptz,
    created_at    timestamptz,
    created_event uuid,
    revoked_at    timestamptz,
    is_stub       boolean NOT NULL DEFAULT false,
    updated_at    timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE merit.allocation IS 'What agents were given: resources, permissions, priorities';
CREATE INDEX allocation_external_id ON merit.allocation (external_id) WHERE external_id IS NOT NULL;
CREATE INDEX allocation_agent ON merit.allocation (agent_id) WHERE agent_id IS NOT NULL;
CREATE INDEX allocation_resource ON merit.allocation (resource_type) WHERE revoked_at IS NULL;

INSERT INTO partitions.policy
    (schema_name, table_name, column_name, "interval", premake, retention, archive)
VALUES
    ('merit', 'points', 'occurred_at', 'month', 3, '12 months', true);
SELECT partitions.maintain();

CREATE FUNCTION merit.grade(agents uuid[] DEFAULT NULL) RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    one record;
BEGIN
    IF agents IS NULL THEN
        agents := array(
            SELECT s.agent_id FROM merit.standing AS s
            WHERE s.tier IS DISTINCT FROM config.band_of('tier', s.total_points)
        );
    END IF;
    PERFORM FROM merit.standing AS s
    WHERE s.agent_id = ANY (agents) ORDER BY s.agent_id FOR NO KEY UPDATE;
    FOR one IN
        SELECT s.agent_id, s.tier AS old, config.band_of('tier', s.total_points) AS new,
               s.total_points, s.last_points_at, coalesce(a.external_id, a.agent_id::text) AS name
        FROM merit.standing AS s JOIN agents.agent AS a ON a.agent_id = s.agent_id
        WHERE s.agent_id = ANY (agents)
          AND s.tier IS DISTINCT FROM config.band_of('tier', s.total_points)
        ORDER BY s.agent_id
    LOOP
        UPDATE merit.standing AS s SET tier = one.new, updated_at = now()
        WHERE s.agent_id = one.agent_id;
        PERFORM bus.emit(
            'agents.tier_changed',
            one.name,
            concat_ws(' ', one.old, '->', one.new, one.total_points, bus.utc_text(one.last_points_at)),
            one.last_points_at,
            jsonb_build_object('old', one.old, 'new', one.new, 'total_points', one.total_points)
        );
        RETURN NEXT one.name;
    END LOOP;
END
$$;
REVOKE EXECUTE ON FUNCTION merit.grade FROM PUBLIC;
COMMENT ON FUNCTION merit.grade IS 'Works out the tiers of agents anew, or of all; returns who changed';

-- Whose ranks a battle is rated by: those that its last outcome states, if they are two or more.
CREATE VIEW merit.v_rated_by AS
SELECT c.battle_id, c.agent_id, c.rank, c.finished_at, c.outcome_event, c.others
FROM (
    SELECT p.battle_id, p.agent_id, p.rank, b.finished_at, b.outcome_event,
           count(*) OVER (PARTITION BY p.battle_id) - 1 AS others
    FROM merit.battle AS b
    JOIN merit.battle_participant AS p
        ON p.battle_id = b.battle_id AND p.outcome_event = b.outcome_event
    WHERE b.status = 'completed' AND p.rank IS NOT NULL
) AS c
WHERE c.others > 0;
COMMENT ON VIEW merit.v_rated_by IS
    'Participants of finished battles that count for ratings, with how many others there are';

-- ELO for several: A. Elo, The Rating of Chessplayers (1978); each against each, k / (n - 1). Ratings
-- before a battle are those after the battles before it in (finished_at, battle_id), whenever it came.
CREATE FUNCTION merit.rate_battle(of_battle uuid) RETURNS boolean
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
    WITH player AS MATERIALIZED (
        SELECT c.*, round(coalesce((
            SELECT before.new_rating FROM merit.battle_participant AS before
            WHERE before.agent_id = c.agent_id
              AND (before.rated_at, before.battle_id) < (c.finished_at, c.battle_id)
            ORDER BY before.rated_at DESC NULLS LAST, before.battle_id DESC LIMIT 1
        ), config.number('elo.start')), 3) AS rating
        FROM merit.v_rated_by AS c WHERE c.battle_id = of_battle
    ), strong AS MATERIALIZED (
        -- 1 / (1 + 10^((its - mine) / 400)) is mine / (mine + its) of these: one power each.
        SELECT p.*, power(10::numeric, p.rating / 400) AS strength FROM player AS p
    ), scored AS (
        SELECT me.agent_id, me.finished_at, me.outcome_event, me.rating, me.others,
               round(sum(me.strength / (me.strength + it.strength)), 6) AS expected,
               sum(CASE WHEN me.rank < it.rank THEN 1.0 WHEN me.rank = it.rank THEN 0.5 ELSE 0.0 END)
                   AS actual
        FROM strong AS me JOIN strong AS it ON it.agent_id <> me.agent_id
        GROUP BY me.agent_id, me.finished_at, me.outcome_event, me.rating, me.others
    ), rated AS (
        SELECT s.*, round(s.rating + config.number('elo.k') / s.others * (s.actual - s.expected), 3)
                    AS new_rating
        FROM scored AS s
    ), changed AS (
        UPDATE merit.battle_participant AS p
        SET rated_at = r.finished_at, rated_event = r.outcome_event, old_rating = r.rating,
            new_rating = r.new_rating, expected = r.expected, actual = r.actual, updated_at = now()
        FROM rated AS r
        WHERE p.battle_id = of_battle AND p.agent_id = r.agent_id
          AND (p.rated_at, p.rated_event, p.old_rating, p.new_rating, p.expected, p.actual)
              IS DISTINCT FROM
              (r.finished_at, r.outcome_event, r.rating, r.new_rating, r.expected, r.actual)
        RETURNING 1
    )
    SELECT EXISTS (SELECT FROM changed)
$$;
REVOKE EXECUTE ON FUNCTION merit.rate_battle FROM PUBLIC;
COMMENT ON FUNCTION merit.rate_battle IS 'Rates one battle; true if that changed something';

-- What is no longer so, or not in this order: its ratings go, and all from the first such battle on are
-- worked out anew.
CREATE VIEW merit.v_rated_wrongly AS
SELECT p.battle_id, p.agent_id, p.rated_at, c.finished_at
FROM merit.battle_participant AS p
LEFT JOIN merit.v_rated_by AS c ON c.battle_id = p.battle_id AND c.agent_id = p.agent_id
WHERE (p.rated_event, p.rated_at) IS DISTINCT FROM (c.outcome_event, c.finished_at);
COMMENT ON VIEW merit.v_rated_wrongly IS
    'Participants that are rated by another outcome than the battle''s, or not yet';

CREATE FUNCTION merit.rate(battles uuid[] DEFAULT NULL) RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    whole constant boolean := battles IS NULL;
    since timestamptz;
    affected uuid[];
    battle record;
BEGIN
    -- One at a time: a rating follows from those before it.
    PERFORM pg_advisory_xact_lock(hashtextextended('penstock.merit.rate', 0));
    SELECT CASE WHEN whole THEN '-infinity' ELSE min(least(w.rated_at, w.finished_at)) END INTO since
    FROM merit.v_rated_wrongly AS w WHERE whole OR w.battle_id = ANY (battles);
    affected := array(
        SELECT b.battle_id FROM merit.battle AS b WHERE b.finished_at >= since
        UNION
        SELECT w.battle_id FROM merit.v_rated_wrongly AS w WHERE whole OR w.battle_id = ANY (battles)
    );
    -- In the order in which batches write them.
    PERFORM FROM merit.battle_participant AS p
    WHERE p.battle_id = ANY (affected) ORDER BY p.battle_id, p.agent_id FOR NO KEY UPDATE;
    FOR battle IN
        WITH gone AS (
            UPDATE merit.battle_participant AS p
            SET rated_at = NULL, rated_event = NULL, old_rating = NULL, new_rating = NULL,
                expected = NULL, actual = NULL, updated_at = now()
            FROM merit.v_rated_wrongly AS w
            WHERE p.battle_id = w.battle_id AND p.agent_id = w.agent_id
              AND p.battle_id = ANY (affected) AND p.rated_event IS NOT NULL
            RETURNING p.battle_id
        )
        SELECT b.battle_id, coalesce(b.external_id, b.battle_id::text) AS name,
               EXISTS (SELECT FROM gone AS g WHERE g.battle_id = b.battle_id) AS cleared
        FROM merit.battle AS b
        WHERE b.battle_id = ANY (affected)
        ORDER BY b.finished_at, b.battle_id
    LOOP
        IF merit.rate_battle(battle.battle_id) OR battle.cleared THEN
            RETURN NEXT battle.name;
        END IF;
    END LOOP;
    RETURN QUERY SELECT merit.note_ratings(array(
        SELECT p.agent_id FROM merit.battle_participant AS p WHERE p.battle_id = ANY (affected)
        UNION SELECT r.agent_id FROM merit.rating AS r WHERE whole
    ));
END
$$;
REVOKE EXECUTE ON FUNCTION merit.rate FROM PUBLIC;
COMMENT ON FUNCTION merit.rate IS
    'Works out ratings anew from the first of the battles on whose rating is not right, or all';

CREATE FUNCTION merit.note_ratings(agents uuid[]) RETURNS SETOF text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    one record;
BEGIN
    FOR one IN
        WITH last AS (
            SELECT DISTINCT ON (p.agent_id)
                   p.agent_id, p.new_rating AS rating, p.rated_at, p.battle_id, p.rated_event,
                   count(*) OVER own AS battles, count(*) FILTER (WHERE p.rank = 1) OVER own AS wins
            FROM merit.battle_participant AS p
            WHERE p.agent_id = ANY (agents) AND p.rated_event IS NOT NULL
            WINDOW own AS (PARTITION BY p.agent_id)
            ORDER BY p.agent_id, p.rated_at DESC, p.battle_id DESC
        )
        SELECT g.agent_id, r.rating AS old, l.rating AS new, l.rated_at, l.battle_id, l.rated_event,
               l.battles, l.wins, coalesce(a.external_id, g.agent_id::text) AS name
        FROM (SELECT DISTINCT x.agent_id FROM unnest(agents) AS x (agent_id)) AS g
        LEFT JOIN last AS l ON l.agent_id = g.agent_id
        LEFT JOIN merit.rating AS r ON r.agent_id = g.agent_id
        LEFT JOIN agents.agent AS a ON a.agent_id = g.agent_id
        WHERE (r.rating, r.rated_at, r.battles, r.wins)
              IS DISTINCT FROM (l.rating, l.rated_at, l.battles, l.wins)
        ORDER BY g.agent_id
    LOOP
        IF one.new IS NULL THEN
            DELETE FROM merit.rating AS r WHERE r.agent_id = one.agent_id;
        ELSE
            INSERT INTO merit.rating AS r (agent_id, rating, rated_at, battles, wins)
            VALUES (one.agent_id, one.new, one.rated_at, one.battles, one.wins)
            ON CONFLICT (agent_id) DO UPDATE
            SET (rating, rated_at, battles, wins)
              = (EXCLUDED.rating, EXCLUDED.rated_at, EXCLUDED.battles, EXCLUDED.wins);
            IF one.old IS DISTINCT FROM one.new THEN
                PERFORM bus.emit(
                    'agents.rating_changed', one.name,
                    concat_ws(' ', one.battle_id, one.rated_event, one.old, '->', one.new), one.rated_at,
                    jsonb_build_object(
                        'battle_id', one.battle_id, 'new', one.new,
                        'old', coalesce(one.old, config.number('elo.start'))
                    )
                );
            END IF;
        END IF;
        RETURN NEXT one.name;
    END LOOP;
END
$$;
REVOKE EXECUTE ON FUNCTION merit.note_ratings FROM PUBLIC;
COMMENT ON FUNCTION merit.note_ratings IS 'Brings merit.rating up to the battles, and tells who changed';

INSERT INTO bus.job (name, call, about, key_kind) VALUES
    ('ratings', 'merit.rate', 'ELO ratings, in the order of the battles', 'battle'),
    ('tiers', 'merit.grade', 'Tiers of agents, by their points', 'agent');

CREATE VIEW merit.elo_history AS
SELECT p.agent_id, p.battle_id, p.rated_at, p.rank, p.old_rating, p.new_rating, p.expected, p.actual
FROM merit.battle_participant AS p
WHERE p.rated_event IS NOT NULL;
COMMENT ON VIEW merit.elo_history IS 'Every agent''s ratings, battle by battle';

CREATE VIEW merit.streak AS
WITH day AS (
    SELECT d.agent_id, d.streak_type, d.day FROM merit.active_day AS d
    UNION
    SELECT t.assigned_to, 'tasks', (t.completed_at AT TIME ZONE 'UTC')::date
    FROM tasks.task AS t
    WHERE t.status = 'completed' AND t.assigned_to IS NOT NULL AND t.completed_at IS NOT NULL
), numbered AS (
    SELECT d.*, d.day - row_number() OVER (
        PARTITION BY d.agent_id, d.streak_type ORDER BY d.day
    )::integer AS island
    FROM day AS d
), island AS (
    SELECT n.agent_id, n.streak_type, max(n.day) AS last_day, count(*) AS days
    FROM numbered AS n GROUP BY n.agent_id, n.streak_type, n.island
), counted AS (
    SELECT DISTINCT ON (i.agent_id, i.streak_type)
           i.agent_id, i.streak_type, i.last_day, i.days AS run,
           max(i.days) OVER (PARTITION BY i.agent_id, i.streak_type) AS longest
    FROM island AS i ORDER BY i.agent_id, i.streak_type, i.last_day DESC
)
SELECT c.agent_id, c.streak_type, c.longest, c.last_day, c.run,
       CASE WHEN c.last_day >= (now() AT TIME ZONE 'UTC')::date - 1 THEN c.run ELSE 0 END AS current
FROM counted AS c;
COMMENT ON VIEW merit.streak IS 'Consecutive UTC days of activity, points or completed tasks';

CREATE VIEW merit.v_standing AS
SELECT a.agent_id, a.external_id, s.total_points, s.tier, r.rating, r.battles, r.wins,
       (SELECT max(k.current) FROM merit.streak AS k WHERE k.agent_id = a.agent_id) AS streak
FROM agents.agent AS a
LEFT JOIN merit.standing AS s ON s.agent_id = a.agent_id
LEFT JOIN merit.rating AS r ON r.agent_id = a.agent_id
WHERE s.agent_id IS NOT NULL OR r.agent_id IS NOT NULL;
COMMENT ON VIEW merit.v_standing IS 'Points, tier, rating, battles and the longest current streak';

CREATE VIEW merit.v_pool AS
SELECT p.resource_type, p.capacity, coalesce(a.allocated, 0) AS allocated,
       p.capacity - coalesce(a.allocated, 0) AS available
FROM merit.resource_pool AS p
LEFT JOIN LATERAL (
    SELECT sum(x.amount) AS allocated FROM merit.allocation AS x
    WHERE x.resource_type = p.resource_type AND x.kind = 'resource' AND x.revoked_at IS NULL
      AND (x.expires_at IS NULL OR x.expires_at > now())
) AS a ON true;
COMMENT ON VIEW merit.v_pool IS 'What of each pool is given out now, and what is left';
