DELETE FROM partitions.policy WHERE schema_name = 'messages';
DROP TABLE messages.subscription;
DROP TABLE messages.channel;
DROP TABLE messages.message;
DROP SCHEMA messages;
