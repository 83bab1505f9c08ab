-- The words of the domain, as domains over text and not as enum types: a word can be retired. NULL is
-- always allowed; NOT NULL is for the table to decide.

CREATE SCHEMA vocab;
COMMENT ON SCHEMA vocab IS 'The values that columns may have';

CREATE DOMAIN vocab.agent_status AS text CHECK (VALUE IN (
    'unknown', 'initializing', 'active', 'idle', 'busy', 'learning', 'paused',
    'suspended', 'maintenance', 'error', 'offline', 'terminated'
));

CREATE DOMAIN vocab.cognitive_pattern AS text CHECK (VALUE IN (
    'convergent', 'divergent', 'lateral', 'systems', 'critical', 'adaptive'
));

CREATE DOMAIN vocab.instance_status AS text CHECK (VALUE IN (
    'starting', 'running', 'stopping', 'stopped', 'error', 'crashed'
));

CREATE DOMAIN vocab.agent_dependency_kind AS text CHECK (VALUE IN (
    'required', 'optional', 'preferred'
));

CREATE DOMAIN vocab.output_kind AS text CHECK (VALUE IN (
    'status', 'log', 'metric'
));

CREATE DOMAIN vocab.task_status AS text CHECK (VALUE IN (
    'pending', 'queued', 'assigned', 'running', 'paused', 'retrying', 'completed',
    'failed', 'cancelled'
));

CREATE DOMAIN vocab.task_dependency_kind AS text CHECK (VALUE IN (
    'completion', 'start', 'data', 'resource'
));

CREATE DOMAIN vocab.tdd_phase AS text CHECK (VALUE IN (
    'red', 'green', 'refactor'
));

CREATE DOMAIN vocab.message_kind AS text CHECK (VALUE IN (
    'command', 'query', 'response', 'notification', 'heartbeat', 'error', 'event'
));

CREATE DOMAIN vocab.message_status AS text CHECK (VALUE IN (
    'pending', 'sent', 'failed', 'expired', 'delivered', 'processed'
));

CREATE DOMAIN vocab.recipient_kind AS text CHECK (VALUE IN (
    'agent', 'type', 'broadcast', 'channel', 'user', 'webhook'
));

CREATE DOMAIN vocab.channel_kind AS text CHECK (VALUE IN (
    'direct', 'broadcast', 'topic', 'queue', 'system', 'monitoring', 'webhook'
));

CREATE DOMAIN vocab.queue_discipline AS text CHECK (VALUE IN (
    'fifo', 'priority', 'delayed', 'retry'
));

CREATE DOMAIN vocab.voting_algorithm AS text CHECK (VALUE IN (
    'simple_majority', 'confidence_weighted', 'quadratic', 'consensus', 'ranked_choice'
));

CREATE DOMAIN vocab.vote_session_status AS text CHECK (VALUE IN (
    'open', 'closed', 'cancelled'
));

CREATE DOMAIN vocab.agent_type AS text CHECK (VALUE ~ '^[a-z0-9][a-z0-9_-]*$');

CREATE DOMAIN vocab.priority AS smallint CHECK (VALUE BETWEEN 0 AND 9);
COMMENT ON DOMAIN vocab.priority IS '0 to 9; higher is more urgent';
