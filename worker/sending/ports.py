"""What the Publisher needs from a broker, as promises. The brokers' rooms keep them."""

import asyncio
from typing import ClassVar, Protocol

import msgspec

from penstock.worker.sending.outgoing import Confirmation
from penstock.worker.sending.state import StateValue
from penstock.worker.sending.unconfirmed import Limits

KV_BUCKET = "AGENT_STATE"
EXCHANGE = "events"


class Server(Protocol):
    """Where a broker is and who we are. ``broker`` is its name in the registry."""

    broker: ClassVar[str]


class Sending(msgspec.Struct, frozen=True, kw_only=True):
    """How to send. ``name`` is the connection's; a broker takes what it has a use for."""

    name: str
    limits: Limits
    atomic: bool = True
    bucket: str = KV_BUCKET
    exchange: str = EXCHANGE


class Sender(Protocol):
    """Publishes bytes and confirms them, in bounded memory, again and again until it is done."""

    async def send(self, subject: str, payload: bytes, msg_id: str) -> asyncio.Future[Confirmation]:
        """Queue a message, once there is room. The future gives its `Confirmation`.

        The future raises PublishRefused or PublishFailed. Cancelling it before the message has been
        sent takes the message back.
        """

    async def flush(self, patience: float | None = None) -> None:
        """Wait until every message is confirmed, refused or given up.

        Raises PublishFailed if for ``patience`` seconds none of them was.
        """


class StateReader(Protocol):
    """The agents' state as the worker has written it."""

    async def read(self, agent_id: str, key: str | None) -> StateValue:
        """The value under ``key``, or the agent's status. Raises StateMissing, or
        StateStoreUnavailable.
        """


class Outlet(msgspec.Struct, frozen=True):
    """A broker opened to send; ``states`` is None if it keeps no state of agents."""

    sender: Sender
    states: StateReader | None = None
