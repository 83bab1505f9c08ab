"""Commands as an operator types them."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import Process
from typing import Any

from click.testing import CliRunner, Result

from penstock.worker.cli import main
from penstock.worker.settings.keys import Settings


async def typed(settings: Settings, *words: str, answer: str = "") -> Result:
    """Run ``penstock WORDS`` in a thread of this process, on the servers of the settings."""
    arguments = [*words, *_where(settings)]
    return await asyncio.to_thread(CliRunner().invoke, main, arguments, input=answer)


async def outside(settings: Settings, *words: str) -> int | None:
    """Run ``penstock WORDS`` as a process, for commands that listen to signals. Its exit code."""
    process = await _begun(settings, *words)
    return await process.wait()


async def _begun(settings: Settings, *words: str, stdout: int | None = None) -> Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "penstock", *words, *_where(settings)),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=stdout,
    )


async def said(settings: Settings, *words: str, code: int = 0) -> Any:
    """What a command with ``--json`` says on its last line, which must be one object."""
    result = await typed(settings, *words, "--json")
    assert result.exit_code == code, (result.output, result.exception)
    return _last(result.stdout)


async def said_outside(settings: Settings, *words: str, code: int = 0) -> Any:
    """The same of a process, beside which this one has time for other things."""
    process = await _begun(settings, *words, "--json", stdout=asyncio.subprocess.PIPE)
    text, _ = await process.communicate()
    assert process.returncode == code, text.decode()
    return _last(text.decode())


def _last(text: str) -> Any:
    lines = text.splitlines()
    assert lines, "it said nothing"
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def _where(settings: Settings) -> list[str]:
    """The servers of the settings, and the events, as flags."""
    where = ["--nats-url", settings.nats_url, "--postgres-dsn", settings.postgres_dsn]
    if "rabbitmq" in settings.brokers:
        where += ["--brokers", ",".join(settings.brokers), "--rabbitmq-url", settings.rabbitmq_url]
        where += ["--rabbitmq-queue-type", settings.rabbitmq_queue_type]
    if settings.event_packages:
        where += ["--event-packages", ",".join(settings.event_packages)]
    return where
