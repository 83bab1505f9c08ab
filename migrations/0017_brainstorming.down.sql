DROP VIEW collab.v_participant;
DROP VIEW collab.v_brainstorm;
DROP TABLE collab.idea_vote;
DROP TABLE collab.idea_combination;
DROP TABLE collab.idea;
DROP TABLE collab.participant;
DROP TABLE collab.brainstorm;
DROP DOMAIN vocab.idea_target;
