-- The names of the five documents (docs/sources.md) over the tables that do their work now, for queries
-- that were written for them: SET search_path = compat. A name with a schema has it before a _ here.
-- Each view has all columns of its table, and beside them those that the documents call otherwise; rows
-- that are only referred to are left out. They have the rights of who asks.
--
-- A migration that changes a column drops this schema, and makes it again.

CREATE SCHEMA compat;
COMMENT ON SCHEMA compat IS 'The names of the source documents, over the tables that do their work now';

CREATE VIEW compat.agents WITH (security_invoker = true) AS
SELECT t.*, t.agent_id AS id, t.agent_type AS type, t.last_heartbeat AS last_heartbeat_at
FROM agents.agent AS t
WHERE NOT t.is_stub;

CREATE VIEW compat.agents_registry WITH (security_invoker = true) AS
SELECT t.*, t.name AS agent_name
FROM agents.agent AS t
WHERE NOT t.is_stub;

CREATE VIEW compat.agents_registry_masked WITH (security_invoker = true) AS
SELECT t.*, t.name AS agent_name
FROM agents.v_masked AS t;

CREATE VIEW compat.agent_skills WITH (security_invoker = true) AS
SELECT t.*, t.name AS skill_name, t.name AS capability
FROM agents.capability AS t
WHERE NOT t.is_stub;

CREATE VIEW compat.agent_capabilities WITH (security_invoker = true) AS
SELECT t.*, t.name AS capability, t.name AS capability_name, t.proficiency AS proficiency_level,
       t.cap_version AS capability_version
FROM agents.capability AS t
WHERE NOT t.is_stub;

CREATE VIEW compat.agent_activity_log WITH (security_invoker = true) AS
SELECT t.*, t.event_id AS id, t.agent AS agent_id, t.occurred_at AS created_at
FROM agents.activity_log AS t;

CREATE VIEW compat.agent_status_history WITH (security_invoker = true) AS
SELECT t.*, t.event_id AS id, t.agent AS agent_id, t.new_status AS status, t.occurred_at AS created_at
FROM agents.status_history AS t;

CREATE VIEW compat.agents_lifecycle_events WITH (security_invoker = true) AS
SELECT t.*, t.agent AS agent_id, t.data AS event_data, t.occurred_at AS created_at
FROM agents.lifecycle_events AS t;

CREATE VIEW compat.agents_state WITH (security_invoker = true) AS
SELECT t.*, t.value AS state_value
FROM agents.state AS t
WHERE NOT t.is_stub;

CREATE VIEW compat.agent_states WITH (security_invoker = true) AS
SELECT t.*, t.checkpoint_id AS id, t.snapshot AS state_data, t.trigger AS checkpoint_type,
       t.occurred_at AS created_at
FROM agents.checkpoint AS t;

CREATE VIEW compat.agents_checkpoints WITH (security_invoker = true) AS
SELECT t.*, t.name AS checkpoint_name, t.snapshot AS state_snapshot, t.trigger AS trigger_event,
       t.occurred_at AS created_at
FROM agents.checkpoint AS t;

CREATE VIEW compat.agent_instances WITH (security_invoker = true) AS
SELECT t.*, t.instance_id AS id, t.host AS host_name, t.status AS state
FROM agents.v_instance AS t
WHERE NOT t.is_stub;

CREATE VIEW compat.agent_dependencies WITH (security_invoker = true) AS
SELECT t.*, t.depends_on AS depends_on_agent_id, t.kind AS dependency_type
FROM agents.dependency AS t
WHERE NOT t.is_stub;

CREATE VIEW compat.agent_connections WITH (security_invoker = true) AS
SELECT t.*, t.connection_id AS id, t.database AS database_name, t.pool_size AS connection_pool_size
FROM agents.connection AS t
WHERE NOT t.is_stub;

CREATE VIEW compat.agent_outputs WITH (security_invoker = true) AS
SELECT t.*, t.event_id AS id, t.occurred_at AS created_at
FROM agents.output AS t;

CREATE VIEW compat.agent_outputs_partitioned WITH (security_invoker = true) AS
SELECT t.*, t.event_id AS id, t.occurred_at AS created_at
FROM agents.output AS t;

CREATE VIEW compat.agent_performance_daily WITH (security_invoker = true) AS
SELECT t.*, t.day AS date
FROM agents.performance_daily AS t;

