"""A check, and the things that it suspects."""

from collections.abc import AsyncGenerator, Collection, Mapping
from typing import Protocol, runtime_checkable

import msgspec

from penstock.worker.finding import Verdict


class Suspect(msgspec.Struct, frozen=True):
    """One thing that seems to be wrong. ``what`` and ``remedy`` are the same for all of a kind.

    ``trace`` is what traffic would change: a suspect that comes back with another one has been
    worked on meanwhile, and is none. ``lost`` is what mending only takes note of.
    """

    name: str
    what: str
    remedy: str
    trace: str = ""
    mendable: bool = False
    lost: bool = False
    verdict: Verdict = Verdict.BAD


Suspects = Mapping[str, Suspect]
"""By name."""


class Check(Protocol):
    """One of the things to verify. ``steady`` says that a look is of one moment, and so never takes
    what is in flight for wrong; ``lag`` for how many seconds things may differ on purpose.
    """

    name: str
    steady: bool
    lag: float

    def look(self, among: Collection[str] | None) -> AsyncGenerator[Suspect]:
        """What seems to be wrong, each once; with ``among`` only of these names.

        Raises Unavailable.
        """

    async def mend(self, wrong: Suspects) -> None:
        """Mend what is mendable. What cannot be mended stays as it is. Raises Unavailable."""


@runtime_checkable
class Sized(Protocol):
    """A check whose look takes long: ``seen`` is how much the present one has gone through."""

    seen: int

    async def size(self) -> int:
        """About how much a look goes through. Raises Unavailable."""
