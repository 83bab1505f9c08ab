-- Conversations: the items of conversations, in their order, and what was taken back.

CREATE SCHEMA conversations;
COMMENT ON SCHEMA conversations IS 'What was said in conversations with agents';

CREATE TABLE events.log_conversations PARTITION OF events.log FOR VALUES IN ('conversations')
    PARTITION BY RANGE (occurred_at);

CREATE TABLE conversations.conversation (
    conversation_id  uuid PRIMARY KEY,
    external_id text,
    first_at    timestamptz,
    last_at     timestamptz,
    cleared_at  timestamptz,
    is_stub     boolean NOT NULL DEFAULT false,
    updated_at  timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE conversations.conversation IS 'A conversation';
COMMENT ON COLUMN conversations.conversation.external_id IS
    'The text that conversation_id was made from; NULL if none';
COMMENT ON COLUMN conversations.conversation.cleared_at IS
    'Items until then are taken back; what came later is there';
CREATE INDEX conversation_external_id ON conversations.conversation (external_id) WHERE external_id IS NOT NULL;
CREATE INDEX conversation_last_at ON conversations.conversation (last_at DESC);

CREATE TABLE conversations.item (
    event_id    uuid NOT NULL,
    n           integer NOT NULL,
    occurred_at timestamptz NOT NULL,
    conversation_id  uuid,
    item        jsonb,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (event_id, n, occurred_at)
) PARTITION BY RANGE (occurred_at);
COMMENT ON TABLE conversations.item IS
    'Every item as it was added; conversations.v_item has those that were not taken back';
CREATE INDEX item_conversation ON conversations.item (conversation_id, occurred_at DESC);

CREATE TABLE conversations.removal (
    event_id    uuid NOT NULL,
    occurred_at timestamptz NOT NULL,
    conversation_id  uuid,
    item_event  uuid,
    item_n      integer,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (event_id, occurred_at)
) PARTITION BY RANGE (occurred_at);
COMMENT ON TABLE conversations.removal IS 'Items that were taken back';
CREATE INDEX removal_item ON conversations.removal (item_event, item_n);

INSERT INTO partitions.policy
    (schema_name, table_name, column_name, "interval", premake, retention, archive)
VALUES
    ('events', 'log_conversations', 'occurred_at', 'month', 3, '12 months', true),
    ('conversations', 'item', 'occurred_at', 'month', 3, '12 months', false),
    ('conversations', 'removal', 'occurred_at', 'month', 3, '12 months', false);
SELECT partitions.maintain();

CREATE VIEW conversations.v_item AS
SELECT
    i.conversation_id,
    coalesce(s.external_id, s.conversation_id::text) AS conversation,
    i.occurred_at,
    i.event_id,
    i.n,
    i.item
FROM conversations.item AS i
JOIN conversations.conversation AS s ON s.conversation_id = i.conversation_id
WHERE (s.cleared_at IS NULL OR i.occurred_at > s.cleared_at)
  AND NOT EXISTS (
      SELECT FROM conversations.removal AS r
      WHERE r.item_event = i.event_id AND r.item_n = i.n AND r.conversation_id = i.conversation_id
  );
COMMENT ON VIEW conversations.v_item IS
    'Items of conversations; their order is that of occurred_at, event_id and n';
