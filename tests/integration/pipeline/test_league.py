"""The example that uses every word of the mapping language: published, written, and made again."""

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import asyncpg
import pytest
from league_events import (
    MatchInvited,
    MatchMoved,
    MatchPlayed,
    MatchReported,
    MatchRuled,
    Move,
    Phase,
    Placing,
)
from league_events import SeasonOpened as Season

from penstock.schemas import EventData, entity_uuid
from penstock.schemas.catalogue import Catalogue
from penstock.worker.commands import one_worker
from penstock.worker.commands.provision import provision
from penstock.worker.commands.replay import read_again
from penstock.worker.postgres.rights import lacking
from penstock.worker.publisher import Publisher
from penstock.worker.replay.asked import Asked
from penstock.worker.settings.keys import Settings
from tests.support.mirror import bucket
from tests.support.roles import migrated_by_its_owner
from tests.support.rows import snapshot
from tests.support.running import settings_for

PACKAGE = "league_events"


@cache
def begun() -> datetime:
    """Some time before every event of these tests."""
    return datetime.now(UTC) - timedelta(minutes=10)


ANN, BOB = entity_uuid("agent", "ann"), entity_uuid("agent", "bob")


@pytest.fixture
async def settings(nats_url: str, database: str) -> Settings:
    await migrated_by_its_owner(database, [PACKAGE])
    return settings_for(nats_url, database, event_packages=PACKAGE)


def played(number: int, *ranking: Placing) -> MatchPlayed:
    return MatchPlayed(
        match_id=f"m-{number}",
        season_id="s-1",
        started_at=begun(),
        finished_at=begun() + timedelta(seconds=90),
        ranking=list(ranking),
    )


def sent() -> list[EventData]:
    """The season is opened last, and there are more moves than one INSERT takes."""
    ann = Placing(agent_id="ann", place=1, points=-5, remark=1)
    bob = Placing(agent_id="bob", place=2, points=-20, remark=2)
    moves = [Move(agent_id="ann", target=f"e{n % 8 + 1}", seconds=n / 4) for n in range(300)]
    return [
        MatchMoved(match_id="m-1", moves=moves),
        played(1, ann, bob),
        played(2, ann),
        MatchInvited(match_id="m-1", agent_ids=["bob", "ann"]),
        MatchReported(match_id="m-1", phase=Phase.OVER, score="1:0"),
        MatchReported(match_id="m-1", phase=Phase.RUNNING, score="2:0"),
        MatchRuled(
            match_id="m-1",
            about="placing",
            ruling="corrected",
            old={"points": -5},
            new={"points": 1},
            sent_from="2001:db8::a",
        ),
        Season(season_id="s-1", name="Spring", member_ids=["ann", "bob"]),
    ]


async def cells(connection: asyncpg.Connection, query: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await connection.fetch(query)]


async def check_rows(connection: asyncpg.Connection) -> None:
    found = await cells(
        connection,
        "SELECT a.external_id, points, matches, best, first_at IS NOT NULL, day = current_date"
        " FROM league.standing JOIN league.active_day USING (agent_id)"
        " JOIN agents.agent AS a USING (agent_id) ORDER BY 1",
    )
    assert found == [("ann", -10, 2, -5, True, True), ("bob", -20, 1, -20, True, True)]
    found = await cells(
        connection,
        "SELECT m.external_id, m.seconds, s.name, s.member_ids::text, s.project_id::text, s.is_stub"
        " FROM league.match AS m JOIN league.season AS s USING (season_id) ORDER BY 1",
    )
    members, project = f'["{ANN}", "{BOB}"]', entity_uuid("project", "p-1")
    assert found == [(f"m-{n}", 90, "Spring", members, project, False) for n in (1, 2)]
    found = await cells(
        connection,
        "SELECT agent_id::text, seat, place, remark::text FROM league.invitation"
        " JOIN league.placing USING (match_id, agent_id) ORDER BY seat",
    )
    assert found == [(BOB, 0, 2, "2"), (ANN, 1, 1, "1")]
    found = await cells(
        connection,
        "SELECT m.external_id, phase, score #>> '{}', a.external_id FROM league.match AS m"
        " JOIN agents.agent AS a ON a.agent_id = m.winner_id ORDER BY 1",
    )
    assert found == [("m-1", "over", "2:0", "ann"), ("m-2", None, None, "ann")]
    found = await cells(
        connection, "SELECT n, target, seconds FROM league.move WHERE agent_id IS NOT NULL"
    )
    assert sorted(found) == [(n, f"e{n % 8 + 1}", n / 4) for n in range(300)]
    found = await cells(
        connection,
        "SELECT resource_type, action, resource_id, old_values->>'points', new_values->>'points',"
        " host(ip), origin FROM audit.log",
    )
    assert found == [("placing", "corrected", "m-1", "-5", "1", "2001:db8::a", "event")]


async def test_every_word_does_what_the_page_says(
    settings: Settings, connection: asyncpg.Connection
) -> None:
    await provision(settings, dry_run=False)
    async with Publisher(settings.nats_url, source="/league") as bus:
        for one in sent():
            await bus.publish(one, project="p-1")
        nowhere = MatchRuled(match_id="m-1", about="match", ruling="void", sent_from="::1::2")
        await bus.publish(nowhere)
    assert await one_worker.run(settings, until_idle=1.0) == 0
    letters = await cells(connection, "SELECT reason, event_type FROM bus.dead_letter")
    assert letters == [("row_rejected", "matches.ruled")]
    await check_rows(connection)
    stands = (await bucket(settings.nats_url, "MATCHES"))["m-1"]
    assert (stands["val"], stands["phase"]) == ("2:0", "over")
    before = await snapshot(connection)
    async with asyncpg.create_pool(settings.postgres_dsn, min_size=1, max_size=1) as pool:
        assert await lacking(pool, Catalogue.load([PACKAGE])) == []

    tables = ("league.standing", "league.match", "league.move", "league.invitation")
    await connection.execute(
        "UPDATE league.standing SET points = 7 WHERE matches = 2; DELETE FROM league.invitation;"
        "DELETE FROM league.move WHERE n = 4"
    )
    await read_again(settings, Asked(source="nats", stream="LEAGUE", rebuild=tables))
    assert await snapshot(connection) == before

    report = await read_again(settings, Asked(source="postgres", stream="LEAGUE"))
    assert (report.inserted, report.differing) == (0, 0)
    assert {one.type: one.what for one in report.cannot}["matches.moved"] == "it has no history"
