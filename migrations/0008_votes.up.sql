-- Votes: the question, the ballots that count, and the trail of all ballots.

CREATE SCHEMA collab;
COMMENT ON SCHEMA collab IS 'What agents decide together';

CREATE TABLE collab.vote_session (
    session_id     uuid PRIMARY KEY,
    external_id    text,
    topic          text,
    question       text,
    algorithm      vocab.voting_algorithm,
    options        jsonb,
    eligible       integer,
    quorum         double precision,
    threshold      double precision,
    token_budget   bigint,
    opened_by      text,
    deadline       timestamptz,
    created_at     timestamptz,
    created_event  uuid,
    status         vocab.vote_session_status,
    closed_at      timestamptz,
    closed_by      text,
    close_reason   text,
    status_version bigint,
    status_at      timestamptz,
    status_event   uuid,
    results        jsonb,
    winner         text,
    is_stub        boolean NOT NULL DEFAULT false,
    updated_at     timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE collab.vote_session IS 'Questions that were put to the vote, and their results';
COMMENT ON COLUMN collab.vote_session.eligible IS 'How many may vote';
COMMENT ON COLUMN collab.vote_session.quorum IS 'The share of them that must have voted, 0 to 1';
COMMENT ON COLUMN collab.vote_session.threshold IS
    'The share of ballots that consensus needs, 0 to 1';
COMMENT ON COLUMN collab.vote_session.token_budget IS
    'How many tokens each has in a quadratic vote';
COMMENT ON COLUMN collab.vote_session.winner IS
    'The option that won; NULL if none did, or it is not counted';
COMMENT ON COLUMN collab.vote_session.results IS
    'Computed from the ballots by a tally; NULL until then';
CREATE INDEX vote_session_external_id ON collab.vote_session (external_id)
    WHERE external_id IS NOT NULL;
CREATE INDEX vote_session_open ON collab.vote_session (deadline) WHERE status = 'open';

-- A row for each ballot: which one counts depends on when the vote was closed, which may become
-- known before or after any of them.
CREATE TABLE collab.ballot (
    ballot_id     uuid PRIMARY KEY,
    session_id    uuid REFERENCES collab.vote_session ON DELETE RESTRICT,
    agent_id      uuid REFERENCES agents.agent ON DELETE RESTRICT,
    option        text,
    ranking       jsonb,
    confidence    double precision,
    tokens        bigint,
    weight        double precision,
    reasoning     text,
    signature     text,
    retracted     boolean,
    version       bigint,
    version_at    timestamptz,
    version_event uuid,
    is_stub       boolean NOT NULL DEFAULT false,
    updated_at    timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN collab.ballot.confidence IS '0 to 1';
COMMENT ON COLUMN collab.ballot.weight IS 'How much the ballot counts; NULL is 1';
COMMENT ON COLUMN collab.ballot.tokens IS 'Spent on the option, in a quadratic vote';
COMMENT ON TABLE collab.ballot IS
    'Every ballot and every retraction, by the id of its event; see collab.ballot_counted';
CREATE INDEX ballot_session ON collab.ballot (session_id, agent_id);
CREATE INDEX ballot_agent ON collab.ballot (agent_id);

CREATE VIEW collab.ballot_counted AS
SELECT
    last.session_id,
    last.agent_id,
    last.option,
    last.ranking,
    last.confidence,
    last.tokens,
    last.weight,
    last.reasoning,
    last.signature,
    last.version_at AS cast_at,
    last.ballot_id
FROM (
    SELECT DISTINCT ON (b.session_id, b.agent_id) b.*
    FROM collab.ballot AS b
    JOIN collab.vote_session AS s ON s.session_id = b.session_id
    -- least() passes over NULL: a vote may have neither end, or one.
    WHERE coalesce(b.version_at <= least(s.closed_at, s.deadline), true)
    ORDER BY b.session_id, b.agent_id, b.version DESC, b.version_at DESC, b.version_event DESC
) AS last
WHERE NOT last.retracted;
COMMENT ON VIEW collab.ballot_counted IS
    'The ballots that count: of each agent the last one that was cast before the vote was closed and '
    'before its deadline, unless it was retracted by then';

CREATE VIEW collab.vote_audit_trail AS
SELECT
    l.event_id,
    l.occurred_at,
    l.recorded_at,
    l.entity_id AS session,
    l.event_type,
    l.data ->> 'agent_id' AS agent,
    l.data ->> 'signature' AS signature,
    l.actor,
    l.source,
    l.corr,
    l.data
FROM events.log AS l
WHERE l.domain = 'collab' AND l.event_type LIKE 'votes.%';
COMMENT ON VIEW collab.vote_audit_trail IS 'Every opening, ballot, retraction and closing, as sent';