CREATE VIEW compat.tasks WITH (security_invoker = true) AS
SELECT t.*, t.task_id AS id, t.task_type AS type, t.assigned_to AS assigned_agent_id,
       t.payload AS input_data, t.result AS output_data, t.error AS error_details,
       t.deadline AS deadline_at
FROM tasks.task AS t
WHERE NOT t.is_stub;

CREATE VIEW compat.tasks_queue WITH (security_invoker = true) AS
SELECT t.*, t.title AS task_name, t.assigned_to AS assigned_agent_id,
       t.max_duration_ms AS max_execution_time
FROM tasks.task AS t
WHERE NOT t.is_stub;

CREATE VIEW compat.background_jobs WITH (security_invoker = true) AS
SELECT t.*, t.task_id AS id, t.task_type AS job_type
FROM tasks.task AS t
WHERE NOT t.is_stub AND t.task_type = 'job';

CREATE VIEW compat.task_history WITH (security_invoker = true) AS
SELECT t.*, t.event_id AS id, t.task AS task_id, t.occurred_at AS created_at
FROM tasks.history AS t;

CREATE VIEW compat.task_dependencies WITH (security_invoker = true) AS
SELECT t.*, t.depends_on AS depends_on_task_id, t.kind AS dependency_type
FROM tasks.dependency AS t
WHERE NOT t.is_stub;

CREATE VIEW compat.tasks_dependencies WITH (security_invoker = true) AS
SELECT t.*, t.depends_on AS depends_on_task_id, t.kind AS dependency_type
FROM tasks.dependency AS t
WHERE NOT t.is_stub;

CREATE VIEW compat.tasks_executions WITH (security_invoker = true) AS
SELECT t.*, t.attempt AS execution_attempt, t.error AS error_message, t.cpu_ms AS cpu_time_ms,
       t.mem_peak_mb AS memory_peak_mb, t.io_ops AS io_operations
FROM tasks.execution AS t
WHERE NOT t.is_stub;

CREATE VIEW compat.project_task_stats WITH (security_invoker = true) AS
SELECT t.*, t.tasks AS total_tasks, t.tasks_completed AS completed_tasks, t.tasks_failed AS failed_tasks,
       t.latest_change AS last_activity
FROM tasks.project_stats AS t;

CREATE VIEW compat.workflows WITH (security_invoker = true) AS
SELECT t.*, t.workflow_id AS id, t.kind AS type, t.definition AS steps
FROM workflows.workflow AS t
WHERE NOT t.is_stub;

CREATE VIEW compat.workflow_executions WITH (security_invoker = true) AS
SELECT t.*, t.execution_id AS id, t.number AS execution_number, t.variables AS execution_data,
       t.error AS error_message
FROM workflows.execution AS t
WHERE NOT t.is_stub;

CREATE VIEW compat.messages WITH (security_invoker = true) AS
SELECT t.*, t.message_id AS id, t.from_id AS from_agent_id, t.to_id AS to_agent_id,
       t.kind AS message_type, t.payload AS content, t.attempts AS retry_count,
       t.max_attempts AS max_retries, t.corr AS correlation_id, t.parent_id AS parent_message_id,
       t.last_error AS error_message
FROM messages.message AS t
WHERE NOT t.is_stub;

CREATE VIEW compat.messages_log WITH (security_invoker = true) AS
SELECT t.*, t.from_id AS from_agent_id, t.to_id AS to_agent_id, t.kind AS message_type,
       t.corr AS correlation_id, t.attempts AS delivery_attempts
FROM messages.message AS t
WHERE NOT t.is_stub;

CREATE VIEW compat.agent_messages WITH (security_invoker = true) AS
SELECT t.*, t.message_id AS id, t.from_id AS source_agent_id, t.to_id AS destination_agent_id,
       t.to_kind AS destination_type, t.kind AS message_type, t.corr AS correlation_id,
       t.acked_at AS ack_received_at, t.ttl_s AS ttl, t.attempts AS retry_count,
       t.max_attempts AS max_retries
FROM messages.message AS t
WHERE NOT t.is_stub;

CREATE VIEW compat.message_queue WITH (security_invoker = true) AS
SELECT t.*, t.message_id AS id, t.next_attempt_at AS scheduled_for
FROM messages.message AS t
WHERE NOT t.is_stub;

CREATE VIEW compat.webhook_deliveries WITH (security_invoker = true) AS
SELECT t.*, t.message_id AS id, t.to_id AS webhook_id
FROM messages.message AS t
WHERE NOT t.is_stub AND t.to_kind = 'webhook';

