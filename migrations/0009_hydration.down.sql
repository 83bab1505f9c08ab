DROP VIEW agents.kv;
DROP VIEW agents.kv_status;
DROP VIEW agents.kv_state;
