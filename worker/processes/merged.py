"""The metrics of several processes as those of one."""

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

_SUMMED = {"counter", "histogram"}

Series = tuple[str, tuple[tuple[str, str], ...]]
"""A sample's name and its labels."""

Sums = dict[Series, float]


class MergedMetrics:
    """Counters and histograms are summed; a gauge is kept apart by the label ``worker``.

    A sum never goes back when a process ends and begins again at zero: Prometheus would take that
    for a restart of all of them. So what an ended process had counted, when it was last asked,
    stays in the sum.
    """

    def __init__(self) -> None:
        self._latest: dict[str, list[Metric]] = {}
        self._ended: dict[str, Sums] = {}
        self._families: dict[str, tuple[str, str]] = {}

    def ended(self, worker: str) -> None:
        """``worker`` is gone; what comes under its name from now on begins at zero."""
        for family in self._latest.pop(worker, ()):
            if family.type in _SUMMED:
                _add(self._ended.setdefault(family.name, {}), family)

    def families(self, told: Mapping[str, str]) -> Iterator[Metric]:
        """What the workers have told now, by worker; one that says nothing keeps its sums."""
        for worker, text in told.items():
            self._latest[worker] = list(text_string_to_metric_families(text))
            for family in self._latest[worker]:
                self._families.setdefault(family.name, (family.documentation, family.type))
        for name, (about, kind) in self._families.items():
            merged = Metric(name, about, kind)
            merged.samples = self._sums(name) if kind in _SUMMED else list(self._gauges(name, told))
            yield merged

    def _sums(self, name: str) -> list[Sample]:
        sums = dict(self._ended.get(name, {}))
        for _, family in self._named(name, self._latest):
            _add(sums, family)
        return [Sample(of, dict(labels), value) for (of, labels), value in sums.items()]

    def _gauges(self, name: str, told: Iterable[str]) -> Iterator[Sample]:
        for worker, family in self._named(name, told):
            for sample in family.samples:
                yield sample._replace(labels={**sample.labels, "worker": worker})

    def _named(self, name: str, workers: Iterable[str]) -> Iterator[tuple[str, Metric]]:
        for worker in workers:
            for family in self._latest[worker]:
                if family.name == name:
                    yield worker, family


def _add(sums: Sums, family: Metric) -> None:
    for sample in family.samples:
        series = sample.name, tuple(sample.labels.items())
        sums[series] = sums.get(series, 0.0) + sample.value
