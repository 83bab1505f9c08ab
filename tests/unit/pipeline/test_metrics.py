"""The metrics: a closed list of names, and the numbers of a batch."""

import time

import pytest

from penstock.worker.pipeline.budget import Budget
from penstock.worker.pipeline.families import FAMILIES, NAMES
from penstock.worker.pipeline.messages import as_columns
from penstock.worker.pipeline.metrics import Metrics
from penstock.worker.pipeline.ports import Backlog, DeadLetter, Message, Written

UNITS = (
    "_total",
    "_seconds",
    "_bytes",
    "_messages",
    "_batches",
    "_pending",
    "_healthy",
    "_letters",
    "_rows",
)


class Delivered(Message, kw_only=True):
    times: int = 1
    stored: float | None = None

    @property
    def deliveries(self) -> int:
        return self.times

    @property
    def stored_at(self) -> float | None:
        return self.stored


def messages(count: int, *, times: int = 1, stored: float | None = None) -> list[Delivered]:
    return [
        Delivered(subject="tasks.t.updated", body=b"12345", times=times, stored=stored)
        for _ in range(count)
    ]


def letter(reason: str) -> DeadLetter:
    return DeadLetter(message=messages(1)[0], reason=reason, error="no")


def written(new: int, duplicate: int, *reasons: str) -> Written:
    return Written(new=new, duplicate=duplicate, letters=[letter(reason) for reason in reasons])


def use_all(metrics: Metrics) -> None:
    metrics.redelivered("TASKS", 1)
    metrics.receipts("TASKS", "stored", 1)
    metrics.unknown_fields("tasks.updated")
    metrics.letters_refused("TASKS", 1)
    metrics.letters("kept", 2)
    metrics.batch("TASKS", as_columns(messages(1, stored=time.time())), written(0, 0, "not_json"))
    metrics.stage("write", 0.1)
    metrics.batch_retried("TASKS")
    metrics.in_flight("TASKS", 2)
    metrics.lag("TASKS", Backlog(pending=1, ack_pending=0))
    metrics.broker_dead_letters("rabbitmq", 2)
    metrics.kv_puts("AGENT_STATE", 3)
    metrics.kv_conflicts("AGENT_STATE", 1)
    metrics.kv_left_out("AGENT_STATE", 1)
    metrics.memory(lambda: 5, 10)
    metrics.outbox_relayed(2, 1)
    metrics.outbox_backlog(waiting=4, refused=1, oldest_age=0.5)
    metrics.derived("collab.settle", 3)
    metrics.derive_failed("collab.settle")
    metrics.job_ran("tally", failed=False)
    metrics.source_healthy("TASKS", healthy=True)
    metrics.server_healthy("postgres", healthy=False)


def test_the_names_are_exactly_those_of_the_list() -> None:
    metrics = Metrics()
    use_all(metrics)
    seen = {
        sample.name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum")
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name.startswith("penstock_")
    }
    assert seen == set(NAMES)
    assert len(NAMES) == len(set(NAMES))


@pytest.mark.parametrize("name", NAMES)
def test_the_unit_ends_the_name(name: str) -> None:
    assert name.endswith(UNITS)


def test_no_label_is_open_ended() -> None:
    labels = {label for family in FAMILIES for label in family.labels}
    known = {
        "source",
        "outcome",
        "reason",
        "stage",
        "bucket",
        "type",
        "kind",
        "transport",
        "server",
        "status",
    }
    assert labels == known | {"function", "job"}


def test_a_batch_is_counted() -> None:
    metrics = Metrics()
    batch = [*messages(6), *messages(4, times=2)]
    metrics.redelivered("TASKS", 4)
    metrics.batch("TASKS", as_columns(batch), written(5, 2, "not_json", "not_json", "too_deep"))

    def value(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(name, {"source": "TASKS", **labels})

    assert value("penstock_received_total") == 10
    assert value("penstock_redelivered_total") == 4
    assert value("penstock_events_total", outcome="written") == 5
    assert value("penstock_events_total", outcome="duplicate") == 2
    assert value("penstock_events_total", outcome="rejected") == 3
    assert value("penstock_rejected_total", reason="not_json") == 2
    assert value("penstock_rejected_total", reason="too_deep") == 1
    assert value("penstock_batch_messages_sum") == 10
    assert value("penstock_batch_bytes_sum") == 50


def test_the_oldest_age_stays_while_something_waits_and_goes_when_nothing_does() -> None:
    metrics = Metrics()

    def age() -> float:
        name = "penstock_oldest_age_seconds"
        return metrics.registry.get_sample_value(name, {"source": "TASKS"}) or 0.0

    metrics.batch("TASKS", as_columns(messages(1, stored=time.time() - 100)), written(1, 0))
    first = age()
    assert first >= 100
    metrics.lag("TASKS", Backlog(pending=5, ack_pending=0))
    assert age() >= first
    metrics.lag("TASKS", Backlog(pending=0, ack_pending=0))
    assert age() == 0


def test_memory_is_asked_for_at_each_scrape() -> None:
    metrics, budget = Metrics(), Budget(100, 1, 50)
    metrics.memory(lambda: budget.used, budget.limit)

    def value(kind: str) -> float | None:
        return metrics.registry.get_sample_value("penstock_memory_bytes", {"kind": kind})

    share = budget.share()
    assert (value("used"), value("limit")) == (0, 100)
    share.hold(30)
    assert value("used") == 30


def test_two_workers_in_one_process_do_not_share_numbers() -> None:
    one, two = Metrics(), Metrics()
    one.batch_retried("TASKS")
    name = "penstock_batch_retries_total"
    assert one.registry.get_sample_value(name, {"source": "TASKS"}) == 1
    assert two.registry.get_sample_value(name, {"source": "TASKS"}) is None
