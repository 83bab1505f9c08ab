"""The registry: each broker's name, and where its room is.

A room is imported when its broker is used, so its client need not be installed before. Another
broker is one more entry.
"""

import difflib
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, cast

import msgspec

from penstock.worker.errors import SettingsError

if TYPE_CHECKING:  # an agent needs none of these
    from penstock.worker.brokers.ports import BrokerModule, BucketModule, SenderModule
    from penstock.worker.settings.keys import Settings


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One broker. ``broker`` and ``sender`` are module names (see `brokers.ports`), ``schemes``
    those of its addresses, ``client`` the package to install. ``keeps`` tells whether messages stay
    after they were read, ``dates`` whether the server says when it stored one. ``address`` is where
    agents publish, ``confirms`` what they have to wait for there.
    """

    title: str
    broker: str
    sender: str
    schemes: tuple[str, ...]
    client: str
    keeps: "Callable[[Settings], bool]" = lambda _: True
    dates: bool = True
    address: "Callable[[Settings], str] | None" = None
    confirms: str = ""


BROKERS: dict[str, Entry] = {
    "nats": Entry(
        title="NATS",
        broker="penstock.worker.nats.broker",
        sender="penstock.worker.nats.sender",
        schemes=("nats", "tls", "ws", "wss"),
        client="nats-py",
        address=lambda settings: settings.nats_url.partition(",")[0],
        confirms="JetStream: await its confirmation.",
    ),
    "rabbitmq": Entry(
        title="RabbitMQ",
        broker="penstock.worker.rabbitmq.broker",
        sender="penstock.worker.rabbitmq.sender",
        schemes=("amqp", "amqps"),
        client="aio-pika",
        keeps=lambda settings: settings.rabbitmq_queue_type == "stream",
        dates=False,
        address=lambda settings: settings.rabbitmq_url,
        confirms="With publisher confirms, and mandatory.",
    ),
}

BUCKET = "penstock.worker.nats.kv.bucket"
"""Rows are mirrored into NATS buckets, whichever broker the events come from."""

WITHOUT_SCHEME = "nats"
"""The broker of an address without a scheme, such as ``localhost:4222``."""


def check_names(names: Sequence[str]) -> None:
    """Raise SettingsError if one of ``brokers`` is unknown or named twice, or if there is none."""
    if not names:
        raise SettingsError(f"brokers is empty: name one or more of {', '.join(BROKERS)}")
    for name in names:
        _entry(name)
        if names.count(name) > 1:
            raise SettingsError(f"brokers = {','.join(names)!r}: {name} is named twice")


def keeps_what_was_read(settings: "Settings") -> bool:
    """Whether a message may come again long after it was stored."""
    return any(BROKERS[name].keeps(settings) for name in settings.brokers)


def broker_module(name: str) -> "BrokerModule":
    """The worker's module of a broker's room. Raises SettingsError."""
    return cast("BrokerModule", _load(name, _entry(name).broker))


def sender_module(name: str) -> "SenderModule":
    """The Publisher's module of a broker's room. Raises SettingsError."""
    return cast("SenderModule", _load(name, _entry(name).sender))


def bucket_module() -> "BucketModule":
    """The module that opens the buckets. Raises SettingsError."""
    return cast("BucketModule", _load("nats", BUCKET))


def title(name: str) -> str:
    """The broker's name as people write it. Raises SettingsError."""
    return _entry(name).title


def broker_of(url: str) -> str:
    """The name of the broker for an address. Raises SettingsError."""
    scheme, separator, _ = url.partition("://")
    if not separator:
        return WITHOUT_SCHEME
    owners = {known: name for name, entry in BROKERS.items() for known in entry.schemes}
    if scheme not in owners:
        raise SettingsError(f"no broker has {scheme}:// addresses; {_hint(scheme, owners)}")
    return owners[scheme]


def _entry(name: str) -> Entry:
    if name not in BROKERS:
        raise SettingsError(f"brokers = {name!r}: no such broker; {_hint(name, BROKERS)}")
    return BROKERS[name]


def _hint(name: str, known: Iterable[str]) -> str:
    words = list(known)
    [near] = difflib.get_close_matches(name, words, n=1, cutoff=0)
    return f"known are {', '.join(words)}; did you mean {near}?"


def _load(name: str, module: str) -> object:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("penstock"):
            raise
        client = _entry(name).client
        raise SettingsError(
            f"{title(name)} needs {error.name}, which is not installed: `pip install {client}`"
        ) from error
