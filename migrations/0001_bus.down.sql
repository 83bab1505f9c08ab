DROP VIEW bus.gap;
DROP FUNCTION bus.compact_positions;
DROP FUNCTION bus.utc_text;
DROP TABLE bus.replica;
DROP TABLE bus.crash_marker;
DROP TABLE bus.position;
DROP TABLE bus.dead_letter;
-- Refused while it still holds archived partitions: they may be the only copy.
DROP SCHEMA archive;
DROP SCHEMA bus;
