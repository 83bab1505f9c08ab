DELETE FROM partitions.policy WHERE schema_name = 'tasks';
DROP MATERIALIZED VIEW tasks.project_stats;
DROP MATERIALIZED VIEW agents.performance_daily;
DROP FUNCTION tasks.recount_stats(uuid[]);
DROP FUNCTION tasks.wrong_stats();
DROP FUNCTION tasks.counted_stats(uuid[]);
DROP VIEW tasks.v_queue_summary;
DROP VIEW tasks.ready;
DROP VIEW tasks.history;
DROP TABLE tasks.execution;
DROP TABLE tasks.dependency;
DROP TABLE tasks.task;
DROP FUNCTION tasks.apply_stats;
DROP FUNCTION tasks.begin_stats;
DROP SCHEMA tasks;
-- The sums were over the tasks that are gone.
DELETE FROM agents.stats;
