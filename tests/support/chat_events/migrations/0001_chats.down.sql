DELETE FROM partitions.policy WHERE table_name = 'log_chats';
DROP VIEW chats.kv_chat;
DROP TABLE chats.chat;
DROP TABLE events.log_chats;
DROP SCHEMA chats;
