"""What several tests of a running worker share."""

import pytest
import pytest_asyncio

from tests.conftest import empty_nats, empty_rabbit
from tests.support.carriers import Carrier, Nats, RabbitMq


@pytest.fixture(scope="module", params=["nats", "rabbitmq"])
def rabbit_carries(request: pytest.FixtureRequest) -> str | None:
    """The address of RabbitMQ if it carries the events."""
    if request.param == "nats":
        return None
    return str(request.getfixturevalue("rabbit_address"))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def carrier(rabbit_carries: str | None, nats_address: str) -> Carrier:
    """Each broker in turn, with nothing in it."""
    await empty_nats(nats_address)
    if rabbit_carries is None:
        return Nats(nats_address)
    await empty_rabbit(rabbit_carries)
    return RabbitMq(rabbit_carries)
