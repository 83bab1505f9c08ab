-- Messages between agents, users and webhooks, and their channels.

CREATE SCHEMA messages;
COMMENT ON SCHEMA messages IS 'Messages and their delivery, channels and subscriptions';

CREATE TABLE messages.message (
    message_id      uuid NOT NULL,
    sent_at         timestamptz NOT NULL,
    recipient       text,
    to_kind         vocab.recipient_kind,
    to_id           text,
    from_id         text,
    channel_id      uuid,
    kind            vocab.message_kind,
    subject         text,
    payload         jsonb,
    headers         jsonb,
    priority        vocab.priority,
    corr            text,
    parent_id       uuid,
    reply_to        text,
    ttl_s           bigint,
    expires_at      timestamptz,
    requires_ack    boolean,
    max_attempts    integer,
    created_at      timestamptz,
    created_event   uuid,
    status          vocab.message_status,
    delivered_at    timestamptz,
    processed_at    timestamptz,
    acked_at        timestamptz,
    read_at         timestamptz,
    attempts        integer,
    last_error      text,
    next_attempt_at timestamptz,
    version         bigint,
    version_at      timestamptz,
    version_event   uuid,
    is_stub         boolean NOT NULL DEFAULT false,
    updated_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (message_id, sent_at)
) PARTITION BY RANGE (sent_at);
COMMENT ON TABLE messages.message IS
    'Messages to agents, people and webhooks, and what became of each';
COMMENT ON COLUMN messages.message.to_kind IS 'What the recipient is';
COMMENT ON COLUMN messages.message.corr IS 'What it is a part of: the event''s correlationid';
COMMENT ON COLUMN messages.message.ttl_s IS 'How long it is worth delivering';
COMMENT ON COLUMN messages.message.attempts IS 'The greatest number of an attempt that failed';
COMMENT ON COLUMN messages.message.recipient IS 'The second token of the subject it was sent on';
COMMENT ON COLUMN messages.message.status IS
    'The latest in the order pending, sent, failed, expired, delivered, processed';
CREATE INDEX message_recipient ON messages.message (recipient, sent_at DESC);
CREATE INDEX message_channel ON messages.message (channel_id, sent_at DESC)
    WHERE channel_id IS NOT NULL;
CREATE INDEX message_corr ON messages.message (corr, sent_at) WHERE corr IS NOT NULL;
CREATE INDEX message_retry ON messages.message (next_attempt_at) WHERE status = 'failed';
CREATE INDEX message_sent_at ON messages.message USING brin (sent_at);

CREATE TABLE messages.channel (
    channel_id    uuid PRIMARY KEY,
    external_id   text,
    name          text,
    kind          vocab.channel_kind,
    discipline    vocab.queue_discipline,
    max_size      bigint,
    configuration jsonb,
    is_active     boolean,
    version       bigint,
    version_at    timestamptz,
    version_event uuid,
    is_stub       boolean NOT NULL DEFAULT false,
    updated_at    timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE messages.channel IS 'Channels that agents listen to';
CREATE INDEX channel_external_id ON messages.channel (external_id) WHERE external_id IS NOT NULL;
CREATE INDEX channel_name ON messages.channel (name);

CREATE TABLE messages.subscription (
    agent_id      uuid NOT NULL REFERENCES agents.agent ON DELETE RESTRICT,
    channel_id    uuid NOT NULL REFERENCES messages.channel ON DELETE RESTRICT,
    pattern       text NOT NULL,
    filters       jsonb,
    is_active     boolean,
    version       bigint,
    version_at    timestamptz,
    version_event uuid,
    is_stub       boolean NOT NULL DEFAULT false,
    updated_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (agent_id, channel_id, pattern)
);
COMMENT ON TABLE messages.subscription IS 'Which agent listens to which channel';
CREATE INDEX subscription_channel ON messages.subscription (channel_id);

INSERT INTO partitions.policy
    (schema_name, table_name, column_name, "interval", premake, retention, archive, drop_after)
VALUES
    ('messages', 'message', 'sent_at', 'month', 3, '6 months', true, '12 months');
SELECT partitions.maintain();
