DROP VIEW bus.outbox_domain;
DROP TABLE bus.outbox;
DROP FUNCTION bus.wake_outbox();
