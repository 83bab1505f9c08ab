"""How the attributes of CloudEvents are spelt in the headers of a message.

The binding of a protocol knows one spelling, the libraries that people publish with know several:
``ce-`` (HTTP, NATS, Knative's RabbitMQ), ``ce_`` (Kafka), ``cloudEvents:`` and ``cloudEvents_``
(AMQP). All are read on every broker, in any case (docs/decisions/0055-every-spelling.md).
"""

import re
from collections.abc import Iterable
from operator import itemgetter
from typing import TypeVar

Value = TypeVar("Value")

_attribute = re.compile(r"(?:cloudevents[:_]|ce[-_])(.+)", re.IGNORECASE | re.DOTALL).fullmatch


def attribute_of(header: str) -> str | None:
    """The attribute that a header of this name carries, in lower case; None if it is none."""
    found = _attribute(header)
    return found[1].lower() if found else None


def attributes_among(headers: Iterable[tuple[str, Value]]) -> dict[str, Value]:
    """The attributes, by their names. Of several spellings of one the first in ASCII counts, not
    the first that came: a queue that delivers again may have sorted them.
    """
    found: dict[str, Value] = {}
    for name, value in sorted(headers, key=itemgetter(0)):
        if attribute := attribute_of(name):
            found.setdefault(attribute, value)
    return found
