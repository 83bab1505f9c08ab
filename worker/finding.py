"""What a look at a server found, in words for whoever runs it."""

from collections.abc import Iterator, Sequence
from enum import StrEnum

import msgspec

from penstock.worker.difference import Difference


class Verdict(StrEnum):
    """How a finding looks."""

    GOOD = "ok"
    NOTE = "note"
    BAD = "problem"


class Finding(msgspec.Struct, frozen=True):
    """One thing looked at; ``remedy`` says what to do about it."""

    verdict: Verdict
    text: str
    remedy: str = ""


def compared(found: Sequence[Difference], what: str) -> Iterator[Finding]:
    """Differences as findings, and a good one for ``what`` if none of them needs a person."""
    for difference in found:
        if difference.note:
            yield Finding(Verdict.NOTE, str(difference))
        else:
            yield Finding(Verdict.BAD, str(difference), "run `penstock provision`")
    if all(difference.note for difference in found):
        yield Finding(Verdict.GOOD, f"{what} are as they should be")
