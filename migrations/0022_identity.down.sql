DELETE FROM bus.job WHERE name = 'expire_sessions';
ALTER TABLE workflows.workflow DROP CONSTRAINT workflow_project_id_fkey;
DROP SCHEMA identity CASCADE;
DROP DOMAIN vocab.session_kind;
DROP DOMAIN vocab.member_role;
DROP DOMAIN vocab.account_tier;
DROP DOMAIN vocab.account_status;
