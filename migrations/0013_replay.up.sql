-- What was read again, and what came of it: one row for each run of `penstock replay`.

CREATE TABLE bus.replay (
    replay_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    asked         jsonb NOT NULL,
    state         text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'finished')),
    epoch         text NOT NULL,
    since         timestamptz,
    last_offset   bigint,
    mark          jsonb,
    beyond        jsonb NOT NULL DEFAULT '[]',
    read          bigint NOT NULL DEFAULT 0,
    inserted      bigint NOT NULL DEFAULT 0,
    present       bigint NOT NULL DEFAULT 0,
    differing     bigint NOT NULL DEFAULT 0,
    rejected      bigint NOT NULL DEFAULT 0,
    differing_ids uuid[] NOT NULL DEFAULT '{}',
    worker        text NOT NULL,
    started_at    timestamptz NOT NULL DEFAULT now(),
    seen_at       timestamptz NOT NULL DEFAULT now(),
    finished_at   timestamptz
);
COMMENT ON TABLE bus.replay IS
    'Runs of penstock replay: what was asked, where each stands, and what became of its messages';
COMMENT ON COLUMN bus.replay.state IS
    'A run that was ended before its time stays running; the same command goes on with it';
COMMENT ON COLUMN bus.replay.epoch IS
    'Of the stream: of one that was recreated, other messages are asked for';
COMMENT ON COLUMN bus.replay.since IS
    'Where it begins, if it was asked for by a time: the one that 25h meant at its start';
COMMENT ON COLUMN bus.replay.last_offset IS
    'Where it ends: fixed at its start, so that it ends although the stream goes on. A part that '
    'ends at a time ago, or begins at one, ends there anew each time the command is given';
COMMENT ON COLUMN bus.replay.mark IS
    'Where it stands in a source that has no offsets: all up to there is settled. Offsets are in '
    'bus.position, under the transport replay-<replay_id>';
COMMENT ON COLUMN bus.replay.beyond IS
    'What is settled behind the mark, while something before it is not';
COMMENT ON COLUMN bus.replay.present IS
    'Messages whose event was stored already; one without history, if it changed no row';
COMMENT ON COLUMN bus.replay.differing IS
    'Events stored with the same id and time, but another content, which stays';
COMMENT ON COLUMN bus.replay.differing_ids IS 'The first thousand of them';
CREATE INDEX replay_running ON bus.replay (replay_id) WHERE state = 'running';

-- What a replay leaves out on purpose is no gap.
CREATE OR REPLACE VIEW bus.gap AS
WITH seen AS (
    SELECT transport, stream, epoch, range_agg(seqs) AS seqs, min(begins) AS begins
    FROM bus.position
    WHERE transport NOT LIKE 'replay-%'
    GROUP BY transport, stream, epoch
)
SELECT s.transport, s.stream, s.epoch, missing.seqs AS missing
FROM seen AS s
CROSS JOIN LATERAL unnest(
    int8multirange(
        int8range(least(s.begins, lower(s.seqs)), coalesce(upper(s.seqs), s.begins))
    ) - s.seqs
) AS missing (seqs);
