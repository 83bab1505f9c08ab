-- Whom agents trust: what they say of each other, scores that follow from it, violations and appeals.

CREATE DOMAIN vocab.violation_kind AS text CHECK (VALUE IN (
    'low_quality', 'timeout', 'protocol_violation', 'resource_abuse', 'collaboration_failure',
    'data_corruption'
));

CREATE DOMAIN vocab.violation_status AS text CHECK (VALUE IN (
    'open', 'confirmed', 'dismissed'
));

CREATE DOMAIN vocab.appeal_status AS text CHECK (VALUE IN (
    'pending', 'under_review', 'approved', 'denied', 'withdrawn'
));

CREATE SCHEMA trust;
COMMENT ON SCHEMA trust IS 'Trust between agents, scores, violations, appeals, retraining';

CREATE TABLE events.log_trust PARTITION OF events.log FOR VALUES IN ('trust')
    PARTITION BY RANGE (occurred_at);

-- Millionths: a sum of floats would depend on the order of its parts.
CREATE TABLE trust.edge (
    from_agent   uuid NOT NULL REFERENCES agents.agent ON DELETE RESTRICT,
    to_agent     uuid NOT NULL REFERENCES agents.agent ON DELETE RESTRICT,
    positive     bigint,
    negative     bigint,
    interactions integer,
    last_at      timestamptz,
    is_stub      boolean NOT NULL DEFAULT false,
    updated_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (from_agent, to_agent),
    CONSTRAINT of_two_agents CHECK (from_agent <> to_agent)
);
COMMENT ON TABLE trust.edge IS 'What one agent has experienced with another, in millionths';
CREATE INDEX edge_to ON trust.edge (to_agent);

CREATE TABLE trust.rating (
    from_agent    uuid NOT NULL REFERENCES agents.agent ON DELETE RESTRICT,
    to_agent      uuid NOT NULL REFERENCES agents.agent ON DELETE RESTRICT,
    context_kind  text NOT NULL,
    context_id    text NOT NULL,
    rating        double precision,
    comment       text,
    version       bigint,
    version_at    timestamptz,
    version_event uuid,
    is_stub       boolean NOT NULL DEFAULT false,
    updated_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (from_agent, to_agent, context_kind, context_id),
    CONSTRAINT of_two_agents CHECK (from_agent <> to_agent)
);
COMMENT ON TABLE trust.rating IS 'The last rating of one agent by another, in each context';
CREATE INDEX rating_to ON trust.rating (to_agent);

CREATE TABLE trust.score (
    agent_id    uuid PRIMARY KEY,
    eigentrust  double precision NOT NULL,
    persistence double precision NOT NULL,
    competence  double precision NOT NULL,
    composite   double precision NOT NULL,
    trend       double precision,
    level       text,
    iterations  integer NOT NULL,
    run_id      uuid NOT NULL,
    as_of       timestamptz NOT NULL,
    computed_at timestamptz NOT NULL
);
COMMENT ON TABLE trust.score IS 'Derived by the clock: how far an agent is trusted';
CREATE INDEX score_composite ON trust.score (composite DESC);

