-- Brainstorming: sessions, who takes part, ideas and their combinations, and votes on both.

CREATE DOMAIN vocab.idea_target AS text CHECK (VALUE IN (
    'idea', 'combination'
));

CREATE TABLE collab.brainstorm (
    session_id     uuid PRIMARY KEY,
    external_id    text,
    topic          text,
    facilitator_id uuid REFERENCES agents.agent ON DELETE RESTRICT,
    limits         jsonb,
    created_at     timestamptz,
    created_event  uuid,
    status         vocab.vote_session_status,
    closed_at      timestamptz,
    closed_by      text,
    close_reason   text,
    status_version bigint,
    status_at      timestamptz,
    status_event   uuid,
    is_stub        boolean NOT NULL DEFAULT false,
    updated_at     timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE collab.brainstorm IS 'Sessions in which agents look for ideas';
COMMENT ON COLUMN collab.brainstorm.external_id IS
    'The text that session_id was made from; NULL if none';
COMMENT ON COLUMN collab.brainstorm.limits IS
    'What was agreed on, such as a time or a number of ideas; nothing here enforces it';
CREATE INDEX brainstorm_external_id ON collab.brainstorm (external_id)
    WHERE external_id IS NOT NULL;
CREATE INDEX brainstorm_facilitator ON collab.brainstorm (facilitator_id)
    WHERE facilitator_id IS NOT NULL;

CREATE TABLE collab.participant (
    session_id  uuid NOT NULL REFERENCES collab.brainstorm ON DELETE RESTRICT,
    agent_id    uuid NOT NULL REFERENCES agents.agent ON DELETE RESTRICT,
    joined_at   timestamptz,
    last_active timestamptz,
    is_stub     boolean NOT NULL DEFAULT false,
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (session_id, agent_id)
);
COMMENT ON TABLE collab.participant IS
    'Who takes part in a session: who joined, and whoever has an idea or votes';
COMMENT ON COLUMN collab.participant.joined_at IS 'NULL for who acted without having joined';
CREATE INDEX participant_agent ON collab.participant (agent_id);

CREATE TABLE collab.idea (
    idea_id       uuid PRIMARY KEY,
    session_id    uuid REFERENCES collab.brainstorm ON DELETE RESTRICT,
    agent_id      uuid REFERENCES agents.agent ON DELETE RESTRICT,
    content       text,
    category      text,
    tags          jsonb,
    created_at    timestamptz,
    created_event uuid,
    quality       double precision,
    novelty       double precision,
    feasibility   double precision,
    score_version bigint,
    score_at      timestamptz,
    score_event   uuid,
    is_stub       boolean NOT NULL DEFAULT false,
    updated_at    timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE collab.idea IS 'Ideas, as they were submitted, with their last scores';
COMMENT ON COLUMN collab.idea.agent_id IS 'Whose idea it is';
COMMENT ON COLUMN collab.idea.quality IS '0 to 1, as are novelty and feasibility';
CREATE INDEX idea_session ON collab.idea (session_id);
CREATE INDEX idea_agent ON collab.idea (agent_id);

CREATE TABLE collab.idea_combination (
    combination_id uuid PRIMARY KEY,
    session_id     uuid REFERENCES collab.brainstorm ON DELETE RESTRICT,
    agent_id       uuid REFERENCES agents.agent ON DELETE RESTRICT,
    idea_ids       jsonb,
    content        text,
    synergy        double precision,
    created_at     timestamptz,
    created_event  uuid,
    is_stub        boolean NOT NULL DEFAULT false,
    updated_at     timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE collab.idea_combination IS 'Ideas that were made of other ones';
COMMENT ON COLUMN collab.idea_combination.idea_ids IS
    'The keys of the ideas it is made of, as they are in collab.idea, in the order given';
COMMENT ON COLUMN collab.idea_combination.synergy IS
    'How much more the whole is than its parts, 0 to 1';
CREATE INDEX idea_combination_session ON collab.idea_combination (session_id);
CREATE INDEX idea_combination_agent ON collab.idea_combination (agent_id);

CREATE TABLE collab.idea_vote (
    target_id     uuid NOT NULL,
    agent_id      uuid NOT NULL REFERENCES agents.agent ON DELETE RESTRICT,
    session_id    uuid REFERENCES collab.brainstorm ON DELETE RESTRICT,
    target_kind   vocab.idea_target,
    value         double precision,
    comment       text,
    version       bigint,
    version_at    timestamptz,
    version_event uuid,
    is_stub       boolean NOT NULL DEFAULT false,
    updated_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (target_id, agent_id)
);
COMMENT ON TABLE collab.idea_vote IS 'The last vote of each agent on each idea or combination';
COMMENT ON COLUMN collab.idea_vote.target_id IS 'The idea or the combination';
COMMENT ON COLUMN collab.idea_vote.value IS 'From -1, against it, to 1, for it';
CREATE INDEX idea_vote_session ON collab.idea_vote (session_id);
CREATE INDEX idea_vote_agent ON collab.idea_vote (agent_id);

CREATE VIEW collab.v_brainstorm AS
SELECT
    s.session_id,
    s.external_id,
    s.topic,
    s.status,
    s.facilitator_id,
    s.created_at AS opened_at,
    s.closed_at,
    (SELECT count(*) FROM collab.participant AS p WHERE p.session_id = s.session_id)
        AS participants,
    (SELECT count(*) FROM collab.idea AS i WHERE i.session_id = s.session_id) AS ideas,
    (SELECT count(*) FROM collab.idea_combination AS c WHERE c.session_id = s.session_id)
        AS combinations,
    (SELECT count(*) FROM collab.idea_vote AS v WHERE v.session_id = s.session_id) AS votes
FROM collab.brainstorm AS s
WHERE NOT s.is_stub;
COMMENT ON VIEW collab.v_brainstorm IS 'Brainstorming sessions, with what came of each';

CREATE VIEW collab.v_participant AS
SELECT
    p.session_id,
    p.agent_id,
    p.joined_at,
    p.last_active,
    (
        SELECT count(*) FROM collab.idea AS i
        WHERE i.session_id = p.session_id AND i.agent_id = p.agent_id
    ) AS ideas,
    (
        SELECT count(*) FROM collab.idea_combination AS c
        WHERE c.session_id = p.session_id AND c.agent_id = p.agent_id
    ) AS combinations,
    (
        SELECT count(*) FROM collab.idea_vote AS v
        WHERE v.session_id = p.session_id AND v.agent_id = p.agent_id
    ) AS votes
FROM collab.participant AS p;
COMMENT ON VIEW collab.v_participant IS 'Who takes part in a session, with what each brought into it';
