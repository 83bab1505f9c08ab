-- What follows from stored rows: which of it is still to be worked out, by what and how often, how it
-- is told to others, and the first of it, the result of a vote.

-- A row is inserted in the transaction of the events, and taken in that of the function: whoever is
-- killed between the two leaves it to the next one. Rows have no key but their number, so that nobody
-- who inserts waits for somebody who takes.
CREATE TABLE bus.due (
    due_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    function text NOT NULL,
    key      text[] NOT NULL,
    since    timestamptz NOT NULL DEFAULT now(),
    due_at   timestamptz NOT NULL DEFAULT now(),
    failures integer NOT NULL DEFAULT 0,
    error    text
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.05);
COMMENT ON TABLE bus.due IS
    'What changed, and what follows from it is still to be worked out; empty but for moments';
COMMENT ON COLUMN bus.due.key IS 'One value for each array that the function takes';
COMMENT ON COLUMN bus.due.due_at IS 'When it is tried; later each time that the function fails';
CREATE INDEX due_key ON bus.due (function, key);

CREATE TABLE bus.job (
    name       text PRIMARY KEY CHECK (name ~ '^[a-z][a-z0-9_]*$'),
    call       text NOT NULL CHECK (call ~ '^[a-z_][a-z0-9_]*[.][a-z_][a-z0-9_]*$'),
    whole      text CHECK (whole ~ '^[a-z_][a-z0-9_]*[.][a-z_][a-z0-9_]*$'),
    about      text NOT NULL,
    key_kind   text,
    every      interval CHECK (every > interval '0'),
    enabled    boolean NOT NULL DEFAULT true,
    last_run   timestamptz,
    last_ms    bigint,
    last_error text,
    mark       jsonb
);
COMMENT ON TABLE bus.job IS
    'What is worked out from stored rows, by name: for penstock derive and verify, and by the clock';
COMMENT ON COLUMN bus.job.call IS
    'A function that takes keys, or nothing for all, and returns the names of what it changed';
COMMENT ON COLUMN bus.job.whole IS
    'A function for what call passes over because it did it before; NULL if it passes over nothing';
COMMENT ON COLUMN bus.job.key_kind IS
    'What its keys are ids of, so that they may be given as texts; ''hour'' for hours, ''leaderboard'' '
    'for category, period and day';
COMMENT ON COLUMN bus.job.every IS 'How often a worker calls it; NULL if events alone ask for it';
COMMENT ON COLUMN bus.job.last_error IS 'NULL if the last run went well';
COMMENT ON COLUMN bus.job.mark IS 'How far the function got, for itself';

-- Told to others by the outbox. The same inputs make the same event, whoever works it out and how
-- often, so that it is stored once.
CREATE FUNCTION bus.emit(of_type text, about text, basis text, at timestamptz, content jsonb)
RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO bus.outbox (event_id, type, key, data, time, source)
    SELECT encode(substring(sha256(convert_to(concat_ws(E'\n', of_type, about, basis), 'UTF8'))
                            FROM 1 FOR 16), 'hex')::uuid,
           of_type, about, content, at, '/penstock/derived'
    -- An event of another century is stored, but the outbox takes none.
    WHERE at >= '2000-01-01 00:00:00+00' AND at < '2100-01-01 00:00:00+00'
$$;
REVOKE EXECUTE ON FUNCTION bus.emit FROM PUBLIC;
COMMENT ON FUNCTION bus.emit IS
    'Sends an event of ours; basis is what it was made of, and makes its id';

CREATE SCHEMA config;
COMMENT ON SCHEMA config IS 'Settings that are kept in the database';

CREATE TABLE config.band (
    scheme    text NOT NULL,
    name      text NOT NULL,
    rank      integer NOT NULL,
    min_value numeric NOT NULL,
    PRIMARY KEY (scheme, name)
);
COMMENT ON TABLE config.band IS 'Names of ranges of numbers: a band reaches up to the next one';

