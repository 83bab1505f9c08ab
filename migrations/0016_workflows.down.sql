DROP TABLE agents.last_checkpoint;
DELETE FROM partitions.policy WHERE schema_name = 'workflows';
DROP TABLE workflows.execution;
DROP TABLE workflows.workflow;
DROP SCHEMA workflows;
DROP DOMAIN vocab.workflow_status;
