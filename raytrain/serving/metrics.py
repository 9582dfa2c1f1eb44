"""Counts of a server, for Prometheus."""

from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from raytrain.serving.queue import Queue

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """The metrics of one application, in a registry of their own."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, queue: Queue) -> None:
        self._registry = CollectorRegistry()
        own: Any = {"registry": self._registry, "namespace": "raytrain_serving"}
        self.requests = Counter("requests", "Requests by endpoint and HTTP status.", ("endpoint", "status"), **own)
        self.prompts = Counter("prompts", "Prompts answered.", **own)
        self.prompt_tokens = Counter("prompt_tokens", "Prompt tokens read.", **own)
        self.generated_tokens = Counter("generated_tokens", "Tokens generated.", **own)
        self.truncated = Counter("truncated_prompts", "Prompts of which the end was left out, on request.", **own)
        self.seconds = Histogram(
            "request_seconds", "Seconds from request to response, by endpoint.", ("endpoint",), buckets=_SECONDS, **own
        )
        Gauge("queue_prompts", "Prompts accepted and not answered yet.", **own).set_function(lambda: queue.inside)
        Gauge("queue_most_prompts", "Most prompts in the queue; beyond it requests get 429.", **own).set(queue.most)

    def text(self) -> bytes:
        """Returns the metrics in Prometheus' text format."""
        text: bytes = generate_latest(self._registry)
        return text
