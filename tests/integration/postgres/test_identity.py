"""Who there is and who may do what, as events leave it and as readers ask for it."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from penstock.schemas.access import ApiKeyIssued
from penstock.schemas.config import ConfigSet
from penstock.schemas.identity import entity_uuid
from penstock.schemas.sessions import SessionOpened
from penstock.worker.errors import RowRejected
from penstock.worker.pipeline.ports import DeadLetter
from penstock.worker.postgres.pool import open_pool
from tests.support.written import outcome, write

ANN, BOT = entity_uuid("account", "ann"), entity_uuid("agent", "bot")
TOKEN = "5e" * 32
ENDED = {"account_id": "ann", "permission": "a:b", "expires_at": "2026-01-01T00:00:30Z"}
GO_ZERO = "0001-01-01T00:00:00Z"
"""What Go sends where it means that there is no time."""


@pytest.fixture
async def pool(database: str) -> AsyncIterator[asyncpg.Pool]:
    found = await open_pool(database, size=1, statement_timeout=30, lock_timeout=5, name="test")
    yield found
    await found.close()


def role(name: str, *permissions: str, parent: str | None = None) -> tuple[str, str, Any]:
    data = {"name": name, "permissions": permissions, "parent_role_id": parent}
    return "access.role_defined", name, data


async def permissions(pool: asyncpg.Pool, holder: str, key: str) -> list[str]:
    query = f"SELECT permission FROM identity.effective_permissions({holder} => $1) ORDER BY 1"
    return [name for (name,) in await pool.fetch(query, key)]


async def test_roles_in_a_circle_have_the_permissions_of_all_of_them(pool: asyncpg.Pool) -> None:
    await write(
        pool,
        ("access.granted", "g-1", {"account_id": "ann", "role_id": "reader"}),
        ("access.granted", "g-2", {"agent_id": "bot", "permission": "tasks:delete"}),
        role("reader", "tasks:read", "tasks:read", parent="writer"),
        role("writer", "tasks:write", parent="admin"),
        role("admin", "users:*", parent="reader"),
        role("alone", "alone:0", parent="alone"),
        role("apart", "apart:0", parent="admin"),
    )
    assert await permissions(pool, "account", ANN) == ["tasks:read", "tasks:write", "users:*"]
    assert await permissions(pool, "agent", BOT) == ["tasks:delete"]
    assert await permissions(pool, "agent", ANN) == [], "an agent of the same key is another one"
    known = "SELECT permission, resource, action FROM identity.permission ORDER BY 1"
    assert [tuple(row) for row in await pool.fetch(known)][2:4] == [
        ("tasks:delete", "tasks", "delete"),
        ("tasks:read", "tasks", "read"),
    ]


@pytest.mark.parametrize(
    "event",
    [
        ("access.revoked", "g-1", {}),
        ("users.deleted", "ann", {}),
        ("users.upserted", "ann", {"email": "a@b.c", "status": "suspended"}),
        ("access.granted", "g-1", ENDED),
    ],
    ids=["revoked", "account deleted", "account suspended", "past its time"],
)
async def test_a_grant_holds_no_more(pool: asyncpg.Pool, event: tuple[str, str, Any]) -> None:
    """The last one is the same grant as it was first stated: what came later does not change it."""
    grant = ("access.granted", "g-1", {"account_id": "ann", "permission": "a:b"})
    await write(pool, grant, begin=20)
    assert await permissions(pool, "account", ANN) == ["a:b"]
    await write(pool, event)
    assert await permissions(pool, "account", ANN) == []


async def test_an_account_sees_its_projects_and_those_it_administers(pool: asyncpg.Pool) -> None:
    """Nobody, nothing and a name that means nothing see none, and are no error."""
    member, project = {"account_id": "ann"}, {"name": "p", "slug": "p"}
    await write(
        pool,
        ("users.upserted", "ann", {"email": "a@b.c"}),
        ("users.upserted", "bob", {"email": "b@b.c"}),
        ("orgs.upserted", "own", {"slug": "own", "name": "own"}),
        ("orgs.upserted", "guest", {"slug": "guest", "name": "guest"}),
        ("orgs.member_set", "own", {**member, "role": "admin"}),
        ("orgs.member_set", "guest", {**member, "role": "member"}),
        ("projects.upserted", "p-own", {**project, "organization_id": "own"}),
        ("projects.upserted", "p-guest", {**project, "organization_id": "guest"}),
        ("projects.upserted", "p-works", {**project, "organization_id": "guest"}),
        ("projects.upserted", "p-left", project),
        ("projects.member_set", "p-works", member),
        ("projects.member_set", "p-own", member),
        ("projects.member_set", "p-left", member),
        ("projects.member_removed", "p-left", member),
    )
    seen = (
        "SELECT p.external_id FROM identity.visible_projects() AS v (project_id)"
        " JOIN identity.project AS p USING (project_id) ORDER BY 1"
    )
    assert await pool.fetch(seen) == [], "the setting was never made"
    for account, expected in (
        ("ann", ["p-own", "p-works"]),
        (ANN, ["p-own", "p-works"]),
        (ANN.upper(), ["p-own", "p-works"]),
        ("bob", []),
        ("nobody", []),
        ("", []),
        ("x' OR true --", []),
    ):
        await pool.execute("SELECT set_config('penstock.account', $1, false)", account)
        assert [name for (name,) in await pool.fetch(seen)] == expected, account
    await pool.execute("SELECT set_config('penstock.account', 'ann', false)")
    await write(pool, ("orgs.deleted", "own", {}), begin=20)
    assert [name for (name,) in await pool.fetch(seen)] == ["p-own", "p-works"], "it works there"
    suspended = {"email": "a@b.c", "status": "suspended"}
    await write(pool, ("users.upserted", "ann", suspended), begin=21)
    assert await pool.fetch(seen) == []


async def test_a_session_past_its_time_is_closed_by_an_event(pool: asyncpg.Pool) -> None:
    """Once, however often one looks; not one that has just ended, is closed, or was only used."""
    tokens = [digit * 64 for digit in "12345"]
    ends = ("2026-01-02T00:00:00Z", "2999-01-01T00:00:00Z", "2026-01-02T00:00:00Z")
    opened = [
        ("sessions.opened", token, {"account_id": "ann", "expires_at": end})
        for token, end in zip(tokens, ends, strict=False)
    ]
    await write(pool, *opened, ("sessions.closed", tokens[2], {}))
    await write(pool, ("sessions.touched", tokens[3], {}), begin=10)
    just = {
        "account_id": "ann",
        "expires_at": f"{datetime.now(UTC) - timedelta(minutes=50):%FT%TZ}",
    }
    await write(pool, ("sessions.opened", tokens[4], just), begin=11)
    expire = "SELECT * FROM identity.expire_sessions()"
    assert [token for (token,) in await pool.fetch(expire)] == [tokens[0]]
    assert await pool.fetch(expire) == [], "its event waits to be sent"
    await pool.execute("UPDATE bus.outbox SET published_at = now()")
    assert len(await pool.fetch(expire)) == 1, "it was sent, and is not back yet"
    rows = await pool.fetch("SELECT event_id, type, key, time, data::text FROM bus.outbox")
    assert len({(row["event_id"], row["time"]) for row in rows}) == 1, "stored once"
    kind, token, at, data = rows[0][1:]
    assert at == await pool.fetchval("SELECT date_trunc('day', now(), 'UTC')")
    await write(pool, (kind, token, json.loads(data)), begin=20)
    assert await pool.fetch(expire) == []
    live = "SELECT live FROM identity.kv WHERE token_hash = $1"
    assert [await pool.fetchval(live, token) for token in tokens] == [
        False, True, False, False, True
    ]  # fmt: skip
    log = "SELECT data ->> 'reason' FROM audit.log WHERE entity_id = $1 ORDER BY occurred_at DESC"
    assert await pool.fetchval(log, token) == "expired"


async def test_an_address_belongs_to_the_account_that_was_there_first(pool: asyncpg.Pool) -> None:
    """Also after it was stated anew, and however the address is written."""
    email = "SELECT external_id FROM identity.v_account_by_email WHERE email = 'ann@x.org'"
    duplicates = "SELECT kind, value, external_id FROM identity.v_duplicate"
    await write(
        pool,
        ("users.upserted", "ann", {"email": "Ann@X.org", "username": "ann"}),
        ("users.upserted", "eve", {"email": "ann@x.org"}),
        ("users.upserted", "ann", {"email": "ann@X.org", "username": "ann"}),
        ("users.lock_set", "ann", {"locked": True}),
    )
    assert await pool.fetchval(email) == "ann"
    assert [tuple(row) for row in await pool.fetch(duplicates)] == [
        ("account email", "ann@x.org", "eve")
    ]
    await write(pool, ("users.deleted", "ann", {}), begin=10)
    assert await pool.fetchval(email) == "eve"
    assert await pool.fetch(duplicates) == []


async def test_logins_are_counted_and_audited(pool: asyncpg.Pool) -> None:
    await write(
        pool,
        ("users.login_recorded", "ann", {"success": False, "ip": "192.0.2.7"}),
        ("users.login_recorded", "ann", {"success": True, "ip": "2001:db8::1"}),
        ("users.login_recorded", "ann", {"success": False}),
        ("users.lock_set", "ann", {"locked": True, "reason": "guessing"}),
    )
    account = await pool.fetchrow(
        "SELECT failed_logins, last_failed_login - last_login = '1 second', locked, lock_reason,"
        " external_id FROM identity.account"
    )
    assert account is not None
    assert tuple(account) == (2, True, True, "guessing", "ann")
    log = "SELECT resource_type, action, host(ip) FROM audit.log ORDER BY occurred_at"
    assert [tuple(row) for row in await pool.fetch(log)] == [
        ("account", "login_recorded", "192.0.2.7"),
        ("account", "login_recorded", "2001:db8::1"),
        ("account", "login_recorded", None),
        ("account", "lock_set", None),
    ]


async def test_what_is_on_record_says_what_was_done_to_what(pool: asyncpg.Pool) -> None:
    done = {"action": "approve", "resource_type": "release", "old": None, "new": {"by": "ann"}}
    used = {"account_id": "ann", "name": "ci", "key_hash": TOKEN}
    await write(
        pool,
        ("audit.recorded", "r-1", {**done, "session_id": "s-1", "user_agent": "curl"}),
        ("apikeys.issued", "k-1", used),
        ("apikeys.used", "k-1", {"at": GO_ZERO}),
    )
    row = await pool.fetchrow(
        "SELECT resource_type, resource_id, action, old_values, new_values::text, session_id,"
        " user_agent FROM audit.log WHERE event_type = 'audit.recorded'"
    )
    assert row is not None
    assert tuple(row) == ("release", "r-1", "approve", None, '{"by": "ann"}', "s-1", "curl")
    last = "SELECT last_used - created_at = '1 second' FROM identity.api_key"
    assert await pool.fetchval(last) is True
    assert await pool.fetchval("SELECT count(*) FROM audit.log") == 2, "uses are not on record"


@pytest.mark.parametrize(
    ("kind", "data", "says"),
    [
        ("sessions.opened", {"expires_at": "2026-02-01T00:00:00Z"}, "state one of them"),
        (
            "sessions.opened",
            {"expires_at": "2026-02-01T00:00:00Z", "account_id": "ann", "agent_id": "bot"},
            "account_id is 'ann' and agent_id is 'bot'",
        ),
        ("access.granted", {"account_id": "ann"}, "permission is None; grant one"),
        ("access.granted", {"account_id": "ann", "permission": "all"}, "match"),
        ("apikeys.issued", {"name": "ci", "key_hash": TOKEN}, "agent_id is None"),
        ("apikeys.issued", {"name": "ci", "agent_id": "bot", "key_hash": "my key"}, "match"),
        ("config.set", {"config_key": "pw", "is_secret": True, "value": "x"}, "'pw' has a value"),
        ("config.flag_set", {"enabled": True, "rollout": 101}, "<= 100"),
    ],
)
def test_what_makes_no_sense_is_refused(kind: str, data: dict[str, Any], says: str) -> None:
    letter = outcome(1, kind, "x", data)
    assert isinstance(letter, DeadLetter)
    assert letter.reason in {"invalid_data", "out_of_range"}
    assert says in letter.error


def test_a_producer_is_told_at_once() -> None:
    ConfigSet(agent_id="global", config_key="pw", is_secret=True, ciphertext="AAAA")
    for made in (
        lambda: ConfigSet(agent_id="global", config_key="pw", is_secret=True, value=0),
        lambda: ApiKeyIssued(key_id="k-1", name="ci", key_hash=TOKEN),
        lambda: SessionOpened(token_hash=TOKEN, expires_at=None),  # type: ignore[arg-type]
    ):
        with pytest.raises(ValueError, match=r"encrypt it|state one of them"):
            made()


@pytest.mark.parametrize("token", ["the token itself", TOKEN.upper(), f"{TOKEN}\n"])
async def test_a_token_itself_is_not_stored(pool: asyncpg.Pool, token: str) -> None:
    data = {"account_id": "ann", "expires_at": "2026-02-01T00:00:00Z"}
    with pytest.raises(RowRejected):
        await write(pool, ("sessions.opened", token, data))
    assert await pool.fetchval("SELECT count(*) FROM identity.session") == 0
    assert await pool.fetchval("SELECT count(*) FROM audit.log") == 0


async def test_the_history_of_a_setting_has_the_value_before(pool: asyncpg.Pool) -> None:
    setting = {"config_key": "limit", "environment": "staging"}
    bot = entity_uuid("agent", "bot").upper()
    await write(
        pool,
        ("config.set", "bot", {**setting, "value": 1}),
        ("config.set", bot, {**setting, "value": [2], "reason": "too low"}),
        ("config.set", "bot", {"config_key": "limit", "value": 9}),
        ("config.deleted", "bot", setting),
        ("config.set", "bot", {**setting, "is_secret": True, "ciphertext": "AAAA"}),
        ("config.set", "bot", {**setting, "value": 3}),
    )
    found = await pool.fetch(
        "SELECT action, old_value::text, new_value::text, reason, is_secret FROM config.history"
        " WHERE agent = 'bot' AND environment = 'staging' ORDER BY occurred_at"
    )
    assert [tuple(row) for row in found] == [
        ("set", None, "1", None, False),
        ("set", "1", "[2]", "too low", False),
        ("deleted", "[2]", None, None, False),
        ("set", None, None, None, True),
        ("set", None, "3", None, False),
    ]


async def bucket_row(pool: asyncpg.Pool, view: str, key: str) -> tuple[bool, list[Any], Any]:
    found = await pool.fetchrow(f"SELECT live, guard::text, value FROM {view} WHERE key = $1", key)
    assert found is not None, key
    return found["live"], json.loads(found["guard"]), json.loads(found["value"] or "null")


async def test_a_session_is_in_the_bucket_from_its_beginning_to_its_end(
    pool: asyncpg.Pool,
) -> None:
    opened = {"agent_id": "bot", "expires_at": "2026-02-01T00:00:00Z", "data": {"step": 1}}
    changed = {**opened, "data": {"step": 2}, "permissions": ["a:b"]}
    guards = []
    states: list[tuple[str, dict[str, Any], bool]] = [
        ("touched", {}, False),
        ("opened", opened, True),
        ("opened", changed, True),
        ("closed", {"reason": "logout"}, False),
        ("opened", changed, False),
    ]
    for number, (verb, data, live) in enumerate(states):
        await write(pool, (f"sessions.{verb}", TOKEN, data), begin=number)
        found, guard, value = await bucket_row(pool, "identity.kv", TOKEN)
        assert found is live
        guards.append(guard)
        if data is changed and live:
            assert value == {
                "sub": f"agent:{BOT}",
                "kind": "interactive",
                "permissions": ["a:b"],
                "data": {"step": 2},
                "exp": "2026-02-01T00:00:00.000000Z",
                "g": guard,
            }
    assert guards == sorted(guards)
    assert len(set(map(str, guards))) == len(guards), "a change without a new guard"


async def test_a_secret_is_never_in_the_bucket(pool: asyncpg.Pool) -> None:
    setting = {"config_key": "a b"}
    secret = {**setting, "is_secret": True, "ciphertext": "AAAA"}
    states: list[tuple[str, dict[str, Any], Any]] = [
        ("set", {**setting, "value": {"x": 1}}, {"x": 1}),
        ("deleted", setting, None),
    ]
    states += [("set", {**setting, "value": None}, None), ("set", secret, None)]
    for number, (verb, data, expected) in enumerate(states):
        await write(pool, (f"config.{verb}", "global", data), begin=number)
        live, guard, value = await bucket_row(pool, "config.kv", "global.production.a=20b")
        assert live is (verb == "set" and data is not secret)
        assert value == ({"v": 0, "t": guard[1], "val": expected, "g": guard} if live else None)


@pytest.mark.parametrize(
    ("password", "kept"),
    [
        ("secret", False),
        ("$2b$10$abcdefghijklmnopqrstuv", False),
        ("$2b$12$abcdefghijklmnopqrstuv", True),
        ("$argon2id$v=19$m=65536", True),
    ],
)
async def test_a_password_is_a_slow_hash(pool: asyncpg.Pool, password: str, *, kept: bool) -> None:
    await pool.execute("INSERT INTO identity.account (account_id, is_stub) VALUES ($1, true)", ANN)
    keep = "INSERT INTO identity.credential (account_id, password_hash) VALUES ($1, $2)"
    if kept:
        await pool.execute(keep, ANN, password)
    else:
        with pytest.raises(asyncpg.CheckViolationError):
            await pool.execute(keep, ANN, password)
