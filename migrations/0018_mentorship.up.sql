-- Mentorship: who teaches whom, their sessions, what is taught, and how far a mentee has come.

CREATE DOMAIN vocab.pairing_status AS text CHECK (VALUE IN (
    'active', 'completed', 'paused', 'cancelled'
));

CREATE SCHEMA mentorship;
COMMENT ON SCHEMA mentorship IS 'Who teaches whom, and what came of it';

CREATE TABLE mentorship.pairing (
    pairing_id     uuid PRIMARY KEY,
    external_id    text,
    mentor_id      uuid REFERENCES agents.agent ON DELETE RESTRICT,
    mentee_id      uuid REFERENCES agents.agent ON DELETE RESTRICT,
    skill          text,
    total_sessions integer,
    created_at     timestamptz,
    created_event  uuid,
    status         vocab.pairing_status,
    ended_at       timestamptz,
    end_reason     text,
    status_version bigint,
    status_at      timestamptz,
    status_event   uuid,
    is_stub        boolean NOT NULL DEFAULT false,
    updated_at     timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE mentorship.pairing IS 'A mentor and a mentee, for one skill';
COMMENT ON COLUMN mentorship.pairing.external_id IS
    'The text that pairing_id was made from; NULL if none';
COMMENT ON COLUMN mentorship.pairing.total_sessions IS 'How many sessions are planned; NULL if open';
CREATE INDEX pairing_external_id ON mentorship.pairing (external_id) WHERE external_id IS NOT NULL;
CREATE INDEX pairing_mentor ON mentorship.pairing (mentor_id);
CREATE INDEX pairing_mentee ON mentorship.pairing (mentee_id);

CREATE TABLE mentorship.session (
    pairing_id    uuid NOT NULL REFERENCES mentorship.pairing ON DELETE RESTRICT,
    number        integer NOT NULL,
    topic         text,
    scheduled_at  timestamptz,
    started_at    timestamptz,
    ended_at      timestamptz,
    status        vocab.task_status,
    objectives    jsonb,
    met           jsonb,
    mentor_rating double precision,
    mentee_rating double precision,
    notes         text,
    version       bigint,
    version_at    timestamptz,
    version_event uuid,
    is_stub       boolean NOT NULL DEFAULT false,
    updated_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (pairing_id, number)
);
COMMENT ON TABLE mentorship.session IS 'The sessions of a pairing, by number';
COMMENT ON COLUMN mentorship.session.number IS 'The producer''s number of the session in its pairing';
COMMENT ON COLUMN mentorship.session.met IS 'Those of the objectives that were reached';
COMMENT ON COLUMN mentorship.session.mentor_rating IS 'What the mentor says of it, 0 to 1';
COMMENT ON COLUMN mentorship.session.mentee_rating IS 'What the mentee says of it, 0 to 1';

CREATE TABLE mentorship.curriculum (
    curriculum_id    uuid PRIMARY KEY,
    external_id      text,
    skill            text,
    level            integer,
    title            text,
    objectives       jsonb,
    assessment_tasks jsonb,
    version          bigint,
    version_at       timestamptz,
    version_event    uuid,
    is_stub          boolean NOT NULL DEFAULT false,
    updated_at       timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE mentorship.curriculum IS 'What is to be learnt for a level of a skill';
COMMENT ON COLUMN mentorship.curriculum.external_id IS
    'The text that curriculum_id was made from; NULL if none';
COMMENT ON COLUMN mentorship.curriculum.level IS 'Counted from the easiest one';
CREATE INDEX curriculum_external_id ON mentorship.curriculum (external_id)
    WHERE external_id IS NOT NULL;
CREATE INDEX curriculum_skill ON mentorship.curriculum (skill, level);

CREATE TABLE mentorship.progress (
    pairing_id       uuid NOT NULL REFERENCES mentorship.pairing ON DELETE RESTRICT,
    curriculum_id    uuid NOT NULL REFERENCES mentorship.curriculum ON DELETE RESTRICT,
    progress         double precision,
    mastery          text,
    assessment_score double precision,
    version          bigint,
    version_at       timestamptz,
    version_event    uuid,
    is_stub          boolean NOT NULL DEFAULT false,
    updated_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (pairing_id, curriculum_id)
);
COMMENT ON TABLE mentorship.progress IS 'How far the mentee of a pairing has come in a curriculum';
COMMENT ON COLUMN mentorship.progress.progress IS 'In percent, 0 to 100';
COMMENT ON COLUMN mentorship.progress.mastery IS 'A word of the mentor, such as novice or expert';
COMMENT ON COLUMN mentorship.progress.assessment_score IS 'In percent, 0 to 100';
CREATE INDEX progress_curriculum ON mentorship.progress (curriculum_id);

CREATE VIEW mentorship.v_active AS
SELECT
    p.pairing_id,
    p.external_id,
    p.mentor_id,
    p.mentee_id,
    p.skill,
    p.created_at AS paired_at,
    p.total_sessions,
    done.sessions AS sessions_completed,
    100.0::double precision * done.sessions / nullif(p.total_sessions, 0) AS completed_pct
FROM mentorship.pairing AS p
CROSS JOIN LATERAL (
    SELECT count(*) FROM mentorship.session AS s
    WHERE s.pairing_id = p.pairing_id AND s.status = 'completed'
) AS done (sessions)
WHERE p.status = 'active' AND p.created_at IS NOT NULL;
COMMENT ON VIEW mentorship.v_active IS
    'Active pairings, with their sessions so far; completed_pct is NULL where none are planned, and '
    'above 100 where there were more';

-- The history of merit and mentorship.
CREATE TABLE events.log_merit PARTITION OF events.log FOR VALUES IN ('merit')
    PARTITION BY RANGE (occurred_at);
INSERT INTO partitions.policy
    (schema_name, table_name, column_name, "interval", premake, retention, archive)
VALUES ('events', 'log_merit', 'occurred_at', 'month', 3, '12 months', true);
SELECT partitions.maintain();
