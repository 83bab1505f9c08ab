DELETE FROM bus.job WHERE name = 'seal';
DROP TABLE audit.encryption_key;
CREATE OR REPLACE FUNCTION partitions.needed_from(in_schema text, in_table text)
RETURNS timestamptz
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT coalesce((j.mark ->> 'closed')::timestamptz, '-infinity') FROM bus.job AS j
    WHERE j.name = 'rollup' AND j.enabled AND (in_schema, in_table) = ('telemetry', 'metric');
END;
DROP FUNCTION audit.seal(text[]);
DROP FUNCTION audit.append(text, record);
DROP FUNCTION audit.sealed_until();
DROP FUNCTION audit.leaves_of(regclass, timestamptz, timestamptz);
DROP FUNCTION audit.digest_of(audit.seal);
DELETE FROM config.parameter WHERE name = 'audit.seal_delay';
DROP TABLE audit.seal;
DROP INDEX audit.log_recorded_at;
