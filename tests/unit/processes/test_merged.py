"""Metrics of several processes read as those of one."""

from prometheus_client import Metric, generate_latest

from penstock.worker.pipeline.metrics import Metrics
from penstock.worker.pipeline.ports import Backlog
from penstock.worker.processes.merged import MergedMetrics


def told(redelivered: int, pending: int = 0) -> str:
    """What a process says of itself, as text."""
    metrics = Metrics()
    metrics.redelivered("TASKS", redelivered)
    metrics.stage("write", 0.002)
    metrics.lag("TASKS", Backlog(pending=pending, ack_pending=0))
    return generate_latest(metrics.registry).decode()


def values(families: list[Metric], name: str) -> dict[str, float]:
    """The samples of a metric, by the worker that they are of."""
    return {
        sample.labels.get("worker", ""): sample.value
        for family in families
        for sample in family.samples
        if sample.name == name
    }


def test_counters_and_histograms_are_summed_and_gauges_keep_their_worker() -> None:
    found = list(MergedMetrics().families({"w-1": told(3, pending=7), "w-2": told(4, pending=9)}))
    assert values(found, "penstock_redelivered_total") == {"": 7}
    assert values(found, "penstock_stage_seconds_count") == {"": 2}
    assert values(found, "penstock_stage_seconds_bucket")[""] == 2
    assert values(found, "penstock_lag_pending") == {"w-1": 7, "w-2": 9}
    assert {family.name: family.type for family in found}["penstock_stage_seconds"] == "histogram"


def test_a_sum_never_goes_back_when_a_process_begins_again() -> None:
    merged = MergedMetrics()
    sums = []
    for both in (
        {"w-1": told(3), "w-2": told(40)},
        {"w-1": told(5), "w-2": told(50)},
        None,
        {"w-1": told(6)},
        {"w-1": told(6), "w-2": told(1)},
        {},
    ):
        if both is None:
            merged.ended("w-2")
            continue
        found = list(merged.families(both))
        sums.append(values(found, "penstock_redelivered_total")[""])
    assert sums == [43, 55, 56, 57, 57]


def test_a_process_that_says_nothing_has_no_gauges() -> None:
    merged = MergedMetrics()
    list(merged.families({"w-1": told(3, pending=7), "w-2": told(4, pending=9)}))
    found = list(merged.families({"w-1": told(3, pending=8)}))
    assert values(found, "penstock_lag_pending") == {"w-1": 8}
    assert values(found, "penstock_redelivered_total") == {"": 7}


def test_a_second_end_counts_nothing_twice() -> None:
    merged = MergedMetrics()
    list(merged.families({"w-1": told(3)}))
    merged.ended("w-1")
    merged.ended("w-1")
    assert values(list(merged.families({})), "penstock_redelivered_total") == {"": 3}
