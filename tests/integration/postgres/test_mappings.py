"""Whatever the database lacks for the events of the catalogue is named before any event comes."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from penstock.schemas import OCCURRED_AT, EventData, Text, Upsert, event
from penstock.schemas.catalogue import Catalogue
from penstock.worker.errors import MigrationError
from penstock.worker.postgres.mappings import check_mappings, misfits
from penstock.worker.postgres.pool import open_pool
from tests.support.roles import migrated_by_its_owner

CATALOGUE = Catalogue.load(("shop_events",))
ORDER = "shop.customer_order"
BROKEN = {
    "DROP TABLE shop.order_event": ["shop.order_event: no such table", "shop_events"],
    f"ALTER TABLE {ORDER} RENAME items TO itms": [f"{ORDER}.items: no such column"],
    f"ALTER TABLE {ORDER} RENAME version_at TO at": [f"{ORDER}.version_at: no such column"],
    f"ALTER TABLE {ORDER} DROP CONSTRAINT customer_order_pkey": ["no primary key on (order_id)"],
    f"ALTER TABLE {ORDER} ALTER items TYPE text": [f"{ORDER}.items is text, but gets json"],
    f"ALTER TABLE {ORDER} ALTER total_cents TYPE text": ["is text, but gets integer; make it big"],
    f"ALTER TABLE {ORDER} ALTER customer TYPE varchar(20)": ["(20): what it cuts or rounds"],
    f"ALTER TABLE {ORDER} ALTER paid_cents TYPE float8": ["sums of it depend on their order"],
    f"ALTER TABLE {ORDER} ALTER last_paid_at TYPE timestamp": ["but gets moment"],
    f"ALTER TABLE {ORDER} ALTER last_paid_at TYPE timestamptz(0)": ["timestamp(0) with time zone:"],
    f"ALTER TABLE {ORDER} ADD CONSTRAINT cheap CHECK (total_cents < 10 OR order_id IS NULL)": [
        f"{ORDER}: constraint cheap, CHECK (((total_cents < 10) OR (order_id IS NULL))): whether",
        "by Meta of a field or by __post_init__ (orders.placed",
    ],
    f"ALTER TABLE {ORDER} ADD CONSTRAINT whole CHECK (customer_order IS NOT NULL) NOT VALID": [
        f"{ORDER}: constraint whole, CHECK ((customer_order.* IS NOT NULL)) NOT VALID: whether"
    ],
    f"ALTER TABLE {ORDER} ALTER version TYPE int": ["version is integer: the guard"],
    "ALTER TABLE shop.order_event ADD till text NOT NULL": [
        "till is NOT NULL, but no event writes"
    ],
    "DELETE FROM partitions.policy WHERE table_name = 'order_event'": ["no row in partitions.poli"],
    "DELETE FROM partitions.policy WHERE table_name = 'log_tasks'": ["events.log_tasks is partit"],
    "UPDATE partitions.policy SET column_name = 'recorded_at' WHERE table_name = 'order_event'": [
        "partitions.policy says column recorded_at"
    ],
    "DROP TABLE events.log_collab": ["events.log_collab: no such table", "VALUES IN ('collab')"],
    "CREATE UNIQUE INDEX u ON shop.customer_order (order_id) WHERE items IS NULL;"
    f"ALTER TABLE {ORDER} DROP CONSTRAINT customer_order_pkey": ["no primary key on (order_id)"],
}
TIMES: dict[str, Any] = {
    "max": ("at", "day"),
    "values": {"at": OCCURRED_AT, "day": OCCURRED_AT},
}


@pytest.fixture
async def pool(database: str) -> AsyncIterator[asyncpg.Pool]:
    await migrated_by_its_owner(database, ("shop_events",))
    found = await open_pool(database, size=2, statement_timeout=30, lock_timeout=5, name="")
    yield found
    await found.close()


async def test_what_migrations_made_fits(pool: asyncpg.Pool) -> None:
    assert await misfits(pool, CATALOGUE) == []
    await check_mappings(pool, CATALOGUE)


async def test_keys_are_equal_in_the_database_only_if_they_are_in_a_batch(
    pool: asyncpg.Pool,
) -> None:
    """Else two rows of a batch would be one, and no batch with both could ever be stored."""
    await pool.execute("CREATE TABLE shop.tag (tag uuid PRIMARY KEY, at timestamptz, day date)")

    @event("tags.set", key="tag", stream="SHOP", states=(Upsert("shop.tag", ("tag",), **TIMES),))
    class TagSet(EventData, frozen=True, kw_only=True):
        """A tag was set."""

        tag: Text

    said = await misfits(pool, Catalogue([TagSet]))
    assert len(said) == 2, said
    assert "shop.tag.tag is uuid, but gets text; make it text" in said[0]
    assert "shop.tag.day is date, but gets moment" in said[1]


async def test_types_that_nobody_knows_and_more_columns_are_let_pass(pool: asyncpg.Pool) -> None:
    await pool.execute(
        "CREATE TYPE shop.state AS ENUM ('placed', 'paid');"
        f"ALTER TABLE {ORDER} ALTER status TYPE shop.state USING status::shop.state;"
        f"ALTER TABLE {ORDER} ADD note text; ALTER TABLE shop.order_event ADD n int DEFAULT 1;"
        f"CREATE UNIQUE INDEX ON {ORDER} (customer);"
        "CREATE DOMAIN shop.name AS text CHECK (VALUE <> '');"
        f"ALTER TABLE {ORDER} ALTER customer TYPE shop.name, ADD CHECK (note <> ''),"
        " ADD CHECK (order_id <> '00000000-0000-0000-0000-000000000000');"
        "ALTER TABLE shop.order_event ADD CHECK (total_cents < 10) NOT VALID"
    )
    assert await misfits(pool, CATALOGUE) == []


@pytest.mark.parametrize("change", BROKEN)
async def test_each_thing_that_is_wrong_is_named(pool: asyncpg.Pool, change: str) -> None:
    await pool.execute(change)
    found = await misfits(pool, CATALOGUE)
    for part in BROKEN[change]:
        assert any(part in line for line in found), found
    with pytest.raises(MigrationError, match="does not fit the mapping of events"):
        await check_mappings(pool, CATALOGUE)