CREATE VIEW compat.notifications WITH (security_invoker = true) AS
SELECT t.*, t.message_id AS id, t.to_id AS user_id
FROM messages.message AS t
WHERE NOT t.is_stub AND t.to_kind = 'user';

CREATE VIEW compat.transport_channels WITH (security_invoker = true) AS
SELECT t.*, t.channel_id AS id, t.kind AS channel_type
FROM messages.channel AS t
WHERE NOT t.is_stub;

CREATE VIEW compat.message_queues WITH (security_invoker = true) AS
SELECT t.*, t.channel_id AS id, t.discipline AS queue_type
FROM messages.channel AS t
WHERE NOT t.is_stub;

CREATE VIEW compat.messages_channels WITH (security_invoker = true) AS
SELECT t.*, t.name AS channel_name, t.kind AS channel_type
FROM messages.channel AS t
WHERE NOT t.is_stub;

CREATE VIEW compat.messages_subscriptions WITH (security_invoker = true) AS
SELECT t.*, t.pattern AS message_pattern
FROM messages.subscription AS t
WHERE NOT t.is_stub;

CREATE VIEW compat.voting_sessions WITH (security_invoker = true) AS
SELECT t.*, t.session_id AS id
FROM collab.vote_session AS t
WHERE NOT t.is_stub;

CREATE VIEW compat.votes WITH (security_invoker = true) AS
SELECT t.*, t.ballot_id AS id, t.tokens AS tokens_spent
FROM collab.ballot_counted AS t;

CREATE VIEW compat.vote_audit_trail WITH (security_invoker = true) AS
SELECT t.*, t.event_id AS id, t.occurred_at AS created_at
FROM collab.vote_audit_trail AS t;

CREATE VIEW compat.brainstorm_sessions WITH (security_invoker = true) AS
SELECT t.*, t.session_id AS id
FROM collab.v_brainstorm AS t;

CREATE VIEW compat.brainstorm_participants WITH (security_invoker = true) AS
SELECT t.*
FROM collab.v_participant AS t;

CREATE VIEW compat.ideas WITH (security_invoker = true) AS
SELECT t.*, t.idea_id AS id
FROM collab.idea AS t
WHERE NOT t.is_stub;

CREATE VIEW compat.idea_combinations WITH (security_invoker = true) AS
SELECT t.*, t.combination_id AS id
FROM collab.idea_combination AS t
WHERE NOT t.is_stub;

CREATE VIEW compat.idea_votes WITH (security_invoker = true) AS
SELECT t.*
FROM collab.idea_vote AS t
WHERE NOT t.is_stub;

CREATE VIEW compat.achievements WITH (security_invoker = true) AS
SELECT t.*, t.achievement_id AS id
FROM merit.achievement AS t
WHERE NOT t.is_stub;

CREATE VIEW compat.agent_achievements WITH (security_invoker = true) AS
SELECT t.*, t.first_unlocked AS unlocked_at
FROM merit.agent_achievement AS t
WHERE NOT t.is_stub;

CREATE VIEW compat.point_transactions WITH (security_invoker = true) AS
SELECT t.*, t.event_id AS id, t.occurred_at AS created_at
FROM merit.points AS t;

CREATE VIEW compat.streaks WITH (security_invoker = true) AS
SELECT t.*, t.current AS current_streak, t.longest AS longest_streak, t.last_day AS last_activity_date
FROM merit.streak AS t;

CREATE VIEW compat.battles WITH (security_invoker = true) AS
SELECT t.*, t.battle_id AS id
FROM merit.battle AS t
WHERE NOT t.is_stub;

CREATE VIEW compat.battle_participants WITH (security_invoker = true) AS
SELECT t.*, t.joined_at AS joined
FROM merit.battle_participant AS t
WHERE NOT t.is_stub;

CREATE VIEW compat.elo_history WITH (security_invoker = true) AS
SELECT t.*, t.rated_at AS created_at
FROM merit.elo_history AS t;

CREATE VIEW compat.leaderboard_rankings WITH (security_invoker = true) AS
SELECT t.*
FROM merit.leaderboard AS t;

CREATE VIEW compat.hall_of_fame WITH (security_invoker = true) AS
SELECT t.*
FROM merit.hall_of_fame AS t
WHERE NOT t.is_stub;

