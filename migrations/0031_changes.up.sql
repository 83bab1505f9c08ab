-- What people change with SQL is put on record. Of what events change the histories know more; columns
-- that the worker keeps for itself (last_run) would be noise, as would rows that a migration brings.

DO $$
DECLARE
    changed record;
BEGIN
    FOR changed IN
        SELECT * FROM (VALUES
            ('bus.job', 'DELETE OR UPDATE OF name, call, whole, every, enabled'),
            ('config.band', 'INSERT OR DELETE OR UPDATE'),
            ('config.parameter', 'INSERT OR DELETE OR UPDATE'),
            ('identity.credential', 'INSERT OR DELETE OR UPDATE'),
            ('identity.mfa_device', 'INSERT OR DELETE OR UPDATE'),
            ('identity.oauth_token', 'INSERT OR DELETE OR UPDATE'),
            ('monitoring.alert_threshold', 'INSERT OR DELETE OR UPDATE'),
            ('partitions.policy', 'DELETE OR UPDATE OF schema_name, table_name, column_name, '
                                  '"interval", premake, retention, archive, export, drop_after'),
            ('trust.pretrusted', 'INSERT OR DELETE OR UPDATE')
        ) AS t (name, changes)
    LOOP
        EXECUTE format(
            'CREATE TRIGGER log_change AFTER %s ON %s '
            'FOR EACH ROW EXECUTE FUNCTION audit.log_change()', changed.changes, changed.name
        );
        EXECUTE format(
            'CREATE TRIGGER log_truncate AFTER TRUNCATE ON %s '
            'FOR EACH STATEMENT EXECUTE FUNCTION audit.log_change()', changed.name
        );
    END LOOP;
END
$$;
