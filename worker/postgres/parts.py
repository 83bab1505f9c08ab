"""What a batch's transaction consists of: a list of parts, each with one thing to write.

Whatever else has to be committed together with the events is one more part in `sink`.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from penstock.worker.pipeline.batch import Batch
from penstock.worker.pipeline.plan import Plan
from penstock.worker.postgres.transaction import Connection


class Part(Protocol):
    """One thing that one transaction writes. Made for each try of a batch."""

    opening: Sequence[str] = ()
    """Statements without arguments and results that travel with BEGIN, for no round trip of their
    own."""

    async def write(self, connection: Connection, fresh: Plan) -> Plan:
        """Write within the transaction. Gets the plan that the part before it returned, and returns
        the one for the part after it: the history, which is the first, takes out of it what turns
        out to be stored already. Raises the driver's errors.
        """

    def committed(self) -> None:
        """The transaction is committed: remember what spares later ones work."""
        return


MakePart = Callable[[Batch], Part]
"""Makes the part for a batch."""