CREATE VIEW compat.resource_pools WITH (security_invoker = true) AS
SELECT t.*, t.capacity AS total
FROM merit.resource_pool AS t
WHERE NOT t.is_stub;

CREATE VIEW compat.resource_allocations WITH (security_invoker = true) AS
SELECT t.*, t.allocation_id AS id
FROM merit.allocation AS t
WHERE NOT t.is_stub;

CREATE VIEW compat.mentorship_pairings WITH (security_invoker = true) AS
SELECT t.*, t.pairing_id AS id
FROM mentorship.pairing AS t
WHERE NOT t.is_stub;

CREATE VIEW compat.mentorship_sessions WITH (security_invoker = true) AS
SELECT t.*, t.number AS session_number
FROM mentorship.session AS t
WHERE NOT t.is_stub;

CREATE VIEW compat.mentorship_curriculum WITH (security_invoker = true) AS
SELECT t.*, t.curriculum_id AS id
FROM mentorship.curriculum AS t
WHERE NOT t.is_stub;

CREATE VIEW compat.mentee_progress WITH (security_invoker = true) AS
SELECT t.*
FROM mentorship.progress AS t
WHERE NOT t.is_stub;

CREATE VIEW compat.trust_graph WITH (security_invoker = true) AS
SELECT t.*, t.from_agent AS from_agent_id, t.to_agent AS to_agent_id, t.interactions AS interaction_count
FROM trust.v_edge AS t;

CREATE VIEW compat.peer_ratings WITH (security_invoker = true) AS
SELECT t.*, t.from_agent AS rater_id, t.to_agent AS rated_id
FROM trust.rating AS t
WHERE NOT t.is_stub;

CREATE VIEW compat.global_trust_scores WITH (security_invoker = true) AS
SELECT t.*, t.eigentrust AS eigentrust_score, t.persistence AS persistence_score,
       t.competence AS competence_score, t.composite AS composite_score, t.level AS trust_level
FROM trust.score AS t;

CREATE VIEW compat.reputation_history WITH (security_invoker = true) AS
SELECT t.*, t.event_id AS id, t.agent AS agent_id, t.occurred_at AS created_at
FROM trust.reputation_history AS t;

CREATE VIEW compat.violations WITH (security_invoker = true) AS
SELECT t.*, t.violation_id AS id, t.kind AS violation_type
FROM trust.violation AS t
WHERE NOT t.is_stub;

CREATE VIEW compat.appeals WITH (security_invoker = true) AS
SELECT t.*, t.appeal_id AS id
FROM trust.appeal AS t
WHERE NOT t.is_stub;

CREATE VIEW compat.retraining_programs WITH (security_invoker = true) AS
SELECT t.*, t.program_id AS id
FROM trust.retraining AS t
WHERE NOT t.is_stub;

CREATE VIEW compat.penalty_history WITH (security_invoker = true) AS
SELECT t.*, t.event_id AS id, t.agent AS agent_id, t.occurred_at AS created_at
FROM trust.penalty_history AS t;

CREATE VIEW compat.knowledge_items WITH (security_invoker = true) AS
SELECT t.*, t.item_id AS id
FROM knowledge.v_item AS t;

CREATE VIEW compat.knowledge_transfers WITH (security_invoker = true) AS
SELECT t.*, t.event_id AS id, t.item AS knowledge_id, t.source_agent AS source_agent_id,
       t.target_agent AS target_agent_id, t.method AS transfer_method, t.error AS error_message,
       t.occurred_at AS created_at
FROM knowledge.transfers AS t;

CREATE VIEW compat.knowledge_facts WITH (security_invoker = true) AS
SELECT t.*, t.confidence AS confidence_score
FROM knowledge.v_fact AS t;

CREATE VIEW compat.knowledge_embeddings WITH (security_invoker = true) AS
SELECT t.*, t.owner_id AS fact_id, t.model AS embedding_model, t.model_version AS embedding_version,
       t.vector AS embedding_vector, t.source_text AS text_content, t.text_hash AS content_hash
FROM knowledge.embedding AS t
WHERE NOT t.is_stub;

CREATE VIEW compat.patterns WITH (security_invoker = true) AS
SELECT t.*, t.pattern_id AS id, t.kind AS type, t.data AS pattern_data
FROM knowledge.pattern AS t
WHERE NOT t.is_stub;

CREATE VIEW compat.pattern_usage WITH (security_invoker = true) AS
SELECT t.*, t.event_id AS id, t.occurred_at AS created_at
FROM knowledge.pattern_usage AS t;

