DROP VIEW partitions.partition;
DROP FUNCTION partitions.maintain;
DROP FUNCTION partitions.ensure_for;
DROP FUNCTION partitions.is_detached;
DROP FUNCTION partitions.is_attached;
DROP FUNCTION partitions.period;
DROP TABLE partitions.policy;
DROP SCHEMA partitions;
