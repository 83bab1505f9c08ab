"""Whether a source moves: since when something waits and nothing is settled, and why."""

import time


class Progress:
    """What a pipeline knows of its own standstill. Times are on the monotonic clock.

    ``cause`` is the last error that held a batch since one was last settled, or empty.
    ``returned`` is True if one was given back to the broker since.
    """

    def __init__(self) -> None:
        self.cause = ""
        self.returned = False
        self._since: float | None = None

    @property
    def waited(self) -> float:
        """Seconds for which something has waited while nothing was settled; 0 if nothing waits."""
        return 0.0 if self._since is None else time.monotonic() - self._since

    def waits(self) -> None:
        """Something waits to be settled."""
        if self._since is None:
            self._since = time.monotonic()

    def held(self, error: BaseException) -> None:
        """A batch could not be fetched, stored or mirrored, and will be tried again."""
        self.waits()
        self.cause = str(error) or repr(error)

    def returns(self, error: BaseException) -> None:
        """A batch went back to the broker, which delivers it again."""
        self.held(error)
        self.returned = True

    def settled(self, *, more: bool) -> None:
        """A batch is stored and acknowledged; ``more`` are in work."""
        self.nothing_waits()
        if more:
            self.waits()

    def nothing_waits(self) -> None:
        """All is settled, by this worker or another."""
        self.cause = ""
        self.returned = False
        self._since = None
