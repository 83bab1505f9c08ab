DROP VIEW agents.kv;
DROP VIEW agents.kv_status;
DROP VIEW agents.kv_state;
DROP FUNCTION bus.kv_token(text);
DROP FUNCTION bus.kv_escaped(text);