CREATE TABLE trust.violation (
    violation_id   uuid PRIMARY KEY,
    external_id    text,
    agent_id       uuid REFERENCES agents.agent ON DELETE RESTRICT,
    kind           vocab.violation_kind,
    severity       integer,
    description    text,
    task_id        uuid REFERENCES tasks.task ON DELETE RESTRICT,
    evidence       jsonb,
    created_at     timestamptz,
    created_event  uuid,
    status         vocab.violation_status,
    penalty_points integer,
    reviewed_by    text,
    reviewed_at    timestamptz,
    review_notes   text,
    review_version bigint,
    review_at      timestamptz,
    review_event   uuid,
    is_stub        boolean NOT NULL DEFAULT false,
    updated_at     timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE trust.violation IS
    'Rules that agents are said to have broken, and what a review found';
CREATE INDEX violation_external_id ON trust.violation (external_id) WHERE external_id IS NOT NULL;
CREATE INDEX violation_agent ON trust.violation (agent_id) WHERE agent_id IS NOT NULL;
CREATE INDEX violation_task ON trust.violation (task_id) WHERE task_id IS NOT NULL;

CREATE TABLE trust.appeal (
    appeal_id        uuid PRIMARY KEY,
    external_id      text,
    violation_id     uuid REFERENCES trust.violation ON DELETE RESTRICT,
    agent_id         uuid REFERENCES agents.agent ON DELETE RESTRICT,
    grounds          text,
    created_at       timestamptz,
    created_event    uuid,
    status           vocab.appeal_status,
    decision         text,
    reviewed_by      text,
    adjusted_penalty integer,
    decided_at       timestamptz,
    decision_version bigint,
    decision_at      timestamptz,
    decision_event   uuid,
    is_stub          boolean NOT NULL DEFAULT false,
    updated_at       timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE trust.appeal IS 'Appeals against violations';
CREATE INDEX appeal_external_id ON trust.appeal (external_id) WHERE external_id IS NOT NULL;
CREATE INDEX appeal_violation ON trust.appeal (violation_id) WHERE violation_id IS NOT NULL;
CREATE INDEX appeal_agent ON trust.appeal (agent_id) WHERE agent_id IS NOT NULL;

CREATE TABLE trust.retraining (
    program_id       uuid PRIMARY KEY,
    external_id      text,
    agent_id         uuid REFERENCES agents.agent ON DELETE RESTRICT,
    violation_id     uuid REFERENCES trust.violation ON DELETE RESTRICT,
    program_type     text,
    curriculum       jsonb,
    created_at       timestamptz,
    created_event    uuid,
    status           vocab.task_status,
    progress         double precision,
    pre_assessment   jsonb,
    post_assessment  jsonb,
    completed_at     timestamptz,
    progress_version bigint,
    progress_at      timestamptz,
    progress_event   uuid,
    is_stub          boolean NOT NULL DEFAULT false,
    updated_at       timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE trust.retraining IS 'Programs that agents are retrained by';
CREATE INDEX retraining_external_id ON trust.retraining (external_id) WHERE external_id IS NOT NULL;
CREATE INDEX retraining_agent ON trust.retraining (agent_id) WHERE agent_id IS NOT NULL;
CREATE INDEX retraining_violation ON trust.retraining (violation_id) WHERE violation_id IS NOT NULL;

INSERT INTO partitions.policy
    (schema_name, table_name, column_name, "interval", premake, retention, archive)
VALUES
    ('events', 'log_trust', 'occurred_at', 'month', 3, '12 months', true);
SELECT partitions.maintain();

CREATE TABLE trust.pretrusted (
    agent_id uuid PRIMARY KEY,
    about    text
);
COMMENT ON TABLE trust.pretrusted IS
    'Agents that are trusted beforehand; with none, all that are registered are';

-- Kamvar, Schlosser, Garcia-Molina: The EigenTrust Algorithm for Reputation Management in P2P Networks
-- (2003), algorithm 2, basic EigenTrust. The agents are numbered in the order of their ids, and sums
-- are taken in that order, so that every machine gets the same digits.
CREATE FUNCTION trust.eigentrust(OUT agents uuid[], OUT scores double precision[], OUT iterations integer)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    damping constant double precision := config.number('trust.damping');
    epsilon constant double precision := config.number('trust.epsilon');
    rounds constant integer := config.number('trust.rounds');
    froms integer[];
    tos integer[];
    shares double precision[];
    chosen double precision[];
    silent integer[];
    fresh double precision[];
    lost double precision;
    moved double precision;
BEGIN
    agents := array(
        SELECT a.agent_id FROM agents.agent AS a
        WHERE NOT a.is_stub AND (a.deleted_at IS NULL OR a.registered_at > a.deleted_at)
        UNION SELECT p.agent_id FROM trust.pretrusted AS p
        ORDER BY 1
    );
    iterations := 0;
    IF cardinality(agents) = 0 THEN
        scores := '{}';
        RETURN;
    END IF;
    SELECT array_agg(CASE WHEN p.agent_id IS NOT NULL OR n.none THEN 1.0 / n.pretrusted ELSE 0 END
                     ORDER BY m.nth)
    INTO chosen
    FROM unnest(agents) WITH ORDINALITY AS m (agent_id, nth)
    LEFT JOIN trust.pretrusted AS p ON p.agent_id = m.agent_id
    CROSS JOIN (
        SELECT count(*) = 0 AS none, coalesce(nullif(count(*), 0), cardinality(agents)) AS pretrusted
        FROM trust.pretrusted
    ) AS n;
    WITH member AS (
        SELECT m.agent_id, m.nth::integer AS nth
        FROM unnest(agents) WITH ORDINALITY AS m (agent_id, nth)
    ), edge AS (
        SELECT f.nth AS source, t.nth AS target,
               greatest(coalesce(e.positive, 0) - coalesce(e.negative, 0), 0) AS trusted
        FROM trust.edge AS e
        JOIN member AS f ON f.agent_id = e.from_agent
        JOIN member AS t ON t.agent_id = e.to_agent
    ), share AS (
        SELECT e.source, e.target,
               e.trusted::double precision / sum(e.trusted) OVER (PARTITION BY e.source) AS part
        FROM edge AS e WHERE e.trusted > 0
    )
    SELECT array_agg(s.source ORDER BY s.target, s.source),
           array_agg(s.target ORDER BY s.target, s.source),
           array_agg(s.part ORDER BY s.target, s.source),
           array(SELECT m.nth FROM member AS m
                 WHERE m.nth NOT IN (SELECT x.source FROM share AS x) ORDER BY m.nth)
    INTO froms, tos, shares, silent FROM share AS s;
    scores := chosen;
    WHILE iterations < rounds LOOP
        -- Who trusts nobody is taken to trust those chosen beforehand.
        lost := 0;
        FOR i IN 1 .. coalesce(cardinality(silent), 0) LOOP
            lost := lost + scores[silent[i]];
        END LOOP;
        fresh := array_fill(0.0::double precision, ARRAY[cardinality(agents)]);
        FOR i IN 1 .. coalesce(cardinality(froms), 0) LOOP
            CONTINUE WHEN scores[froms[i]] < 1e-200;  -- a product of less may be no double
            fresh[tos[i]] := fresh[tos[i]] + shares[i] * scores[froms[i]];
        END LOOP;
        moved := 0;
        FOR i IN 1 .. cardinality(agents) LOOP
            fresh[i] := (1 - damping) * (fresh[i] + lost * chosen[i]) + damping * chosen[i];
            moved := moved + abs(fresh[i] - scores[i]);
        END LOOP;
        scores := fresh;
        iterations := iterations + 1;
        EXIT WHEN moved < epsilon;
    END LOOP;
END
$$;
COMMENT ON FUNCTION trust.eigentrust IS 'Global trust of every agent, by the edges as they are; sums up to 1';

CREATE FUNCTION trust.score_all(agents uuid[] DEFAULT NULL) RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    hour constant timestamptz := date_trunc('hour', now(), 'UTC');
    run constant uuid := encode(substring(
        sha256(convert_to('penstock.trust ' || bus.utc_text(date_trunc('hour', now(), 'UTC')), 'UTF8'))
        FROM 1 FOR 16), 'hex')::uuid;
    one record;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('penstock.trust', 0));
    FOR one IN
        WITH global AS MATERIALIZED (
            SELECT g.iterations, m.agent_id, m.score, max(m.score) OVER () AS most
            FROM trust.eigentrust() AS g,
                 LATERAL unnest(g.agents, g.scores) AS m (agent_id, score)
        ), active AS (
            SELECT d.agent_id, count(DISTINCT d.day) / 30.0 AS share
            FROM merit.active_day AS d
            WHERE d.day >= (hour AT TIME ZONE 'UTC')::date - 30 AND d.day < (hour AT TIME ZONE 'UTC')::date
            GROUP BY d.agent_id
        ), part AS (
            SELECT g.agent_id, g.score AS eigentrust, g.iterations,
                   coalesce(v.share, 0)::double precision AS persistence,
                   least(1, greatest(0,
                       0.5 * coalesce(
                           s.tasks_completed::double precision
                           / nullif(s.tasks_completed + s.tasks_failed, 0), 0)
                       + 0.5 * coalesce((s.quality_sum / nullif(s.quality_n, 0))::double precision, 0)
                       / 100
                   )) AS competence,
                   coalesce(g.score / nullif(g.most, 0), 0) AS relative
            FROM global AS g
            LEFT JOIN active AS v ON v.agent_id = g.agent_id
            LEFT JOIN agents.stats AS s ON s.agent_id = g.agent_id
        ), whole AS (
            SELECT p.*, least(1, round((
                config.number('trust.weight_eigentrust')::double precision * p.relative
                + config.number('trust.weight_persistence')::double precision * p.persistence
                + config.number('trust.weight_competence')::double precision * p.competence
            )::numeric, 9))::double precision AS composite
            FROM part AS p
        )
        SELECT coalesce(w.agent_id, o.agent_id) AS agent_id, w.eigentrust, w.iterations, w.persistence,
               w.competence, w.composite, w.agent_id IS NULL AS gone,
               config.band_of('trust_level', w.composite::numeric) AS level,
               -- Within one hour, the one before is still the one before that hour.
               w.composite - CASE WHEN o.as_of < hour THEN o.composite
                                  ELSE o.composite - o.trend END AS trend,
               coalesce(a.external_id, w.agent_id::text, o.agent_id::text) AS name
        FROM whole AS w
        FULL JOIN trust.score AS o ON o.agent_id = w.agent_id
        LEFT JOIN agents.agent AS a ON a.agent_id = coalesce(w.agent_id, o.agent_id)
        WHERE (agents IS NULL OR coalesce(w.agent_id, o.agent_id) = ANY (agents))
          AND (w.eigentrust, w.persistence, w.competence, w.composite)
              IS DISTINCT FROM (o.eigentrust, o.persistence, o.competence, o.composite)
        ORDER BY 1
    LOOP
        IF one.gone THEN
            DELETE FROM trust.score AS s WHERE s.agent_id = one.agent_id;
        ELSE
            INSERT INTO trust.score AS s (agent_id, eigentrust, persistence, competence, composite, trend,
                                          level, iterations, run_id, as_of, computed_at)
            VALUES (one.agent_id, one.eigentrust, one.persistence, one.competence, one.composite,
                    one.trend, one.level, one.iterations, run, hour, now())
            ON CONFLICT (agent_id) DO UPDATE
            SET (eigentrust, persistence, competence, composite, trend, level, iterations, run_id, as_of,
                 computed_at)
              = (EXCLUDED.eigentrust, EXCLUDED.persistence, EXCLUDED.competence, EXCLUDED.composite,
                 EXCLUDED.trend, EXCLUDED.level, EXCLUDED.iterations, EXCLUDED.run_id, EXCLUDED.as_of,
                 EXCLUDED.computed_at);
            PERFORM bus.emit(
                'trust.scored', one.name, concat_ws(' ', run, one.composite, one.eigentrust), hour,
                jsonb_build_object(
                    'run_id', run, 'eigentrust', one.eigentrust, 'persistence', one.persistence,
                    'competence', one.competence, 'composite', one.composite, 'level', one.level,
                    'trend', one.trend
                )
            );
        END IF;
        RETURN NEXT one.name;
    END LOOP;
END
$$;
REVOKE EXECUTE ON FUNCTION trust.score_all FROM PUBLIC;
COMMENT ON FUNCTION trust.score_all IS
    'Works out the scores of all agents, as of the full hour; returns those that changed';

INSERT INTO bus.job (name, call, about, key_kind, every) VALUES
    ('trust', 'trust.score_all', 'Trust scores: EigenTrust, persistence, competence', 'agent', '1 hour');

CREATE VIEW trust.v_edge AS
SELECT e.from_agent, e.to_agent, e.positive / 1000000.0 AS positive, e.negative / 1000000.0 AS negative,
       e.interactions, e.last_at,
       e.positive::double precision / nullif(e.positive + e.negative, 0) AS local_trust
FROM trust.edge AS e;
COMMENT ON VIEW trust.v_edge IS 'Trust between two agents: the share of what was good';

CREATE VIEW trust.v_reputation AS
SELECT a.agent_id, a.external_id, s.composite, s.level, s.trend,
       (SELECT count(*) FROM trust.edge AS e WHERE e.to_agent = a.agent_id) AS edges,
       coalesce(v.open, 0) AS open_violations, coalesce(v.points, 0) AS penalty_points
FROM agents.agent AS a
LEFT JOIN trust.score AS s ON s.agent_id = a.agent_id
LEFT JOIN LATERAL (
    SELECT count(*) FILTER (WHERE x.status = 'open') AS open,
           sum(coalesce(p.adjusted_penalty, x.penalty_points))
               FILTER (WHERE x.status = 'confirmed') AS points
    FROM trust.violation AS x
    LEFT JOIN LATERAL (
        SELECT y.adjusted_penalty FROM trust.appeal AS y
        WHERE y.violation_id = x.violation_id AND y.status = 'approved'
        ORDER BY y.decided_at DESC, y.appeal_id LIMIT 1
    ) AS p ON true
    WHERE x.agent_id = a.agent_id
) AS v ON true
WHERE NOT a.is_stub;
COMMENT ON VIEW trust.v_reputation IS
    'Score, level and penalties of each agent; an approved appeal''s penalty takes the first one''s place';

CREATE VIEW trust.reputation_history AS
SELECT l.event_id, l.occurred_at, l.entity_id AS agent,
       (l.data ->> 'composite')::double precision AS composite, l.data ->> 'level' AS level,
       (l.data ->> 'trend')::double precision AS trend
FROM events.log AS l WHERE l.domain = 'trust' AND l.event_type = 'trust.scored';
COMMENT ON VIEW trust.reputation_history IS 'Every change of a score';

CREATE VIEW trust.penalty_history AS
SELECT l.event_id, l.occurred_at, l.event_type, l.entity_id AS subject, l.data ->> 'agent_id' AS agent,
       l.data ->> 'status' AS status, l.data
FROM events.log AS l WHERE l.domain = 'trust' AND l.event_type LIKE 'penalties.%';
COMMENT ON VIEW trust.penalty_history IS 'Violations, reviews, appeals and retraining, as sent';

CREATE TABLE merit.leaderboard (
    category      text NOT NULL,
    period        text NOT NULL,
    period_start  date NOT NULL,
    agent_id      uuid NOT NULL,
    score         numeric NOT NULL,
    rank          bigint NOT NULL,
    previous_rank bigint,
    rank_change   bigint,
    computed_at   timestamptz NOT NULL,
    PRIMARY KEY (category, period, period_start, agent_id)
);
COMMENT ON TABLE merit.leaderboard IS 'Derived by the clock: who is where, by category and period in UTC';
COMMENT ON COLUMN merit.leaderboard.rank_change IS 'Above 0: climbed; NULL for who was not there';
CREATE INDEX leaderboard_rank ON merit.leaderboard (category, period, period_start, rank);

CREATE FUNCTION merit.scores(of_category text, since timestamptz, before timestamptz)
RETURNS TABLE (agent_id uuid, score numeric)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
SET extra_float_digits = 1
AS $$
    SELECT p.agent_id, sum(p.final_points) FROM merit.points AS p
    WHERE of_category = 'overall' AND since > '1970-01-01'
      AND p.occurred_at >= since AND p.occurred_at < before
    GROUP BY p.agent_id
    UNION ALL  -- of all times: older points may be archived
    SELECT s.agent_id, s.total_points FROM merit.standing AS s
    WHERE of_category = 'overall' AND since <= '1970-01-01' AND s.total_points IS NOT NULL
    UNION ALL
    SELECT t.assigned_to, count(*) FROM tasks.task AS t
    WHERE of_category = 'tasks' AND t.status = 'completed' AND t.assigned_to IS NOT NULL
      AND t.completed_at >= since AND t.completed_at < before
    GROUP BY t.assigned_to
    UNION ALL
    SELECT t.assigned_to, round(avg(t.quality_score::text::numeric), 6) FROM tasks.task AS t
    WHERE of_category = 'quality' AND t.status = 'completed' AND t.assigned_to IS NOT NULL
      AND t.completed_at >= since AND t.completed_at < before AND t.quality_score IS NOT NULL
    GROUP BY t.assigned_to
    HAVING count(*) >= config.number('leaderboard.quality_min')
    UNION ALL
    SELECT r.agent_id, r.new_rating FROM (
        SELECT DISTINCT ON (p.agent_id) p.agent_id, p.new_rating FROM merit.battle_participant AS p
        WHERE of_category = 'elo' AND p.rated_at < before
        ORDER BY p.agent_id, p.rated_at DESC, p.battle_id DESC
    ) AS r
    UNION ALL
    SELECT c.agent_id, c.composite FROM (
        -- A score that has changed since then: as it was is in the history.
        SELECT s.agent_id, CASE WHEN s.as_of < before THEN s.composite::text::numeric ELSE (
            SELECT (l.data ->> 'composite')::numeric FROM events.log AS l
            WHERE l.domain = 'trust' AND l.event_type = 'trust.scored' AND l.occurred_at < before
              AND l.entity_id = coalesce(a.external_id, s.agent_id::text)
            ORDER BY l.occurred_at DESC LIMIT 1
        ) END AS composite
        FROM trust.score AS s
        LEFT JOIN agents.agent AS a ON a.agent_id = s.agent_id
        WHERE of_category = 'trust'
    ) AS c
    WHERE c.composite IS NOT NULL
$$;
COMMENT ON FUNCTION merit.scores IS 'What agents are ranked by, in one category and period';

CREATE FUNCTION merit.place(of_category text, of_period text, start date) RETURNS bigint
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
    WITH span AS (
        SELECT CASE of_period WHEN 'daily' THEN interval '1 day' WHEN 'weekly' THEN interval '7 days'
                              WHEN 'monthly' THEN interval '1 month' END AS length
    ), fresh AS (
        SELECT s.agent_id, s.score, rank() OVER (ORDER BY s.score DESC) AS rank
        FROM span AS x
        CROSS JOIN LATERAL merit.scores(
            of_category, start::timestamp AT TIME ZONE 'UTC',
            coalesce((start + x.length) AT TIME ZONE 'UTC', 'infinity')
        ) AS s
    ), placed AS (
        SELECT f.*, p.rank AS previous
        FROM fresh AS f CROSS JOIN span AS x
        LEFT JOIN merit.leaderboard AS p
            ON p.category = of_category AND p.period = of_period AND p.agent_id = f.agent_id
            AND p.period_start = (start - x.length)::date
    ), gone AS (
        DELETE FROM merit.leaderboard AS l
        WHERE l.category = of_category AND l.period = of_period AND l.period_start = start
          AND l.agent_id NOT IN (SELECT f.agent_id FROM fresh AS f)
        RETURNING 1
    ), changed AS (
        INSERT INTO merit.leaderboard AS l
        SELECT of_category, of_period, start, p.agent_id, p.score, p.rank, p.previous,
               p.previous - p.rank, now()
        FROM placed AS p
        ON CONFLICT (category, period, period_start, agent_id) DO UPDATE
        SET (score, rank, previous_rank, rank_change, computed_at)
          = (EXCLUDED.score, EXCLUDED.rank, EXCLUDED.previous_rank, EXCLUDED.rank_change, now())
        WHERE (l.score, l.rank, l.previous_rank)
              IS DISTINCT FROM (EXCLUDED.score, EXCLUDED.rank, EXCLUDED.previous_rank)
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM gone) + (SELECT count(*) FROM changed)
$$;
REVOKE EXECUTE ON FUNCTION merit.place FROM PUBLIC;
COMMENT ON FUNCTION merit.place IS 'Ranks one category of one period; returns how many rows changed';

-- The periods that are on, and those before, for events that come late.
CREATE FUNCTION merit.boards() RETURNS TABLE (category text, period text, start date)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT c.category, p.period, p.start
    FROM (SELECT (now() AT TIME ZONE 'UTC')::date AS today) AS t
    CROSS JOIN unnest(ARRAY['overall', 'tasks', 'quality', 'elo', 'trust']) AS c (category)
    CROSS JOIN LATERAL (VALUES
        ('daily', t.today - 1), ('daily', t.today),
        ('weekly', date_trunc('week', t.today::timestamp)::date - 7),
        ('weekly', date_trunc('week', t.today::timestamp)::date),
        ('monthly', (date_trunc('month', t.today::timestamp) - interval '1 month')::date),
        ('monthly', date_trunc('month', t.today::timestamp)::date),
        ('all', date '1970-01-01')
    ) AS p (period, start)
$$;
COMMENT ON FUNCTION merit.boards IS 'The leaderboards that are kept up';

CREATE FUNCTION merit.board(named text) RETURNS TABLE (category text, period text, start date)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    parts constant text[] := string_to_array(named, ' ');
    span tstzrange;
BEGIN
    category := parts[1];
    period := parts[2];
    IF cardinality(parts) <> 3
        OR NOT EXISTS (SELECT FROM merit.boards() AS b WHERE (b.category, b.period) = (parts[1], parts[2]))
    THEN
        RAISE EXCEPTION 'no leaderboard %', named USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Name a category, a period and a day: overall weekly 2026-01-05';
    END IF;
    start := CASE period
        WHEN 'all' THEN date '1970-01-01'
        ELSE date_trunc(CASE period WHEN 'daily' THEN 'day' WHEN 'weekly' THEN 'week' ELSE 'month' END,
                        parts[3]::timestamp)
    END;
    IF start > (now() AT TIME ZONE 'UTC')::date THEN
        RAISE EXCEPTION 'the leaderboard % is of days to come', named
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- What is left of them would be taken for all there was.
    span := CASE WHEN period <> 'all' THEN tstzrange(
        start AT TIME ZONE 'UTC',
        (start + CASE period WHEN 'daily' THEN interval '1 day' WHEN 'weekly' THEN interval '7 days'
                 ELSE interval '1 month' END) AT TIME ZONE 'UTC'
    ) END;
    IF category = 'overall' AND partitions.is_detached('merit', 'points', span)
        OR category = 'trust' AND partitions.is_detached('events', 'log_trust', span)
    THEN
        RAISE EXCEPTION 'the leaderboard % follows from rows that are archived', named
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'penstock partitions import brings them back';
    END IF;
    RETURN NEXT;
END
$$;
COMMENT ON FUNCTION merit.board IS 'The leaderboard that a name means: its category, period, and a day of it';

CREATE FUNCTION merit.place_now(boards text[] DEFAULT NULL) RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    today constant date := (now() AT TIME ZONE 'UTC')::date;
    board record;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('penstock.leaderboards', 0));
    FOR board IN
        SELECT k.* FROM merit.boards() AS k WHERE boards IS NULL
        UNION
        SELECT k.* FROM unnest(boards) AS n (name), merit.board(n.name) AS k
        ORDER BY category, period, start
    LOOP
        IF merit.place(board.category, board.period, board.start) > 0 THEN
            PERFORM bus.emit(
                'leaderboards.computed', board.category,
                concat_ws(' ', board.period, board.start, d.digest), now(),
                jsonb_build_object('period', board.period, 'period_start', board.start, 'rows', d.rows)
            )
            FROM (
                SELECT count(*) AS rows, md5(string_agg(
                    concat_ws(' ', l.agent_id, l.score, l.rank), ',' ORDER BY l.agent_id)) AS digest
                FROM merit.leaderboard AS l
                WHERE l.category = board.category AND l.period = board.period
                  AND l.period_start = board.start
            ) AS d;
            RETURN NEXT concat_ws(' ', board.category, board.period, board.start);
        END IF;
    END LOOP;
    DELETE FROM merit.leaderboard AS l
    WHERE boards IS NULL
      AND (l.period = 'daily' AND l.period_start < today - 90
           OR l.period = 'weekly' AND l.period_start < today - 730);
END
$$;
REVOKE EXECUTE ON FUNCTION merit.place_now FROM PUBLIC;
COMMENT ON FUNCTION merit.place_now IS
    'Ranks what is named, or all categories in the periods that are on and those before; returns what '
    'changed';

INSERT INTO bus.job (name, call, about, key_kind, every) VALUES
    ('leaderboards', 'merit.place_now', 'Leaderboards of the periods that are on', 'leaderboard',
     '15 minutes');

CREATE VIEW merit.v_current_leaderboard AS
SELECT l.* FROM merit.leaderboard AS l
WHERE l.period = 'weekly'
  AND l.period_start = date_trunc('week', now() AT TIME ZONE 'UTC')::date;
COMMENT ON VIEW merit.v_current_leaderboard IS 'The leaderboards of this week';
