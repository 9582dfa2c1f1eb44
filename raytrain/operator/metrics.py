"""The operator's own metrics, for Prometheus."""

from prometheus_client import Counter, start_http_server

RECONCILE_ERRORS = Counter(
    "raytrain_reconcile_errors",
    "Reconciliations of a FineTuneJob that ended in an unexpected exception: a bug of the operator.",
    ["namespace", "name"],
)
"""`raytrain_reconcile_errors_total` by object."""


def serve_metrics(port: int) -> None:
    """Serves the metrics at /metrics on every address, in a thread of its own."""
    start_http_server(port)