INSERT INTO config.band (scheme, name, rank, min_value) VALUES
    ('tier', 'bronze', 1, 0),
    ('tier', 'silver', 2, 1000),
    ('tier', 'gold', 3, 5000),
    ('tier', 'platinum', 4, 15000),
    ('tier', 'diamond', 5, 50000),
    ('trust_level', 'untrusted', 1, 0),
    ('trust_level', 'low', 2, 0.2),
    ('trust_level', 'fair', 3, 0.4),
    ('trust_level', 'good', 4, 0.6),
    ('trust_level', 'excellent', 5, 0.8),
    ('trust_level', 'outstanding', 6, 0.9),
    ('priority', 'low', 1, 1),
    ('priority', 'normal', 2, 4),
    ('priority', 'high', 3, 6),
    ('priority', 'urgent', 4, 8),
    ('priority', 'critical', 5, 9),
    ('mastery', 'novice', 1, 0),
    ('mastery', 'intermediate', 2, 40),
    ('mastery', 'advanced', 3, 70),
    ('mastery', 'expert', 4, 90);

CREATE FUNCTION config.band_of(of_scheme text, value numeric) RETURNS text
LANGUAGE sql STABLE STRICT
BEGIN ATOMIC
    SELECT b.name FROM config.band AS b
    WHERE b.scheme = of_scheme AND b.min_value <= value
    ORDER BY b.min_value DESC, b.rank DESC LIMIT 1;
END;
COMMENT ON FUNCTION config.band_of IS 'The band that a number is in; NULL below the lowest';

CREATE TABLE config.parameter (
    name  text PRIMARY KEY,
    value numeric NOT NULL,
    about text NOT NULL
);
COMMENT ON TABLE config.parameter IS
    'Numbers that derived values depend on; after a change, penstock derive works them out anew';

INSERT INTO config.parameter (name, value, about) VALUES
    ('consensus.threshold', 0.75, 'Share of the ballots that a consensus needs, if a vote states none'),
    ('elo.start', 1500, 'Rating before the first battle'),
    ('elo.k', 32, 'How many points a battle between two is about'),
    ('trust.damping', 0.15, 'Weight of the agents trusted beforehand in each round of EigenTrust'),
    ('trust.epsilon', 0.000001, 'EigenTrust ends once a round changes less than this in all'),
    ('trust.rounds', 100, 'Rounds of EigenTrust at most'),
    ('trust.weight_eigentrust', 0.5, 'Weight of EigenTrust in the composite score'),
    ('trust.weight_persistence', 0.2, 'Weight of active days in the composite score'),
    ('trust.weight_competence', 0.3, 'Weight of success and quality in the composite score'),
    ('leaderboard.quality_min', 5, 'Scored tasks that the quality leaderboard asks for');

CREATE FUNCTION config.number(of_name text) RETURNS numeric
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT p.value FROM config.parameter AS p WHERE p.name = of_name;
END;
COMMENT ON FUNCTION config.number IS 'The value of a parameter';

CREATE FUNCTION collab.choices(options jsonb) RETURNS text[]
LANGUAGE sql IMMUTABLE
BEGIN ATOMIC
    SELECT coalesce(array_agg(c.name ORDER BY c.nth), '{}')
    FROM (
        SELECT o.name, min(o.nth) AS nth
        FROM jsonb_array_elements_text(options) WITH ORDINALITY AS o (name, nth)
        GROUP BY o.name
    ) AS c;
END;
COMMENT ON FUNCTION collab.choices IS 'The options of a vote, each once';

