"""What `penstock doctor` found, in words for an operator."""

from collections.abc import Iterator, Sequence
from enum import StrEnum

import msgspec

from penstock.worker.difference import Difference


class Verdict(StrEnum):
    """How serious a finding is."""

    GOOD = "ok"
    NOTE = "note"
    BAD = "problem"


class Finding(msgspec.Struct, frozen=True):
    """The result of one check; ``remedy`` says what to do about it."""

    verdict: Verdict
    text: str
    remedy: str = ""


def compared(found: Sequence[Difference], what: str) -> Iterator[Finding]:
    """The differences as findings; a good one for ``what`` if none of them needs action."""
    for difference in found:
        if difference.note:
            yield Finding(Verdict.NOTE, str(difference))
        else:
            yield Finding(Verdict.BAD, difference.stated, difference.remedy)
    if all(difference.note for difference in found):
        yield Finding(Verdict.GOOD, f"{what} are as they should be")
