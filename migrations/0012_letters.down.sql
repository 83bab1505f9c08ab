DROP FUNCTION bus.forget_letters;
DROP FUNCTION bus.settle_requeues;
DROP TRIGGER note_change ON bus.dead_letter;
DROP TRIGGER check_change ON bus.dead_letter;
DROP FUNCTION bus.note_letter_change;
DROP FUNCTION bus.check_letter_change;
DROP TABLE bus.dead_letter_change;
DROP INDEX bus.dead_letter_done;
DROP INDEX bus.dead_letter_open;
ALTER TABLE bus.dead_letter
    DROP CONSTRAINT letter_status,
    DROP COLUMN event_type,
    DROP COLUMN requeue_id,
    DROP COLUMN sent_subject,
    DROP COLUMN sent_headers,
    DROP COLUMN sent_body,
    DROP COLUMN changed_at,
    DROP COLUMN changed_by;
