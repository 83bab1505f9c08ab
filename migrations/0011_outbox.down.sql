DROP TABLE bus.outbox;
DROP FUNCTION bus.wake_outbox();
