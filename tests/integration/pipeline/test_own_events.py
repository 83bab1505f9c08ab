"""Events of a user's own, exactly as docs/events-of-your-own.md does it."""

import asyncio
import os
import shlex
import sys

import asyncpg

from tests.docs.pages import blocks
from tests.docs.sections import ROOT

PAGE = ROOT / "docs" / "events-of-your-own.md"
EXAMPLE = ROOT / "examples" / "shop_events"
PROGRAMS = {"penstock": (sys.executable, "-m", "penstock"), "python": (sys.executable,)}


def test_the_blocks_of_the_page_are_the_files_of_the_example() -> None:
    python = [(EXAMPLE / name).read_text("utf-8") for name in ("__init__.py", "place_orders.py")]
    shown = blocks(PAGE, "python")
    assert shown[:2] == python
    league = dense((ROOT / "examples/league_events/__init__.py").read_text("utf-8"))
    assert len(shown) > 8
    assert [block for block in shown[2:] if dense(block) not in league] == []
    ways = ("up", "down")
    sql = [(EXAMPLE / f"migrations/0001_orders.{way}.sql").read_text("utf-8") for way in ways]
    assert blocks(PAGE, "sql")[:2] == sql


def dense(text: str) -> str:
    """Without spaces and what ends it: a part of a program stands alone on the page."""
    return "".join(text.split()).rstrip(",")


async def test_the_page_does_what_it_says(nats_url: str, postgres_dsn: str) -> None:
    environment = {
        **{name: text for name, text in os.environ.items() if not name.startswith("PENSTOCK_")},
        "PENSTOCK_NATS_URL": nats_url,
        "PENSTOCK_POSTGRES_DSN": postgres_dsn,
        "PENSTOCK_HTTP_PORT": "-1",
    }
    (typed,) = blocks(PAGE, "console")
    commands = [line.removeprefix("$ ") for line in typed.splitlines()]
    assert len(commands) > 5
    printed = [await run(command, environment) for command in commands]
    assert "shop_events: 0001_orders up" in "".join(printed)
    assert "stream SHOP: created" in "".join(printed)
    assert "4 published, the last one a duplicate: True" in "".join(printed)
    await check_answers(postgres_dsn)
    listed = await run("penstock events --format markdown", environment)
    assert "| `orders.placed` | `orders.{order_id}.placed` | SHOP | shop.order_event |" in listed
    await run("penstock migrate down --package shop_events", environment)
    connection = await asyncpg.connect(postgres_dsn)
    assert await connection.fetchval("SELECT to_regnamespace('shop')") is None
    await connection.close()


async def run(command: str, environment: dict[str, str]) -> str:
    """What a line that somebody types prints; ``export`` changes the environment."""
    first, *rest = shlex.split(command)
    if first == "export":
        name, _, text = rest[0].partition("=")
        environment[name] = f"{text}{os.pathsep}{ROOT}" if name == "PYTHONPATH" else text
        return ""
    process = await asyncio.create_subprocess_exec(
        *PROGRAMS[first],
        *rest,
        cwd=ROOT,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    printed, errors = await asyncio.wait_for(process.communicate(), 300)
    assert process.returncode == 0, f"{command}: {errors.decode()}"
    return printed.decode()


async def check_answers(dsn: str) -> None:
    """Every query of the page gives the rows that stand below it."""
    text = PAGE.read_text("utf-8")
    connection = await asyncpg.connect(dsn)
    for query in blocks(PAGE, "sql")[2:]:
        below = text.partition(f"{query}```\n")[2].lstrip("\n")
        shown = [line.split("|") for line in below.partition("\n\n")[0].splitlines()]
        rows = await connection.fetch(query)
        assert [[cell.strip() for cell in line] for line in shown] == [
            [as_shown(cell) for cell in row] for row in rows
        ]
    await connection.close()


def as_shown(cell: object) -> str:
    """A cell as the page writes it."""
    if isinstance(cell, bool):
        return str(cell).lower()
    return "" if cell is None else str(cell)
