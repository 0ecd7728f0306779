"""What Prometheus scrapes: requests as they are counted, runs as the database has them."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from impasto.service.records import OPEN, RunState
from impasto.service.runs import Runs

STATES: tuple[RunState, ...] = (
    "queued", "running", "succeeded", "failed", "cancelled", "set_aside",
)  # fmt: skip
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


class Metrics:
    """The numbers of one service process, in a registry of their own."""

    def __init__(self, runs: Runs) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "impasto_http_requests", "Requests answered.", ("method", "route", "status"),
            registry=self._registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "impasto_http_request_seconds", "Time to the end of the answer.", ("route",),
            buckets=(0.005, 0.02, 0.1, 0.5, 2, 10, 60), registry=self._registry,
        )  # fmt: skip
        self._registry.register(_RunCounts(runs))

    def requested(self, method: str, route: str, status: int, lasted_s: float) -> None:
        """Count a request."""
        known = method if method in _METHODS else "other"  # anybody may invent methods
        self._requests.labels(known, route, str(status)).inc()
        self._seconds.labels(route).observe(lasted_s)

    def exposition(self) -> bytes:
        """All of it in Prometheus' text format; it reads the database.

        Raises:
            RunFailed: the database does not answer.
        """
        return generate_latest(self._registry)


class _RunCounts(Collector):
    """Asked at each scrape, so that every process of the service says the same."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs

    def describe(self) -> list[Metric]:
        """Nothing beforehand: registering must not read the database."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Runs by state, and how many wait."""
        counts = self._runs.counts()
        by_state = GaugeMetricFamily("impasto_runs", "Runs kept, by state.", labels=["state"])
        for state in STATES:
            by_state.add_metric([state], counts.get(state, 0))
        yield by_state
        yield GaugeMetricFamily(
            "impasto_queue_depth", "Runs that wait.", value=counts.get(OPEN[0], 0)
        )
