"""``penstock demo --agents NAME``: an example of an agents' framework, on the demo's own servers.

It runs as its reader would start it. What is printed after it was read from PostgreSQL.
"""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from rich.console import Console

from penstock.worker.demo.examples import FOLDER, Example, example_of
from penstock.worker.demo.figures import Ledger
from penstock.worker.demo.stage import BROKERS, open_stage
from penstock.worker.demo.view import how_to_look, landed

_ARRIVAL_SECONDS = 30.0
_POLL_SECONDS = 0.1


class Shown(msgspec.Struct, frozen=True):
    """What the example did: the exit code of each run, the lines it printed, the rows of each table
    and the answers to its queries. ``arrived`` is false if something is still missing.
    """

    codes: list[int]
    said: list[str]
    rows: Mapping[str, int]
    answers: Mapping[str, list[dict[str, Any]]]
    arrived: bool


async def show(name: str, broker: str, *, as_json: bool, keep: bool) -> int:
    """Run the example of a framework, and print what landed in PostgreSQL.

    Returns the exit code, which is 0 if it ended as it should and everything was stored. The rest
    is as for `penstock.worker.demo.demo`. Raises PenstockError if the example cannot be run.
    """
    example = example_of(name)
    console = Console(stderr=as_json, highlight=False, quiet=as_json)
    async with open_stage(BROKERS[broker], keep=keep) as stage:
        shown = await follow(example, stage.addresses[0], stage.ledger, console)
        kept = stage.kept(example.shown.values()) if keep else None
    if as_json:
        place = {"kept": msgspec.structs.asdict(kept)} if kept else {}
        found = {"agents": name, "exit_codes": shown.codes, "said": shown.said, "rows": shown.rows}
        print(json.dumps(found | place))  # noqa: T201  (the command's answer)
    else:
        landed(console, shown.answers, shown.rows)
    if kept and not as_json:
        how_to_look(console, kept)
    wrong = list(amiss(example, shown))
    for text in wrong:
        Console(stderr=True).print(text, style="red", markup=False, soft_wrap=True)
    return 1 if wrong else 0


async def follow(example: Example, address: str, ledger: Ledger, console: Console) -> Shown:
    """Run the example with the broker at ``address``, and wait for what it published."""
    said: list[str] = []
    codes = [await _run(run.command(example), address, console, said) for run in example.runs]
    arrived = await _arrived(example, ledger)
    answers = {title: await ledger.ask(query) for title, query in example.shown.items()}
    return Shown(codes, said, await ledger.tables(), answers, arrived)


async def _run(command: Sequence[str], address: str, console: Console, said: list[str]) -> int:
    """Its exit code. Its lines are printed as they come, and added to ``said``."""
    console.print(f"\n$ python {' '.join(command)}", markup=False, soft_wrap=True)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        env=_environment(address),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None  # noqa: S101  (it is a pipe)
    try:
        async for line in process.stdout:
            said.append(line.decode(errors="replace").rstrip())
            console.print(f"  {said[-1]}", markup=False, soft_wrap=True)
        code = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
    if code == -signal.SIGKILL:
        console.print("  killed")
    return code


def _environment(address: str) -> dict[str, str]:
    """The examples take the address of either broker by this one name."""
    paths = os.pathsep.join([str(FOLDER), *filter(None, sys.path)])
    return {**os.environ, "PENSTOCK_NATS_URL": address, "PYTHONPATH": paths}


async def _arrived(example: Example, ledger: Ledger) -> bool:
    deadline = time.monotonic() + _ARRIVAL_SECONDS
    while True:
        if (there := await ledger.holds(example.arrived)) or time.monotonic() > deadline:
            return there
        await asyncio.sleep(_POLL_SECONDS)


def amiss(example: Example, shown: Shown) -> Iterator[str]:
    """What is not as it should be."""
    for run, code in zip(example.runs, shown.codes, strict=True):
        if code != run.code:
            command = " ".join(run.command(example))
            yield f"python {command} ended with {code}, expected {run.code}: {shown.said[-1:]}"
    if not shown.arrived:
        yield f"not everything was stored in {_ARRIVAL_SECONDS:g} s"
    if letters := shown.rows.get("bus.dead_letter"):
        yield f"dead letters: {letters}, expected 0"
