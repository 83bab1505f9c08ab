-- Where reading a RabbitMQ stream queue goes on: it follows from the positions, which are committed
-- with each batch, and from where reading began: batches overlap, so the first one may be missing.

CREATE FUNCTION bus.resume_offset(of_transport text, of_stream text)
RETURNS TABLE (epoch text, next_offset bigint)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT held.epoch,
           lower(
               int8multirange(int8range(least(held.begins, lower(held.seqs)), NULL)) - held.seqs
           )
    FROM (
        SELECT p.epoch, range_agg(p.seqs) AS seqs, min(p.begins) AS begins
        FROM bus.position AS p
        WHERE p.transport = of_transport AND p.stream = of_stream
        GROUP BY p.epoch
        -- Later ones are greater. When a row was written says nothing: a batch of the one before
        -- may be the last to commit.
        ORDER BY p.epoch COLLATE "C" DESC
        LIMIT 1
    ) AS held;
END;
COMMENT ON FUNCTION bus.resume_offset IS
    'The newest epoch of a stream and the first of its offsets that is not committed';
