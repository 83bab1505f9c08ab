"""Where a batch stood in its stream, kept with what it wrote."""

from collections.abc import Sequence

from penstock.worker.pipeline.batch import Batch
from penstock.worker.pipeline.plan import Plan
from penstock.worker.postgres import statements
from penstock.worker.postgres.parts import Part
from penstock.worker.postgres.transaction import Connection, literal


class PositionPart(Part):
    """The positions of a batch, where the broker has any. Nothing waits for them: they travel with
    BEGIN.
    """

    def __init__(self, batch: Batch, worker_id: str) -> None:
        origin = batch.origin
        if origin.positions:
            ranges = multirange(origin.positions)
            cells = (origin.transport, origin.stream, origin.epoch, ranges, worker_id)
            self.opening = (statements.position(map(literal, cells)),)

    async def write(self, connection: Connection, fresh: Plan) -> Plan:  # noqa: ARG002
        return fresh


def multirange(positions: Sequence[int]) -> str:
    """Sorted positions as the text of an int8multirange: ``{[1,4),[7,8)}``."""
    first, last = positions[0], positions[-1]
    if last - first + 1 == len(positions):
        return f"{{[{first},{last + 1})}}"
    parts: list[str] = []
    previous = first
    for current in (*positions[1:], last + 2):
        if current > previous + 1:
            parts.append(f"[{first},{previous + 1})")
            first = current
        previous = current
    return f"{{{','.join(parts)}}}"