CREATE VIEW compat.pattern_metrics WITH (security_invoker = true) AS
SELECT t.*, t.event_id AS id, t.name AS metric_type, t.occurred_at AS created_at
FROM telemetry.metric AS t
WHERE t.scope = 'pattern';

CREATE VIEW compat.agent_metrics WITH (security_invoker = true) AS
SELECT t.*, t.event_id AS id, t.name AS metric_type, t.tags AS metadata, t.occurred_at AS timestamp
FROM telemetry.metric AS t
WHERE t.scope = 'agent';

CREATE VIEW compat.knowledge_metrics WITH (security_invoker = true) AS
SELECT t.*, t.event_id AS id, t.name AS metric_type, t.occurred_at AS timestamp
FROM telemetry.metric AS t
WHERE t.scope = 'knowledge';

CREATE VIEW compat.system_metrics WITH (security_invoker = true) AS
SELECT t.*, t.event_id AS id, t.name AS metric_type, t.occurred_at AS timestamp
FROM telemetry.metric AS t
WHERE t.scope = 'system';

CREATE VIEW compat.metrics WITH (security_invoker = true) AS
SELECT t.*, t.event_id AS id, t.name AS metric_name, t.value AS metric_value, t.kind AS metric_type
FROM telemetry.metric AS t;

CREATE VIEW compat.learning_sessions WITH (security_invoker = true) AS
SELECT t.*, t.session_id AS id, t.metrics AS session_metrics, t.improvement AS improvement_score,
       t.created_at AS started_at
FROM knowledge.learning_session AS t
WHERE NOT t.is_stub;

CREATE VIEW compat.organizations WITH (security_invoker = true) AS
SELECT t.*, t.organization_id AS id, t.tier AS subscription_tier, t.registered_at AS created_at
FROM identity.organization AS t
WHERE NOT t.is_stub;

CREATE VIEW compat.projects WITH (security_invoker = true) AS
SELECT t.*, t.project_id AS id
FROM identity.project AS t
WHERE NOT t.is_stub;

CREATE VIEW compat.organization_members WITH (security_invoker = true) AS
SELECT t.*, t.account_id AS user_id, t.added_by AS invited_by
FROM identity.organization_member AS t
WHERE NOT t.is_stub;

CREATE VIEW compat.project_members WITH (security_invoker = true) AS
SELECT t.*, t.account_id AS user_id
FROM identity.project_member AS t
WHERE NOT t.is_stub;

CREATE VIEW compat.users WITH (security_invoker = true) AS
SELECT t.*, t.account_id AS id, t.name AS full_name, t.locked AS is_locked,
       t.failed_logins AS failed_login_attempts, t.last_login AS last_login_at,
       t.registered_at AS created_at
FROM identity.account AS t
WHERE NOT t.is_stub;

CREATE VIEW compat.user_credentials WITH (security_invoker = true) AS
SELECT t.*, t.account_id AS user_id
FROM identity.credential AS t;

CREATE VIEW compat.mfa_devices WITH (security_invoker = true) AS
SELECT t.*, t.device_id AS id, t.account_id AS user_id
FROM identity.mfa_device AS t;

CREATE VIEW compat.oauth_tokens WITH (security_invoker = true) AS
SELECT t.*, t.token_id AS id, t.account_id AS user_id
FROM identity.oauth_token AS t;

CREATE VIEW compat.roles WITH (security_invoker = true) AS
SELECT t.*, t.role_id AS id, t.is_system AS is_system_role, t.registered_at AS created_at
FROM identity.role AS t
WHERE NOT t.is_stub;

CREATE VIEW compat.permissions WITH (security_invoker = true) AS
SELECT t.*, t.permission AS id
FROM identity.permission AS t;

CREATE VIEW compat.role_permissions WITH (security_invoker = true) AS
SELECT t.*, t.permission AS permission_id
FROM identity.role_permission AS t;

CREATE VIEW compat.user_roles WITH (security_invoker = true) AS
SELECT t.*, t.grant_id AS id, t.account_id AS user_id, t.created_at AS granted_at
FROM identity.grant AS t
WHERE NOT t.is_stub AND t.account_id IS NOT NULL AND t.role_id IS NOT NULL;

