"""`penstock migrate`: up, down, up again; by many at once; and what it refuses."""

import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from penstock.worker import migrate
from penstock.worker.errors import MigrationError, SinkUnavailable
from penstock.worker.migrate import PACKAGE

_CATALOGUE = """
SELECT 'column', table_schema || '.' || table_name, column_name,
       concat_ws(' ', data_type, domain_name, is_nullable, column_default)
FROM information_schema.columns WHERE table_schema !~ '^(pg_|information_schema)'
UNION ALL
SELECT 'index', schemaname || '.' || tablename, indexname, indexdef FROM pg_indexes
WHERE schemaname !~ '^pg_'
UNION ALL
SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid)
FROM pg_constraint WHERE connamespace::regnamespace::text !~ '^(pg_|information_schema)'
UNION ALL
SELECT 'function', pronamespace::regnamespace::text, proname, md5(prosrc) FROM pg_proc
WHERE pronamespace::regnamespace::text !~ '^(pg_|information_schema)'
UNION ALL
SELECT 'trigger', tgrelid::regclass::text, tgname, pg_get_triggerdef(oid) FROM pg_trigger
WHERE NOT tgisinternal
UNION ALL
SELECT 'schema', nspname, '', '' FROM pg_namespace WHERE nspname !~ '^pg_'
UNION ALL
SELECT 'policy', schema_name, table_name, retention::text FROM partitions.policy
ORDER BY 1, 2, 3, 4
"""


async def fetch(dsn: str, query: str) -> list[tuple[object, ...]]:
    connection = await asyncpg.connect(dsn)
    try:
        return [tuple(row) for row in await connection.fetch(query)]
    finally:
        await connection.close()


