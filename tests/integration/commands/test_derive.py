"""``penstock derive`` on a real database."""

import pytest

from penstock.worker.settings.keys import Settings
from tests.support.commands import outside, said
from tests.support.connecting import connection_to
from tests.support.running import settings_for

SPOIL = """
INSERT INTO collab.vote_session
    (session_id, external_id, algorithm, options, status, status_at, winner)
SELECT md5(n::text)::uuid, 'v-' || n, 'consensus', '["a"]', 'closed', now(), 'x'
FROM generate_series(1, 3) AS n
"""


@pytest.fixture
def settings(nats_url: str, database: str) -> Settings:
    return settings_for(nats_url, database)


async def test_what_differs_is_named_and_worked_out(settings: Settings, database: str) -> None:
    assert await outside(settings, "derive") == 0
    assert await outside(settings, "derive", "--check") == 0
    async with connection_to(database) as connection:
        await connection.execute(SPOIL)
        first = await connection.fetchval("SELECT md5('1')::uuid::text")
    every = ["v-1", "v-2", "v-3"]
    found = [one for one in await said(settings, "derive", "--check", code=1) if one["keys"]]
    assert found == [{"name": "tally", "keys": every}]
    assert await said(settings, "derive", "tally", "--dry-run", code=0) == found
    one = await said(settings, "derive", "tally", "--key", first, code=0)
    assert one == [{"name": "tally", "keys": ["v-1"]}]
    found = await said(settings, "derive", "tally", code=0)
    assert found == [{"name": "tally", "keys": ["v-2", "v-3"]}]
    assert await outside(settings, "derive", "tally", "--check") == 0
    assert await outside(settings, "derive", "nothing") == 2
    assert await outside(settings, "derive", "--check", "--key", "v-1", "tally", "nope") == 2
    listed = {one["name"]: one["call"] for one in await said(settings, "derive", code=0)}
    assert listed["tally"] == "collab.settle"
