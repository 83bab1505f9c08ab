"""Settings that are valid by themselves, but contradict each other."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock.worker.settings.keys import Settings

_HEARTBEATS = 3
"""So that two late extensions of the ack wait do not lead to a redelivery."""


def contradictions(s: "Settings", written: Callable[["Settings", str], str]) -> Iterator[str]:
    """One message for each contradiction. ``written`` gives a setting as ``key = value``."""

    def text(key: str) -> str:
        return written(s, key)

    if s.batch_size * s.in_flight > s.max_ack_pending:
        yield (
            f"{text('max_ack_pending')} is less than {text('batch_size')} times "
            f"{text('in_flight')}: the broker would stop delivering before the batches are full"
        )
    if s.heartbeat * _HEARTBEATS > s.ack_wait:
        yield (
            f"{text('ack_wait')} is less than {_HEARTBEATS} times {text('heartbeat')}: "
            "a batch in progress would be delivered again"
        )
    if s.max_event_bytes > s.batch_bytes:
        yield f"{text('max_event_bytes')} is more than {text('batch_bytes')}: no batch can hold it"
    if s.batch_bytes > s.memory_limit:
        yield f"{text('batch_bytes')} is more than {text('memory_limit')}: no batch can be full"
    if s.lock_timeout > s.statement_timeout:
        yield f"{text('lock_timeout')} is more than {text('statement_timeout')}: it has no effect"
    if s.processes > 1 and "rabbitmq" in s.brokers and s.rabbitmq_queue_type == "stream":
        yield (
            f"{text('processes')} with {text('rabbitmq_queue_type')}: each process would read "
            "everything; give each worker its own `streams` instead"
        )
    yield from _credentials(s)


_PAIRS = (
    ("nats_user", "nats_password"),
    ("nats_tls_cert", "nats_tls_key"),
    ("rabbitmq_user", "rabbitmq_password"),
    ("rabbitmq_tls_cert", "rabbitmq_tls_key"),
)


def _credentials(s: "Settings") -> Iterator[str]:
    ways = ("nats_credentials", "nats_nkey", "nats_user", "nats_token")
    used = [way for way in ways if getattr(s, way) is not None]
    if len(used) > 1:
        yield f"{' and '.join(used)} are given: use only one way to log in to NATS"
    for one, other in _PAIRS:
        if (getattr(s, one) is None) != (getattr(s, other) is None):
            yield f"{one} and {other} are needed together, but only one is given"
