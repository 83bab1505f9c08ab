DROP FUNCTION collab.settle(uuid[]);
DROP FUNCTION collab.announce(uuid, text, uuid, timestamptz, jsonb);
DROP FUNCTION collab.tally(uuid);
DROP FUNCTION collab.run_off(integer, integer[], integer[]);
DROP FUNCTION collab.weighed_ballots(uuid);
DROP SCHEMA config CASCADE;
DROP FUNCTION bus.emit(text, text, text, timestamptz, jsonb);
DROP TABLE bus.job;
DROP TABLE bus.due;