-- The ballots that count, each with the options it names, best first, by their numbers, and what it is
-- worth. One that names none is not valid.
CREATE FUNCTION collab.weighed_ballots(of_session uuid)
RETURNS TABLE (ballot_id uuid, names integer[], worth numeric)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
SET extra_float_digits = 1
AS $$
    WITH vote AS (
        SELECT s.algorithm, s.options, s.token_budget
        FROM collab.vote_session AS s WHERE s.session_id = of_session
    ), choice AS MATERIALIZED (
        SELECT o.name, o.nth::integer AS nth
        FROM vote AS v, unnest(collab.choices(v.options)) WITH ORDINALITY AS o (name, nth)
    ), naming AS (
        SELECT b.ballot_id, c.nth, min(n.place) AS place
        FROM vote AS v
        CROSS JOIN collab.ballot_counted AS b
        CROSS JOIN LATERAL jsonb_array_elements_text(
            CASE WHEN v.algorithm = 'ranked_choice'
                 THEN coalesce(nullif(b.ranking, '[]'), jsonb_build_array(b.option))
                 ELSE jsonb_build_array(b.option) END
        ) WITH ORDINALITY AS n (name, place)
        JOIN choice AS c ON c.name = n.name
        WHERE b.session_id = of_session
          AND (v.algorithm <> 'quadratic' OR coalesce(b.tokens <= v.token_budget, true))
        GROUP BY b.ballot_id, c.nth
    ), ranked AS (
        SELECT n.ballot_id, array_agg(n.nth ORDER BY n.place) AS names
        FROM naming AS n GROUP BY n.ballot_id
    )
    SELECT
        b.ballot_id,
        coalesce(r.names, '{}'),
        CASE v.algorithm
            -- By the shortest text that tells the number: a cast would round it to 15 digits.
            WHEN 'confidence_weighted' THEN
                coalesce(b.confidence::text::numeric, 1) * coalesce(b.weight::text::numeric, 1)
            WHEN 'quadratic' THEN sqrt(coalesce(b.tokens, 0)::numeric(40, 20))
            ELSE 1
        END
    FROM vote AS v
    CROSS JOIN collab.ballot_counted AS b
    LEFT JOIN ranked AS r ON r.ballot_id = b.ballot_id
    WHERE b.session_id = of_session
$$;
COMMENT ON FUNCTION collab.weighed_ballots IS
    'The ballots of a vote that count: the numbers of the options that each names, and its worth';

-- Instant run-off. Ballot b names names[ends[b - 1] + 1 .. ends[b]]. What leaves is the option with the
-- least votes; of several the one with the least in the first round, of these the last one.
CREATE FUNCTION collab.run_off(options integer, names integer[], ends integer[])
RETURNS TABLE (votes integer[], leaving integer[], left_with integer[], ended text)
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    at integer[] := array_prepend(1, (SELECT array_agg(e + 1 ORDER BY n) FROM
        unnest(ends[:cardinality(ends) - 1]) WITH ORDINALITY AS x (e, n)));
    gone boolean[] := array_fill(false, ARRAY[options]);
    standing integer := options;
    first integer[];
    place integer;
    alive integer;
    least integer;
BEGIN
    leaving := '{}';
    left_with := '{}';
    LOOP
        votes := array_fill(0, ARRAY[options]);
        alive := 0;
        FOR b IN 1 .. cardinality(ends) LOOP
            place := at[b];
            WHILE place <= ends[b] AND gone[names[place]] LOOP
                place := place + 1;
            END LOOP;
            at[b] := place;
            IF place <= ends[b] THEN
                votes[names[place]] := votes[names[place]] + 1;
                alive := alive + 1;
            END IF;
        END LOOP;
        first := coalesce(first, votes);
        IF 2 * (SELECT max(v) FROM unnest(votes) AS v) > alive THEN
            ended := 'decided';
        ELSIF standing <= 2 THEN
            ended := 'tie';
        END IF;
        IF ended IS NOT NULL THEN
            RETURN NEXT;
            RETURN;
        END IF;
        least := NULL;
        FOR o IN 1 .. options LOOP
            IF NOT gone[o] AND (least IS NULL OR (votes[o], first[o]) <= (votes[least], first[least]))
            THEN
                least := o;
            END IF;
        END LOOP;
        leaving := leaving || least;
        left_with := left_with || votes[least];
        gone[least] := true;
        standing := standing - 1;
    END LOOP;
END
$$;
COMMENT ON FUNCTION collab.run_off IS
    'Instant run-off: the votes of the last round, which options left before it and with how many';

CREATE FUNCTION collab.tally(of_session uuid) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET extra_float_digits = 1
AS $$
DECLARE
    vote record;
    counted record;
    rounds record;
    choices text[];
    scores numeric[];
    best numeric;
    leaders integer;
    outcome text;
    winner text;
    needed numeric;
