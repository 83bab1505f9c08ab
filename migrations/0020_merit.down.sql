DELETE FROM bus.job WHERE name IN ('ratings', 'tiers');
DELETE FROM partitions.policy WHERE (schema_name, table_name) = ('merit', 'points');
DROP SCHEMA merit CASCADE;
DROP DOMAIN vocab.allocation_kind;
DROP DOMAIN vocab.battle_status;
DROP DOMAIN vocab.battle_mode;
DROP DOMAIN vocab.achievement_category;
