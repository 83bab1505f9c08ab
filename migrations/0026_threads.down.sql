DELETE FROM partitions.policy
WHERE schema_name = 'threads' OR (schema_name = 'events' AND table_name = 'log_threads');
DROP VIEW threads.v_checkpoint;
DROP TABLE threads.removal;
DROP TABLE threads.write;
DROP TABLE threads.value;
DROP TABLE threads.checkpoint;
DROP TABLE threads.thread;
DROP TABLE events.log_threads;
DROP SCHEMA threads;
