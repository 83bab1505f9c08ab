"""The parts of a batch's transaction; each writes one thing.

Whatever else must be committed together with the events is one more part in `sink`.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from penstock.worker.pipeline.batch import Batch
from penstock.worker.pipeline.plan import Plan
from penstock.worker.postgres.transaction import Connection


class Part(Protocol):
    """One thing that a transaction writes. Created for each attempt at a batch."""

    opening: Sequence[str] = ()
    """Statements without arguments or results that travel with BEGIN, so that they need no round
    trip of their own."""

    async def write(self, connection: Connection, fresh: Plan) -> Plan:
        """Write within the transaction. Takes the plan that the previous part returned, and returns
        the plan for the next one: the history part removes the events that are stored already.
        Raises the driver's errors.
        """

    def committed(self) -> None:
        """Called after the commit: remember what saves later transactions work."""
        return


MakePart = Callable[[Batch], Part]
"""Creates the part for a batch."""
