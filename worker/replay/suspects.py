"""Messages that may end the process that reads them again."""

from collections.abc import Collection, Sequence

from penstock.worker.pipeline.ports import Message


class Suspects:
    """Marks messages for the `PoisonWatch`: those whose digest is ``known`` because they ended
    workers, and the ``first`` ones of a run that was ended before its time: it was in work on them.
    """

    def __init__(self, known: Collection[bytes], first: int) -> None:
        self._known = known
        self._first = first

    def mark(self, messages: Sequence[Message]) -> bool:
        """Mark what was just read, in its order. True if anything is marked."""
        if not self._first and not self._known:
            return False
        marked = False
        for number, message in enumerate(messages):
            if number < self._first or (self._known and message.digest in self._known):
                message.begun_before = marked = True
        self._first = max(0, self._first - len(messages))
        return marked
