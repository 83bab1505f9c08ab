DELETE FROM bus.job WHERE name = 'winners';
DROP VIEW league.kv_match;
DROP FUNCTION league.decide;
DROP VIEW league.won;
DELETE FROM partitions.policy
WHERE schema_name = 'league' OR (schema_name, table_name) = ('events', 'log_league');
DROP TABLE league.move;
DROP TABLE league.active_day;
DROP TABLE league.standing;
DROP TABLE league.placing;
DROP TABLE league.invitation;
DROP TABLE league.match;
DROP TABLE league.season;
DROP TABLE league.season_event;
DROP TABLE events.log_league;
DROP SCHEMA league;
