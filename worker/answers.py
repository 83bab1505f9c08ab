"""What a worker answers to agents: receipts."""

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial

from penstock.schemas.catalogue import Catalogue
from penstock.worker.brokers.ports import Broker
from penstock.worker.errors import SettingsError
from penstock.worker.lifecycle import patiently
from penstock.worker.pipeline.receipts import NoReplies, Replies
from penstock.worker.settings.keys import Settings


async def open_replies(
    stack: AsyncExitStack, settings: Settings, catalogue: Catalogue, brokers: Sequence[Broker]
) -> Mapping[str, Replies]:
    """What sends receipts, by transport. Raises SettingsError, SourceUnavailable."""
    if not settings.receipts:
        return {broker.transport: NoReplies() for broker in brokers}
    _check_inboxes(settings, catalogue)
    found: dict[str, Replies] = {}
    for broker in brokers:
        opening = partial(_entered, stack, broker)
        found[broker.transport] = await patiently(opening, settings.start_timeout)
    return found


async def _entered(stack: AsyncExitStack, broker: Broker) -> Replies:
    return await stack.enter_async_context(broker.replies())


def _check_inboxes(settings: Settings, catalogue: Catalogue) -> None:
    """What goes to a subject that a stream keeps would be stored as an event."""
    stored = {subject.partition(".")[0] for each in catalogue.streams.values() for subject in each}
    for inbox in settings.nats_inboxes:
        if inbox.partition(".")[0] in stored:
            raise SettingsError(
                f"nats_inboxes = {inbox!r}: a stream keeps these subjects; name what inboxes begin "
                "with, as _INBOX"
            )
