"""The numbers of `governance.metrics` in the form that prometheus-client writes.

What belongs here: their form. What does not: the numbers, and the alerts over them (deploy/).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from market_spine.governance.metrics import ROW_BUCKETS, Family, Kind, Sample, Snapshot


class Exposition:
    """A snapshot in the form that prometheus-client writes; nothing of it outlives the scrape."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        """Every family, and behind a gauge of a state the moments that it rests on."""
        for family in self.snapshot.families:
            yield _metric(family)
            if family.stamp:
                told = f"When what {family.name} rests on was last put on record."
                moments = GaugeMetricFamily(family.stamp, told, labels=family.labels)
                for sample in family.samples:
                    if sample.rests_on is not None:
                        moments.add_metric(sample.labels, sample.rests_on.timestamp())
                yield moments


def _metric(family: Family) -> Metric:
    if family.kind is Kind.HISTOGRAM:
        spread = HistogramMetricFamily(family.name, family.help, labels=family.labels)
        for sample in family.samples:
            spread.add_metric(sample.labels, buckets=_buckets(sample), sum_value=sample.value)
        return spread
    made = CounterMetricFamily if family.kind is Kind.COUNTER else GaugeMetricFamily
    numbers: Any = made(family.name, family.help, labels=family.labels)
    for sample in family.samples:
        numbers.add_metric(sample.labels, sample.value)
    return numbers  # type: ignore[no-any-return]  # either of the two


def _buckets(sample: Sample) -> list[tuple[str, float]]:
    limits = [*(f"{limit}.0" for limit in ROW_BUCKETS), "+Inf"]
    return list(zip(limits, map(float, sample.below), strict=True))
