"""The position of a batch in its stream, committed together with its rows."""

from collections.abc import Sequence

from penstock.worker.pipeline.batch import Batch
from penstock.worker.pipeline.plan import Plan
from penstock.worker.postgres.parts import Part
from penstock.worker.postgres.transaction import Connection, literal

_INSERT = "INSERT INTO bus.position (transport, stream, epoch, seqs, worker)"


class PositionPart(Part):
    """The position of a batch, if the broker has offsets. It travels with BEGIN, so it needs no
    round trip of its own. ``transport`` is whose position it is: the one of the batch's origin,
    unless it is given.
    """

    def __init__(self, batch: Batch, worker_id: str, transport: str | None = None) -> None:
        origin = batch.origin
        if origin.offsets:
            ranges = multirange(origin.offsets)
            cells = (transport or origin.transport, origin.stream, origin.epoch, ranges, worker_id)
            self.opening = (f"{_INSERT} VALUES ({', '.join(map(literal, cells))})",)

    async def write(self, connection: Connection, fresh: Plan) -> Plan:  # noqa: ARG002
        return fresh


def multirange(offsets: Sequence[int]) -> str:
    """Sorted offsets as the text of an int8multirange: ``{[1,4),[7,8)}``."""
    first, last = offsets[0], offsets[-1]
    if last - first + 1 == len(offsets):
        return f"{{[{first},{last + 1})}}"
    parts: list[str] = []
    previous = first
    for current in (*offsets[1:], last + 2):
        if current > previous + 1:
            parts.append(f"[{first},{previous + 1})")
            first = current
        previous = current
    return f"{{{','.join(parts)}}}"
