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
COMMENT ON COLUMN collab.vote_session.results IS
    'Computed from the ballots by a tally; NULL until then';
CREATE INDEX vote_session_external_id ON collab.vote_session (external_id)
    WHERE external_id IS NOT NULL;
CREATE INDEX vote_session_open ON collab.vote_session (deadline) WHERE status = 'open';

CREATE TABLE collab.ballot (
    session_id    uuid NOT NULL REFERENCES collab.vote_session ON DELETE RESTRICT,
    agent_id      uuid NOT NULL REFERENCES agents.agent ON DELETE RESTRICT,
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
    updated_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (session_id, agent_id)
);
COMMENT ON TABLE collab.ballot IS 'The last ballot of each agent; all of them are in events.log';
CREATE INDEX ballot_agent ON collab.ballot (agent_id);

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
