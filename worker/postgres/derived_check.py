"""What `penstock verify` asks of derived values."""

from collections.abc import AsyncGenerator, Collection, Sequence

from penstock.worker.checks.check import Suspect, Suspects
from penstock.worker.postgres.jobs import KnownJob, derived
from penstock.worker.settings.keys import Settings


class DerivedCheck:
    """What a job would work out is there already. What has just changed is worked out in a moment,
    so a difference has to last.
    """

    steady = False
    lag = 0.0

    def __init__(
        self, settings: Settings, job: KnownJob, keys: Sequence[Sequence[str]] | None = None
    ) -> None:
        """``keys`` are those to look at; None means all."""
        self.name = f"derived values of {job.name}"
        self._settings = settings
        self._job = job
        self._keys = keys

    async def look(self, among: Collection[str] | None) -> AsyncGenerator[Suspect]:
        for name in await derived(self._settings, self._job, self._keys, undo=True, anew=True):
            if among is None or name in among:
                yield Suspect(
                    name,
                    "are not what follows from the stored rows",
                    f"`penstock derive {self._job.name}` works them out anew, and so does "
                    "`penstock verify --repair`",
                    mendable=True,
                )

    async def mend(self, wrong: Suspects) -> None:  # noqa: ARG002  (it works out all that differ)
        await derived(self._settings, self._job, self._keys, undo=False)
