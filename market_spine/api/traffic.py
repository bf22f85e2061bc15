"""How much is asked, how it ends and how long it takes, as Prometheus counts it: per process, from its start on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram

if TYPE_CHECKING:
    from starlette.types import Scope

REGISTRY = CollectorRegistry()
LABELS = ("method", "endpoint", "status")
NONE = "none"  # never the path itself: whoever guesses paths would make a series of each
METHODS = ("GET", "HEAD", "POST")
REQUESTS = Counter("market_spine_api_requests", "Requests that were answered.", LABELS, registry=REGISTRY)
SECONDS = Histogram(
    "market_spine_api_request_seconds",
    "From the first byte of a request to the last one of its answer.",
    ("endpoint",),
    buckets=(0.005, 0.02, 0.1, 0.5, 2, 10),
    registry=REGISTRY,
)
UNLOGGED = Counter(
    "market_spine_api_unlogged", "Requests whose line could not be written into the log.", registry=REGISTRY
)


def count(scope: Scope, status: int, seconds: float) -> None:
    """One more request that is over."""
    found = scope.get("endpoint")
    endpoint = f"{found.__module__.rpartition('.')[2]}.{found.__name__}" if found else NONE
    method = scope["method"] if scope["method"] in METHODS else "other"
    REQUESTS.labels(method, endpoint, str(status)).inc()
    SECONDS.labels(endpoint).observe(seconds)
