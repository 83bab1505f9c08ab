DROP VIEW mentorship.v_active;
DROP TABLE mentorship.progress;
DROP TABLE mentorship.curriculum;
DROP TABLE mentorship.session;
DROP TABLE mentorship.pairing;
DROP SCHEMA mentorship;
DROP DOMAIN vocab.pairing_status;
DELETE FROM partitions.policy WHERE schema_name = 'events' AND table_name = 'log_merit';
DROP TABLE events.log_merit;
