"""What ``/metrics`` tells Prometheus: the fleet as the database knows it, and how this server's requests go.

The fleet's figures are read when they are asked for, so every worker tells the same. Request figures are each
worker's own; with several workers Prometheus' files (``PROMETHEUS_MULTIPROC_DIR``) join them.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest, multiprocess
from prometheus_client.core import GaugeMetricFamily

from edgeward.fleet import devices
from edgeward.fleet.store import audit

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prometheus_client.core import Metric

    from edgeward.fleet.parts import Fleet

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Metrics:
    """The figures of one application."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "edgeward_fleet_requests", "Requests answered", ("route", "status"), registry=self.registry
        )
        self._seconds = Histogram(
            "edgeward_fleet_request_seconds",
            "From the request's first byte to the answer's last",
            ("route",),
            buckets=_SECONDS,
            registry=self.registry,
        )

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count one request. ``route``: its pattern, never its path."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self, fleet: Fleet) -> bytes:
        """Everything, in Prometheus' text form."""
        own = self.registry
        if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
            own = CollectorRegistry()
            multiprocess.MultiProcessCollector(own)  # type: ignore[no-untyped-call]
        known = CollectorRegistry(auto_describe=False)
        known.register(_FleetFigures(fleet))
        return generate_latest(own) + generate_latest(known)


class _FleetFigures:
    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def describe(self) -> Iterable[Metric]:
        """Nothing in advance: registering must not ask the database."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Ask the database."""
        fleet = self._fleet
        with fleet.store.reading() as session:
            found = devices.counts(session, fleet.now_s(), fleet.settings.check_in_s)
            entries = audit.head(session).seq
        yield _gauge("edgeward_fleet_devices", "Devices by state", "state", found["devices"])
        yield _gauge("edgeward_fleet_rungs", "Model families of active devices by rung", "rung", found["rungs"])
        yield _gauge("edgeward_fleet_waiting", "Silent devices and pending applications", "what", found["waiting"])
        total = GaugeMetricFamily("edgeward_fleet_audit_entries", "Number of the audit's newest entry")
        total.add_metric((), entries)
        yield total


def _gauge(name: str, text: str, label: str, values: dict[str, int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=(label,))
    for key, value in sorted(values.items()):
        family.add_metric((key,), value)
    return family
