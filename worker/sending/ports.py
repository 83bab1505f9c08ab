"""What the Publisher needs from a broker, as protocols. Each broker's room implements them."""

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import ClassVar, Protocol

import msgspec

from penstock.worker.sending.outgoing import Confirmation
from penstock.worker.sending.reads import Reading
from penstock.worker.sending.receipts import Receipts
from penstock.worker.sending.state import StateValue
from penstock.worker.sending.unconfirmed import Limits

KV_BUCKET = "AGENT_STATE"
EXCHANGE = "events"


class Server(Protocol):
    """A broker's address and our credentials. ``broker`` is its name in the registry."""

    broker: ClassVar[str]


class Sending(msgspec.Struct, frozen=True, kw_only=True):
    """How to send. ``name`` is the connection's. A broker ignores what does not apply to it."""

    name: str
    limits: Limits
    atomic: bool = True
    bucket: str = KV_BUCKET
    exchange: str = EXCHANGE


class Sender(Protocol):
    """Publishes bytes until they are confirmed, retrying as needed, in bounded memory."""

    async def send(
        self, subject: str, payload: bytes, msg_id: str, reply_to: str = ""
    ) -> asyncio.Future[Confirmation]:
        """Queue a message as soon as there is room. The future resolves to its `Confirmation`.
        ``reply_to`` asks for a receipt there: one that `Receipts.expect` gave.

        The future raises PublishRefused or PublishFailed. Cancelling it before the message has been
        sent withdraws the message.
        """

    async def flush(self, patience: float | None = None) -> None:
        """Wait until every message is confirmed, refused or given up.

        Raises PublishFailed if for ``patience`` seconds none of them was.
        """


class StateReader(Protocol):
    """Reads the agents' state as the worker has written it."""

    async def read(self, agent_id: str, key: str | None) -> StateValue:
        """The value under ``key``, or the agent's status. Raises StateMissing, or
        StateStoreUnavailable.
        """

    def changes(self, agent_id: str, key: str) -> AbstractAsyncContextManager[asyncio.Event]:
        """An event that is set when the key may have changed. It may miss a change, so look from
        time to time as well. Raises StateStoreUnavailable.
        """


class Outlet(msgspec.Struct, frozen=True):
    """A broker opened for sending; ``states`` is None if it does not keep agents' state,
    ``receipts`` if nobody can ask for them, ``reading`` if it carries no reads.
    """

    sender: Sender
    states: StateReader | None = None
    receipts: Receipts | None = None
    reading: Reading | None = None
