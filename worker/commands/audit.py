"""``penstock audit verify``: is the audit history as it was sealed, and if not, what was done."""

from collections.abc import Iterator, Mapping
from datetime import datetime

import click
import msgspec

from penstock.worker.commands.advancing import advancing
from penstock.worker.commands.doctor import tell
from penstock.worker.finding import Finding, Verdict
from penstock.worker.postgres.sealed import Examined, SealExamination
from penstock.worker.postgres.seals import sealed_history
from penstock.worker.schema import check_schema
from penstock.worker.settings.keys import Settings

_SHOWN = 20
"""What is broken after the first link and is told one by one; ``--json`` has all of it."""

_RUNBOOK = "see docs/operations.md, Somebody changed the audit history"


async def verify(
    settings: Settings, since: datetime | None, known: Mapping[int, str], *, as_json: bool
) -> int:
    """Print what was found; 0 if everything is as it was sealed, else 1. Raises PenstockError."""
    await check_schema(settings, "audit verify")
    async with sealed_history(settings) as history:
        seals = await history.chain(since)
        examination = SealExamination(history, seals, since)
        total = sum(seal.rows for seal in seals)
        async with advancing("rows of the audit history", total, lambda: examination.seen):
            found = await examination.examined(known)
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
    else:
        for finding in (*_broken(found), *_notes(found)):
            tell(finding)
    return int(not found.intact)


def _broken(found: Examined) -> Iterator[Finding]:
    if found.intact and found.seals:
        until = f"recorded before {found.until}"
        text = f"{found.rows} rows in {found.seals} seals are as they were sealed, {until}"
        yield Finding(Verdict.GOOD, text)
    for one in found.broken[:1]:
        text = f"the chain is broken at seal {one.seal_id}: {one}"
        yield Finding(Verdict.BAD, text, _RUNBOOK)
    for one in found.broken[1 : _SHOWN + 1]:
        yield Finding(Verdict.BAD, f"seal {one.seal_id}: {one}")
    left = len(found.broken) - _SHOWN - 1
    if left > 0:
        more = " or more" if found.more else ""
        yield Finding(Verdict.BAD, f"{left}{more} other things; `--json` names them")


def _notes(found: Examined) -> Iterator[Finding]:
    for gone in found.gone:
        text = f"{gone.partition}: retention has dropped its {gone.rows} rows in {gone.seals} seals"
        yield Finding(Verdict.NOTE, text)
    if found.foreign:
        text = f"the history tells of {found.foreign} seals that are older than this chain"
        remedy = (
            "right for a database that was filled again from the streams; if this one was not, "
            f"its first seals were removed: {_RUNBOOK}"
        )
        yield Finding(Verdict.NOTE, text, remedy)
    if found.waiting:
        text = f"{found.waiting} rows wait for their seal"
        yield Finding(Verdict.NOTE, text)
    if found.last:
        remedy = f"`penstock audit verify --expect {found.last}`, if you keep this elsewhere"
        yield Finding(Verdict.NOTE, f"the last seal is {found.last}", remedy)
