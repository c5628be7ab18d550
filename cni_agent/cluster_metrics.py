"""Metrics of the pools that this node shares with others: blocks, claims, the engine."""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from prometheus_client import Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from cni_ipam import engine_waits

if TYPE_CHECKING:
    from cni_agent.claimer import Counts

_BUCKETS_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 6.0)


class ClusterMetrics:
    """The counts of the claimer, and the blocks on disk, at each scrape."""

    def __init__(self, counts: "Callable[[], Mapping[str, Counts]]") -> None:
        self._counts = counts
        self._waits = Histogram(
            "cni_engine_wait_seconds",
            "Seconds that a pod's ADD or DEL waited for the cluster's store, those that gave up included.",
            ["pool"],
            buckets=_BUCKETS_S,
            registry=None,
        )
        engine_waits.tell(lambda pool, seconds: self._waits.labels(pool).observe(seconds))

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics (prometheus_client, custom collectors)."""
        labels = ["pool"]
        claims = CounterMetricFamily("cni_block_claims", "Blocks claimed ahead of need.", labels=labels)
        given = CounterMetricFamily("cni_blocks_given_back", "Blocks given back.", labels=labels)
        failures = CounterMetricFamily(
            "cni_engine_failures", "Failed attempts to reach the cluster's store.", labels=labels
        )
        up = GaugeMetricFamily(
            "cni_engine_reachable", "1 if the cluster's store answered the last time, else 0.", labels=labels
        )
        blocks = GaugeMetricFamily("cni_blocks", "Blocks of this node, by state.", labels=["pool", "state"])
        free = GaugeMetricFamily(
            "cni_block_free_addresses", "Free addresses in the blocks of this node.", labels=labels
        )
        for pool, found in sorted(self._counts().items()):
            claims.add_metric([pool], found.claimed)
            given.add_metric([pool], found.given_back)
            failures.add_metric([pool], found.failures)
            up.add_metric([pool], found.reachable)
            for state, count in sorted(found.blocks.items()):
                blocks.add_metric([pool, state], count)
            free.add_metric([pool], found.free)
        return [claims, given, failures, up, blocks, free, *self._waits.collect()]
