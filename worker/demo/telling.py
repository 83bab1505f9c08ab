"""What a small company says, published before the simulated agents begin."""

from collections.abc import Sequence
from datetime import UTC, datetime

from penstock.schemas.catalogue import Catalogue
from penstock.worker.demo.traffic import Traffic
from penstock.worker.seed import Company, Said, story

_SEED, _DAYS = 7, 7
_COUNTED = frozenset({"messages.sent", "messages.delivered"})
"""They have no history, but each sets a column of its message that the demo counts."""

Told = Sequence[tuple[str, Said]]


def told_today(domains: str) -> Told:
    """The story until now. Raises PenstockError for an unknown domain."""
    return story(Company(_SEED, datetime.now(UTC), _DAYS), domains.split(","))


async def tell(traffic: Traffic, told: Told) -> None:
    """Publish over its first bus, and count in what it sent; also what leaves no row of its own
    that could be counted.
    """
    bus, sent = traffic.buses[0], traffic.sent
    types = Catalogue.load().types
    for event_id, said in told:
        published = await bus.publish_soon(said.event, **said.attributes(event_id))
        published.add_done_callback(sent.settled)
        sent.unlogged += types[said.kind].history is None and said.kind not in _COUNTED
    await bus.flush()
