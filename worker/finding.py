"""What `penstock doctor` and `penstock verify` found, in words for an operator."""

from collections.abc import Iterator, Sequence
from enum import StrEnum

import msgspec

from penstock.worker.difference import Difference


class Verdict(StrEnum):
    """How serious a finding is."""

    GOOD = "ok"
    MENDED = "mended"
    NOTE = "note"
    BAD = "problem"


COLOURS = {
    Verdict.GOOD: "green",
    Verdict.MENDED: "green",
    Verdict.NOTE: "yellow",
    Verdict.BAD: "red",
}


class Finding(msgspec.Struct, frozen=True):
    """The result of one check; ``remedy`` says what to do about it.

    ``check`` names it where there are several of a kind; ``examples`` are a few of the ``count``
    things that it is about.
    """

    verdict: Verdict
    text: str
    remedy: str = ""
    check: str = ""
    count: int = 0
    examples: tuple[str, ...] = ()


def compared(found: Sequence[Difference], what: str) -> Iterator[Finding]:
    """The differences as findings; a good one for ``what`` if none of them needs action."""
    for difference in found:
        if difference.note:
            yield Finding(Verdict.NOTE, str(difference))
        else:
            yield Finding(Verdict.BAD, difference.stated, difference.remedy)
    if all(difference.note for difference in found):
        yield Finding(Verdict.GOOD, f"{what} are as they should be")
