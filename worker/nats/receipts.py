"""Receipts on NATS, as who publishes sees them: one inbox, opened with the first question."""

from nats.aio.client import Client
from nats.aio.subscription import Subscription
from nats.errors import Error

from penstock.worker.errors import SourceUnavailable
from penstock.worker.nats.wire import BatchParser, Frame
from penstock.worker.sending.receipts import Awaited, Waiting
from penstock.worker.wording import why

RECEIPT_HEADER = "Penstock-Receipt"
"""In an event: the subject that its receipt goes to."""


class ReceiptInbox:
    """Receives the receipts of one connection. After a reconnect it listens again by itself."""

    def __init__(self, nc: Client) -> None:
        self._nc = nc
        self._subject = nc.new_inbox()
        self._waiting = Waiting()
        self._subscription: Subscription | None = None

    async def expect(self) -> Awaited:
        """See `Receipts.expect`."""
        if self._subscription is None:
            try:
                self._subscription = await self._nc.subscribe(f"{self._subject}.*")
            except Error as error:
                raise SourceUnavailable(f"cannot listen for receipts: {why(error)}") from error
            BatchParser.of(self._nc).register(self._subscription._id, self._receive)  # noqa: SLF001
        token, receipt = self._waiting.add()
        return Awaited(f"{self._subject}.{token}", receipt)

    def close(self) -> None:
        """Whoever still waits is told so. The subscription ends with the connection."""
        self._waiting.close()

    def _receive(self, frames: list[Frame]) -> None:
        for subject, _, _, body in frames:
            token = subject.rpartition(b".")[2].decode("ascii", "replace")
            self._waiting.take(token, body)
