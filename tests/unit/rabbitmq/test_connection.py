"""What becomes of the errors that aiormq and aio-pika raise."""

import aiormq
import pytest

from penstock.worker.errors import SourceUnavailable
from penstock.worker.rabbitmq.connection import translated


@pytest.mark.parametrize(
    "error",
    [
        Exception(),  # to all who wait on a channel that ends without a reason (aiormq/base.py)
        aiormq.ChannelClosed(0, "gone"),
        RuntimeError("no active transport"),
        ConnectionResetError(),
        TimeoutError(),
    ],
)
async def test_a_server_that_is_away_is_unavailable(error: Exception) -> None:
    with pytest.raises(SourceUnavailable, match="the queue"), translated("the queue"):
        raise error


async def test_a_defect_of_ours_stays_one() -> None:
    with pytest.raises(KeyError), translated("the queue"):
        raise KeyError