async def execute(dsn: str, *queries: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        for query in queries:
            await connection.execute(query)
    finally:
        await connection.close()


class Package:
    """A package of events of a user, with migrations of its own."""

    def __init__(self, folder: Path) -> None:
        self.name = f"orders_{uuid4().hex}"
        self.migrations = folder / self.name / "migrations"
        self.migrations.mkdir(parents=True)
        (folder / self.name / "__init__.py").write_text("")

    def add(self, stem: str, up: str, down: str) -> None:
        (self.migrations / f"{stem}.up.sql").write_text(up)
        (self.migrations / f"{stem}.down.sql").write_text(down)


@pytest.fixture
def package(tmp_path: Path) -> Iterator[Package]:
    sys.path.insert(0, str(tmp_path))
    made = Package(tmp_path)
    made.add("0001_order", "CREATE TABLE orders (order_id uuid)", "DROP TABLE orders")
    yield made
    sys.path.remove(str(tmp_path))


async def test_up_down_and_up_again_leave_the_same_schema(postgres_dsn: str) -> None:
    steps = await migrate.up(postgres_dsn)
    assert [step.version for step in steps] == list(range(1, len(steps) + 1))
    assert await migrate.up(postgres_dsn) == []
    first = await fetch(postgres_dsn, _CATALOGUE)

    down = await migrate.down(postgres_dsn, steps=len(steps))
    assert [step.version for step in down] == list(range(len(steps), 0, -1))
    left = await fetch(
        postgres_dsn,
        "SELECT nspname FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema)'",
    )
    assert left == [("public",)]

    await migrate.up(postgres_dsn)
    assert await fetch(postgres_dsn, _CATALOGUE) == first


async def test_every_single_step_can_be_taken_back_and_repeated(postgres_dsn: str) -> None:
    for version in range(1, len(migrate.find(PACKAGE)) + 1):
        await migrate.up(postgres_dsn, to=version)
        (step,) = await migrate.down(postgres_dsn)
        assert step.version == version
        assert [s.version for s in await migrate.up(postgres_dsn, to=version)] == [version]
    assert await migrate.check(postgres_dsn) == []


async def test_rows_survive_steps_that_are_not_about_them(postgres_dsn: str) -> None:
    await migrate.up(postgres_dsn)
    await execute(
        postgres_dsn,
        "INSERT INTO agents.agent (agent_id) VALUES (gen_random_uuid())",
        "INSERT INTO tasks.task (task_id, assigned_to, status)"
        " SELECT gen_random_uuid(), agent_id, 'completed' FROM agents.agent",
        "INSERT INTO messages.message (message_id, sent_at) VALUES (gen_random_uuid(), now())",
        "INSERT INTO bus.dead_letter (transport, stream, reason) VALUES ('nats', 'S', 'not_json')",
    )
    after_agents = [found for found in migrate.find(PACKAGE) if found.version > 5]
    await migrate.down(postgres_dsn, steps=len(after_agents))
    await migrate.up(postgres_dsn)
    count = "SELECT (SELECT count(*) FROM {}), (SELECT count(*) FROM {})"
    assert await fetch(postgres_dsn, count.format("agents.agent", "bus.dead_letter")) == [(1, 1)]
    assert await fetch(postgres_dsn, count.format("tasks.task", "agents.stats")) == [(0, 0)]


async def test_what_is_applied_is_recorded(postgres_dsn: str) -> None:
    await migrate.up(postgres_dsn)
    lines = await migrate.status(postgres_dsn)
    assert [line.state for line in lines] == ["applied"] * len(migrate.find(PACKAGE))
    for line in lines:
        assert line.installed_on is not None
        assert line.installed_by == "postgres"
        assert line.execution_ms is not None
    recorded = await fetch(postgres_dsn, "SELECT checksum FROM schema_migrations ORDER BY version")
    assert recorded == [(migration.up.checksum,) for migration in migrate.find(PACKAGE)]


async def test_ten_at_once(postgres_dsn: str) -> None:
    done = await asyncio.gather(*(migrate.up(postgres_dsn) for _ in range(10)))
    applied = len(migrate.find(PACKAGE))
    assert sorted(len(steps) for steps in done) == [0] * 9 + [applied]
    assert await migrate.check(postgres_dsn) == []


async def test_a_database_without_migrations_says_what_is_pending(postgres_dsn: str) -> None:
    pending = await migrate.check(postgres_dsn)
    assert {line.state for line in pending} == {"pending"}
    assert str(pending[0]) == "penstock: 0001_bus is pending"


async def test_a_users_package_has_a_numbering_of_its_own(
    postgres_dsn: str, package: Package
) -> None:
    steps = await migrate.up(postgres_dsn, packages=[package.name])
    assert (steps[-1].package, steps[-1].version) == (package.name, 1)
    package.add("0002_note", "ALTER TABLE orders ADD note text", "ALTER TABLE orders DROP note")
    (line,) = await migrate.check(postgres_dsn, [package.name])
    assert (line.version, line.state) == (2, "pending")
    (step,) = await migrate.up(postgres_dsn, packages=[package.name])
    assert step.name == "note"
    down = await migrate.down(postgres_dsn, steps=9, package=package.name)
    assert [step.version for step in down] == [2, 1]
    assert await migrate.check(postgres_dsn) == []


async def test_a_changed_file_is_refused_with_both_checksums(
    postgres_dsn: str, package: Package
) -> None:
    await migrate.up(postgres_dsn, packages=[package.name])
    (before,) = migrate.find(package.name)
    package.add("0001_order", "CREATE TABLE orders (order_id text)", "DROP TABLE orders")
    (after,) = migrate.find(package.name)
    (line,) = await migrate.check(postgres_dsn, [package.name])
    assert line.state == "changed"
    with pytest.raises(MigrationError) as refused:
        await migrate.up(postgres_dsn, packages=[package.name])
    text = str(refused.value)
    assert "0001_order.up.sql" in text
    assert before.up.checksum in text
    assert after.up.checksum in text
    assert "restore the file" in text


async def test_line_ends_of_another_system_are_no_change(
    postgres_dsn: str, package: Package
) -> None:
    package.add("0002_two", "SELECT 1;\nSELECT 2;\n", "SELECT 1;\n")
    await migrate.up(postgres_dsn, packages=[package.name])
    for path in package.migrations.iterdir():
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert await migrate.check(postgres_dsn, [package.name]) == []


async def test_an_applied_migration_without_files_is_refused(
    postgres_dsn: str, package: Package
) -> None:
    await migrate.up(postgres_dsn, packages=[package.name])
    for path in package.migrations.iterdir():
        path.unlink()
    with pytest.raises(MigrationError, match="its files are not here"):
        await migrate.down(postgres_dsn, package=package.name)
    assert [line.state for line in await migrate.check(postgres_dsn, [package.name])] == ["missing"]


async def test_a_migration_below_the_last_applied_one_is_refused(
    postgres_dsn: str, package: Package
) -> None:
    package.add("0002_b", "SELECT 1", "SELECT 1")
    await migrate.up(postgres_dsn, packages=[package.name])
    await execute(
        postgres_dsn,
        f"DELETE FROM schema_migrations WHERE package = '{package.name}' AND version = 1",
    )
    with pytest.raises(MigrationError, match="0001_order is not applied, but 0002 is"):
        await migrate.up(postgres_dsn, packages=[package.name])


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        (["0001_a.up.sql"], "reverse file is missing"),
        (["0002_a.up.sql", "0002_a.down.sql"], "number them from 1"),
        (["0001_a.up.sql", "0001_b.up.sql"], "same number"),
        (["0001_a.up.sql", "0001_b.down.sql"], "different names"),
        (["1_a.sql"], "not named"),
    ],
)
async def test_files_that_do_not_fit_are_named(
    postgres_dsn: str, package: Package, files: list[str], complaint: str
) -> None:
    for path in package.migrations.iterdir():
        path.unlink()
    for name in files:
        (package.migrations / name).write_text("SELECT 1")
    with pytest.raises(MigrationError, match=complaint):
        await migrate.up(postgres_dsn, packages=[package.name])