BEGIN
    SELECT s.* INTO vote FROM collab.vote_session AS s
    WHERE s.session_id = of_session AND s.status = 'closed' AND s.algorithm IS NOT NULL;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    choices := collab.choices(vote.options);
    SELECT count(*) FILTER (WHERE cardinality(w.names) > 0) AS valid,
           count(*) FILTER (WHERE cardinality(w.names) = 0) AS invalid
    INTO counted FROM collab.weighed_ballots(of_session) AS w;
    IF vote.algorithm = 'ranked_choice' AND counted.valid > 0 THEN
        SELECT r.* INTO rounds
        FROM (
            SELECT array_agg(sized.size ORDER BY sized.ballot_id) AS ends
            FROM (
                SELECT w.ballot_id, (sum(cardinality(w.names)) OVER (ORDER BY w.ballot_id))::integer AS size
                FROM collab.weighed_ballots(of_session) AS w WHERE cardinality(w.names) > 0
            ) AS sized
        ) AS e
        CROSS JOIN (
            SELECT array_agg(n.name ORDER BY w.ballot_id, n.place) AS names
            FROM collab.weighed_ballots(of_session) AS w,
                 unnest(w.names) WITH ORDINALITY AS n (name, place)
        ) AS f
        CROSS JOIN LATERAL collab.run_off(cardinality(choices), f.names, e.ends) AS r;
        scores := rounds.votes;
    ELSE
        SELECT NULL::text AS ended, NULL::integer[] AS leaving, NULL::integer[] AS left_with INTO rounds;
        scores := array(
            SELECT trim_scale(round(coalesce(sum(w.worth), 0), 9))
            FROM generate_subscripts(choices, 1) AS o (nth)
            LEFT JOIN collab.weighed_ballots(of_session) AS w ON w.names[1] = o.nth
            GROUP BY o.nth ORDER BY o.nth
        );
    END IF;
    SELECT max(s) INTO best FROM unnest(scores) AS s;
    leaders := cardinality(array_positions(scores, best));
    needed := CASE vote.algorithm
        WHEN 'simple_majority' THEN counted.valid::numeric / 2
        WHEN 'consensus' THEN
            coalesce(vote.threshold::text::numeric, config.number('consensus.threshold')) * counted.valid
    END;
    outcome := CASE
        WHEN coalesce(vote.quorum, 0) > 0
             AND (coalesce(vote.eligible, 0) = 0
                  OR counted.valid < vote.quorum::text::numeric * vote.eligible) THEN 'no_quorum'
        WHEN counted.valid = 0 OR best <= 0 THEN 'no_ballots'
        WHEN rounds.ended = 'tie' OR leaders > 1 THEN 'tie'
        WHEN vote.algorithm = 'simple_majority' AND best <= needed THEN 'no_majority'
        WHEN vote.algorithm = 'consensus' AND best < needed THEN 'no_consensus'
        ELSE 'decided'
    END;
    IF outcome = 'decided' THEN
        winner := choices[array_position(scores, best)];
    END IF;
    RETURN jsonb_build_object(
        'algorithm', vote.algorithm,
        'outcome', outcome,
        'winner', winner,
        'ballots', counted.valid,
        'invalid', counted.invalid,
        'eligible', vote.eligible,
        'participation', trim_scale(round(counted.valid::numeric / nullif(vote.eligible, 0), 6)),
        'scores', (
            SELECT coalesce(jsonb_object_agg(choices[o.nth], scores[o.nth]), '{}')
            FROM generate_subscripts(choices, 1) AS o (nth)
        ),
        'rounds', (
            SELECT coalesce(jsonb_agg(jsonb_build_object('leaves', choices[l.option], 'votes', l.votes)
                                      ORDER BY l.nth), '[]')
            FROM unnest(rounds.leaving, rounds.left_with) WITH ORDINALITY AS l (option, votes, nth)
        )
    );
END
$$;
COMMENT ON FUNCTION collab.tally IS
    'The result of a vote, from its ballots; NULL before it is closed, and after it is cancelled';

