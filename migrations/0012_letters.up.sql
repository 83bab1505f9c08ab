-- What becomes of dead letters: who changed their status and when, and which message on the bus is
-- another try at which letter.

ALTER TABLE bus.dead_letter
    ADD COLUMN event_type   text,
    -- Of the latest requeue. It travels with the message, and nobody else can know it.
    ADD COLUMN requeue_id   uuid,
    -- As it was sent last, where that is not as it came.
    ADD COLUMN sent_subject text,
    ADD COLUMN sent_headers bytea,
    ADD COLUMN sent_body    bytea,
    ADD COLUMN changed_at   timestamptz,
    ADD COLUMN changed_by   text,
    ADD CONSTRAINT letter_status
        CHECK (status IN ('kept', 'requeued', 'stored', 'rejected', 'discarded'));
COMMENT ON COLUMN bus.dead_letter.event_type IS 'As far as the message still says it';
COMMENT ON COLUMN bus.dead_letter.status IS
    'kept; requeued: sent again, no answer yet; stored: its event is in PostgreSQL; rejected: sent '
    'again and still wrong; discarded: given up. The first, second and fourth are open';

CREATE INDEX dead_letter_open ON bus.dead_letter (status, letter_id)
WHERE status IN ('kept', 'requeued', 'rejected');
CREATE INDEX dead_letter_done ON bus.dead_letter (changed_at)
WHERE status IN ('stored', 'discarded');