async def test_a_fault_names_file_and_line_and_leaves_nothing_behind(
    postgres_dsn: str, package: Package
) -> None:
    package.add("0002_wrong", "CREATE TABLE half ();\n\nSELECT nonsense;\n", "SELECT 1")
    with pytest.raises(MigrationError, match=r"0002_wrong\.up\.sql, line 3: .*nonsense"):
        await migrate.up(postgres_dsn, packages=[package.name])
    assert await fetch(postgres_dsn, "SELECT to_regclass('half')") == [(None,)]
    assert len(await migrate.check(postgres_dsn, [package.name])) == 1


async def test_what_others_need_is_not_taken_back(postgres_dsn: str, package: Package) -> None:
    package.add(
        "0002_needs",
        "CREATE TABLE need (agent_id uuid REFERENCES agents.agent)",
        "DROP TABLE need",
    )
    await migrate.up(postgres_dsn, packages=[package.name])
    with pytest.raises(MigrationError, match=r"0005_agents\.down\.sql.*depend"):
        await migrate.down(postgres_dsn, steps=99)
    assert (await migrate.status(postgres_dsn))[4].state == "applied"


async def test_a_file_may_ask_for_no_transaction(postgres_dsn: str, package: Package) -> None:
    alone = "-- penstock: no-transaction\n"
    package.add(
        "0002_index",
        f"{alone}CREATE INDEX CONCURRENTLY IF NOT EXISTS by_id ON orders (order_id)",
        f"{alone}DROP INDEX CONCURRENTLY IF EXISTS by_id",
    )
    await migrate.up(postgres_dsn, packages=[package.name])
    assert await fetch(
        postgres_dsn, "SELECT indisvalid FROM pg_index WHERE indexrelid = 'by_id'::regclass"
    ) == [(True,)]
    assert len(await migrate.down(postgres_dsn, package=package.name)) == 1


async def test_a_package_that_is_not_there_is_named(postgres_dsn: str) -> None:
    for name in ("no_such_package", "no.such.package"):
        with pytest.raises(MigrationError, match=name):
            await migrate.up(postgres_dsn, packages=[name])


async def test_a_server_that_is_away_is_told_apart() -> None:
    said = r"^cannot connect to PostgreSQL at postgresql://127\.0\.0\.1:1/none: connection refused;"
    with pytest.raises(SinkUnavailable, match=said):
        await migrate.up("postgresql://postgres:secret@127.0.0.1:1/none")


async def test_the_command_tells_each_step_once(postgres_dsn: str) -> None:
    count = len(migrate.find(PACKAGE))
    for direction in (("up",), ("down", "--steps", str(count))):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "penstock", "migrate", *direction),
            *("--postgres-dsn", postgres_dsn),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate()
        lines = said.decode().splitlines()
        assert len(lines) == count, said
        assert all(f" {direction[0]}, " in line for line in lines)


def test_new_makes_the_next_pair_of_files(tmp_path: Path) -> None:
    folder = tmp_path / "migrations"
    assert [p.name for p in migrate.new("Add orders!", folder)] == [
        "0001_add_orders.up.sql",
        "0001_add_orders.down.sql",
    ]
    assert migrate.new("more", folder)[0].name == "0002_more.up.sql"
    with pytest.raises(MigrationError, match="no letter"):
        migrate.new("???", folder)
