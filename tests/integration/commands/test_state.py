"""An agent's state: kept as a checkpoint, compared, and brought back the ordinary way."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec import Raw

from penstock.schemas.agents import AgentCheckpointed, AgentStateDeleted, AgentStateSet
from penstock.schemas.identity import entity_uuid, kv_key
from penstock.worker.publisher import Publisher
from penstock.worker.settings.keys import Settings
from tests.support.commands import said, typed
from tests.support.connecting import connection_to
from tests.support.mirror import bucket, expected_bucket
from tests.support.running import running, settings_for
from tests.support.waiting import until

AGENT = "a-7"
FIRST = {"plan": b'{"line":41}', "cost": b"0.1000000000000000000000001", "old": b'"\\u00e9"'}


@pytest.fixture
def settings(nats_url: str, database: str) -> Settings:
    return settings_for(nats_url, database)


@pytest.fixture
async def bus(nats_url: str) -> AsyncIterator[Publisher]:
    async with Publisher(nats_url, source="/agents/a-7") as publisher:
        yield publisher


async def put(bus: Publisher, key: str, value: bytes, sequence: int) -> None:
    event = AgentStateSet(agent_id=AGENT, state_key=key, value=Raw(value))
    await bus.publish(event, sequence=sequence)


async def values(settings: Settings) -> dict[str, Any]:
    found = await said(settings, "state", "get", AGENT)
    return {held["key"]: (held["sequence"], held["value"]) for held in found["keys"]}


async def holding(settings: Settings, keys: dict[str, int]) -> None:
    """Wait until the keys, and no others, have these sequences."""

    async def there() -> bool:
        if (await typed(settings, "state", "get", AGENT)).exit_code:
            return False  # PostgreSQL does not know the agent yet
        return {key: sequence for key, (sequence, _) in (await values(settings)).items()} == keys

    await until(there)


async def mirrored(settings: Settings) -> None:
    async def equal() -> bool:
        return await bucket(settings.nats_url) == await expected_bucket(settings.postgres_dsn)

    await until(equal)


async def test_a_checkpoint_brings_back_what_was(settings: Settings, bus: Publisher) -> None:
    async with running(settings):
        for key, value in FIRST.items():
            await put(bus, key, value, 3)
        await holding(settings, dict.fromkeys(FIRST, 3))
        would = await said(settings, "state", "checkpoint", AGENT, "--dry-run")
        assert (would["keys"], would["stored"], would["checkpoint_id"]) == (3, None, None)
        kept = await said(settings, "state", "checkpoint", AGENT, "--name", "before")
        assert kept["stored"] is True
        assert (await said(settings, "state", "diff", AGENT, "before"))["differences"] == []

        await put(bus, "plan", b'{"line":42}', 9)
        await put(bus, "new", b"null", 1)
        await bus.publish(AgentStateDeleted(agent_id=AGENT, state_key="old"), sequence=4)
        await holding(settings, {"plan": 9, "cost": 3, "new": 1})
        found = await said(settings, "state", "diff", AGENT, kept["checkpoint_id"], code=1)
        what = {one["key"]: one["what"] for one in found["differences"]}
        assert what == {"new": "added", "old": "removed", "plan": "changed"}

        refused = await typed(settings, "state", "restore", AGENT, "before", answer="n\n")
        assert refused.exit_code == 1
        would = await said(settings, "state", "restore", AGENT, "before", "--dry-run")
        assert [(one["key"], one["what"], one["sequence"]) for one in would["keys"]] == [
            ("new", "delete", 2),
            ("old", "set", 5),
            ("plan", "set", 10),
        ]
        await said(settings, "state", "restore", AGENT, "before", "plan", "--yes")
        assert (await values(settings))["plan"] == (10, {"line": 41})
        assert "new" in await values(settings)
        done = await said(settings, "state", "restore", AGENT, "before", "--yes")
        assert {one["fate"] for one in done["keys"]} == {"stored"}
        assert (await said(settings, "state", "restore", AGENT, "before"))["keys"] == []
        exact = await typed(settings, "state", "get", AGENT, "cost")
        assert exact.stdout == "0.1000000000000000000000001\n"
        await mirrored(settings)
        key = kv_key(entity_uuid("agent", AGENT), "old")
        assert (await bucket(settings.nats_url))[key]["val"] == "é"

        past = await said(settings, "state", "history", AGENT, "old")
        assert [(one["what"], one["sequence"]) for one in past["changes"]] == [
            ("set", 5),
            ("deleted", 4),
            ("set", 3),
        ]
        listed = await said(settings, "state", "checkpoint", AGENT, "--list")
        assert [one["name"] for one in listed["checkpoints"]] == ["before"]


async def test_a_large_state_is_kept_in_several_events_and_the_latest_outlives_its_history(
    settings: Settings, bus: Publisher, database: str
) -> None:
    keys = {f"k{n}": b'"%s"' % (b"x" * 200_000) for n in range(4)}
    async with running(settings):
        for key, value in keys.items():
            await put(bus, key, value, 1)
        await holding(settings, dict.fromkeys(keys, 1))
        kept = await typed(settings, "state", "checkpoint", AGENT, "--name", "large")
        assert ", 4 events" in kept.stdout
        for key in keys:
            await bus.publish(AgentStateDeleted(agent_id=AGENT, state_key=key), sequence=2)
        await holding(settings, {})
        done = await said(settings, "state", "restore", AGENT, "large", "--yes")
        assert {one["fate"] for one in done["keys"]} == {"stored"}
        assert {len(value) for _, value in (await values(settings)).values()} == {200_000}
        async with connection_to(database) as connection:
            await connection.execute("DELETE FROM agents.state")
            await connection.execute("DELETE FROM agents.checkpoint")  # its period is over
        done = await said(settings, "state", "restore", AGENT, "large", "--yes")
        assert {one["fate"] for one in done["keys"]} == {"stored"}
        await holding(settings, dict.fromkeys(keys, 2))


async def test_what_cannot_be_done_is_said_in_one_sentence(
    settings: Settings, bus: Publisher, postgres_dsn: str
) -> None:
    async with running(settings):
        await put(bus, "plan", b"1", 1)
        own = AgentCheckpointed(agent_id=AGENT, checkpoint_id="own", snapshot={"plan": 1})
        part = {"format": "penstock.state", "part": 1, "parts": 2, "keys": {}}
        half = AgentCheckpointed(agent_id=AGENT, checkpoint_id="half", snapshot=part)
        await bus.publish(own)
        await bus.publish(half)
        await holding(settings, {"plan": 1})

        async def both() -> bool:
            found = await said(settings, "state", "checkpoint", AGENT, "--list")
            return len(found["checkpoints"]) == 2

        await until(both)
    for words, sentence in (
        (("get", "nobody"), "PostgreSQL has no agent 'nobody'"),
        (("get", AGENT, "plans"), "has no key 'plans'; it has plan"),
        (("diff", AGENT, "gone"), "has no checkpoint 'gone'"),
        (("restore", AGENT, "own"), "was made by the agent itself"),
        (("restore", AGENT, "half"), "is not complete: 1 of 2 parts"),
    ):
        result = await typed(settings, "state", *words)
        assert (result.exit_code, result.stdout) == (2, ""), words
        assert sentence in result.stderr
    empty = settings_for(settings.nats_url, postgres_dsn)
    result = await typed(empty, "state", "get", AGENT)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "penstock migrate up" in result.stderr
    late = await typed(settings, "state", "checkpoint", AGENT, "--wait", "1")
    assert late.exit_code == 1
    assert "see whether a worker runs" in late.stdout