-- Without a reference to the letter: that it is there must not keep anybody from deleting one.
CREATE TABLE bus.dead_letter_change (
    change_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    letter_id   bigint NOT NULL,
    before      text NOT NULL,
    after       text NOT NULL,
    reason      text NOT NULL,
    error       text,
    requeue_id  uuid UNIQUE,
    changed_by  text,
    role        text NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE bus.dead_letter_change IS
    'Every change of a dead letter''s status; reason and error are those that it had before';
COMMENT ON COLUMN bus.dead_letter_change.changed_by IS 'The person or the worker, as it says itself';
COMMENT ON COLUMN bus.dead_letter_change.role IS 'The role that PostgreSQL knows it by';
CREATE INDEX dead_letter_change_letter ON bus.dead_letter_change (letter_id);

CREATE FUNCTION bus.check_letter_change() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    -- From requeued back to what it was: the broker did not take it. It may still say so wrongly, so
    -- whatever has been requeued may turn out to be stored.
    IF (OLD.status, NEW.status) NOT IN (
        ('kept', 'requeued'), ('kept', 'stored'), ('kept', 'discarded'),
        ('rejected', 'requeued'), ('rejected', 'stored'), ('rejected', 'discarded'),
        ('discarded', 'requeued'), ('discarded', 'stored'), ('discarded', 'kept'),
        ('requeued', 'requeued'), ('requeued', 'stored'), ('requeued', 'rejected'),
        ('requeued', 'kept'), ('requeued', 'discarded')
    ) OR (NEW.status = 'stored' AND OLD.requeue_id IS NULL) THEN
        RAISE EXCEPTION 'letter % is %: it cannot become %', OLD.letter_id, OLD.status, NEW.status
            USING ERRCODE = 'check_violation', CONSTRAINT = 'letter_change',
                  SCHEMA = 'bus', TABLE = 'dead_letter', COLUMN = 'status';
    END IF;
    IF NEW.changed_at IS NOT DISTINCT FROM OLD.changed_at THEN
        NEW.changed_at := clock_timestamp();
        NEW.changed_by := session_user;
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION bus.check_letter_change IS 'Which status may follow which; when it was changed';

-- As its owner: who may change a letter cannot change what is said about it.
CREATE FUNCTION bus.note_letter_change() RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO bus.dead_letter_change
        (letter_id, before, after, reason, error, requeue_id, changed_by, role)
    VALUES (OLD.letter_id, OLD.status, NEW.status, OLD.reason, OLD.error,
            CASE WHEN NEW.status = 'requeued' THEN NEW.requeue_id END, NEW.changed_by, session_user);
    RETURN NULL;
END
$$;
REVOKE EXECUTE ON FUNCTION bus.note_letter_change FROM PUBLIC;
COMMENT ON FUNCTION bus.note_letter_change IS 'Writes bus.dead_letter_change';

CREATE TRIGGER check_change BEFORE UPDATE OF status, requeue_id ON bus.dead_letter
FOR EACH ROW WHEN (OLD.status <> NEW.status OR OLD.requeue_id IS DISTINCT FROM NEW.requeue_id)
EXECUTE FUNCTION bus.check_letter_change();

CREATE TRIGGER note_change AFTER UPDATE OF status, requeue_id ON bus.dead_letter
FOR EACH ROW WHEN (OLD.status <> NEW.status OR OLD.requeue_id IS DISTINCT FROM NEW.requeue_id)
EXECUTE FUNCTION bus.note_letter_change();

-- As its owner: a worker adds letters, and changes only those whose secret it was sent.
CREATE FUNCTION bus.settle_requeues(ids uuid[], reasons text[], errors text[], by_worker text)
RETURNS TABLE (requeue_id uuid, changed boolean)
LANGUAGE sql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    WITH answer AS (
        SELECT g.requeue_id, g.reason, g.error, c.letter_id
        FROM unnest(ids, reasons, errors) AS g (requeue_id, reason, error)
        JOIN bus.dead_letter_change AS c ON c.requeue_id = g.requeue_id
        JOIN bus.dead_letter AS l ON l.letter_id = c.letter_id
    ), due AS (  -- in one order everywhere, so that two workers never wait for each other
        SELECT d.letter_id, d.status, d.requeue_id FROM bus.dead_letter AS d
        WHERE d.letter_id IN (SELECT a.letter_id FROM answer AS a)
        ORDER BY d.letter_id FOR UPDATE
    ), final AS (  -- stored is final; rejected is what the latest try says
        SELECT DISTINCT ON (a.letter_id) a.*
        FROM answer AS a
        JOIN due AS d ON d.letter_id = a.letter_id
        WHERE CASE WHEN a.reason IS NULL THEN d.status <> 'stored'
                   ELSE d.status = 'requeued' AND d.requeue_id = a.requeue_id END
        ORDER BY a.letter_id, a.reason NULLS FIRST
    ), settled AS (
        UPDATE bus.dead_letter AS d
        SET status = CASE WHEN f.reason IS NULL THEN 'stored' ELSE 'rejected' END,
            reason = coalesce(f.reason, d.reason),
            error = CASE WHEN f.reason IS NULL THEN d.error ELSE f.error END,
            changed_at = clock_timestamp(),
            changed_by = by_worker
        FROM final AS f
        WHERE d.letter_id = f.letter_id
        RETURNING f.requeue_id
    )
    SELECT a.requeue_id, a.requeue_id IN (SELECT s.requeue_id FROM settled AS s) FROM answer AS a
$$;
REVOKE EXECUTE ON FUNCTION bus.settle_requeues FROM PUBLIC;
COMMENT ON FUNCTION bus.settle_requeues IS
    'Answers to requeues: without a reason its event is stored. Returns those that are known here, and '
    'whether the answer changed a letter';

CREATE FUNCTION bus.forget_letters(keep interval, most integer) RETURNS bigint
LANGUAGE sql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    WITH gone AS (
        DELETE FROM bus.dead_letter
        WHERE letter_id IN (
            SELECT d.letter_id FROM bus.dead_letter AS d
            WHERE d.status IN ('stored', 'discarded') AND d.changed_at < now() - keep
            ORDER BY d.changed_at LIMIT most FOR UPDATE SKIP LOCKED
        )
        RETURNING letter_id
    ), history AS (
        DELETE FROM bus.dead_letter_change WHERE letter_id IN (SELECT g.letter_id FROM gone AS g)
    )
    SELECT count(*) FROM gone
$$;
REVOKE EXECUTE ON FUNCTION bus.forget_letters FROM PUBLIC;
COMMENT ON FUNCTION bus.forget_letters IS
    'Deletes letters that were stored or discarded longer ago than keep; never open ones';