CREATE FUNCTION collab.settle(sessions uuid[] DEFAULT NULL) RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    vote record;
BEGIN
    IF sessions IS NULL THEN
        sessions := array(
            SELECT s.session_id FROM collab.vote_session AS s
            WHERE (s.status = 'closed' OR s.results IS NOT NULL OR s.winner IS NOT NULL)
              AND (s.results IS DISTINCT FROM collab.tally(s.session_id)
                   OR s.winner IS DISTINCT FROM s.results ->> 'winner')
        );
    END IF;
    -- Before anything is read: whoever waits here reads what the one before has seen, and more.
    PERFORM FROM collab.vote_session AS s
    WHERE s.session_id = ANY (sessions) ORDER BY s.session_id FOR NO KEY UPDATE;
    FOR vote IN
        SELECT t.*, coalesce(t.external_id, t.session_id::text) AS name
        FROM (
            SELECT s.session_id, s.external_id, s.status_event, s.results AS old, s.winner,
                   greatest(s.status_at, s.created_at) AS at, collab.tally(s.session_id) AS results
            FROM collab.vote_session AS s WHERE s.session_id = ANY (sessions) OFFSET 0
        ) AS t
        WHERE t.old IS DISTINCT FROM t.results OR t.winner IS DISTINCT FROM t.results ->> 'winner'
        ORDER BY t.session_id
    LOOP
        UPDATE collab.vote_session AS s
        SET results = vote.results, winner = vote.results ->> 'winner', updated_at = now()
        WHERE s.session_id = vote.session_id;
        IF vote.results IS NOT NULL THEN
            PERFORM collab.announce(
                vote.session_id, vote.name, vote.status_event, vote.at, vote.results
            );
        END IF;
        RETURN NEXT vote.name;
    END LOOP;
END
$$;
REVOKE EXECUTE ON FUNCTION collab.settle FROM PUBLIC;
COMMENT ON FUNCTION collab.settle IS
    'Works out the results of votes anew, or of all; returns those that changed';

-- What is too long for an event stays in the row.
CREATE FUNCTION collab.announce(
    of_session uuid, name text, closing uuid, at timestamptz, results jsonb
) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT bus.emit(
        'votes.tallied',
        name,
        concat_ws(' ', closing, results, (
            SELECT string_agg(b.ballot_id::text, ' ' ORDER BY b.ballot_id)
            FROM collab.ballot_counted AS b WHERE b.session_id = of_session
        )),
        at,
        jsonb_build_object(
            'outcome', results -> 'outcome',
            'winner', results -> 'winner',
            'results', CASE WHEN octet_length(results::text) <= 500000 THEN results
                            ELSE results - 'scores' - 'rounds' END
        )
    )
$$;
REVOKE EXECUTE ON FUNCTION collab.announce FROM PUBLIC;
COMMENT ON FUNCTION collab.announce IS 'Sends votes.tallied';

INSERT INTO bus.job (name, call, about, key_kind) VALUES
    ('tally', 'collab.settle', 'Results of votes', 'vote_session');

-- As the owner, who alone may refresh. Readers go on meanwhile: only rows that differ are written.
CREATE FUNCTION tasks.refresh_statistics(views text[] DEFAULT NULL) RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    known constant text[] := ARRAY['agents.performance_daily', 'tasks.project_stats'];
    view text;
    before numeric;
    after numeric;
BEGIN
    FOREACH view IN ARRAY coalesce(views, known) LOOP
        IF view <> ALL (known) THEN
            RAISE EXCEPTION 'no statistics are kept under %; known are %', view,
                array_to_string(known, ', ') USING ERRCODE = 'invalid_parameter_value';
        END IF;
        EXECUTE format('SELECT sum(hashtextextended(v::text, 0)) FROM %s AS v', view) INTO before;
        EXECUTE format('REFRESH MATERIALIZED VIEW CONCURRENTLY %s', view);
        EXECUTE format('SELECT sum(hashtextextended(v::text, 0)) FROM %s AS v', view) INTO after;
        IF after IS DISTINCT FROM before THEN
            RETURN NEXT view;
        END IF;
    END LOOP;
END
$$;
REVOKE EXECUTE ON FUNCTION tasks.refresh_statistics FROM PUBLIC;
COMMENT ON FUNCTION tasks.refresh_statistics IS
    'Refreshes the materialized views over tasks; returns the names of those that changed';

INSERT INTO bus.job (name, call, about, every) VALUES
    ('statistics', 'tasks.refresh_statistics', 'Tasks by agent and day, and by project', '1 hour');
