"""Channels are set up, and messages go through them: most arrive, some fail or expire."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from random import Random

from penstock.schemas.event import EventData
from penstock.schemas.messages import (
    ChannelDefined,
    ChannelSubscribed,
    ChannelUnsubscribed,
    MessageAcked,
    MessageDelivered,
    MessageExpired,
    MessageFailed,
    MessageProcessed,
    MessageRead,
    MessageSent,
)
from penstock.schemas.vocabulary import ChannelKind, MessageKind, RecipientKind
from penstock.worker.seed.company import Company, happens
from penstock.worker.seed.said import Said

_CHANNELS = ("general", "releases", "incidents")
_MESSAGES_A_DAY = 40
_TEXTS = ("can you look at this?", "it is deployed", "who knows the parser?", "the build is red")


def tell(company: Company) -> Iterator[Said]:
    """Channels with their listeners, then messages between agents and one to a person each day."""
    random = company.random("messages")
    yield from _channels(company)
    for number in range(_MESSAGES_A_DAY * company.days):
        yield from _message(company, number, random)
    for day, at in enumerate(company.every(timedelta(days=1))):
        yield from _report(company, day, at + timedelta(hours=6))


def _channels(company: Company) -> Iterator[Said]:
    at = company.since + timedelta(minutes=10)
    for name in _CHANNELS:
        defined = ChannelDefined(channel_id=name, name=name, kind=ChannelKind.TOPIC)
        yield Said(at, defined, "ada")
        for agent in company.agents:
            listens = ChannelSubscribed(channel_id=name, agent_id=agent.id)
            yield Said(at + timedelta(minutes=1), listens, agent.id)
    bored = ChannelUnsubscribed(channel_id="general", agent_id="ken")
    yield Said(at + timedelta(hours=9), bored, "ken")


def _message(company: Company, number: int, random: Random) -> Iterator[Said]:
    sender, recipient = random.sample(company.agents, 2)
    at, message = company.moment(random), company.name("message", number)
    sent = MessageSent(
        to=recipient.id,
        message_id=message,
        to_kind=RecipientKind.AGENT,
        kind=random.choice((MessageKind.QUERY, MessageKind.NOTIFICATION, MessageKind.COMMAND)),
        to_id=recipient.id,
        from_id=sender.id,
        channel_id=random.choice(_CHANNELS),
        subject=random.choice(_TEXTS),
        payload={"text": random.choice(_TEXTS)},
        requires_ack=True,
        max_attempts=3,
    )
    yield Said(at, sent, sender.id)
    for later, event in _fate(sent, at, random):
        yield Said(later, event, recipient.id)


def _fate(sent: MessageSent, at: datetime, random: Random) -> Iterator[tuple[datetime, EventData]]:
    """What became of it: one in twenty is lost at first, and some of these for good."""
    to, message, arrived = sent.to, sent.message_id, at + timedelta(seconds=random.uniform(0.1, 9))
    if happens(random, 0.05):
        error = "the recipient is offline"
        failed = MessageFailed(to=to, message_id=message, sent_at=at, attempt=1, error=error)
        yield arrived, failed
        if happens(random, 0.5):
            late = arrived + timedelta(hours=1)
            yield late, MessageExpired(to=to, message_id=message, sent_at=at)
            return
        arrived += timedelta(minutes=2)
    yield arrived, MessageDelivered(to=to, message_id=message, sent_at=at, at=arrived)
    if happens(random, 0.8):
        done = arrived + timedelta(seconds=random.expovariate(1 / 90))
        yield done, MessageProcessed(to=to, message_id=message, sent_at=at, at=done)
        yield done, MessageAcked(to=to, message_id=message, sent_at=at, at=done)


def _report(company: Company, day: int, at: datetime) -> Iterator[Said]:
    """What a person is told each morning; the last report is not read yet."""
    to, message = "user-olga", company.name("report", day)
    sent = MessageSent(
        to=to,
        message_id=message,
        to_kind=RecipientKind.USER,
        kind=MessageKind.NOTIFICATION,
        to_id="olga",
        from_id="ada",
        subject="what was done yesterday",
        payload={"day": day},
    )
    yield Said(at, sent, "ada")
    if day < company.days - 1:
        opened = at + timedelta(hours=3)
        read = MessageRead(to=to, message_id=message, sent_at=at, at=opened)
        yield Said(opened, read, "olga")
