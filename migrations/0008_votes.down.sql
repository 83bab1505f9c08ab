DROP VIEW collab.vote_audit_trail;
DROP VIEW collab.ballot_counted;
DROP TABLE collab.ballot;
DROP TABLE collab.vote_session;
DROP SCHEMA collab;
