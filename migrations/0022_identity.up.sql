-- Identity: organizations, projects, accounts, members, roles, grants, API keys and sessions.
--
-- Secrets do not travel on the bus: a key and a session are known by the SHA-256 of their token, and
-- passwords, second factors and tokens of others stand in tables of the authentication service.
-- No slug, name, address or hash is unique: which of two events were refused would depend on the
-- order of arrival. identity.v_duplicate lists who came second.

CREATE DOMAIN vocab.account_status AS text CHECK (VALUE IN (
    'active', 'suspended'
));

CREATE DOMAIN vocab.account_tier AS text CHECK (VALUE IN (
    'free', 'pro', 'enterprise'
));

CREATE DOMAIN vocab.member_role AS text CHECK (VALUE IN (
    'owner', 'admin', 'member', 'developer', 'viewer'
));

CREATE DOMAIN vocab.session_kind AS text CHECK (VALUE IN (
    'interactive', 'api', 'system', 'background'
));

CREATE SCHEMA identity;
COMMENT ON SCHEMA identity IS 'Who there is, and who may do what';

CREATE TABLE identity.organization (
    organization_id  uuid PRIMARY KEY,
    external_id      text,
    slug             text,
    name             text,
    tier             vocab.account_tier,
    settings         jsonb,
    version          bigint,
    version_at       timestamptz,
    version_event    uuid,
    deleted_at       timestamptz,
    presence_version bigint,
    presence_at      timestamptz,
    presence_event   uuid,
    registered_at    timestamptz,
    is_stub          boolean NOT NULL DEFAULT false,
    updated_at       timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE identity.organization IS 'Organizations, as they were last stated';
COMMENT ON COLUMN identity.organization.external_id IS
    'The text that organization_id was made from; NULL if none';
COMMENT ON COLUMN identity.organization.slug IS 'Its name in addresses; not unique';
COMMENT ON COLUMN identity.organization.deleted_at IS 'NULL if it is there';
COMMENT ON COLUMN identity.organization.registered_at IS 'When it was first stated';
CREATE INDEX organization_external_id ON identity.organization (external_id)
    WHERE external_id IS NOT NULL;
CREATE INDEX organization_slug ON identity.organization (slug) WHERE slug IS NOT NULL;

CREATE TABLE identity.project (
    project_id       uuid PRIMARY KEY,
    external_id      text,
    created_by       text,
    created_at       timestamptz,
    created_event    uuid,
    organization_id  uuid REFERENCES identity.organization ON DELETE RESTRICT,
    slug             text,
    name             text,
    description      text,
    repository_url   text,
    github_repo_id   text,
    settings         jsonb,
    version          bigint,
    version_at       timestamptz,
    version_event    uuid,
    archived_at      timestamptz,
    presence_version bigint,
    presence_at      timestamptz,
    presence_event   uuid,
    is_stub          boolean NOT NULL DEFAULT false,
    updated_at       timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE identity.project IS 'Projects, as they were last stated';
COMMENT ON COLUMN identity.project.external_id IS 'The text that project_id was made from; NULL if none';
COMMENT ON COLUMN identity.project.slug IS 'Its name in addresses; not unique';
COMMENT ON COLUMN identity.project.archived_at IS 'NULL if it is in use';
CREATE INDEX project_external_id ON identity.project (external_id) WHERE external_id IS NOT NULL;
CREATE INDEX project_organization ON identity.project (organization_id, slug);

ALTER TABLE workflows.workflow
    ADD CONSTRAINT workflow_project_id_fkey FOREIGN KEY (project_id)
    REFERENCES identity.project ON DELETE RESTRICT;

CREATE TABLE identity.account (
    account_id        uuid PRIMARY KEY,
    external_id       text,
    username          text,
    email             text,
    email_verified    boolean,
    name              text,
    status            vocab.account_status,
    tier              vocab.account_tier,
    auth_provider     text,
    github_id         text,
    avatar_url        text,
    metadata          jsonb,
    version           bigint,
    version_at        timestamptz,
    version_event     uuid,
    deleted_at        timestamptz,
    presence_version  bigint,
    presence_at       timestamptz,
    presence_event    uuid,
    registered_at     timestamptz,
    locked            boolean,
    lock_reason       text,
    lock_version      bigint,
    lock_at           timestamptz,
    lock_event        uuid,
    failed_logins     integer,
    last_login        timestamptz,
    last_failed_login timestamptz,
    is_stub           boolean NOT NULL DEFAULT false,
    updated_at        timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE identity.account IS 'People and services that log in, as they were last stated';
COMMENT ON COLUMN identity.account.external_id IS 'The text that account_id was made from; NULL if none';
COMMENT ON COLUMN identity.account.email IS 'As stated; identity.v_account_by_email compares it in small letters';
COMMENT ON COLUMN identity.account.deleted_at IS 'NULL if the account is there';
COMMENT ON COLUMN identity.account.registered_at IS 'When it was first stated';
COMMENT ON COLUMN identity.account.locked IS 'Whether it may log in; NULL if nobody said so';
COMMENT ON COLUMN identity.account.failed_logins IS 'All that ever failed; successes take none away';
CREATE INDEX account_external_id ON identity.account (external_id) WHERE external_id IS NOT NULL;
CREATE INDEX account_email ON identity.account (lower(email));
CREATE INDEX account_username ON identity.account (username) WHERE username IS NOT NULL;
CREATE INDEX account_github ON identity.account (github_id) WHERE github_id IS NOT NULL;

CREATE TABLE identity.organization_member (
    organization_id uuid NOT NULL REFERENCES identity.organization ON DELETE RESTRICT,
    account_id      uuid NOT NULL REFERENCES identity.account ON DELETE RESTRICT,
    role            vocab.member_role,
    permissions     jsonb,
    added_by        text,
    removed_at      timestamptz,
    version         bigint,
    version_at      timestamptz,
    version_event   uuid,
    is_stub         boolean NOT NULL DEFAULT false,
    updated_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, account_id)
);
COMMENT ON TABLE identity.organization_member IS 'Who belongs to an organization, and who did';
COMMENT ON COLUMN identity.organization_member.removed_at IS 'NULL if the account is a member';
CREATE INDEX organization_member_account ON identity.organization_member (account_id);

CREATE TABLE identity.project_member (
    project_id    uuid NOT NULL REFERENCES identity.project ON DELETE RESTRICT,
    account_id    uuid NOT NULL REFERENCES identity.account ON DELETE RESTRICT,
    role          vocab.member_role,
    permissions   jsonb,
    added_by      text,
    removed_at    timestamptz,
    version       bigint,
    version_at    timestamptz,
    version_event uuid,
    is_stub       boolean NOT NULL DEFAULT false,
    updated_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (project_id, account_id)
);
COMMENT ON TABLE identity.project_member IS 'Who works in a project, and who did';
COMMENT ON COLUMN identity.project_member.removed_at IS 'NULL if the account is a member';
CREATE INDEX project_member_account ON identity.project_member (account_id);

CREATE TABLE identity.role (
    role_id        uuid PRIMARY KEY,
    external_id    text,
    name           text,
    description    text,
    parent_role_id uuid REFERENCES identity.role ON DELETE RESTRICT,
    permissions    jsonb,
    is_system      boolean,
    version        bigint,
    version_at     timestamptz,
    version_event  uuid,
    registered_at  timestamptz,
    is_stub        boolean NOT NULL DEFAULT false,
    updated_at     timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE identity.role IS 'Permissions under a name; a role has those of its parent too';
COMMENT ON COLUMN identity.role.external_id IS 'The text that role_id was made from; NULL if none';
COMMENT ON COLUMN identity.role.parent_role_id IS
    'Two events may close a circle, so who follows it has to notice one';
COMMENT ON COLUMN identity.role.permissions IS 'A list of resource:action';
COMMENT ON COLUMN identity.role.is_system IS 'Whether it comes with the software, and not from people';
COMMENT ON COLUMN identity.role.registered_at IS 'When it was first defined';
CREATE INDEX role_external_id ON identity.role (external_id) WHERE external_id IS NOT NULL;
CREATE INDEX role_parent ON identity.role (parent_role_id) WHERE parent_role_id IS NOT NULL;

CREATE TABLE identity.grant (
    grant_id      uuid PRIMARY KEY,
    external_id   text,
    account_id    uuid REFERENCES identity.account ON DELETE RESTRICT,
    agent_id      uuid REFERENCES agents.agent ON DELETE RESTRICT,
    role_id       uuid REFERENCES identity.role ON DELETE RESTRICT,
    permission    text,
    resource_type text,
    resource_id   text,
    granted_by    text,
    expires_at    timestamptz,
    created_at    timestamptz,
    created_event uuid,
    revoked_at    timestamptz,
    is_stub       boolean NOT NULL DEFAULT false,
    updated_at    timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE identity.grant IS
    'What an account or an agent was given: a role, or one permission. identity.v_grant has what holds';
COMMENT ON COLUMN identity.grant.external_id IS 'The text that grant_id was made from; NULL if none';
COMMENT ON COLUMN identity.grant.permission IS 'resource:action, if it is no role';
COMMENT ON COLUMN identity.grant.resource_type IS 'What it is limited to; NULL if to nothing';
COMMENT ON COLUMN identity.grant.expires_at IS 'NULL if it holds until it is revoked';
CREATE INDEX grant_external_id ON identity.grant (external_id) WHERE external_id IS NOT NULL;
CREATE INDEX grant_account ON identity.grant (account_id) WHERE account_id IS NOT NULL;
CREATE INDEX grant_agent ON identity.grant (agent_id) WHERE agent_id IS NOT NULL;
CREATE INDEX grant_role ON identity.grant (role_id) WHERE role_id IS NOT NULL;

CREATE TABLE identity.api_key (
    key_id        uuid PRIMARY KEY,
    external_id   text,
    account_id    uuid REFERENCES identity.account ON DELETE RESTRICT,
    agent_id      uuid REFERENCES agents.agent ON DELETE RESTRICT,
    name          text,
    key_hash      text,
    scopes        jsonb,
    expires_at    timestamptz,
    created_at    timestamptz,
    created_event uuid,
    revoked_at    timestamptz,
    last_used     timestamptz,
    is_stub       boolean NOT NULL DEFAULT false,
    updated_at    timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE identity.api_key IS 'API keys of accounts and agents; never the keys themselves';
COMMENT ON COLUMN identity.api_key.external_id IS 'The text that key_id was made from; NULL if none';
COMMENT ON COLUMN identity.api_key.key_hash IS 'SHA-256 of the key, in hexadecimal digits';
COMMENT ON COLUMN identity.api_key.expires_at IS 'NULL if it is good until it is revoked';
CREATE INDEX api_key_external_id ON identity.api_key (external_id) WHERE external_id IS NOT NULL;
CREATE INDEX api_key_hash ON identity.api_key (key_hash) WHERE key_hash IS NOT NULL;
CREATE INDEX api_key_account ON identity.api_key (account_id) WHERE account_id IS NOT NULL;
CREATE INDEX api_key_agent ON identity.api_key (agent_id) WHERE agent_id IS NOT NULL;

CREATE TABLE identity.session (
    -- Whoever sends the token itself must not have it stored.
    token_hash    text PRIMARY KEY CHECK (token_hash ~ '^[0-9a-f]{64}$'),
    account_id    uuid REFERENCES identity.account ON DELETE RESTRICT,
    agent_id      uuid REFERENCES agents.agent ON DELETE RESTRICT,
    kind          vocab.session_kind,
    data          jsonb,
    preferences   jsonb,
    permissions   jsonb,
    ip            inet,
    user_agent    text,
    expires_at    timestamptz,
    version       bigint,
    version_at    timestamptz,
    version_event uuid,
    opened_at     timestamptz,
    closed_at     timestamptz,
    last_activity timestamptz,
    is_stub       boolean NOT NULL DEFAULT false,
    updated_at    timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE identity.session IS 'Sessions of accounts and agents; the bucket SESSION_DATA has the open ones';
COMMENT ON COLUMN identity.session.token_hash IS 'SHA-256 of the token, in hexadecimal digits';
COMMENT ON COLUMN identity.session.closed_at IS 'NULL if it is open; it may be past expires_at all the same';
CREATE INDEX session_account ON identity.session (account_id) WHERE account_id IS NOT NULL;
CREATE INDEX session_agent ON identity.session (agent_id) WHERE agent_id IS NOT NULL;
CREATE INDEX session_expires_at ON identity.session (expires_at) WHERE closed_at IS NULL;

-- What the authentication service alone reads and writes: deploy/postgres/roles.sql gives nobody else
-- a right here. No event brings these rows back, only a backup.

CREATE TABLE identity.credential (
    account_id          uuid PRIMARY KEY REFERENCES identity.account ON DELETE RESTRICT,
    password_hash       text CHECK (password_hash ~ '^\$(2[aby]\$(1[2-9]|2[0-9]|3[01])|argon2id)\$'),
    mfa_enabled         boolean NOT NULL DEFAULT false,
    mfa_secret          bytea,
    key_name            text,
    key_version         integer,
    password_changed_at timestamptz,
    updated_at          timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE identity.credential IS 'Passwords, as hashes, and the second factor of accounts';
COMMENT ON COLUMN identity.credential.password_hash IS 'By bcrypt, of cost 12 or more, or by Argon2id';
COMMENT ON COLUMN identity.credential.mfa_secret IS 'Encrypted with the key that key_name and key_version name';

CREATE TABLE identity.mfa_device (
    device_id    uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    account_id   uuid NOT NULL REFERENCES identity.account ON DELETE RESTRICT,
    kind         text NOT NULL,
    name         text,
    secret       bytea,
    key_name     text,
    key_version  integer,
    confirmed_at timestamptz,
    created_at   timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE identity.mfa_device IS 'What an account proves itself with, besides its password';
COMMENT ON COLUMN identity.mfa_device.kind IS 'Such as totp or sms';
COMMENT ON COLUMN identity.mfa_device.secret IS 'Encrypted with the key that key_name and key_version name';
CREATE INDEX mfa_device_account ON identity.mfa_device (account_id);

CREATE TABLE identity.oauth_token (
    token_id      uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    account_id    uuid NOT NULL REFERENCES identity.account ON DELETE RESTRICT,
    provider      text NOT NULL,
    access_token  bytea,
    refresh_token bytea,
    key_name      text,
    key_version   integer,
    scopes        jsonb,
    expires_at    timestamptz,
    updated_at    timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE identity.oauth_token IS 'Tokens of other services that accounts have connected';
COMMENT ON COLUMN identity.oauth_token.access_token IS
    'Encrypted with the key that key_name and key_version name, as is refresh_token';
CREATE INDEX oauth_token_account ON identity.oauth_token (account_id, provider);

CREATE VIEW identity.v_account_by_email AS
SELECT DISTINCT ON (lower(a.email))
    lower(a.email) AS email,
    a.account_id,
    a.external_id,
    a.username,
    a.name,
    a.status,
    coalesce(a.locked, false) AS locked,
    a.email_verified,
    a.registered_at
FROM identity.account AS a
WHERE a.deleted_at IS NULL AND a.email IS NOT NULL
ORDER BY lower(a.email), a.registered_at, a.account_id;
COMMENT ON VIEW identity.v_account_by_email IS
    'Of the accounts with an address the one that was there first; a deleted one has none';

CREATE VIEW identity.v_duplicate AS
SELECT d.kind, d.value, d.id, d.external_id, d.since
FROM (
    SELECT c.*, row_number() OVER (PARTITION BY c.kind, c.scope, c.value ORDER BY c.since, c.id) AS nth
    FROM (
        SELECT 'organization slug' AS kind, NULL::uuid AS scope, o.slug AS value,
               o.organization_id AS id, o.external_id, o.registered_at AS since
        FROM identity.organization AS o WHERE o.deleted_at IS NULL
        UNION ALL
        SELECT 'project slug', p.organization_id, p.slug, p.project_id, p.external_id, p.created_at
        FROM identity.project AS p WHERE p.archived_at IS NULL
        UNION ALL
        SELECT own.kind, NULL, own.value, a.account_id, a.external_id, a.registered_at
        FROM identity.account AS a
        CROSS JOIN LATERAL (VALUES
            ('account email', lower(a.email)),
            ('account username', a.username),
            ('account github_id', a.github_id)
        ) AS own (kind, value)
        WHERE a.deleted_at IS NULL
        UNION ALL
        SELECT 'role name', NULL, r.name, r.role_id, r.external_id, r.registered_at
        FROM identity.role AS r
        UNION ALL
        SELECT 'api_key hash', NULL, k.key_hash, k.key_id, k.external_id, k.created_at
        FROM identity.api_key AS k WHERE k.revoked_at IS NULL
    ) AS c
    WHERE c.value IS NOT NULL
) AS d
WHERE d.nth > 1;
COMMENT ON VIEW identity.v_duplicate IS
    'Who has what somebody else had before: addresses, names, slugs and hashes';

CREATE VIEW identity.role_permission AS
SELECT DISTINCT r.role_id, r.external_id, r.name AS role, p.permission
FROM identity.role AS r
CROSS JOIN LATERAL jsonb_array_elements_text(r.permissions) AS p (permission);
COMMENT ON VIEW identity.role_permission IS 'The permissions of each role itself, without its parents''';

CREATE VIEW identity.permission AS
SELECT
    p.permission,
    split_part(p.permission, ':', 1) AS resource,
    split_part(p.permission, ':', 2) AS action
FROM (
    SELECT r.permission FROM identity.role_permission AS r
    UNION
    SELECT g.permission FROM identity.grant AS g WHERE g.permission IS NOT NULL
) AS p;
COMMENT ON VIEW identity.permission IS 'Every permission that a role has, or that was granted';

CREATE VIEW identity.v_grant AS
SELECT
    g.grant_id,
    g.external_id,
    g.account_id,
    g.agent_id,
    g.role_id,
    g.permission,
    g.resource_type,
    g.resource_id,
    g.granted_by,
    g.created_at AS granted_at,
    g.expires_at
FROM identity.grant AS g
LEFT JOIN identity.account AS a ON a.account_id = g.account_id
LEFT JOIN agents.agent AS b ON b.agent_id = g.agent_id
WHERE g.created_at IS NOT NULL
  AND coalesce(g.revoked_at > now(), true)
  AND coalesce(g.expires_at > now(), true)
  AND a.deleted_at IS NULL
  AND coalesce(a.status <> 'suspended', true)
  AND (b.deleted_at IS NULL OR coalesce(b.registered_at > b.deleted_at, false));
COMMENT ON VIEW identity.v_grant IS
    'Grants that hold now: neither revoked nor past their time, of accounts and agents that are there. '
    'A lock keeps an account from logging in, and takes no grant away';

CREATE FUNCTION identity.effective_permissions(account uuid DEFAULT NULL, agent uuid DEFAULT NULL)
RETURNS TABLE (
    permission text, resource_type text, resource_id text, role_id uuid, grant_id uuid,
    expires_at timestamptz
)
LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH RECURSIVE held AS (
        SELECT g.grant_id, g.role_id, g.permission, g.resource_type, g.resource_id, g.expires_at
        FROM identity.v_grant AS g
        WHERE g.account_id = account OR g.agent_id = agent
    ), reached AS (
        SELECT h.grant_id, h.role_id FROM held AS h WHERE h.role_id IS NOT NULL
        UNION ALL
        SELECT r.grant_id, s.parent_role_id
        FROM reached AS r
        JOIN identity.role AS s ON s.role_id = r.role_id
        WHERE s.parent_role_id IS NOT NULL
    ) CYCLE role_id SET is_circle USING path
    SELECT h.permission, h.resource_type, h.resource_id, NULL::uuid, h.grant_id, h.expires_at
    FROM held AS h
    WHERE h.permission IS NOT NULL
    UNION
    SELECT p.permission, h.resource_type, h.resource_id, r.role_id, h.grant_id, h.expires_at
    FROM reached AS r
    JOIN held AS h ON h.grant_id = r.grant_id
    JOIN identity.role_permission AS p ON p.role_id = r.role_id;
END;
COMMENT ON FUNCTION identity.effective_permissions IS
    'What an account, or an agent, may do now: by its grants, by their roles, and by the parents of '
    'these. role_id is the role that has the permission; a circle of roles is gone through once';

-- Whose rows somebody may see who reads for an account. Nothing and nobody is an empty set, no error.
CREATE FUNCTION identity.visible_projects() RETURNS SETOF uuid
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH said AS (
        SELECT nullif(current_setting('penstock.account', true), '') AS name
    ), account AS (
        SELECT a.account_id FROM said AS s
        JOIN identity.account AS a ON a.external_id = s.name OR a.account_id = CASE
            WHEN lower(s.name) ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN s.name::uuid
        END
        WHERE NOT a.is_stub AND a.deleted_at IS NULL AND coalesce(a.status <> 'suspended', true)
    )
    SELECT m.project_id
    FROM account AS a JOIN identity.project_member AS m ON m.account_id = a.account_id
    WHERE m.version IS NOT NULL AND m.removed_at IS NULL
    UNION
    SELECT p.project_id
    FROM account AS a
    JOIN identity.organization_member AS m ON m.account_id = a.account_id
    JOIN identity.organization AS o ON o.organization_id = m.organization_id
    JOIN identity.project AS p ON p.organization_id = o.organization_id
    WHERE m.removed_at IS NULL AND m.role IN ('owner', 'admin') AND o.deleted_at IS NULL
$$;
COMMENT ON FUNCTION identity.visible_projects IS
    'The projects of the account in the setting penstock.account, its id or UUID: those it works in, '
    'and all of the organizations that it owns or administers; none if there is no such account';

-- A session counts as opened once sessions.opened is there; an end is for good.
CREATE VIEW identity.kv AS
SELECT
    'SESSION_DATA'::text AS bucket,
    bus.kv_token(s.token_hash) AS key,
    row_state.live,
    row_state.guard,
    CASE WHEN row_state.live THEN
        json_build_object(
            'sub', coalesce('account:' || s.account_id, 'agent:' || s.agent_id),
            'kind', s.kind,
            'permissions', s.permissions,
            'data', s.data,
            'exp', bus.utc_text(s.expires_at),
            'g', row_state.guard
        )::text
    END AS value,
    s.token_hash
FROM identity.session AS s
CROSS JOIN LATERAL (
    SELECT
        s.version IS NOT NULL AND s.closed_at IS NULL AS live,
        jsonb_build_array(
            coalesce(s.version, 0),
            coalesce(bus.utc_text(s.version_at), ''),
            coalesce(s.version_event::text, ''),
            (s.closed_at IS NOT NULL)::integer
        ) AS guard
    OFFSET 0
) AS row_state;
COMMENT ON VIEW identity.kv IS 'Open sessions as the bucket SESSION_DATA holds them';

-- What a session says may be under way while it ends, so an hour is left for it. The time of the event
-- is the end, or, of one that ended on another day, the begin of this one: that is in every window.
CREATE FUNCTION identity.expire_sessions(sessions text[] DEFAULT NULL) RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    one record;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('penstock.sessions', 0));
    FOR one IN
        SELECT s.token_hash, s.expires_at,
               greatest(s.expires_at, s.version_at, date_trunc('day', now(), 'UTC')) AS at
        FROM identity.session AS s
        WHERE s.closed_at IS NULL AND s.version IS NOT NULL
          AND s.expires_at < now() - interval '1 hour'
          AND (sessions IS NULL OR s.token_hash = ANY (sessions))
          AND s.token_hash NOT IN (
              SELECT o.key FROM bus.outbox AS o
              WHERE o.domain = 'sessions' AND o.waiting_id IS NOT NULL AND o.type = 'sessions.closed'
          )
        ORDER BY s.token_hash
    LOOP
        PERFORM bus.emit(
            'sessions.closed', one.token_hash, bus.utc_text(one.expires_at), one.at,
            jsonb_build_object('reason', 'expired')
        );
        RETURN NEXT one.token_hash;
    END LOOP;
END
$$;
REVOKE EXECUTE ON FUNCTION identity.expire_sessions FROM PUBLIC;
COMMENT ON FUNCTION identity.expire_sessions IS
    'Sends sessions.closed for sessions that are past their time by an hour; returns their hashes';

INSERT INTO bus.job (name, call, about, every) VALUES
    ('expire_sessions', 'identity.expire_sessions', 'Sessions past their time are closed', '10 minutes');
