DELETE FROM partitions.policy WHERE schema_name = 'spans';
DROP VIEW spans.usage;
DROP TABLE spans.span;
DROP SCHEMA spans;
