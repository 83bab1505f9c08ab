DROP VIEW collab.vote_audit_trail;
DROP TABLE collab.ballot;
DROP TABLE collab.vote_session;
DROP SCHEMA collab;
