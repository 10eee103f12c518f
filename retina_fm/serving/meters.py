"""Figures for Prometheus: counts and times by route, never anything of a photo."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Meters:
    """One server's figures, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "retina_fm_requests", "Requests answered.", ["route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "retina_fm_request_seconds", "From the head of a request to the end of its answer.",
            ["route"], buckets=_SECONDS, registry=self.registry,
        )  # fmt: skip
        self.batches = Histogram(
            "retina_fm_batch_photos", "Photos that shared a pass of the model.",
            ["kind"], buckets=_SIZES, registry=self.registry,
        )  # fmt: skip

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count one request."""
        self.requests.labels(route, str(status)).inc()
        self.seconds.labels(route).observe(seconds)

    def batch(self, kind: str, count: int) -> None:
        """Count one pass of the model."""
        self.batches.labels(kind).observe(count)

    def watch(self, name: str, says: str, value: Callable[[], float]) -> None:
        """A figure that is read when it is asked for."""
        Gauge(f"retina_fm_{name}", says, registry=self.registry).set_function(value)

    def text(self) -> bytes:
        """All figures in Prometheus' text format."""
        return generate_latest(self.registry)