CREATE VIEW compat.agent_permissions WITH (security_invoker = true) AS
SELECT t.*, t.grant_id AS id, t.created_at AS granted_at
FROM identity.grant AS t
WHERE NOT t.is_stub AND t.agent_id IS NOT NULL;

CREATE VIEW compat.api_keys WITH (security_invoker = true) AS
SELECT t.*, t.key_id AS id, t.account_id AS user_id, t.scopes AS permissions, t.last_used AS last_used_at
FROM identity.api_key AS t
WHERE NOT t.is_stub;

CREATE VIEW compat.sessions WITH (security_invoker = true) AS
SELECT t.*, t.token_hash AS id, t.account_id AS user_id, t.ip AS ip_address, t.closed_at AS revoked_at,
       t.opened_at AS created_at, t.last_activity AS last_activity_at
FROM identity.session AS t
WHERE NOT t.is_stub;

CREATE VIEW compat.sessions_active WITH (security_invoker = true) AS
SELECT t.*, t.token_hash AS session_id, t.account_id AS user_id, t.kind AS session_type,
       t.data AS session_data, t.ip AS ip_address, t.opened_at AS created_at
FROM identity.session AS t
WHERE NOT t.is_stub AND t.closed_at IS NULL;

CREATE VIEW compat.user_sessions WITH (security_invoker = true) AS
SELECT t.*, t.token_hash AS id, t.account_id AS user_id, t.ip AS ip_address,
       t.last_activity AS last_activity_at, t.opened_at AS created_at
FROM identity.session AS t
WHERE NOT t.is_stub AND t.account_id IS NOT NULL;

CREATE VIEW compat.agent_sessions WITH (security_invoker = true) AS
SELECT t.*, t.token_hash AS id, t.data AS session_data, t.last_activity AS last_activity_at,
       t.opened_at AS created_at
FROM identity.session AS t
WHERE NOT t.is_stub AND t.agent_id IS NOT NULL;

CREATE VIEW compat.configurations WITH (security_invoker = true) AS
SELECT t.*, t.config_key AS key
FROM config.entry AS t
WHERE NOT t.is_stub;

CREATE VIEW compat.configuration_history WITH (security_invoker = true) AS
SELECT t.*, t.event_id AS id, t.actor AS changed_by, t.reason AS change_reason, t.occurred_at AS created_at
FROM config.history AS t;

CREATE VIEW compat.feature_flags WITH (security_invoker = true) AS
SELECT t.*, t.enabled AS is_enabled, t.rollout AS rollout_percentage
FROM config.feature_flag AS t
WHERE NOT t.is_stub;

CREATE VIEW compat.github_repositories WITH (security_invoker = true) AS
SELECT t.*, t.repository_id AS id
FROM sdlc.repository AS t
WHERE NOT t.is_stub;

CREATE VIEW compat.github_issues WITH (security_invoker = true) AS
SELECT t.*, t.opened_at AS created_at
FROM sdlc.issue AS t
WHERE NOT t.is_stub;

CREATE VIEW compat.github_pull_requests WITH (security_invoker = true) AS
SELECT t.*, t.opened_at AS created_at
FROM sdlc.pull_request AS t
WHERE NOT t.is_stub;

CREATE VIEW compat.test_suites WITH (security_invoker = true) AS
SELECT t.*, t.suite_id AS id, t.framework AS test_framework, t.total AS total_tests,
       t.passed AS passed_tests, t.failed AS failed_tests, t.skipped AS skipped_tests
FROM sdlc.test_suite AS t
WHERE NOT t.is_stub;

CREATE VIEW compat.test_results WITH (security_invoker = true) AS
SELECT t.*, t.suite_id AS test_suite_id, t.name AS test_name, t.path AS test_path,
       t.error AS error_message, t.stack AS error_stack
FROM sdlc.test_result AS t
WHERE NOT t.is_stub;

CREATE VIEW compat.code_coverage WITH (security_invoker = true) AS
SELECT t.*, t.coverage_id AS id, t.suite_id AS test_suite_id, t.line_pct AS line_coverage,
       t.branch_pct AS branch_coverage, t.function_pct AS function_coverage,
       t.statement_pct AS statement_coverage, t.data AS coverage_data
FROM sdlc.coverage AS t
WHERE NOT t.is_stub;

CREATE VIEW compat.error_logs WITH (security_invoker = true) AS
SELECT t.*, t.error_id AS id, t.kind AS error_type, t.code AS error_code, t.stack AS stack_trace
FROM telemetry.error AS t
WHERE NOT t.is_stub;

