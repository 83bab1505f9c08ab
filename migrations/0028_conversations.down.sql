DELETE FROM partitions.policy
WHERE schema_name = 'conversations' OR (schema_name = 'events' AND table_name = 'log_conversations');
DROP VIEW conversations.v_item;
DROP TABLE conversations.removal;
DROP TABLE conversations.item;
DROP TABLE conversations.conversation;
DROP TABLE events.log_conversations;
DROP SCHEMA conversations;
