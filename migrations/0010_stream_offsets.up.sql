-- Where reading a RabbitMQ stream queue goes on: it follows from the positions, which are committed
-- with each batch.

CREATE FUNCTION bus.resume_offset(of_transport text, of_stream text)
RETURNS TABLE (epoch text, next_offset bigint)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT held.epoch,
           (SELECT upper(part) FROM unnest(held.seqs) AS part ORDER BY part LIMIT 1)
    FROM (
        SELECT p.epoch, range_agg(p.seqs) AS seqs
        FROM bus.position AS p
        WHERE p.transport = of_transport AND p.stream = of_stream
        GROUP BY p.epoch
        ORDER BY max(p.recorded_at) DESC, max(p.position_id) DESC
        LIMIT 1
    ) AS held;
END;
COMMENT ON FUNCTION bus.resume_offset IS
    'The newest epoch of a stream and the first of its offsets that is not committed';
