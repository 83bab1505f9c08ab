CREATE OR REPLACE VIEW bus.gap AS
WITH seen AS (
    SELECT transport, stream, epoch, range_agg(seqs) AS seqs, min(begins) AS begins
    FROM bus.position
    GROUP BY transport, stream, epoch
)
SELECT s.transport, s.stream, s.epoch, missing.seqs AS missing
FROM seen AS s
CROSS JOIN LATERAL unnest(
    int8multirange(
        int8range(least(s.begins, lower(s.seqs)), coalesce(upper(s.seqs), s.begins))
    ) - s.seqs
) AS missing (seqs);

DROP TABLE bus.replay;
