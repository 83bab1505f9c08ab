DELETE FROM partitions.policy WHERE schema_name IN ('events', 'audit');
DROP TABLE audit.log;
DROP SCHEMA audit;
DROP TABLE events.log;
DROP SCHEMA events;