CREATE VIEW compat.errors WITH (security_invoker = true) AS
SELECT t.*, t.error_id AS id, t.kind AS error_type, t.code AS error_code, t.stack AS stack_trace
FROM telemetry.error AS t
WHERE NOT t.is_stub;

CREATE VIEW compat.health_checks WITH (security_invoker = true) AS
SELECT t.*, t.event_id AS id, t.name AS check_name, t.response_ms AS response_time_ms,
       t.occurred_at AS checked_at
FROM telemetry.health_check AS t;

CREATE VIEW compat.api_requests WITH (security_invoker = true) AS
SELECT t.*, t.event_id AS id, t.status AS status_code, t.occurred_at AS created_at
FROM telemetry.request AS t;

CREATE VIEW compat.audit_log WITH (security_invoker = true) AS
SELECT t.*, t.event_id AS id, t.corr AS correlation_id, t.ip AS ip_address, t.occurred_at AS created_at
FROM audit.log AS t;

CREATE VIEW compat.audit_logs WITH (security_invoker = true) AS
SELECT t.*, t.event_id AS id, t.changed AS changes, t.ip AS ip_address, t.occurred_at AS created_at
FROM audit.log AS t;

CREATE VIEW compat.audit_change_log WITH (security_invoker = true) AS
SELECT t.*, t.event_id AS change_id, t.action AS operation, t.db_user AS changed_by,
       t.occurred_at AS changed_at, t.txid AS transaction_id, t.ip AS client_addr,
       t.old_values AS old_data, t.new_values AS new_data, t.changed AS changed_fields
FROM audit.log AS t
WHERE t.origin = 'trigger';

CREATE VIEW compat.audit_daily_activity WITH (security_invoker = true) AS
SELECT t.*, t.day AS audit_date, t.resource_type AS table_name, t.action AS operation,
       t.changes AS change_count, t.actors AS unique_users
FROM audit.daily_activity AS t;

CREATE VIEW compat.data_retention_policies WITH (security_invoker = true) AS
SELECT t.*, t.archive AS archive_enabled, t.last_run AS last_run_at
FROM partitions.policy AS t;

CREATE VIEW compat.v_active_agents WITH (security_invoker = true) AS
SELECT t.*, t.agent_id AS id
FROM agents.v_active AS t;

CREATE VIEW compat.v_current_leaderboard WITH (security_invoker = true) AS
SELECT t.*
FROM merit.v_current_leaderboard AS t;

CREATE VIEW compat.v_active_mentorships WITH (security_invoker = true) AS
SELECT t.*
FROM mentorship.v_active AS t;

CREATE VIEW compat.v_agent_reputation WITH (security_invoker = true) AS
SELECT t.*
FROM trust.v_reputation AS t;

CREATE VIEW compat.v_task_queue_summary WITH (security_invoker = true) AS
SELECT t.*
FROM tasks.v_queue_summary AS t;

CREATE VIEW compat.table_sizes WITH (security_invoker = true) AS
SELECT t.*
FROM monitoring.table_sizes AS t;

CREATE VIEW compat.index_usage WITH (security_invoker = true) AS
SELECT t.*
FROM monitoring.index_usage AS t;

CREATE VIEW compat.slow_queries WITH (security_invoker = true) AS
SELECT t.*
FROM monitoring.slow_queries AS t;

CREATE VIEW compat.monitoring_connection_stats WITH (security_invoker = true) AS
SELECT t.*
FROM monitoring.connection_stats AS t;

CREATE VIEW compat.monitoring_query_plans WITH (security_invoker = true) AS
SELECT t.*
FROM monitoring.query_plan AS t;

CREATE VIEW compat.monitoring_alert_thresholds WITH (security_invoker = true) AS
SELECT t.*
FROM monitoring.alert_threshold AS t;

CREATE VIEW compat.monitoring_index_recommendations WITH (security_invoker = true) AS
SELECT t.*
FROM monitoring.index_recommendation AS t;

CREATE VIEW compat.recovery_test_results WITH (security_invoker = true) AS
SELECT t.*
FROM recovery.test_result AS t;

-- Without wrapped_key, which readers may not see.
CREATE VIEW compat.audit_encryption_keys WITH (security_invoker = true) AS
SELECT t.key_name, t.key_version, t.algorithm, t.reference, t.active, t.created_at, t.rotated_at
FROM audit.encryption_key AS t;
