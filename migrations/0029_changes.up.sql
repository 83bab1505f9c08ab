-- What people change with SQL is put on record. Of what events change the histories know more, and
-- columns that the worker keeps for itself (last_run) would be noise.

DO $$
DECLARE
    changed record;
BEGIN
    FOR changed IN
        SELECT * FROM (VALUES
            ('bus.job', 'OF name, call, whole, every, enabled'),
            ('config.band', ''),
            ('config.parameter', ''),
            ('identity.credential', ''),
            ('identity.mfa_device', ''),
            ('identity.oauth_token', ''),
            ('partitions.policy', 'OF schema_name, table_name, column_name, "interval", premake, '
                                  'retention, archive, export, drop_after'),
            ('trust.pretrusted', '')
        ) AS t (name, of_columns)
    LOOP
        EXECUTE format(
            'CREATE TRIGGER log_change AFTER INSERT OR DELETE OR UPDATE %s ON %s '
            'FOR EACH ROW EXECUTE FUNCTION audit.log_change()', changed.of_columns, changed.name
        );
        EXECUTE format(
            'CREATE TRIGGER log_truncate AFTER TRUNCATE ON %s '
            'FOR EACH STATEMENT EXECUTE FUNCTION audit.log_change()', changed.name
        );
    END LOOP;
END
$$;
