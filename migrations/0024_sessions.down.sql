DELETE FROM partitions.policy
WHERE schema_name = 'sessions' OR (schema_name = 'events' AND table_name = 'log_sessions');
DROP VIEW sessions.v_item;
DROP TABLE sessions.removal;
DROP TABLE sessions.item;
DROP TABLE sessions.session;
DROP TABLE events.log_sessions;
DROP SCHEMA sessions;
