-- What people change with SQL is put on record. Of what events change the histories know more, and
-- columns that the worker keeps for itself (last_run) would be noise.

CREATE TRIGGER log_change AFTER INSERT OR UPDATE OR DELETE ON config.band
    FOR EACH ROW EXECUTE FUNCTION audit.log_change();
CREATE TRIGGER log_change AFTER INSERT OR UPDATE OR DELETE ON config.parameter
    FOR EACH ROW EXECUTE FUNCTION audit.log_change();
CREATE TRIGGER log_change AFTER INSERT OR UPDATE OR DELETE ON trust.pretrusted
    FOR EACH ROW EXECUTE FUNCTION audit.log_change();
CREATE TRIGGER log_change AFTER INSERT OR UPDATE OR DELETE ON identity.credential
    FOR EACH ROW EXECUTE FUNCTION audit.log_change();
CREATE TRIGGER log_change AFTER INSERT OR UPDATE OR DELETE ON identity.mfa_device
    FOR EACH ROW EXECUTE FUNCTION audit.log_change();
CREATE TRIGGER log_change AFTER INSERT OR UPDATE OR DELETE ON identity.oauth_token
    FOR EACH ROW EXECUTE FUNCTION audit.log_change();
CREATE TRIGGER log_change
    AFTER INSERT OR DELETE OR UPDATE OF
        schema_name, table_name, column_name, "interval", premake, retention, archive, drop_after
    ON partitions.policy
    FOR EACH ROW EXECUTE FUNCTION audit.log_change();
CREATE TRIGGER log_change
    AFTER INSERT OR DELETE OR UPDATE OF name, call, whole, every, enabled ON bus.job
    FOR EACH ROW EXECUTE FUNCTION audit.log_change();

CREATE TRIGGER log_truncate AFTER TRUNCATE ON config.band
    FOR EACH STATEMENT EXECUTE FUNCTION audit.log_change();
CREATE TRIGGER log_truncate AFTER TRUNCATE ON config.parameter
    FOR EACH STATEMENT EXECUTE FUNCTION audit.log_change();
CREATE TRIGGER log_truncate AFTER TRUNCATE ON trust.pretrusted
    FOR EACH STATEMENT EXECUTE FUNCTION audit.log_change();
CREATE TRIGGER log_truncate AFTER TRUNCATE ON identity.credential
    FOR EACH STATEMENT EXECUTE FUNCTION audit.log_change();
CREATE TRIGGER log_truncate AFTER TRUNCATE ON identity.mfa_device
    FOR EACH STATEMENT EXECUTE FUNCTION audit.log_change();
CREATE TRIGGER log_truncate AFTER TRUNCATE ON identity.oauth_token
    FOR EACH STATEMENT EXECUTE FUNCTION audit.log_change();
CREATE TRIGGER log_truncate AFTER TRUNCATE ON partitions.policy
    FOR EACH STATEMENT EXECUTE FUNCTION audit.log_change();
CREATE TRIGGER log_truncate AFTER TRUNCATE ON bus.job
    FOR EACH STATEMENT EXECUTE FUNCTION audit.log_change();
