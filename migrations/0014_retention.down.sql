DROP FUNCTION partitions.put_away;
DROP VIEW partitions.life;
DROP FUNCTION partitions.needed_from;
CREATE OR REPLACE FUNCTION partitions.is_detached(in_schema text, in_table text, span tstzrange)
RETURNS boolean
LANGUAGE sql STABLE
RETURN false;
DROP TABLE partitions.detached;
