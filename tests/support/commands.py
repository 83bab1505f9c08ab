"""Commands as an operator types them, inside the test's process."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from click.testing import CliRunner, Result

from penstock.worker.cli import main
from penstock.worker.settings.keys import Settings


async def typed(settings: Settings, *words: str, answer: str = "") -> Result:
    """Run ``penstock WORDS`` in a thread, on the servers of the settings."""
    where = ("--nats-url", settings.nats_url, "--postgres-dsn", settings.postgres_dsn)
    more = (
        ("--event-packages", ",".join(settings.event_packages)) if settings.event_packages else ()
    )
    return await asyncio.to_thread(CliRunner().invoke, main, [*words, *where, *more], input=answer)


async def said(settings: Settings, *words: str, code: int = 0) -> Any:
    """What a command with ``--json`` says on its last line, which must be one object."""
    result = await typed(settings, *words, "--json")
    assert result.exit_code == code, (result.output, result.exception)
    found: dict[str, Any] = json.loads(_last(result.stdout.splitlines()))
    return found


def _last(lines: Sequence[str]) -> str:
    assert lines, "it said nothing"
    return lines[-1]
