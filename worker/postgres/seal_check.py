"""What `penstock verify` asks of the audit history."""

from collections.abc import AsyncGenerator, Collection
from datetime import datetime

from penstock.worker.checks.check import Suspect, Suspects
from penstock.worker.postgres.sealed import SealExamination
from penstock.worker.postgres.seals import sealed_history
from penstock.worker.settings.keys import Settings

_REMEDY = (
    "`penstock audit verify` names each; see docs/operations.md, Somebody changed the audit history"
)


class SealCheck:
    """The audit history is as it was sealed. Nothing of it can be mended: a seal that is made anew
    would say that all was well.
    """

    name = "seals of the audit history"
    steady = True
    lag = 0.0

    def __init__(self, settings: Settings, since: datetime | None) -> None:
        """Of the seals that were made since then."""
        self._settings = settings
        self._since = since
        self._examination: SealExamination | None = None

    @property
    def seen(self) -> int:
        return self._examination.seen if self._examination else 0

    async def size(self) -> int:
        async with sealed_history(self._settings) as history:
            return sum(seal.rows for seal in await history.chain(self._since))

    async def look(self, among: Collection[str] | None) -> AsyncGenerator[Suspect]:
        async with sealed_history(self._settings) as history:
            seals = await history.chain(self._since)
            self._examination = SealExamination(history, seals, self._since)
            found = await self._examination.examined({})
        for one in found.broken:
            name = f"seal {one.seal_id}: {one}"
            if among is None or name in among:
                yield Suspect(name, f"things of it were {one.kind}", _REMEDY)

    async def mend(self, wrong: Suspects) -> None:
        """Nothing can be."""
