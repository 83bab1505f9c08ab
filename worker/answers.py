"""What a worker answers to agents: receipts, and reads."""

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial

from penstock.schemas.catalogue import Catalogue
from penstock.worker.brokers.ports import Broker
from penstock.worker.errors import SettingsError
from penstock.worker.lifecycle import patiently
from penstock.worker.pipeline.receipts import NoReplies, Replies
from penstock.worker.postgres.reads import postgres_reads
from penstock.worker.settings.keys import Settings


async def open_answers(
    stack: AsyncExitStack, settings: Settings, catalogue: Catalogue, brokers: Sequence[Broker]
) -> Mapping[str, Replies]:
    """Begin to answer reads. Returns what sends receipts, by transport. Raises SettingsError,
    SourceUnavailable, SinkUnavailable.
    """
    if settings.reads:
        reads = await stack.enter_async_context(postgres_reads(settings))
        for broker in brokers:
            await stack.enter_async_context(broker.serving(reads))
    return await _replies(stack, settings, catalogue, brokers)


async def _replies(
    stack: AsyncExitStack, settings: Settings, catalogue: Catalogue, brokers: Sequence[Broker]
) -> Mapping[str, Replies]:
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
