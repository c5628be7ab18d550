"""Metrics of the pools that this node shares with others: blocks, claims, the engine."""

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from cni_agent.claimer import Claimer


class ClusterMetrics:
    """The counts of the claimer, and the blocks on disk, at each scrape."""

    def __init__(self, claimer: Claimer) -> None:
        self._claimer = claimer

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
        for pool, found in sorted(self._claimer.figures().items()):
            claims.add_metric([pool], found.claimed)
            given.add_metric([pool], found.given_back)
            failures.add_metric([pool], found.failures)
            up.add_metric([pool], found.reachable)
            for state, count in sorted(found.blocks.items()):
                blocks.add_metric([pool, state], count)
            free.add_metric([pool], found.free)
        return [claims, given, failures, up, blocks, free]
