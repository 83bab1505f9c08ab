"""Running a check: what differs while events flow is wrong only if it lasts.

A second look, a moment later, has to find the same thing in the same condition. After mending, the
check looks again, as often: what it says is mended it has seen whole.
"""

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import aclosing

from penstock.worker.checks.check import Check, Suspect, Suspects
from penstock.worker.errors import Unavailable
from penstock.worker.finding import Finding, Verdict

_MOST = 100_000
"""Suspects of one check that are kept in memory; what is beyond them waits for the next run."""

_EXAMPLES = 5


async def examine(check: Check, *, repair: bool, pause: float) -> list[Finding]:
    """What the check finds: at least one finding. ``pause`` is how many seconds a difference must
    last, beside the check's own lag. What cannot be mended now is one finding more. Raises
    Unavailable if it cannot look.
    """
    wrong = await _lasting(check, None, pause)
    left = wrong
    if repair and any(suspect.mendable for suspect in wrong.values()):
        try:
            await check.mend(wrong)
        except Unavailable as error:
            remedy = "run verify --repair again once that is over"
            reason = Finding(Verdict.BAD, f"{check.name}: {error}", remedy, check.name)
            return [*_told(check, wrong), reason]
        lost = {name: suspect for name, suspect in wrong.items() if suspect.lost}
        among = wrong if len(wrong) < _MOST else None  # there may be more behind them
        left = {**lost, **await _lasting(check, among, pause)}
    mended = {name: suspect for name, suspect in wrong.items() if name not in left}
    found = [*_told(check, mended, Verdict.MENDED), *_told(check, left)]
    return found or [Finding(Verdict.GOOD, check.name, check=check.name)]


async def _lasting(check: Check, among: Collection[str] | None, pause: float) -> Suspects:
    first = await _seen(check, among)
    if check.steady or not first:
        return first
    await asyncio.sleep(check.lag + pause)
    again = await _seen(check, first)
    return {name: one for name, one in again.items() if first[name].trace == one.trace}


async def _seen(check: Check, among: Collection[str] | None) -> Suspects:
    found: dict[str, Suspect] = {}
    async with aclosing(check.look(among)) as suspects:
        async for suspect in suspects:
            found[suspect.name] = suspect
            if len(found) == _MOST:
                break
    return found


def _told(check: Check, suspects: Suspects, verdict: Verdict | None = None) -> Iterator[Finding]:
    """One finding for each kind; ``verdict`` instead of their own."""
    kinds: dict[tuple[Verdict, str, str], list[str]] = defaultdict(list)
    for one in suspects.values():
        remedy = "" if verdict is Verdict.MENDED else one.remedy
        kinds[verdict or one.verdict, one.what, remedy].append(one.name)
    for (said, what, remedy), names in kinds.items():
        examples = tuple(sorted(names)[:_EXAMPLES])
        more = ", ..." if len(names) > len(examples) else ""
        count = f"{len(names)} or more" if len(names) == _MOST else str(len(names))
        text = f"{check.name}: {count} {what}: {', '.join(examples)}{more}"
        yield Finding(said, text, remedy, check.name, len(names), examples)
