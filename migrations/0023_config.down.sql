DROP VIEW config.history;
DROP VIEW config.kv;
DROP TABLE config.feature_flag;
DROP TABLE config.entry;
DROP DOMAIN vocab.environment;
